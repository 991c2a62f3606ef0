"""PPPoE connections as the agent tends them: events, what the other gateway is told, and what it takes from there."""

from __future__ import annotations

from typing import Any

import pytest

from flask_hsmx_cluster.agent.services.pppoe import PPPoESide
from flask_hsmx_cluster.errors import PeerUnavailable, RequestRefused

MAC, OTHER = "02:00:00:00:00:0a", "02:aa:bb:cc:dd:ee"
SESSION = {"name": "fibre", "session": 7, "concentrator_mac": OTHER, "mac": MAC}


class Surroundings:
    """Cluster, exchange and services in one, as far as they are used."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.events: list[tuple[str, str, str]] = []
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.wishes: list[dict[str, Any]] = []
        self.handlers: dict[str, Any] = {}
        self.peer_sessions: list[dict[str, Any]] = []
        self.active, self.absent = True, False
        self.roles_asked = 0
        self.store = self

    def record(self, kind: str, severity: str, text: str) -> None:
        self.events.append((kind, severity, text))

    def role(self) -> str:
        self.roles_asked += 1  # the heartbeat loop is woken up for it
        return "active" if self.active else "passive"

    def require_heads(self) -> None: ...

    def has_peer(self, _heads: object) -> bool:
        return True

    def handle(self, verb: str, handler: Any) -> None:
        self.handlers[verb] = handler

    def ask(self, verb: str, timeout_s: float = 5.0, **arguments: Any) -> dict[str, Any]:
        self.asked.append((verb, arguments))
        if self.absent:
            raise PeerUnavailable("It does not answer.")
        return {}

    def shown(self, _participant: str) -> dict[str, Any]:
        return {"connections": self.rows}

    def command(self, participant: str, **wish: Any) -> None:
        self.wishes.append({"participant": participant, **wish})


@pytest.fixture
def around() -> Surroundings:
    return Surroundings()


@pytest.fixture
def side(around: Surroundings) -> PPPoESide:
    return PPPoESide(around, around, around)  # type: ignore[arg-type]


def row(state: str, fault: str = "") -> dict[str, Any]:
    more = {"text": f"is {state}", "address": "10.60.0.10", "interface": "ppp0"}
    return {**SESSION, "state": state, "fault": fault, **more}


def test_what_changes_is_recorded_once(side: PPPoESide, around: Surroundings) -> None:
    looped = ("error", "The line is looped back.")
    for state, fault in (("dialling", ""), ("up", ""), ("up", ""), looped, looped):
        around.rows = [row(state, fault)]
        side.look()
    assert [event[:2] for event in around.events] == [("pppoe_up", "info"), ("pppoe_down", "warning")]
    assert "looped back" in around.events[1][2]


def test_the_other_gateway_is_told_sessions_that_are_new(side: PPPoESide, around: Surroundings) -> None:
    around.rows = [row("up")]
    side.look()
    side.look()
    assert around.asked == [("pppoe_sessions", {"sessions": [SESSION]})]


def test_without_connections_the_heartbeat_is_not_asked(side: PPPoESide, around: Surroundings) -> None:
    side.look()
    assert not around.roles_asked
    around.rows = [row("up")]
    side.look()
    around.active, around.rows = False, [row("down")]
    side.look()
    asked = around.roles_asked
    side.look()
    assert around.roles_asked == asked, "nor where its sessions have ended with the role"


def test_an_absent_one_is_not_asked_all_the_time_and_a_passive_tells_nothing(
    side: PPPoESide, around: Surroundings
) -> None:
    around.absent, around.rows = True, [row("up")]
    for _ in range(3):
        side.look()
    assert len(around.asked) == 1
    around.active = False
    side.look()
    assert len(around.asked) == 1


def test_what_the_other_gateway_tells_is_kept(side: PPPoESide, around: Surroundings) -> None:
    around.handlers["pppoe_sessions"]("b", {"sessions": [SESSION]})
    assert around.peer_sessions == [SESSION]
    around.handlers["pppoe_sessions"]("b", {"sessions": []})
    assert around.peer_sessions == []


@pytest.mark.parametrize(
    "told",
    [
        None, {}, "x", [SESSION] * 17, [1], [{}], [{**SESSION, "session": 0}], [{**SESSION, "session": True}],
        [{**SESSION, "mac": "02:00:00:00:00:0A\n"}], [{**SESSION, "concentrator_mac": ["x"]}], [{**SESSION, "more": 1}],
        [{**SESSION, "name": "x" * 33}],
    ],
)  # fmt: skip
def test_what_is_no_session_is_refused(side: PPPoESide, around: Surroundings, told: Any) -> None:
    with pytest.raises(RequestRefused):
        around.handlers["pppoe_sessions"]("b", {"sessions": told})
    assert around.peer_sessions == []


def test_a_wish_goes_to_where_the_role_is(side: PPPoESide, around: Surroundings) -> None:
    assert side.command("fibre", True) == {"name": "fibre", "connect": True}
    assert around.wishes == [{"participant": "pppoe", "name": "fibre", "connect": True}]
    around.active = False
    side.command("fibre", False)
    assert around.asked[-1] == ("pppoe", {"name": "fibre", "connect": False})
    with pytest.raises(RequestRefused):  # both think that the other one is active
        around.handlers["pppoe"]("b", {"name": "fibre", "connect": True})
