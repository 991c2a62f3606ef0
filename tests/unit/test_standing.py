"""What a gateway remembers of its data, and what people are told of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from flask_hsmx_cluster.agent.heartbeat.standing import (
    IN_STEP_EVERY_S,
    DataStanding,
    StandingKeeper,
    seconds_ago,
    standing,
)
from flask_hsmx_cluster.decision import events
from flask_hsmx_cluster.decision.core import Core
from flask_hsmx_cluster.decision.model import Beat, Kind, Path, Plan, Role, Start, Timing

from .test_status import session_of, showing_of

NOW = 1000.0
WALL = datetime(2030, 5, 6, 7, 8, 9, tzinfo=UTC)
TEXT = "2030-05-06T07:08:09+00:00"
PLAN = Plan(
    "a" * 32, "b" * 32, "gw-b", (Path("sync", "sync", "sync0"),), ("lan0",), ("10.0.0.100",), Timing(), data=True
)  # fmt: skip


def core_of(start: Start | None = None, plan: Plan = PLAN) -> Core:
    return Core(plan, start or Start(hold_s=3), NOW)


def hears(core: Core, synchronous: bool, now: float = NOW) -> Core:
    core.handle(events.Heard("sync", Beat(Kind.BEAT, Role.ACTIVE, synchronous=synchronous)), now)
    return core


def test_who_hears_nobody_learns_nothing() -> None:
    known = DataStanding(True, True, TEXT, "")
    assert standing(known, core_of(), None, NOW, WALL) == known


def test_who_follows_in_step_notes_when() -> None:
    assert standing(DataStanding(), hears(core_of(), True), None, NOW, WALL) == DataStanding(True, False, TEXT)


def test_who_follows_out_of_step_keeps_when_it_was_in_step_last() -> None:
    known = DataStanding(True, False, "2029-01-01T00:00:00+00:00")
    assert standing(known, hears(core_of(), False), None, NOW, WALL) == replace(known, behind=True)


def test_who_has_just_joined_was_never_in_step() -> None:
    assert standing(DataStanding(), hears(core_of(), False), None, NOW, WALL) == DataStanding(True, True, "")


def test_who_gave_up_its_reign_had_everything_until_then() -> None:
    core = core_of(Start(hold_s=3, claim=True))
    core.step_down("a test", core.phase)
    found = standing(DataStanding(), hears(core, False), None, NOW, WALL)
    assert found == DataStanding(True, True, TEXT)


def test_an_active_gateway_notes_since_when_it_writes_alone() -> None:
    core = core_of(Start(hold_s=3, claim=True))
    found = standing(DataStanding(), core, NOW - 9, NOW, WALL)
    assert found == DataStanding(degraded_at="2030-05-06T07:08:00+00:00")
    assert standing(found, core, NOW - 3, NOW, WALL) == found, "it goes on, whatever a restarted agent has measured"
    assert standing(found, core, None, NOW, WALL) == DataStanding()


def test_a_gateway_without_another_one_or_without_shared_data_remembers_nothing() -> None:
    known = DataStanding(True, True, TEXT, TEXT)
    for plan in (replace(PLAN, peer=""), replace(PLAN, data=False)):
        assert standing(known, core_of(plan=plan), None, NOW, WALL) == DataStanding()


def test_the_disk_is_written_for_news_at_once_and_for_the_time_once_a_minute() -> None:
    written: list[DataStanding] = []
    ledger = SimpleNamespace(standing=lambda: DataStanding(), remember_standing=written.append)
    keeper = StandingKeeper(SimpleNamespace(ledger=ledger, keep=lambda _name, job: job()))  # type: ignore[arg-type]
    keeper.load()
    core = hears(core_of(), True)
    keeper.tick(core, None, NOW)
    keeper.tick(core, None, NOW + IN_STEP_EVERY_S - 1)
    assert len(written) == 1
    hears(core, False, NOW + 1)
    keeper.tick(core, None, NOW + 1)
    assert [one.behind for one in written] == [False, True]
    hears(core, True, NOW + 2)
    keeper.tick(core, None, NOW + 2)
    keeper.known = replace(keeper.known, in_step_at=TEXT)
    keeper.tick(core, None, NOW + 2 + IN_STEP_EVERY_S)
    assert len(written) == 4


@pytest.mark.parametrize("text", ["", "yesterday", "2030-05-06"])
def test_a_time_that_cannot_be_read_is_none(text: str) -> None:
    assert seconds_ago(text, NOW) is None


def test_a_degraded_gateway_is_so_since_before_its_agents_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    core = core_of(Start(hold_s=3, claim=True, degraded_since=NOW - 500))
    core.handle(events.DataPromoted(core.term, True), NOW)
    from flask_hsmx_cluster.agent.heartbeat.status import degraded_since

    assert degraded_since(core) == NOW - 500


def waiting() -> Core:
    return core_of(Start(hold_s=3, followed=True, behind=True))


def test_the_wait_is_told_with_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    alarms, data = told(waiting(), monkeypatch, DataStanding(True, True, TEXT))
    assert alarms["stale_wait"].text.endswith("its data may be older than 2030-05-06 07:08 UTC.")
    assert data["stale"] == {"in_step_at": TEXT, "waits": True, "left_s": 58.0}


def test_a_wait_for_ever_has_no_end_and_says_what_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    core = waiting()
    core.replan(replace(PLAN, timing=Timing(stale_wait_s=float("inf"))), NOW)
    alarms, data = told(core, monkeypatch, DataStanding(True, True))
    assert data["stale"]["left_s"] is None and "advanced settings" in alarms["stale_wait"].remedy
    assert "older than that of gw-b" in alarms["stale_wait"].text


def test_who_serves_older_data_says_so_until_the_other_one_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    core = core_of(Start(hold_s=3, claim=True, behind=True))
    alarms, data = told(core, monkeypatch, DataStanding(False, True, TEXT))
    assert "stale" in alarms and data["stale"] == {"in_step_at": TEXT, "waits": False, "left_s": 0.0}
    core.handle(events.FollowerSeen(streaming=True, caught_up=False), NOW + 5)
    assert "stale" in told(core, monkeypatch, DataStanding(False, True, TEXT))[0]
    core.handle(events.FollowerSeen(streaming=True, caught_up=True), NOW + 5)
    alarms, data = told(core, monkeypatch, DataStanding())
    assert "stale" not in alarms and data["stale"] is None


def told(core: Core, monkeypatch: pytest.MonkeyPatch, known: DataStanding) -> tuple[dict[str, Any], Any]:
    """Return the alarms, and what the status says of the data, five seconds after the start."""
    return showing_of(session_of(core), NOW + 5, known, monkeypatch)
