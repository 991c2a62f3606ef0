"""The order of data and addresses: writable before they come, read-only before they go, confirmed by both or said."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flask_hsmx_cluster.decision import events
from flask_hsmx_cluster.decision.model import Motive, Timing

from .world import ALL_PATHS, World, active


@pytest.fixture
def world() -> World:
    world = World(seed=3, data=True)
    world.form()
    follow(world, 1)
    world.forget_figures()
    for machine in world.machines.values():
        machine.notes.clear()
    return world


def follow(world: World, seconds: float, follows: bool = True) -> None:
    """Let time pass while the active gateway looks at its follower four times a second."""
    for _ in range(round(seconds * 4)):
        for name in active(world):
            world.follow(name, follows and world.other(name).core is not None)
        world.run(0.25)


def kinds(world: World, name: str) -> list[str]:
    return [note.kind for note in world.machines[name].notes]


def writable(world: World) -> list[str]:
    return [name for name, machine in world.machines.items() if machine.database.term is not None]


def test_commits_wait_for_the_other_gateway_while_it_follows(world: World) -> None:
    assert world.machines["a"].database.synchronous and not world.machines["b"].database.synchronous
    assert writable(world) == ["a"]


def test_data_is_writable_before_the_address_comes(world: World) -> None:
    world.power_off("a")
    while not active(world):
        world.run(0.001)
    assert world.holders() == [] and world.machines["b"].database.log[-1] == "PromoteData"
    world.run(0.05)
    assert world.holders() == ["b"] and writable(world)[-1] == "b"
    assert world.none_longest < 0.1


@pytest.mark.parametrize("how", ["silent", "broken"])
def test_guests_come_first(world: World, how: str) -> None:
    """A database that does not answer keeps the address away for 0.1 s, one that refuses not at all."""
    setattr(world.machines["b"].database, how, True)
    world.power_off("a")
    world.run(0.3)
    assert world.holders() == ["b"], world.log
    assert world.none_longest < (0.19 if how == "silent" else 0.1)
    assert ("data_late" if how == "silent" else "data_not_writable") in kinds(world, "b")


def test_a_hand_over_refuses_writes_first(world: World) -> None:
    world._tell(world.machines["a"], events.FailoverRequested(Motive.REQUEST))
    world.run(0.2)
    assert active(world) == ["b"] and world.holders() == ["b"] and writable(world) == ["b"]
    assert world.machines["a"].database.log[-2:] == ["YieldData", "DemoteData"]
    assert world.both == 0 and world.none_longest < 0.05


def test_what_is_being_given_up_is_not_renewed(world: World) -> None:
    """The addresses are renewed while the last writes are being confirmed; no further one may be accepted then."""
    world.machines["a"].database.delay_s = 0.19
    for part in range(10):  # of the time between two renewals
        world.run(0.05 * part)
        world._tell(world.machines["a"], events.FailoverRequested(Motive.REQUEST))
        world.run(0.15)
        assert writable(world) == [] and world.holders() == ["a"]
        world.run(0.2)
        assert writable(world) == ["b"]
        follow(world, 1.2)
        world._tell(world.machines["b"], events.FailoverRequested(Motive.REQUEST))
        world.run(1.2)


def test_an_unconfirmed_write_keeps_an_operators_hand_over_from_happening(world: World) -> None:
    world.machines["a"].database.confirms = False
    world._tell(world.machines["a"], events.FailoverRequested(Motive.REQUEST))
    world.run(0.5)
    assert active(world) == ["a"] and writable(world) == ["a"], "the data is its own again"
    assert not world.machines["a"].handovers[-1].ok and world.none_longest == 0


def test_a_stopping_gateway_hands_over_whatever_its_database_says(world: World) -> None:
    world.machines["a"].database.silent = True
    world._tell(world.machines["a"], events.FailoverRequested(Motive.STOP))
    world.run(0.5)
    assert active(world) == ["b"] and world.both == 0, world.log


def test_writes_do_not_wait_for_a_dead_gateway(world: World) -> None:
    world.power_off("b")
    world.run(0.5)
    assert not world.machines["a"].database.synchronous
    assert "degraded" in kinds(world, "a") and active(world) == ["a"]
    world.power_on("b")
    world.run(5)
    assert not world.machines["a"].database.synchronous, "not before its database follows"
    follow(world, 1)
    assert world.machines["a"].database.synchronous and "synchronous" in kinds(world, "a")


def test_writes_do_not_wait_for_a_database_that_does_not_follow(world: World) -> None:
    follow(world, 1, follows=False)
    assert not world.machines["a"].database.synchronous
    assert kinds(world, "a").count("degraded") == 1
    follow(world, 1)
    assert world.machines["a"].database.synchronous


def test_a_database_that_refuses_to_go_on_alone_is_asked_again(world: World) -> None:
    world.machines["a"].database.broken = True  # a full disk takes no setting
    world.power_off("b")
    follow(world, 2)
    assert world.machines["a"].database.synchronous
    world.machines["a"].database.broken = False
    follow(world, 0.5)
    assert not world.machines["a"].database.synchronous
    assert kinds(world, "a").count("degraded") == 1


def test_a_wish_that_was_lost_with_the_replicator_is_told_again(world: World) -> None:
    """It was taken for fulfilled: if the other gateway was dead, commits waited for ever."""
    world.machines["a"].database.deaf = True
    world.power_off("b")
    follow(world, 1)
    assert world.machines["a"].database.synchronous
    world.machines["a"].database.deaf = False
    follow(world, 3)
    assert not world.machines["a"].database.synchronous
    assert kinds(world, "a").count("degraded") == 1


def test_the_other_gateway_knows_that_writes_are_not_confirmed_before_they_are_not(world: World) -> None:
    world.machines["a"].database.deaf = True
    follow(world, 1, follows=False)
    there = world.machines["b"].core
    assert world.machines["a"].database.synchronous and there is not None and there.behind
    world.machines["a"].database.deaf = False
    follow(world, 1)
    assert not there.behind, "what was not carried out was taken back"


@pytest.mark.parametrize("lost", [0.0, 0.15, 1.0])
def test_commits_go_on_alone_only_after_the_other_gateway_was_told(world: World, lost: float) -> None:
    """Although what told it first was lost: if it then took over, it would not say that its data is older.

    Where it cannot be told, they wait no longer than stated.
    """
    database, there = world.machines["a"].database, world.machines["b"].core
    core = world.machines["a"].core
    assert there is not None and core is not None
    told = {f"{path}:a" for path in ("sync", "backup", "service", "lan0 (Ethernet)")}
    at = cut_at = float("inf")
    while database.synchronous:
        since = core.data._lost_since
        if lost and since is not None and core.now - since > 0.38 and cut_at > world.now:
            world.cut, cut_at = told, world.now
        if world.now > cut_at + lost:
            world.cut = set()
        if core.data.degraded_since is not None:
            at = min(at, world.now)
        if round(world.now * 1000) % 100 == 0:
            world.follow("a", False)
        world.run(0.001)
    assert there.behind == (lost < 0.2)
    assert world.now - at < (0.05 if not lost else 0.25)
    world.cut = set()
    follow(world, 1)
    assert database.synchronous and not there.behind


def test_a_hand_over_that_a_standstill_ended_leaves_nothing_of_it(world: World) -> None:
    """Its time ran out afterwards: commits waited for the other gateway, and the agent believed that they did not."""
    machine = world.machines["a"]
    core = machine.core
    assert core is not None
    machine.database.deaf = True
    world._tell(machine, events.FailoverRequested(Motive.REQUEST))
    while not core.data.yielding:
        world.run(0.001)
    core.ran_late(0.3, world.now)
    core.wake(world.now + 0.25)
    assert machine.database.synchronous and core.data.synchronous


def test_asynchronous_by_configuration_waits_for_nobody() -> None:
    world = World(seed=3, data=True, synchronous=False)
    world.form()
    database = world.machines["a"].database
    database.synchronous = True  # an earlier agent, configured otherwise, has left it so
    follow(world, 3)
    assert not database.synchronous and database.log.count("SetSynchronous") == 1
    assert not {"degraded", "synchronous"} & set(kinds(world, "a"))
    world.power_off("a")
    world.run(0.5)
    assert active(world) == ["b"]
    assert [note.severity for note in world.machines["b"].notes if note.kind == "data_stale"] == ["warning"]


def test_nobody_waits_for_a_gateway_that_has_left_the_cluster(world: World) -> None:
    """Commits would have waited for it for ever: who is no member is never missed."""
    core = world.machines["a"].core
    assert core is not None and world.machines["a"].database.synchronous
    world.power_off("b")
    core.replan(replace(core.plan, peer="", peer_name="", paths=(), peer_macs=()), world.now)
    world.run(0.5)
    assert not world.machines["a"].database.synchronous and active(world) == ["a"]


def test_a_short_silence_degrades_nothing(world: World) -> None:
    world.cut = {f"{path}:b" for path in ("sync", "backup")}
    world.lan_up["b"] = False
    world.run(0.25)
    world.cut, world.lan_up["b"] = set(), True
    follow(world, 2)
    assert world.machines["a"].database.synchronous and "degraded" not in kinds(world, "a")


@pytest.mark.parametrize("interval_s", [0.1, 0.2, 0.3, 0.5, 1.0])
def test_slow_heartbeats_and_one_that_is_lost_degrade_nothing(interval_s: float) -> None:
    """Between two heartbeats of 0.5 s the other gateway was taken for silent, twice a second."""
    world = World(3, Timing(interval_s=interval_s, lease_s=max(2.0, 4 * interval_s)), data=True)
    world.form()
    follow(world, 10)
    world.cut = ALL_PATHS
    world.run(0.9 * interval_s)
    world.cut = set()
    follow(world, 5)
    assert world.machines["a"].database.synchronous and "degraded" not in kinds(world, "a"), world.log[-5:]
    world.power_off("b")
    world.run(2 * interval_s + 0.3)
    assert not world.machines["a"].database.synchronous


def test_whoever_takes_over_from_a_degraded_gateway_says_so(world: World) -> None:
    follow(world, 1, follows=False)
    world.power_off("a")
    world.run(0.5)
    assert active(world) == ["b"] and "data_stale" in kinds(world, "b")


def test_a_clean_take_over_does_not_claim_to_be_stale(world: World) -> None:
    world.power_off("a")
    world.run(0.5)
    assert active(world) == ["b"] and "data_stale" not in kinds(world, "b")


@pytest.mark.parametrize("seed", range(6))
def test_random_faults_never_leave_two_writable_for_longer_than_two_hold_the_address(seed: int) -> None:
    """What is writable is active; after everything has healed there is exactly one."""
    world = World(seed, data=True)
    world.form()
    for _ in range(25):
        name = world.dice.choice(["a", "b"])
        machine = world.machines[name]
        match world.dice.randrange(5):
            case 0 if machine.powered:
                world.power_off(name)
                machine.database.term = None
            case 1 if not machine.powered:
                world.power_on(name)
            case 2 if machine.core is not None:
                world._tell(machine, events.FailoverRequested(Motive.REQUEST))
            case 3:
                machine.database.silent = not machine.database.silent
            case _:
                world.set_carrier(name, "lan0", not machine.carrier["lan0"])
        follow(world, world.dice.choice([0.25, 1, 3]))
    for name, machine in world.machines.items():
        machine.database.silent = False
        if not machine.powered:
            world.power_on(name)
        world.set_carrier(name, "lan0", True)
    follow(world, 12)
    (one,) = active(world)
    world._tell(world.machines[one], events.FailoverRequested(Motive.REQUEST))
    follow(world, 3)
    assert writable(world) == active(world) == [world.other(one).name], world.log[-8:]
