"""Hard cases that no other module has: see :mod:`tests.simulation.hard_cases`."""

from __future__ import annotations

import pytest

from flask_hsmx_cluster.decision import events
from flask_hsmx_cluster.decision.core import Core
from flask_hsmx_cluster.decision.model import Cause, CauseKind, Phase

from .world import ADDRESS, ALL_PATHS, World, active


def core_of(world: World, name: str) -> Core:
    core = world.machines[name].core
    assert core is not None
    return core


def phase(world: World, name: str) -> Phase:
    return core_of(world, name).phase


def peer_answers(world: World, name: str) -> events.AddressSeen:
    """Return what a gateway sees if the other one's MAC answers for the virtual IP."""
    return events.AddressSeen("lan0", core_of(world, name).peer_mac("lan0"), ADDRESS)


def deafen(world: World) -> None:
    """What goes to A over the guests' network is lost; what A sends arrives."""
    world.lan.deaf = {"a"}
    world.watch()


def lose_one_answer(world: World, name: str) -> None:
    """Let time pass until a gateway has asked once more, and lose that question."""
    asked = world.machines[name].asked
    before, world.loss = len(asked), 1.0
    for _ in range(1000):
        if len(asked) > before:
            break
        world.run(0.001)
    world.loss = 0.0


def test_a_port_that_sends_but_hears_nothing_is_found_too(world: World) -> None:
    """The active's heartbeats still arrive on that port, hence it takes more questions in vain."""
    deafen(world)
    world.run(5)
    assert active(world) == ["a"], "a few lost answers are no dead network"
    world.run(7)
    assert active(world) == ["b"] and world.both == 0, world.log


@pytest.mark.parametrize(
    "gate",
    [events.MaintenanceSet(True), events.HealthReport(Cause(CauseKind.NO_REFERENCE), True)],
    ids=["maintenance", "reference"],
)
def test_a_closed_gate_opens_after_three_leases(world: World, gate: events.Event) -> None:
    world._tell(world.machines["b"], gate)
    world.power_off("a")
    world.run(3 * world.timing.lease_s - 0.1)
    assert phase(world, "b") is Phase.WAITING and not active(world), world.log
    world.run(1.5)
    assert active(world) == ["b"], world.log


def test_cables_that_flap_on_both_move_the_role_ever_more_rarely(world: World) -> None:
    """The cable of the active is pulled every 8 s, for 5 s: the second move waits 60 s."""
    moves = len(world.reigns)
    for _ in range(10):
        name = active(world)[0]
        world.set_carrier(name, "lan0", False)
        world.run(5)
        world.set_carrier(name, "lan0", True)
        world.run(3)
    assert 1 <= len(world.reigns) - moves <= 2, world.log
    assert world.both == 0


def test_a_gateway_that_reboots_again_and_again_moves_nothing(world: World) -> None:
    world.power_off("a")
    world.run(1)
    for _ in range(5):
        world.power_on("a")
        world.run(7)
        world.power_off("a")
        world.run(1)
    assert active(world) == ["b"] and world.reigns[-1].counter == 2, world.log
    assert world.both == 0


def test_a_lapsed_lease_is_never_renewed_even_where_nobody_is_heard(world: World) -> None:
    """Rule 11: nothing but the clock tells this agent that it stood still."""
    world.cut, world.isolated = ALL_PATHS, True
    world.freeze("a")
    world.run(world.timing.lease_s + 1)
    held: list[str] = []
    world.watchers.append(lambda: held.extend(world.holders()))
    world.thaw("a")
    world.run(0.05)
    assert "a" not in held and world.holders() == active(world) == ["b"], world.log


def test_an_address_that_somebody_put_into_a_passive_kernel_is_taken_away(world: World) -> None:
    world.isolated = True  # the active gateway cannot see it
    world.machines["b"].leases(ADDRESS, 1000)
    world.run(1.5)
    assert world.holders() == ["a"], world.log
