"""Random faults, one after the other and overlapping: never two for long, and one again when all is healed."""

from __future__ import annotations

import pytest

from flask_hsmx_cluster.decision import events
from flask_hsmx_cluster.decision.model import Motive

from .world import World, active

#: Longest time on two gateways that a fault short of total isolation may cause, s.
BOTH_MOST_S = 0.05


def break_something(world: World) -> None:
    name = world.dice.choice("ab")
    machine = world.machines[name]
    match world.dice.randrange(9):
        case 0:
            if machine.powered and world.other(name).powered:
                world.power_off(name)
        case 1:
            if not machine.powered:
                world.power_on(name)
        case 2:
            if machine.powered:
                world.kill(name)
        case 3:
            if machine.powered and machine.core is None:
                world.start(name, machine_boot=False)
        case 4:
            world.freeze(name)
        case 5:
            world.thaw(name)
        case 6:
            cable = world.dice.choice(["sync", "backup"])
            world.cut.symmetric_difference_update({cable})
        case 7:
            world.set_carrier(name, "lan0", not machine.carrier["lan0"])
        case _:
            if machine.core is not None and not machine.frozen:
                world._tell(machine, events.FailoverRequested(Motive.REQUEST))


def heal(world: World) -> None:
    world.cut.clear()
    world.loss = 0.0
    for name, machine in world.machines.items():
        if not machine.powered:
            world.power_on(name)
        elif machine.core is None:
            world.start(name, machine_boot=False)
        world.thaw(name)
        if not machine.carrier["lan0"]:
            world.set_carrier(name, "lan0", True)


@pytest.mark.parametrize("seed", range(100))
def test_random_faults(seed: int) -> None:
    world = World(seed)
    world.form()
    world.loss = world.dice.choice([0.0, 0.0, 0.05])
    for _ in range(12):
        break_something(world)
        world.run(world.dice.choice([0.03, 0.3, 1.0, 3.0]))
        assert world.both <= BOTH_MOST_S, "\n".join(world.log[-30:])
    heal(world)
    world.run(12)
    assert len(active(world)) == 1, "\n".join(world.log[-30:])
    assert world.serving() == active(world), "\n".join(world.log[-30:])
    assert len(set(world.reigns)) == len(world.reigns), "no term is used twice"
    for machine in world.machines.values():
        assert machine.terms == sorted(machine.terms), "a gateway's terms only grow"
    assert world.both <= BOTH_MOST_S
