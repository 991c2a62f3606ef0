"""A machine with the identity of a gateway: who claims nothing, and who goes on (rule 16)."""

from __future__ import annotations

from flask_hsmx_cluster.decision import events
from flask_hsmx_cluster.decision.core import CLONE_HEARD_S
from flask_hsmx_cluster.decision.model import Motive

from .world import World, active


def hear_clone(world: World, name: str, seconds: float) -> None:
    """Let time pass while a clone of a gateway proves itself to it, five times a second."""
    for _ in range(round(seconds / 0.2)):
        world._tell(world.machines[name], events.CloneHeard("lan0 (Ethernet)"))
        world.run(0.2)


def test_no_claim_while_a_clone_is_heard_and_one_after_it(world: World) -> None:
    hear_clone(world, "b", 1)
    world.power_off("a")
    hear_clone(world, "b", 20)
    assert not world.holders(), "a clone may claim as well: two machines with one identity on one address"
    world.run(CLONE_HEARD_S + 1.5)
    assert world.holders() == ["b"], world.log


def test_a_clone_that_is_heard_first_during_the_burst_counts_too(world: World) -> None:
    world.power_off("a")
    world.run(0.02)
    assert not world.holders()
    hear_clone(world, "b", 3)
    assert not world.holders(), world.log


def test_a_clone_keeps_a_hold_from_its_claim(world: World) -> None:
    world.kill("a")
    hear_clone(world, "b", 8)
    assert not world.holders(), "the kernel of a has dropped the address, and nobody may take it"
    world.run(CLONE_HEARD_S + 1.5)
    assert world.holders() == ["b"], world.log


def test_a_clone_keeps_a_boot_hold_from_its_claim() -> None:
    world = World(seed=3)
    world.start("a")
    hear_clone(world, "a", world.timing.boot_hold_s + 8)
    assert not world.holders()
    world.run(CLONE_HEARD_S + 1.5)
    assert world.holders() == ["a"], world.log


def test_a_clone_keeps_its_twin_from_the_tie_break() -> None:
    """Of two passives that hear each other the one without a clone goes first, whoever it is."""
    for name in "ab":
        world = World(seed=4)
        world.start("a")
        world.start("b")
        hear_clone(world, name, world.timing.boot_hold_s + 5)
        assert active(world) == [world.other(name).name], world.log


def test_an_active_gateway_goes_on_although_it_has_a_clone(world: World) -> None:
    hear_clone(world, "a", 10)
    assert active(world) == ["a"] and world.none_longest == 0
    assert [note.kind for note in world.machines["a"].notes].count("clone_alive") == 1


def test_the_role_is_not_handed_to_a_gateway_that_has_a_clone(world: World) -> None:
    hear_clone(world, "b", 0.4)
    world._tell(world.machines["a"], events.FailoverRequested(Motive.REQUEST))
    world.run(1)
    assert active(world) == ["a"] and not world.machines["a"].handovers[-1].ok, world.log
