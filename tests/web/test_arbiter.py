"""What page, command line and metrics say of an arbiter."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from .conftest import PREFIX
from .fake_agent import FakeAgent

TOLD = {"required": False, "answers": True, "since_s": 7300.0, "text": "", "word": None}
CASES = [
    ({}, "✓ Arbiter: answers, for 2 h 1 min now; it is asked only if the two gateways do not hear each other."),
    ({"word": "granted"}, "! Arbiter: gateway-b is not heard. The arbiter lets this gateway serve."),
    ({"word": "denied"}, "! Arbiter: gateway-b is not heard. The arbiter lets it serve, and not this gateway."),
    ({"answers": False, "text": "192.0.2.7:2379 cannot be reached"},
     "! Arbiter: has not answered for 2 h 1 min (192.0.2.7:2379 cannot be reached). "
     "Nothing depends on it as long as the two gateways hear each other."),
    ({"answers": False, "required": True, "text": "<b>"},
     "✕ Arbiter: has not answered for 2 h 1 min (<b>). A gateway that loses the other one now stops serving."),
]  # fmt: skip


@pytest.mark.parametrize(("told", "line"), CASES)
def test_one_line_says_how_it_is(
    app: Flask, client: FlaskClient, formed: FakeAgent, told: dict[str, Any], line: str
) -> None:
    formed.arbiter = {**TOLD, **told}
    printed = app.test_cli_runner().invoke(args=["cluster", "status"]).output
    assert line in printed.splitlines()
    sign, _, text = line.partition(" Arbiter: ")
    page = client.get(f"{PREFIX}/").text
    assert f'aria-hidden="true">{sign}</span> <strong>Arbiter:</strong>' in page
    assert text.replace("<b>", "&lt;b&gt;") in page
    answers, granted = int(formed.arbiter["answers"]), int(formed.arbiter["word"] == "granted")
    metrics = client.get(f"{PREFIX}/metrics").text.splitlines()
    assert f"hsmx_cluster_arbiter_answers {answers}" in metrics
    assert f"hsmx_cluster_arbiter_granted {granted}" in metrics
    assert client.get(f"{PREFIX}/api/status").get_json()["arbiter"] == formed.arbiter


def test_without_one_nothing_is_said(app: Flask, client: FlaskClient, formed: FakeAgent) -> None:
    assert "rbiter" not in app.test_cli_runner().invoke(args=["cluster", "status"]).output
    assert "rbiter" not in client.get(f"{PREFIX}/").text
    assert "arbiter" not in client.get(f"{PREFIX}/metrics").text
