"""The stated bounds hold in the simulation."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flask_hsmx_cluster.decision import events
from flask_hsmx_cluster.decision.bounds import Fault, Site, bound
from flask_hsmx_cluster.decision.model import Cause, CauseKind, Motive, Timing

from .test_hard_cases_more import deafen
from .world import ALL_PATHS, World, active

TIMINGS = {
    "100ms": Timing(),
    "250ms": Timing(interval_s=0.25),
    "1s": Timing(interval_s=1.0, lease_s=4.0),
}
SEEDS = range(2)


def cut_power(world: World) -> None:
    world.power_off("a", switched=True)


def blink(world: World) -> None:
    cut_power(world)
    world.run(world.dice.random() * (world.timing.suspect_s + 0.05))
    world.power_on("a")


def cut_power_after_a_stall(world: World) -> None:
    core = world.machines["b"].core
    assert core is not None
    core.stalls.longest_s, core.stalls.at = world.timing.lease_s, world.now
    cut_power(world)


def cut_power_and_carrier(world: World) -> None:
    """The last messages have arrived by then: one that comes later makes it a power-off through a switch."""
    world.cut = ALL_PATHS
    world.run(0.006)
    world.power_off("a")


def pause(world: World) -> None:
    world.pause("a", world.timing.suspect_s + world.dice.random() * 1.5 * world.timing.lease_s)


def thaw_too_late(world: World) -> None:
    """Let the agent go on just when its lease has lapsed, and the other one asks already."""
    core = world.machines["a"].core
    assert core is not None and core.renewed_at is not None
    world.freeze("a")
    world.run(core.renewed_at + world.timing.lease_s - world.now + world.dice.random() * 0.6)
    world.thaw("a")


def ask(world: World) -> None:
    world._tell(world.machines["a"], events.FailoverRequested(Motive.REQUEST))


def kill_the_database(world: World) -> None:
    world._tell(world.machines["a"], events.HealthReport(Cause(CauseKind.DATABASE), True))


def cut_cables(world: World) -> None:
    world.cut = {"sync", "backup"}


def cut_one_direction(world: World) -> None:
    world.cut = {"sync:a", "backup:a"}


def isolate_and_heal(world: World) -> None:
    world.cut, world.isolated = {"sync", "backup"}, True
    world.run(3 * world.timing.lease_s)
    assert active(world) == ["a", "b"]
    world.forget_figures()
    world.cut, world.isolated = set(), False


def silence_and_heal(world: World) -> None:
    world.cut = ALL_PATHS
    world.run(4 * world.timing.lease_s)
    assert active(world) == ["a", "b"]
    world.forget_figures()
    world.cut = set()


def kill_passive(world: World) -> None:
    world.kill("b")


#: each fault, how it is made, and how many leases later it is over
FAULTS: list[tuple[Fault, Callable[[World], None], float]] = [
    (Fault.POWER_OFF, cut_power, 1.5),
    (Fault.POWER_OFF_DIRECT, cut_power_and_carrier, 1.0),
    (Fault.POWER_BLINK, blink, 2.0),
    (Fault.POWER_OFF_AFTER_STALL, cut_power_after_a_stall, 2.0),
    (Fault.AGENT_DEAD, lambda world: world.kill("a"), 2.0),
    (Fault.AGENT_DEAD, lambda world: world.freeze("a"), 2.0),
    (Fault.AGENT_THAWED, thaw_too_late, 3.0),
    (Fault.PAUSE, pause, 1.0),
    (Fault.LAN_CABLE, lambda world: world.set_carrier("a", "lan0", False), 1.0),
    (Fault.DEAD_LAN, lambda world: world.lan_up.update(a=False), 4.0),
    (Fault.DEAF_LAN, deafen, 7.5),
    (Fault.REQUEST, ask, 1.0),
    (Fault.DATABASE, kill_the_database, 1.0),
    (Fault.CABLES, cut_cables, 4.0),
    (Fault.CABLES, cut_one_direction, 4.0),
    (Fault.PASSIVE, kill_passive, 2.0),
    (Fault.PASSIVE, lambda world: world.power_off("b"), 2.0),
    (Fault.HEALED, isolate_and_heal, 1.0),
    (Fault.HEALED, silence_and_heal, 1.0),
]
NAMES = [f"{fault.value}-{getattr(make, '__name__', '').strip('<>')}" for fault, make, _ in FAULTS]
MOVED = {Fault.CABLES: "a", Fault.PASSIVE: "a", Fault.AGENT_THAWED: None, Fault.PAUSE: None, Fault.HEALED: None}


def a_pair(heartbeats: str, seed: int, data: bool) -> World:
    """Return a settled pair some time after it was formed."""
    world = World(seed, TIMINGS[heartbeats], data=data, services=data)
    world.form()
    assert active(world) == ["a"]
    world.run(world.dice.random() * 2 * world.timing.interval_s)
    world.forget_figures()
    return world


@pytest.mark.parametrize("heartbeats, data", [("100ms", True), ("250ms", False), ("1s", False)])
@pytest.mark.parametrize("fault, make, leases", FAULTS, ids=NAMES)
def test_a_bound_holds(
    fault: Fault, make: Callable[[World], None], leases: float, heartbeats: str, data: bool
) -> None:
    site = Site(TIMINGS[heartbeats], data=data, services=data)
    stated = bound(fault, site)
    for seed in SEEDS:
        world = a_pair(heartbeats, seed, data)
        make(world)
        world.run(leases * world.timing.lease_s)
        assert world.none_longest <= stated.none_s + 0.001, (stated, world.log[-6:])
        assert world.both <= stated.two_s + 0.001, (stated, world.log[-6:])
        expected = MOVED.get(fault, "b")
        assert len(world.holders()) == 1 if expected is None else world.holders() == [expected], world.log[-6:]


@pytest.mark.parametrize("heartbeats", TIMINGS)
def test_who_boots_alone_serves_within_its_bound(heartbeats: str) -> None:
    for strangers in (True, False):
        world = World(3, TIMINGS[heartbeats], strangers=strangers)
        world.machines["b"].powered = False
        world.start("a")
        stated = bound(Fault.BOOT_ALONE, Site(world.timing)).none_s
        world.run(stated)
        assert world.holders() == ["a"], world.log


@pytest.mark.parametrize("heartbeats", TIMINGS)
def test_two_that_boot_together_serve_within_their_bound(heartbeats: str) -> None:
    for seed in SEEDS:
        world = World(seed, TIMINGS[heartbeats])
        world.start("a")
        world.run(world.dice.random() * 2)
        world.start("b")
        stated = bound(Fault.BOOT_TOGETHER, Site(world.timing))
        world.run(stated.none_s)
        assert len(world.holders()) == 1, world.log
        world.run(5)
        assert world.both <= stated.two_s and len(active(world)) == 1, world.log
