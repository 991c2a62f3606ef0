"""The decision core by itself: guards that stand behind one another, each alone; and the tables' completeness."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from flask_hsmx_cluster.decision import events, judge
from flask_hsmx_cluster.decision.core import Core
from flask_hsmx_cluster.decision.evidence import Reading
from flask_hsmx_cluster.decision.health import BETTER_AFTER_S, MOVE_WAIT_S, Health, MoveBrake
from flask_hsmx_cluster.decision.judge import Standing, Verdict
from flask_hsmx_cluster.decision.model import (
    Beat,
    Cause,
    CauseKind,
    Kind,
    Motive,
    Path,
    Plan,
    Role,
    Start,
    Term,
    Timing,
)

NOW = 1000.0


def active_core() -> Core:
    """A core that is active and has renewed its lease at NOW."""
    plan = Plan("a" * 32, "b" * 32, "gw-b", (Path("sync", "sync", "sync0"),), ("lan0",), ("10.0.0.100",), Timing())
    core = Core(plan, Start(hold_s=3, claim=True), NOW)
    core.handle(events.Carrier("lan0", True), NOW)
    core.handle(events.Renewed(NOW), NOW)
    assert core.role is Role.ACTIVE
    return core


def kinds(effects: list[events.Effect]) -> list[type]:
    return [type(effect) for effect in effects]


def test_a_renewal_that_resurrected_a_lapsed_address_is_taken_back() -> None:
    core = active_core()
    effects = core.handle(events.Renewed(NOW + 2.1), NOW + 2.1)
    assert events.Release in kinds(effects) and core.role is Role.PASSIVE


def test_a_late_loop_whose_lease_lapsed_releases_before_anything_else() -> None:
    core = active_core()
    effects = core.ran_late(2.5, NOW + 2.6)
    assert next(kind for kind in kinds(effects) if kind is not events.Note) is events.Release
    assert core.role is Role.PASSIVE


def test_a_late_loop_whose_lease_is_valid_keeps_it_and_does_not_renew_blindly() -> None:
    core = active_core()
    effects = core.ran_late(1.5, NOW + 1.6)
    assert core.role is Role.ACTIVE
    assert events.Release not in kinds(effects) and events.Renew not in kinds(effects)


def test_a_lapsed_lease_is_never_renewed() -> None:
    core = active_core()
    effects = core.wake(NOW + 2.2)
    assert events.Renew not in kinds(effects) and events.Release in kinds(effects)


def released(effects: list[events.Effect]) -> bool:
    return next(effect.released for effect in effects if isinstance(effect, events.Claim))


def test_a_claim_says_whether_the_other_gateway_can_still_run_what_is_the_actives() -> None:
    plan = Plan("a" * 32, "b" * 32, "gw-b", (Path("sync", "sync", "sync0"),), ("lan0",), ("10.0.0.100",), Timing())
    for options, expected in (({}, False), ({"released": True}, True), ({"out_of_hold": True}, True)):
        core = Core(plan, Start(hold_s=3), NOW)
        core.claim("test", (), **options)
        assert released(core.wake(NOW)) is expected
    core = Core(replace(plan, peer="", peer_name=""), Start(hold_s=3), NOW)
    core.claim("test", ())
    assert released(core.wake(NOW)), "there is no other one"


def test_no_lease_of_the_other_gateway_is_waited_for_longer_than_one_can_be() -> None:
    plan = Plan("a" * 32, "b" * 32, "gw-b", (Path("sync", "sync", "sync0"),), ("lan0",), ("10.0.0.100",), Timing())
    for kind, motive in ((Kind.BEAT, Motive.REQUEST), (Kind.OFFER, Motive.RESTART), (Kind.BYE, Motive.RESTART)):
        core = Core(plan, Start(hold_s=3), NOW)
        beat = Beat(kind, Role.ACTIVE, Term(1, "b" * 32), motive, lease_left_ms=2**32 - 1)
        core.handle(events.Heard("sync", beat), NOW)
        assert core.passive.peer_lease_until <= NOW + 62 and core.restart.peer_until <= NOW + 62


def test_time_never_goes_back() -> None:
    core = active_core()
    core.wake(NOW + 0.1)
    core.wake(NOW - 50)
    assert core.now == NOW + 0.1


@pytest.mark.parametrize("readings", list(itertools.product(Reading, repeat=2)))
@pytest.mark.parametrize("gated", [True, False])
def test_every_silence_has_a_verdict(readings: tuple[Reading, ...], gated: bool) -> None:
    verdict = judge.judge_silence(readings, gated)
    if Reading.ANSWERED in readings:
        assert verdict is Verdict.HOLD
    elif Reading.SILENT in readings and not gated:
        assert verdict is Verdict.CLAIM
    else:
        assert verdict is Verdict.WAIT


@pytest.mark.parametrize("winner", [judge.both_active_winner, judge.both_passive_winner])
def test_two_gateways_always_agree_who_stays(winner: object) -> None:
    ill = frozenset({Cause(CauseKind.NO_CARRIER)})
    each = [
        (served, Term(counter, node), position, causes, node)
        for served in (True, False)
        for counter in (1, 2)
        for position in (0, 5)
        for causes in (frozenset(), ill)
        for node in ("a", "b")
    ]
    for one, other in itertools.product(each, repeat=2):
        if one[4] != other[4]:
            mine, theirs = Standing(*one), Standing(*other)
            assert winner(mine, theirs) == winner(theirs, mine)  # type: ignore[operator]


@pytest.mark.parametrize(
    "mine, theirs, goes",
    [({}, {}, True), ({}, {"term": Term(9, "b")}, True), ({"position": 0}, {}, False), ({}, {"position": 0}, True),
     ({"maintenance": True}, {}, False), ({"causes": frozenset({Cause(CauseKind.DISK)})}, {}, False)],
)  # fmt: skip
def test_who_has_listened_goes_before_a_listener_that_is_no_better(
    mine: dict[str, Any], theirs: dict[str, Any], goes: bool
) -> None:
    alike = {"served": False, "term": Term(1, "a"), "position": 1, "causes": frozenset(), "node": "a"}
    assert judge.goes_before_a_listener(Standing(**alike | mine), Standing(**alike | {"node": "b"} | theirs)) is goes


def test_who_served_stays_whatever_the_term() -> None:
    served = Standing(True, Term(1, "a"), 0, frozenset(), "a")
    newer = Standing(False, Term(9, "b"), 0, frozenset(), "b")
    assert judge.both_active_winner(served, newer) == "a"


@pytest.mark.parametrize("motive", list(Motive))
def test_nobody_hands_over_to_a_gateway_without_a_carrier(motive: Motive) -> None:
    assert judge.why_not_ready(motive, frozenset(), frozenset(), False, False, Role.PASSIVE, any_carrier=False)


def test_a_stopping_gateway_hands_over_to_any_that_can_hold_the_address() -> None:
    ill = frozenset({Cause(CauseKind.DISK), Cause(CauseKind.NO_REFERENCE)})
    assert judge.why_not_ready(Motive.STOP, ill, frozenset(), True, True, Role.PASSIVE, any_carrier=True) == ""
    assert judge.why_not_ready(Motive.REQUEST, ill, frozenset(), False, False, Role.PASSIVE, any_carrier=True)


def test_health_gets_worse_at_once_and_better_after_a_while() -> None:
    health, cause = Health(), Cause(CauseKind.DISK)
    health.report(cause, True, NOW)
    assert cause in health.causes
    health.report(cause, False, NOW + 1)
    health.report(cause, True, NOW + 2)
    health.report(cause, False, NOW + 3)
    health.report(cause, False, NOW + 3 + BETTER_AFTER_S - 0.1)
    assert cause in health.causes, "it was ill again meanwhile"
    health.report(cause, False, NOW + 3 + BETTER_AFTER_S)
    assert not health.causes


def test_the_brake_doubles_and_an_operator_releases_it() -> None:
    brake = MoveBrake()
    assert brake.allows(NOW)
    brake.moved(NOW, frozenset())
    assert not brake.allows(NOW + MOVE_WAIT_S - 1) and brake.allows(NOW + MOVE_WAIT_S)
    brake.moved(NOW + MOVE_WAIT_S, frozenset())
    assert not brake.allows(NOW + 3 * MOVE_WAIT_S - 1) and brake.allows(NOW + 3 * MOVE_WAIT_S)
    brake.release()
    assert brake.allows(NOW + MOVE_WAIT_S)
