"""Machines and agents that stand still, and addresses that may have changed meanwhile: when silence is a death."""

from __future__ import annotations

from flask_hsmx_cluster.decision import events
from flask_hsmx_cluster.decision.model import Motive

from .world import World, active


def test_a_machine_that_stood_still_once_is_given_more_time(world: World) -> None:
    """Rule 11: a hypervisor's pause stops every clock and the kernel; the dead time is widened to what was seen."""
    world.pause("a", 0.1)
    world.run(2)
    assert active(world) == ["a"], "shorter than the usual dead time"
    world.pause("a", 0.3)
    world.run(3)
    assert world.both < 0.02 and len(active(world)) == 1, world.log
    core = world.machines["b"].core
    assert core is not None and 0.25 < core.stalls.longest_s < 0.5, world.log
    if active(world) == ["b"]:
        world._tell(world.machines["b"], events.FailoverRequested(Motive.REQUEST))
        world.run(2)
    world.pause("a", 0.3)
    world.run(2)
    assert active(world) == ["a"], world.log


def test_the_second_stall_moves_nothing(world: World) -> None:
    core = world.machines["b"].core
    assert core is not None
    core.stalls.longest_s, core.stalls.at = 0.4, world.now
    world.pause("a", 0.4)
    world.run(2)
    assert active(world) == ["a"] and world.both == 0, world.log
    world.forget_figures()
    world.power_off("a", switched=True)
    world.run(1)
    assert active(world) == ["b"] and world.none_longest < 0.75, world.log


def test_answers_that_are_read_late_count_for_nothing(world: World) -> None:
    """This port was deaf while it asked, and its agent stood still until it heard again: the other one may answer."""
    core = world.machines["b"].core
    assert core is not None
    world.kill("a")
    world.lan.deaf.add("b")
    while core.passive.burst is None or core.passive.burst.sent < world.timing.burst_probes:
        world.run(0.001)
    world.freeze("b")
    world.lan.deaf.discard("b")
    world.run(world.timing.late_s * 0.9)
    world.thaw("b")
    world.run(0.4)
    assert world.both == 0, world.log
    world.run(world.timing.lease_s + 1)
    assert world.holders() == ["b"], world.log


def test_who_may_have_other_addresses_by_now_has_a_lease_to_say_so(world: World) -> None:
    """Its settings changed, and its agent stood still before it could tell."""
    a, b = world.machines["a"], world.machines["b"]
    b.tell(events.SettingsExpected())
    a.frozen = True
    world.settings["a"] = (1, "10.0.0.101")
    a.held = "10.0.0.101"
    world.run(world.timing.suspect_s + 0.5)
    assert active(world) == ["a"], world.log
    world.run(world.timing.lease_s)
    assert world.holders() == ["b"], world.log
    a.frozen = False


def test_settings_that_were_expected_and_came_slow_no_fail_over(world: World) -> None:
    world.machines["b"].tell(events.SettingsExpected())
    world.change("a", 1, "10.0.0.101")
    world.change("b", 1, "10.0.0.101")
    world.run(1)
    world.power_off("a", switched=True)
    world.run(0.3)
    assert active(world) == ["b"], world.log


def test_a_machine_that_stood_still_hears_before_it_acts(world: World) -> None:
    """Rule 11: what the other gateway has said meanwhile must not be overlooked by a renewal that is due."""
    effects: list[tuple[str, str]] = []
    world.observers.append(lambda machine, effect: effects.append((machine.name, type(effect).__name__)))
    world.machines["a"].pause()
    world.run(world.timing.late_s * 0.9)
    assert active(world) == ["a", "b"], world.log
    effects.clear()
    world.machines["a"].resume(0.0)
    world.run(0.3)
    mine = [name for who, name in effects if who == "a"]
    assert "Release" in mine and "Renew" not in mine[: mine.index("Release")], mine
