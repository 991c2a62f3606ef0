"""An operator ends a hold: only where there is one, with the consequences in plain words, a name and a confirmation."""

from __future__ import annotations

from html import unescape
from typing import Any

import pytest
from flask import Flask

from .conftest import PREFIX
from .fake_agent import FakeAgent
from .test_cli import run

PAGE = PREFIX + "/take-over"


@pytest.fixture
def holding(formed: FakeAgent) -> FakeAgent:
    """Gateway A hears nothing of gateway B, whose address answers."""
    assert formed.peer is not None
    formed.role, formed.phase, formed.peer["role"] = "passive", "holding", "unknown"
    return formed


def test_there_is_nothing_to_end_where_nothing_is_held(client: Any, formed: FakeAgent) -> None:
    assert PAGE not in client.get(PREFIX + "/").text
    assert "does not wait for the other one" in client.get(PAGE).text
    answer = client.post(PAGE, data={"by": "Ada", "sure": "y"})
    assert answer.status_code >= 400 and not formed.taken_over_by


def test_it_warns_and_wants_a_name_and_a_tick(client: Any, holding: FakeAgent) -> None:
    assert f'href="{PAGE}"' in client.get(PREFIX + "/").text
    page = unescape(client.get(PAGE).text)
    assert "both answer on the same address" in page and "switch gateway-b off" in page and "quarantine" in page
    for typed, said in (({"by": "Ada"}, "Tick this"), ({"sure": "y"}, "Enter your name"),
                        ({"by": "x" * 65, "sure": "y"}, "longer than 64")):
        answer = client.post(PAGE, data=typed)
        assert answer.status_code == 422 and said in unescape(answer.text) and not holding.taken_over_by
    assert client.post(PAGE, data={"by": "Ada", "sure": "y"}).status_code == 303
    assert holding.taken_over_by == "Ada"


def test_the_command_wants_the_other_gateways_name(app: Flask, holding: FakeAgent) -> None:
    refused = app.test_cli_runner().invoke(args=["cluster", "take-over", "--by", "Ada"], input="gateway-a\n")
    assert refused.exit_code == 1 and "nothing was done" in refused.output and not holding.taken_over_by
    assert "both answer on the same address" in refused.output
    done = app.test_cli_runner().invoke(args=["cluster", "take-over", "--by", "Ada"], input="gateway-b\n")
    assert done.exit_code == 0 and holding.taken_over_by == "Ada", done.output


def test_the_command_says_so_where_nothing_waits(app: Flask, formed: FakeAgent) -> None:
    found = run(app, "take-over", "--yes")
    assert found.exit_code == 1 and "does not wait" in found.stderr
