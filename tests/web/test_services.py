"""What the page and the command line say of services and hooks."""

from __future__ import annotations

import json
from html import unescape
from typing import Any

import pytest
from flask import Flask

from .conftest import PREFIX
from .fake_agent import FakeAgent, Json


def service(**changes: Any) -> Json:
    return {"name": "dhcp", "runs_on": "active", "when": "after", "wanted": True, "runs": True, "state": "runs",
            "since_s": 61.0, "restarts": 0, "problem": "", **changes}  # fmt: skip


def hook(**changes: Any) -> Json:
    return {"name": "tell", "step": "after_active", "order": 0, "limit_s": 1.0, "state": "done", "called_s": 5.0,
            "took_ms": 12.0, "problem": "", **changes}  # fmt: skip


def check(**changes: Any) -> Json:
    return {"name": "card", "moves_role": True, "every_s": 5.0, "state": "good", "problem": "", "checked_s": 3.0,
            **changes}  # fmt: skip


def told(*services: Json, hooks: tuple[Json, ...] = (), checks: tuple[Json, ...] = (), problem: str = "",
         remedy: str = "") -> Json:  # fmt: skip
    return {"problem": problem, "remedy": remedy, "stage": "after_active", "services": list(services),
            "hooks": list(hooks), "hooks_ready": True, "checks": list(checks)}  # fmt: skip


STATES: dict[str, tuple[Json, str, str]] = {
    "in order": (told(service(), hooks=(hook(),)), "ok", "on the active gateway only, for 1"),
    "on both": (told(service(runs_on="both")), "ok", "on both gateways"),
    "stands by": (told(service(wanted=False, runs=False, state="stopped")), "ok", "stands by: it runs on the active"),
    "is started": (told(service(runs=False, state="changes")), "info", "is being started"),
    "is stopped": (told(service(wanted=False, state="changes")), "info", "is being stopped"),
    "fails": (told(service(runs=False, state="failed", problem="it <ended>.")), "bad", "does not run: it <ended>."),
    "does not stop": (told(service(wanted=False, state="failed", problem="it hangs.")), "bad", "although this gateway"),
    "dies again and again": (told(service(restarts=3, problem="it has ended.")), "bad", "Started again 3 times"),
    "hook failed": (told(service(), hooks=(hook(state="failed", problem="no disk."),)), "warn", "failed 5 s ago: no"),
    "not called": (told(hooks=(hook(state="not_called", called_s=None, took_ms=None),)), "ok", "not called yet"),
    "check": (told(checks=(check(),)), "ok", "was in order 3 s ago"),
    "check unknown": (told(checks=(check(state="unknown", checked_s=None),)), "ok", "not carried out yet"),
    "check that moves": (told(checks=(check(state="bad", problem="it is out."),)), "bad", "failed 3 s ago: it is out."),
    "check that tells": (told(checks=(check(state="bad", moves_role=False),)), "warn", "failed 3 s ago"),
    "problem": (told(problem="The process does not run.", remedy="See the log."), "bad", "The process does not run."),
}


@pytest.mark.parametrize("state", STATES)
def test_each_state_has_a_sign_and_a_sentence(client: Any, app: Flask, formed: FakeAgent, state: str) -> None:
    formed.services, kind, text = STATES[state]
    part = client.get(PREFIX + "/status.json?parts=1").json["parts"]["services"]
    assert text in unescape(part) and f"hsmx-message hsmx-{kind}" in part and "<ended>" not in part
    assert text in unescape(client.get(PREFIX + "/").text)
    assert text in app.test_cli_runner().invoke(args=["cluster", "services"]).output
    assert "Services: " in app.test_cli_runner().invoke(args=["cluster", "status"]).output


def test_nothing_is_shown_where_nothing_follows_the_role(client: Any, app: Flask, formed: FakeAgent) -> None:
    assert "hsmx-services" not in client.get(PREFIX + "/").text
    assert "states no services" in app.test_cli_runner().invoke(args=["cluster", "services"]).output


def test_programs_get_it_as_json(app: Flask, formed: FakeAgent) -> None:
    formed.services = told(service())
    done = app.test_cli_runner().invoke(args=["cluster", "services", "--json"])
    assert json.loads(done.output) == formed.services
