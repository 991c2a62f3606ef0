"""What operators and their networks do to a healthy pair: maintenance, reference addresses, starved agents, healing."""

from __future__ import annotations

import pytest

from flask_hsmx_cluster.decision import events
from flask_hsmx_cluster.decision.model import Cause, CauseKind, Motive
from flask_hsmx_cluster.decision.passive import GATE_LEASES

from .world import ALL_PATHS, World, active

REFERENCE = Cause(CauseKind.NO_REFERENCE)


@pytest.fixture
def world() -> World:
    world = World(seed=4)
    world.form()
    world.forget_figures()
    return world


def unreached(world: World, *names: str) -> None:
    """Let no reference address answer these gateways; their agents ask again and again."""
    for name in names:
        world._tell(world.machines[name], events.HealthReport(REFERENCE, True))
    world.at(0.5, unreached, world, *names)


# Maintenance ----------------------------------------------------------------------------------------------------


def test_maintenance_of_the_active_begins_with_a_hand_over_that_the_other_one_confirms(world: World) -> None:
    world._tell(world.machines["a"], events.FailoverRequested(Motive.MAINTENANCE))
    world.run(0.3)
    assert active(world) == ["b"] and world.machines["a"].handovers[-1].ok
    world._tell(world.machines["a"], events.MaintenanceSet(True))
    world.run(1)
    assert active(world) == ["b"] and world.both == 0 and world.none_longest < 0.01, world.log


@pytest.mark.parametrize("why", ["no cable", "maintenance", "away"])
def test_maintenance_of_the_active_does_not_begin_without_that(world: World, why: str) -> None:
    if why == "no cable":
        world.set_carrier("b", "lan0", False)
    elif why == "maintenance":
        world._tell(world.machines["b"], events.MaintenanceSet(True))
    else:
        world.power_off("b")
    world.run(2)
    world._tell(world.machines["a"], events.FailoverRequested(Motive.MAINTENANCE))
    world.run(1)
    assert not world.machines["a"].handovers[-1].ok and active(world) == ["a"] and world.none_longest == 0, world.log


def test_a_gateway_in_maintenance_takes_over_only_when_there_is_nobody_else(world: World) -> None:
    world._tell(world.machines["b"], events.MaintenanceSet(True))
    world.run(0.5)
    world.power_off("a")
    world.run(GATE_LEASES * world.timing.lease_s - 0.5)
    assert active(world) == [], world.log
    world.run(1.5)
    assert active(world) == ["b"], "a gate postpones, it does not forbid"


# Reference addresses --------------------------------------------------------------------------------------------


def test_a_gateway_that_reaches_no_reference_hands_over_to_one_that_does(world: World) -> None:
    unreached(world, "a")
    world.run(0.5)
    assert active(world) == ["b"] and world.both == 0 and world.none_longest < 0.02, world.log


def test_where_neither_reaches_one_nothing_moves(world: World) -> None:
    """The upstream router is down: the fault is not the gateway's."""
    unreached(world, "b", "a")
    world.run(20)
    assert active(world) == ["a"] and len(world.reigns) == 1, world.log


def test_a_passive_without_a_reference_waits_before_it_takes_over(world: World) -> None:
    """Its silence may be its own; but a router that died with the active must not keep it away for ever (rule 7)."""
    unreached(world, "b")
    world.run(0.5)
    world.power_off("a")
    world.run(1)
    assert active(world) == []
    world.run(GATE_LEASES * world.timing.lease_s)
    assert active(world) == ["b"], world.log


# A loop that ran late -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.3, 1.2, 3.0, 30.0])
def test_a_starved_passive_believes_none_of_its_own_silence(world: World, seconds: float) -> None:
    world.freeze("b")
    world.run(seconds)
    world.thaw("b")
    world.run(3)
    assert active(world) == ["a"] and len(world.reigns) == 1 and world.both == 0, world.log


@pytest.mark.parametrize("seconds", [0.4, 1.2, 1.9])
def test_a_starved_active_keeps_a_lease_that_is_still_valid(world: World, seconds: float) -> None:
    core = world.machines["a"].core
    assert core is not None
    renewed_at = core.renewed_at
    while core.renewed_at == renewed_at:
        world.run(0.001)
    world.freeze("a")
    world.run(seconds)
    world.thaw("a")
    world.run(3)
    assert world.both == 0 and len(active(world)) == 1 and world.serving() == active(world), world.log


# Both active, and healed ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("served", ["a", "b"])
def test_of_two_that_were_active_the_one_that_served_stays_whatever_its_term(served: str) -> None:
    world = World(seed=4)
    world.form()
    world.strangers = False
    world.isolated, world.cut = True, ALL_PATHS
    world.run(8)
    assert active(world) == ["a", "b"], "the stated limit: every wire between them is cut"
    for _ in range(4):
        world._tell(world.machines[served], events.StrangerSeen("lan0"))
        world.run(0.5)
    world.isolated, world.cut = False, set()
    world.forget_figures()
    world.run(0.5)
    assert active(world) == [served] and world.both < 0.2, world.log
    assert world.serving() == [served]


def test_of_two_that_nobody_used_the_later_term_stays() -> None:
    world = World(seed=4, strangers=False)
    world.form()
    world.isolated, world.cut = True, ALL_PATHS
    world.run(8)
    assert active(world) == ["a", "b"]
    world.isolated, world.cut = False, set()
    world.run(0.5)
    assert active(world) == ["b"], "it took over later"
