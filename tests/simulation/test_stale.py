"""A gateway that starts alone although the other one wrote last waits, then serves and says how old its data may be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flask_hsmx_cluster.decision.model import NEVER, Role, Timing

from .test_data import follow, kinds
from .world import World, active

WAIT_S = 20.0
HOLD_S = 3.0


def formed(wait_s: float = WAIT_S) -> World:
    """Two gateways, A active, B follows, as after some time."""
    world = World(seed=5, timing=replace(Timing(), stale_wait_s=wait_s), data=True)
    world.form()
    follow(world, 2)
    for machine in world.machines.values():
        machine.notes.clear()
    return world


def b_alone(world: World) -> None:
    """B is switched off, A goes on alone and is switched off as well; B is switched on."""
    world.power_off("b")
    follow(world, 2)
    assert "degraded" in kinds(world, "a")
    world.power_off("a")
    world.run(1)
    world.start("b")


def test_the_one_that_followed_waits_and_then_serves_with_a_word_about_it() -> None:
    world = formed()
    b_alone(world)
    world.run(HOLD_S + WAIT_S - 0.5)
    core = world.machines["b"].core
    assert active(world) == [] and core is not None and core.passive.waits_for_data()
    world.run(1.5)
    assert active(world) == ["b"] and world.holders() == ["b"]
    assert kinds(world, "b").count("data_stale") == 1


def test_it_does_not_wait_once_the_other_one_is_there() -> None:
    world = formed()
    b_alone(world)
    world.run(5)
    world.start("a")
    world.run(HOLD_S + 2)
    assert active(world) == ["a"], "A wrote last"
    follow(world, 1)
    assert world.machines["a"].database.synchronous and "data_stale" not in kinds(world, "a") + kinds(world, "b")


def test_for_ever_means_for_ever_and_a_changed_setting_ends_it() -> None:
    world = formed(NEVER)
    b_alone(world)
    world.run(300)
    core = world.machines["b"].core
    assert active(world) == [] and core is not None
    plan = core.plan
    core.replan(replace(plan, timing=replace(plan.timing, stale_wait_s=0.0)), world.now)
    world.run(1)
    assert active(world) == ["b"]


def test_the_one_that_wrote_last_does_not_wait() -> None:
    world = formed()
    world.power_off("b")
    follow(world, 2)
    world.power_off("a")
    world.run(1)
    world.start("a")
    world.run(HOLD_S + 1)
    assert active(world) == ["a"] and "data_stale" not in kinds(world, "a")


def test_after_a_common_power_failure_the_one_that_wrote_last_goes_first_though_it_would_lose_the_tie() -> None:
    world = formed()
    world.power_off("b")
    follow(world, 2)
    world.power_off("a")
    # B, whose name is the greater one, would go first if both were alike.
    for name in ("a", "b"):
        world.machines[name].terms.clear()
        world.start(name)
    for port in ("sync0", "backup0"):
        for name in ("a", "b"):
            world.set_carrier(name, port, True)
    world.run(HOLD_S + 2)
    assert active(world) == ["a"], world.log


def test_a_take_over_from_a_living_cluster_waits_for_nothing() -> None:
    world = formed()
    world.power_off("a")
    world.run(0.5)
    assert active(world) == ["b"]


def test_who_took_over_is_the_one_that_wrote_last() -> None:
    world = formed()
    world.power_off("a")
    world.run(2)
    world.power_off("b")
    world.run(1)
    world.start("b")
    world.run(HOLD_S + 1)
    assert active(world) == ["b"]


@pytest.mark.parametrize("first", ["a", "b"])
def test_without_shared_data_nobody_waits(first: str) -> None:
    world = World(seed=5, timing=replace(Timing(), stale_wait_s=WAIT_S))
    world.form()
    for name in ("b", "a"):
        world.power_off(name)
    world.start(first)
    world.run(HOLD_S + 1)
    assert active(world) == [first]
    core = world.machines[first].core
    assert core is not None and core.role is Role.ACTIVE and not core.behind
