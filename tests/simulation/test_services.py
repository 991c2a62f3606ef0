"""What follows the role: ready before the addresses, ended before they go, and never in their way for long."""

from __future__ import annotations

import pytest

from flask_hsmx_cluster.decision import events
from flask_hsmx_cluster.decision.model import Cause, CauseKind, Motive, Role
from flask_hsmx_cluster.decision.services import SERVICES_MOST_S

from .services import SILENT_LEASES
from .test_random_faults import BOTH_MOST_S, break_something, heal
from .world import World, active


def formed(data: bool = False) -> World:
    world = World(seed=5, data=data, services=True)
    world.form()
    world.forget_figures()
    for machine in world.machines.values():
        machine.notes.clear()
        machine.followers.log.clear()
    return world


def request(world: World) -> None:
    world._tell(world.machines["a"], events.FailoverRequested(Motive.REQUEST))


def kinds(world: World, name: str) -> list[str]:
    return [note.kind for note in world.machines[name].notes]


@pytest.mark.parametrize("data", [False, True])
def test_the_addresses_wait_for_what_comes_before_them(data: bool) -> None:
    world = formed(data)
    world.machines["b"].followers.delay_s = 0.2
    world.power_off("a")
    while not world.machines["b"].followers.log:
        world.run(0.001)
        assert world.holders() == []
    assert not data or world.machines["b"].database.term is not None, "the data comes first"
    world.run(0.15)
    assert active(world) == ["b"] and world.holders() == []
    world.run(0.1)
    assert world.holders() == ["b"]


def test_nothing_is_waited_for_where_nothing_follows_the_role() -> None:
    world = World(seed=5)
    world.form()
    world.power_off("a")
    while not active(world):
        world.run(0.001)
    assert world.holders() == ["b"] and world.machines["b"].followers.log == []


@pytest.mark.parametrize("data", [False, True])
def test_a_hook_that_hangs_delays_a_take_over_for_its_limit_and_no_longer(data: bool) -> None:
    world = formed(data)
    world.machines["b"].followers.hang = True
    world.power_off("a")
    world.run(SERVICES_MOST_S + 0.3)
    assert world.holders() == ["b"] and "services_late" in kinds(world, "b")
    assert world.none_longest < SERVICES_MOST_S + 0.2
    world.run(10)
    assert world.holders() == ["b"] and active(world) == ["b"]


@pytest.mark.parametrize("data", [False, True])
def test_a_hand_over_ends_what_runs_on_one_gateway_only_while_it_still_serves(data: bool) -> None:
    world = formed(data)
    world.machines["a"].followers.delay_s = 0.3
    request(world)
    world.run(0.25)
    assert world.machines["a"].followers.log == ["RetireServices"] and world.holders() == ["a"]
    assert not data or world.machines["a"].database.term is not None, "writes are not refused yet"
    world.run(0.5)
    assert world.holders() == ["b"] and world.machines["a"].handovers[-1].ok
    assert world.machines["b"].followers.log == ["PrepareServices"]
    assert world.services_twice == 0 and world.both == 0 and world.none_longest < 0.1


@pytest.mark.parametrize("who", ["a", "b", "ab"])
def test_a_hand_over_succeeds_although_something_hangs(who: str) -> None:
    world = formed()
    for name in who:
        world.machines[name].followers.hang = True
    request(world)
    world.run(2 * SERVICES_MOST_S + 0.5)
    assert world.holders() == ["b"] and world.machines["a"].handovers[-1].ok, world.log
    assert world.both == 0 and world.none_longest < SERVICES_MOST_S + 0.1


def test_a_hand_over_that_fails_has_them_go_on() -> None:
    world = formed()
    world.machines["a"].followers.hang = True
    request(world)
    world.run(0.2)
    world._tell(world.machines["b"], events.MaintenanceSet(True))
    world.run(0.5)
    assert not world.machines["a"].handovers[-1].ok
    assert world.machines["a"].followers.log == ["RetireServices", "KeepServices"] and world.holders() == ["a"]
    world._tell(world.machines["b"], events.MaintenanceSet(False))
    world.machines["a"].followers.hang = False
    request(world)
    world.run(0.5)
    assert world.holders() == ["b"]


def test_the_role_is_not_passed_on_before_the_addresses_are_there() -> None:
    """A hand-over that failed meanwhile once left them waiting for ever."""
    world = formed()
    b = world.machines["b"]
    b.followers.hang = True
    request(world)
    while active(world) != ["b"]:
        world.run(0.001)
    world.run(0.2)
    world._tell(b, events.FailoverRequested(Motive.REQUEST))
    world.run(0.1)
    world._tell(world.machines["a"], events.MaintenanceSet(True))
    world.run(5)
    assert world.holders() == ["b"] and not b.handovers[-1].ok
    world._tell(world.machines["a"], events.MaintenanceSet(False))
    world._tell(b, events.FailoverRequested(Motive.REQUEST))
    b.followers.hang = False
    world.run(1)
    assert world.holders() == ["a"] and world.services_twice == 0


def test_an_agent_that_is_restarted_within_its_lease_waits_for_nothing() -> None:
    world = formed()
    world.machines["a"].followers.hang = True
    world.kill("a")
    world.run(0.3)
    world.start("a", machine_boot=False)
    world.run(5)
    assert active(world) == ["a"] and world.none_longest == 0 and world.machines["a"].followers.log == []


@pytest.mark.parametrize(("how", "released"), [("request", True), ("power_off", False), ("kill", True)])
def test_a_claim_knows_whether_what_the_other_gateway_ran_must_have_ended(how: str, released: bool) -> None:
    """After a power-off nothing is sure before the bound; a killed agent's addresses are held for a whole lease."""
    world = formed()
    world.released.clear()
    request(world) if how == "request" else getattr(world, how)("a")
    while active(world) != ["b"] or not world.released:
        world.run(0.001)
    assert world.released == [released] and not world.machines["a"].followers.on


def test_an_answer_of_an_earlier_reign_is_none() -> None:
    world = formed()
    world.machines["b"].followers.hang = True
    world.power_off("a")
    while not active(world):
        world.run(0.001)
    core = world.machines["b"].core
    assert core is not None
    world._tell(world.machines["b"], events.ServicesReady(core.start.adopt or world.machines["a"].terms[-1], False))
    assert world.holders() == [] and core.role is Role.ACTIVE


def test_a_check_of_the_hosts_moves_the_role_and_its_name_is_said() -> None:
    world, card = formed(), Cause(CauseKind.SERVICE, 0)
    world._tell(world.machines["a"], events.HealthReport(card, True))
    world.run(0.5)
    assert active(world) == ["b"]
    assert any("the check card fails" in line for line in world.log)


def test_a_check_that_fails_on_both_gateways_moves_nothing() -> None:
    world, card = formed(), Cause(CauseKind.SERVICE, 0)
    for name in ("b", "a"):
        world._tell(world.machines[name], events.HealthReport(card, True))
        world.run(0.3)
    world.run(5)
    assert active(world) == ["a"] and world.machines["a"].handovers == []


@pytest.mark.parametrize("seed", range(24))
def test_random_faults_with_hooks_that_hang(seed: int) -> None:
    world = World(seed=seed, data=seed % 2 == 1, services=True)
    world.form()
    world.forget_figures()
    for _ in range(12):
        break_something(world)
        for machine in world.machines.values():
            machine.followers.hang = world.dice.random() < 0.3
        world.run(world.dice.uniform(0.05, 3.0))
    assert world.both <= BOTH_MOST_S, world.log
    # A frozen agent's own end with its watchdog; who claims while it is cut off is told that they may still run.
    assert world.services_twice <= SILENT_LEASES * world.timing.lease_s, world.log
    heal(world)
    for machine in world.machines.values():
        machine.followers.hang = True
    world.run(25)
    assert len(world.serving()) == 1 and len(active(world)) == 1, world.log
