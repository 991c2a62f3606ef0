"""Each invariant can fail: a world in which it is broken, and what the checks say of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from flask_hsmx_cluster.decision import bounds, events
from flask_hsmx_cluster.decision.model import Motive, Term, Timing

from . import invariants
from .faults import Fault
from .invariants import NAMES, STATED, Checks
from .run import Case, run
from .world import ADDRESS, World, active


def holds_on(world: World, name: str, seconds: float = 60.0) -> None:
    """A kernel that takes the address, whoever is active, and does not let go."""
    machine = world.machines[name]
    machine.drops = lambda: None  # type: ignore[method-assign]
    machine.leases(ADDRESS, seconds)


def cut(world: World, checks: Checks, on: bool) -> None:
    for wire in world.wires.values():
        wire.cut = on
    checks.faults_changed()


def two_holders(world: World, _checks: Checks) -> None:
    holds_on(world, "b")
    world.run(0.2)


def two_after_parting(world: World, checks: Checks) -> None:
    cut(world, checks, True)
    holds_on(world, "b")
    world.run(0.2)
    assert not checks.violations, "they cannot hear each other"
    cut(world, checks, False)
    world.run(1)


def two_unattended(world: World, checks: Checks) -> None:
    """The dead agent's kernel forgets the lease; the other one could not see it when it claimed."""
    holds_on(world, "a")
    machine = world.machines["a"]
    machine.leased_for_s = world.timing.lease_s
    world.loss = 1.0
    world.kill("a")
    world.run(world.timing.lease_s + 1.5)
    world.loss = 0.0
    assert active(world) == ["b"], world.log
    world.run(1)


def single_fault(world: World, checks: Checks) -> None:
    world.forget_figures()
    world.watch()
    world.machines["b"].refuses = True
    world.power_off("a")
    world.run(4)
    checks.single(Fault(0, "power_off", "a", lasts=4), "a")


def moved_for_nothing(world: World, checks: Checks) -> None:
    before = len(world.reigns)
    world.fail_over("a", Motive.STOP)
    world.run(1)
    checks.at_passive(Fault(0, "kill", "b"), "a", len(world.reigns) - before)


def one_holder(world: World, checks: Checks) -> None:
    world.kill("a")
    world.kill("b")
    world.run(5)
    checks.whole()


def guests_served(world: World, checks: Checks) -> None:
    for name in world.lan_up:
        world.lan_up[name] = False
    world.run(10)
    checks.guests_are_served(world.now - 8)


def no_flapping(world: World, checks: Checks) -> None:
    before = len(world.reigns)
    world.fail_over("a")
    world.run(1)
    checks.nothing_moved(before)


def term_twice(world: World, _checks: Checks) -> None:
    """A brain that has forgotten which counters it has used."""
    for counter in (7, 8, 7):
        world._do(world.machines["b"], [events.Claim(Term(counter, "b" * 32), False)])


def term_back(world: World, _checks: Checks) -> None:
    for counter in (9, 8):
        world._do(world.machines["b"], [events.Claim(Term(counter, "b" * 32), False)])


def acknowledged_lost(world: World, checks: Checks) -> None:
    for machine in world.machines.values():
        machine.database.rows.clear()
    checks.whole()


def confirmed_missing(world: World, _checks: Checks) -> None:
    world.machines["b"].database.rows.clear()
    world.power_off("a")
    world.run(3)


def not_converged(world: World, checks: Checks) -> None:
    world.kill("b")
    world.run(3)
    checks.whole()


def services_twice(world: World, _checks: Checks) -> None:
    """What followed the role goes on without its agent's sign of life."""
    followers = world.machines["a"].followers
    followers._watch = lambda: None  # type: ignore[method-assign]
    followers.end = lambda: None  # type: ignore[method-assign]
    world.kill("a")
    world.run(3 * world.timing.lease_s)
    followers._switch(False)


#: How each of them is broken. The two that compare runs have tests of their own, which see that other seeds differ.
BROKEN: tuple[Callable[[World, Checks], None], ...] = (
    two_holders, two_after_parting, two_unattended, single_fault, moved_for_nothing, one_holder, guests_served,
    no_flapping, term_twice, term_back, acknowledged_lost, confirmed_missing, not_converged, services_twice,
)  # fmt: skip


@pytest.mark.parametrize("break_it", BROKEN, ids=lambda one: one.__name__)
def test_it_can_fail(break_it: Callable[[World, Checks], None]) -> None:
    name = break_it.__name__
    data = name in ("acknowledged_lost", "confirmed_missing")
    world = World(seed=1, data=data, services=name == "services_twice", replicates=data)
    world.form()
    checks = Checks(world, world.now)
    world.run(2)
    assert active(world) == ["a"] and not checks.violations
    break_it(world, checks)
    assert name in [one.name for one in checks.violations], (checks.violations, world.log)


def test_two_for_shorter_than_any_fault_may_cause_are_too_long_where_the_promise_says_never() -> None:
    world = World(seed=1)
    world.form()
    checks = Checks(world, world.now)
    world.forget_figures()
    world.watch()
    holds_on(world, "b")
    world.run(0.03)
    vars(world.machines["b"]).pop("drops")
    world.machines["b"].drops()
    world.run(1)
    assert 0 < world.both < 0.04 and not checks.violations, world.log
    checks.single(Fault(0, "pause", "a"), "a")
    assert not checks.violations, "two for a heartbeat"
    checks.single(Fault(0, "pause", "b"), "a")
    checks.single(Fault(0, "kill", "a"), "a")
    assert ["both answered for 0.0" in one.text for one in checks.violations] == [True, True], checks.violations


@pytest.mark.parametrize("lasts", [0.1, 1, 12])
def test_a_loss_of_power_after_a_stall_is_noticed_later(lasts: float) -> None:
    """The machine stood still for 3 s; its silence proves nothing then before a lease is over."""
    faults = (Fault(2, "pause", "a", lasts=3), Fault(60, "power_off", "b", lasts=lasts))
    site = bounds.Site(Timing(), data=True)
    usual, later = (invariants.single_fault(faults[1], site, stalled=stalled) for stalled in (False, True))
    assert usual and later and later.none_s > bounds.bound(bounds.Fault.POWER_OFF_AFTER_STALL, site).none_s - 1e-9
    assert later.none_s > usual.none_s and later.two_s == usual.two_s == 0
    for who in "ab":  # whichever is active then
        case = Case(1, 2.0, data=False, services=False, faults=(faults[0], replace(faults[1], who=who)))
        assert not run(case).violations


@pytest.mark.parametrize("fault", [Fault(2, "isolation", lasts=12), Fault(2, "cut", lasts=12, how=1, which="all")])
def test_two_that_were_parted_are_judged_from_when_they_hear_each_other_again(
    fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(1, 0.1, data=False, services=False, faults=(fault,))
    outcome = run(case)
    assert not outcome.violations and outcome.longest["two_parted"] > 1
    monkeypatch.setitem(bounds.BOUNDS, bounds.Fault.HEALED, lambda _site: bounds.Bound(bounds.Fault.HEALED, (), ()))
    assert [one.name for one in run(case).violations] == ["single_fault"]


def test_every_kind_of_fault_that_the_promise_states_is_compared_with_it() -> None:
    of_more = {bounds.Fault.SILENCED, bounds.Fault.HEALED, bounds.Fault.POWER_BLINK, bounds.Fault.POWER_OFF_AFTER_STALL}
    assert set(bounds.Fault) - {*STATED.values(), *of_more} == {
        bounds.Fault.POWER_OFF_DIRECT,  # a message that was under way makes it a power-off
        bounds.Fault.AGENT_DEAD,  # it is started again here, and that may be in the wrong moment
        bounds.Fault.BOOT_ALONE,  # every gateway that is gone comes back here
    }


def test_every_invariant_was_broken_here_or_compares_runs() -> None:
    assert {one.__name__ for one in BROKEN} | {"wall_clock", "reproducible"} == set(NAMES)


def test_an_effect_of_the_wall_clock_would_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway that tells its wall clock's time sends other bytes when that clock is put elsewhere."""
    case = Case(1, 0.2, data=False, services=False, faults=(Fault(1.0, "wall_step", "a", how=3600.0),))
    assert run(case, 0.0).digest == run(case, 1.0).digest
    decided = World.performed

    def by_the_wall(world: World, machine: object, effects: list[events.Effect]) -> None:
        world.digest.update(str(machine.clocks.wall_offset_s).encode())  # type: ignore[attr-defined]
        decided(world, machine, effects)  # type: ignore[arg-type]

    monkeypatch.setattr(World, "performed", by_the_wall)
    assert run(case, 0.0).digest != run(case, 1.0).digest
