"""What the agent says of the data: since when writes are confirmed by one gateway alone, and when that is an alarm."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from flask_hsmx_cluster.agent.heartbeat.advertiser import Advertiser
from flask_hsmx_cluster.agent.heartbeat.standing import DataStanding
from flask_hsmx_cluster.agent.heartbeat.status import DEGRADED_ALARM_S, Showing, alarms, snapshot
from flask_hsmx_cluster.decision import events
from flask_hsmx_cluster.decision.core import Core
from flask_hsmx_cluster.decision.model import Plan, Role, Start, Timing
from flask_hsmx_cluster.network import clock

NOW = 1000.0
FOLLOWER = {"event": "follower", "streaming": True, "caught_up": True, "filled": True, "lag_bytes": 0,
            "kept_bytes": 16 << 20, "brake_ms": 0}  # fmt: skip


def writing_core(peer: str = "b" * 32, data: bool = True, synchronous: bool = True) -> Core:
    """A core that is active since NOW and whose database is writable."""
    core = Core(
        Plan("a" * 32, peer, "gw-b", (), ("lan0",), ("10.0.0.100",), Timing(), data=data,
             synchronous=synchronous),
        Start(hold_s=3, claim=True), NOW,
    )  # fmt: skip
    core.handle(events.Carrier("lan0", True), NOW)
    core.handle(events.DataPromoted(core.term, True), NOW)
    core.handle(events.Renewed(NOW), NOW)
    assert core.role is Role.ACTIVE
    return core


def session_of(core: Core) -> Any:
    return SimpleNamespace(
        core=core, clone_at=float("-inf"), mended=0, missing=(), lease=SimpleNamespace(route_problem=""),
        database=SimpleNamespace(follower={**FOLLOWER, "wal_status": "reserved"}),
        membership=SimpleNamespace(settings=SimpleNamespace(virtual_ips=[])), codec=SimpleNamespace(counters={}),
        renewal_slowest_s=0.0, udp={}, advertiser=Advertiser({}, None),
    )  # fmt: skip


def data_alarms(session: Any, now: float) -> dict[str, str]:
    showing: dict[str, Showing] = {}
    alarms(session, showing, now, DataStanding())
    assert all(one.remedy for one in showing.values())
    return {key: one.severity for key, one in showing.items() if key == "degraded"}


def data_at(session: Any, now: float, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(clock, "boot_time_s", lambda: now)
    return snapshot(session, {}, None, 0, DataStanding())["data"]


def showing_of(
    session: Any, now: float, known: DataStanding, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, Showing], Any]:
    """Return the alarms, and what the status says of the data."""
    monkeypatch.setattr(clock, "boot_time_s", lambda: now)
    showing: dict[str, Showing] = {}
    alarms(session, showing, now, known)
    return showing, snapshot(session, {}, None, 0, known)["data"]


def test_writes_confirmed_alone_are_an_alarm_after_some_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    session = session_of(writing_core())
    assert data_alarms(session, NOW + DEGRADED_ALARM_S) == {}
    assert data_alarms(session, NOW + DEGRADED_ALARM_S + 0.1) == {"degraded": "critical"}
    assert data_at(session, NOW + 7, monkeypatch) == {
        "synchronous": False,
        "wants_synchronous": True,
        "degraded_since_s": 7.0,  # a reign that began without the other gateway is degraded from its beginning
        "follower": {"streaming": True, "caught_up": True, "filled": True, "lag_bytes": 0, "kept_bytes": 16 << 20,
                     "wal_status": "reserved", "brake_ms": 0},
        "stale": None,
    }  # fmt: skip


def test_no_alarm_while_the_other_one_is_being_filled_and_heard() -> None:
    core = writing_core()
    session = session_of(core)
    session.database.follower["filled"] = False
    core.peer_at = NOW + 59
    assert data_alarms(session, NOW + 60) == {}
    core.peer_at = NOW
    assert data_alarms(session, NOW + 60) == {"degraded": "critical"}


def test_no_alarm_while_both_confirm(monkeypatch: pytest.MonkeyPatch) -> None:
    core = writing_core()
    core.handle(events.SynchronousSet(True), NOW + 1)
    session = session_of(core)
    assert data_alarms(session, NOW + 60) == {}
    shown = data_at(session, NOW + 60, monkeypatch)
    assert shown["synchronous"] and shown["degraded_since_s"] is None


def test_since_when_it_is_no_longer_so(monkeypatch: pytest.MonkeyPatch) -> None:
    core = writing_core()
    core.handle(events.SynchronousSet(True), NOW + 1)
    core.handle(events.FollowerSeen(False, False), NOW + 1)
    core.handle(events.FollowerSeen(False, False), NOW + 20)
    core.handle(events.SynchronousSet(False), NOW + 20)
    assert data_at(session_of(core), NOW + 32, monkeypatch)["degraded_since_s"] == 12.0


def test_asynchronous_by_configuration_is_not_degraded(monkeypatch: pytest.MonkeyPatch) -> None:
    session = session_of(writing_core(synchronous=False))
    assert data_alarms(session, NOW + 60) == {}
    shown = data_at(session, NOW + 60, monkeypatch)
    assert not shown["wants_synchronous"] and shown["degraded_since_s"] is None


@pytest.mark.parametrize(("peer", "data"), [("", True), ("b" * 32, False)])
def test_no_alarm_without_another_gateway_or_without_shared_data(peer: str, data: bool) -> None:
    assert "degraded" not in data_alarms(session_of(writing_core(peer, data)), NOW + 60)


def test_a_gateway_outside_a_cluster_has_the_same_keys() -> None:
    shown = snapshot(session_of(writing_core()), {}, None, 0, DataStanding())["data"]
    assert snapshot(None, {}, None, 0, DataStanding())["data"].keys() == shown.keys()
