"""The two public endpoints: opaque bytes in, opaque bytes out, nothing else."""

from __future__ import annotations

import base64
import io
from typing import Any

import pytest

from flask_hsmx_cluster import ChecksFailed, Finding, NotAllowed, PairingFailed, PeerUnavailable, RequestRefused

from .conftest import PREFIX
from .fake_agent import FakeAgent

TYPE = "application/octet-stream"
BOTH = pytest.mark.parametrize("verb", ["pair", "peer"])
MOST = 640 * 1024


@BOTH
def test_relayed_as_it_is(make_app: Any, agent: FakeAgent, verb: str) -> None:
    message = bytes(range(256)) * 4
    answer = make_app(permission=lambda action: False).test_client().post(
        f"{PREFIX}/{verb}", data=message, content_type=TYPE)
    assert (answer.status_code, answer.data, answer.mimetype) == (200, b"answer to " + message, TYPE)
    asker = {"address": "127.0.0.1"} if verb == "peer" else {}
    assert agent.calls == [(verb, {"message": base64.b64encode(message).decode(), **asker})]


@BOTH
def test_the_longest_message(client: Any, agent: FakeAgent, verb: str) -> None:
    assert client.post(f"{PREFIX}/{verb}", data=b"x" * MOST, content_type=TYPE).status_code == 200


@BOTH
@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"data": b"x" * (MOST + 1), "content_type": TYPE}, 413),
        ({"data": b"x", "content_type": "application/json"}, 415),
        ({"data": {"message": "x"}}, 415),
        ({"data": b"", "content_type": TYPE}, 400),
    ],
)
def test_what_is_refused(client: Any, agent: FakeAgent, verb: str, options: Any, code: int) -> None:
    answer = client.post(f"{PREFIX}/{verb}", **options)
    assert (answer.status_code, answer.data) == (code, b"")
    assert agent.calls == []


@BOTH
def test_a_body_of_unstated_length_is_bounded_too(client: Any, agent: FakeAgent, verb: str) -> None:
    answer = client.post(
        f"{PREFIX}/{verb}", input_stream=io.BytesIO(b"x" * (MOST + 5)), content_type=TYPE,
        headers={"Transfer-Encoding": "chunked"}, environ_overrides={"wsgi.input_terminated": True})
    assert answer.status_code == 413
    assert agent.calls == []


@BOTH
def test_reading_is_not_offered(client: Any, agent: FakeAgent, verb: str) -> None:
    assert client.get(f"{PREFIX}/{verb}").status_code == 405


@BOTH
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PairingFailed("The code is wrong: 1234."), 403),
        (NotAllowed("no"), 403),
        (RequestRefused("not now"), 409),
        (PeerUnavailable("no"), 502),
        (ChecksFailed([Finding("x", "a secret finding", "Mend it.")]), 422),
    ],
)
def test_refusals_say_nothing(client: Any, agent: FakeAgent, verb: str, error: Any, code: int) -> None:
    agent.refusals[verb] = error
    answer = client.post(f"{PREFIX}/{verb}", data=b"x", content_type=TYPE)
    assert (answer.status_code, answer.data) == (code, b"")


@BOTH
def test_agent_absent(client: Any, verb: str) -> None:
    answer = client.post(f"{PREFIX}/{verb}", data=b"x", content_type=TYPE)
    assert (answer.status_code, answer.data) == (503, b"")
