"""One gateway has just started and listens, and the other one has listened."""

from __future__ import annotations

import pytest

from .world import World, active


def test_an_active_gateway_that_is_back_before_it_was_missed_is_not_waited_for(world: World) -> None:
    """A container starts again within a long heartbeat: it listens and has nothing, and the other one has listened."""
    world.power_off("a", switched=True)
    world.run(0.05)
    world.power_on("a")
    world.run(1)
    assert world.holders() == ["b"] and active(world) == ["b"], world.log
    assert world.none_longest < 0.05 + 3 * world.timing.interval_s + 0.1 and world.both == 0, world.log


def test_a_listener_whose_kernel_still_answers_is_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its agent was started again without a reign to go on with, and its kernel does not let go."""
    machine = world.machines["a"]
    machine.reigns.forget()
    monkeypatch.setattr(machine, "drops", lambda: None)
    world.kill("a")
    world.run(0.02)
    machine.start_agent()
    world.run(0.8)
    assert active(world) == [] and world.holders() == ["a"], world.log
    world.run(5)
    assert len(active(world)) == 1 and world.both == 0, world.log


@pytest.mark.parametrize("later_s", [0.3, 1.0, 2.4])
def test_a_listener_that_has_listened_is_waited_for_no_longer(later_s: float) -> None:
    """Nothing was seen on a quiet network that would make silence a proof: it was waited for."""
    world = World(seed=3, strangers=False)
    world.form()
    for name in "ab":
        world.power_off(name)
    world.set_carrier("b", "lan0", False)
    world.power_on("a")
    world.run(later_s)
    world.power_on("b")
    world.run(world.timing.boot_hold_s - 0.1)
    assert active(world) == [], world.log
    world.run(0.1 + 4 * world.timing.interval_s)
    assert active(world) == ["a"], world.log


def test_a_listener_with_newer_data_is_waited_for() -> None:
    world = World(seed=1, data=True)
    world.form()
    follower = world.machines["b"].core
    assert follower is not None and active(world) == ["a"]
    world.power_off("a", switched=True)
    follower.behind = True
    world.run(0.05)
    world.power_on("a")
    world.run(1)
    assert active(world) == [], world.log
    world.run(world.timing.boot_hold_s + 2)
    assert active(world) == ["a"], world.log
