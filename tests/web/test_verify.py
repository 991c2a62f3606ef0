"""The page that compares the data, and the page that replaces a dead gateway."""

from __future__ import annotations

from html import unescape
from typing import Any

import pytest

from flask_hsmx_cluster.errors import PeerUnavailable
from flask_hsmx_cluster.words import cluster as words
from flask_hsmx_cluster.words.quarantine import progress

from .conftest import PREFIX
from .fake_agent import CODE, FakeAgent, compared, comparing, data_status, peer_status

PAGE = PREFIX + "/verify"


def shown(client: Any, path: str = PAGE) -> str:
    answer = client.get(path)
    assert answer.status_code == 200
    return unescape(answer.text)


def test_it_begins_when_it_is_asked_to(client: Any, formed: FakeAgent) -> None:
    formed.data = data_status()
    assert "has not been compared yet" in shown(client) and "Compare now" in shown(client)
    assert client.post(PAGE).status_code == 303
    page = shown(client)
    assert "It begins." in page and "data-running" in page and '<meta http-equiv="refresh" content="3">' in page


def test_its_progress_is_what_was_told(client: Any, formed: FakeAgent) -> None:
    formed.verified = comparing()
    for path in (PAGE, PAGE + "/progress"):
        page = shown(client, path)
        assert "Table 3 of 4, public.voucher: 280,000 of 360,100 rows of all tables. About 2 s left." in page
        assert 'value="280000" max="360100"' in page and "data-running" in page
    assert "left" not in progress(comparing(left_s=None)).text


def test_equal(client: Any, formed: FakeAgent) -> None:
    formed.verified = compared()
    page = shown(client)
    assert "Both gateways have the same data." in page and "in 12 s." in page and "hsmx_cluster" not in page
    assert "refresh" not in page and "data-running" not in page


def test_differences_are_named(client: Any, formed: FakeAgent) -> None:
    formed.verified = compared("public.voucher", "hsmx_cluster.incarnation")
    page = shown(client)
    assert "The data of the two gateways differs." in page and "2 rows differ" in page and "<code>8841</code>" in page
    assert "hsmx_cluster.incarnation" in page, "the cluster's own tables are named if they differ"


def test_a_failed_comparison_and_a_gateway_that_is_away(client: Any, formed: FakeAgent) -> None:
    formed.verified = {**compared(), "result": None, "error": "The connection is gone."}
    assert "The last comparison failed: The connection is gone." in shown(client)
    formed.refusals["verified"] = PeerUnavailable("The other gateway does not answer.", "Switch it on.")
    assert "The other gateway does not answer." in shown(client) and "Compare now" in shown(client)


def test_hostile_text(client: Any, formed: FakeAgent) -> None:
    formed.verified = compared("public.voucher")
    formed.verified["result"]["tables"][2] |= {"table": "<script>x", "differing": [["<script>y"], []]}
    assert "<script>x" not in client.get(PAGE).text and "<script>y" not in client.get(PAGE).text


# ---- replacing ----


@pytest.fixture
def bereft(formed: FakeAgent) -> FakeAgent:
    """The other gateway is not heard."""
    formed.peer = {**peer_status(), "role": "unknown"}
    return formed


def test_it_is_offered_where_the_other_one_is_not_heard(client: Any, formed: FakeAgent) -> None:
    assert "/replace" not in shown(client, PREFIX + "/")
    formed.peer = {**peer_status(), "role": "unknown"}
    assert "Replace gateway-b …" in shown(client, PREFIX + "/")


def test_it_says_what_it_does_and_wants_a_tick(client: Any, bereft: FakeAgent) -> None:
    page = shown(client, PREFIX + "/replace")
    for line in words.replace_plan(bereft.verb_status()):
        assert line in page
    answer = client.post(PREFIX + "/replace")
    assert answer.status_code == 422 and "Tick this if it is gone for good." in answer.text
    assert ("replace", {}) not in bereft.calls


def test_then_the_code_is_shown(client: Any, bereft: FakeAgent) -> None:
    answer = client.post(PREFIX + "/replace", data={"sure": "y"})
    assert answer.status_code == 200 and CODE in answer.text and answer.headers["Cache-Control"] == "no-store"


def test_while_it_is_heard_it_is_refused(client: Any, formed: FakeAgent) -> None:
    assert "it would be refused now" in shown(client, PREFIX + "/replace")
    answer = client.post(PREFIX + "/replace", data={"sure": "y"})
    assert answer.status_code == 409 and "is not dead" in answer.text


def test_without_another_gateway_there_is_nothing_to_replace(client: Any, formed: FakeAgent) -> None:
    formed.form(paired=False)
    assert "There is no other gateway to replace." in shown(client, PREFIX + "/replace")
