"""How often a gateway asks: ARP inspection disables a port at 15 packets a second (rule 12)."""

from __future__ import annotations

import pytest

from flask_hsmx_cluster.decision.model import Phase, Timing

from .test_clones import hear_clone
from .world import World, active


def most_in_a_second(times: list[float]) -> int:
    """Return how many of these moments, in order, lie in one second at most."""
    return max((sum(start <= at < start + 1.0 for at in times) for start in times), default=0)


@pytest.mark.parametrize("probes", [2, 5, 10])
def test_a_waiting_gateway_asks_seldom(probes: int) -> None:
    """ARP inspection disables a switch port at 15 packets a second; each question is two with two addresses."""
    world = World(seed=2, timing=Timing(burst_probes=probes))
    world.form()
    machine = world.machines["b"]
    assert machine.core is not None
    hear_clone(world, "b", 1)
    world.power_off("a")
    hear_clone(world, "b", 1)
    machine.asked.clear()
    hear_clone(world, "b", 20)  # else it would not wait for longer than three leases
    assert machine.core.phase is Phase.WAITING, world.log
    assert 60 <= len(machine.asked) <= 105
    assert most_in_a_second(machine.asked) <= max(5, probes)


@pytest.mark.parametrize("seed", range(20))
def test_a_hold_asks_seldom_but_around_the_end_of_a_lease(seed: int) -> None:
    world = World(seed, timing=Timing(lease_s=5))
    world.form()
    world.run(0.023 * seed)
    machine = world.machines["b"]
    machine.asked.clear()
    world.kill("a")
    killed = world.now
    world.run(world.timing.lease_s + 1)
    assert active(world) == ["b"]
    assert most_in_a_second([at for at in machine.asked if killed + 1 < at < killed + 3]) <= 3
    assert most_in_a_second(machine.asked) <= 18, "what docs/deciding.md says"


def test_a_gateway_that_is_patient_after_a_stall_asks_seldom(world: World) -> None:
    core = world.machines["b"].core
    assert core is not None
    core.stalls.longest_s, core.stalls.at = 1.5, world.now
    world.machines["b"].asked.clear()
    began = world.now
    world.power_off("a", switched=True)
    world.run(1.6)
    assert not active(world)
    assert most_in_a_second([at for at in world.machines["b"].asked if at > began + 0.3]) <= 6
    world.run(0.5)
    assert active(world) == ["b"], world.log
