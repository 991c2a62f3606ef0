"""An arbiter: what it decides, what happens while it is away, and that nothing else changes."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from flask_hsmx_cluster.decision import events, judge
from flask_hsmx_cluster.decision.core import Core
from flask_hsmx_cluster.decision.model import ArbiterUse, Kind, Role, Word

from .arbiter import ArbiterWorld
from .world import ALL_PATHS, World, active

ASKED, REQUIRED = ArbiterUse.ASKED, ArbiterUse.REQUIRED
USES = [ASKED, REQUIRED]


def formed(use: ArbiterUse, seed: int = 0, data: bool = False) -> ArbiterWorld:
    world = ArbiterWorld(use, seed, data=data)
    world.form()
    assert active(world) == ["a"]
    world.forget_figures()
    world.asked.clear()
    world.questions = 0
    return world


def test_the_table_covers_every_case() -> None:
    for word in Word:
        for required in (False, True):
            may = word is Word.GRANTED or (word is Word.SILENT and not required)
            assert judge.may_serve_alone(word, required) is may


@pytest.mark.parametrize("use", USES)
def test_two_that_hear_each_other_never_ask(use: ArbiterUse) -> None:
    world = formed(use)
    world.reaches = {"a": False, "b": False}
    world.cut = frozenset({"sync", "backup"})
    world.run(5)
    world.cut = frozenset()
    world._tell(world.machines["a"], events.FailoverRequested(events.Motive.REQUEST))
    world.run(20)
    assert active(world) == ["b"]
    assert world.questions == 0


@pytest.mark.parametrize("carriers", [False, True])
@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("seed", range(4))
def test_cut_off_from_each_other_the_one_that_served_goes_on_alone(use: ArbiterUse, carriers: bool, seed: int) -> None:
    world = formed(use, seed)
    world.run(seed * 0.023)
    world.isolate(carriers)
    world.run(30)
    assert active(world) == ["a"]
    assert world.both == 0 == world.none_longest
    assert ("b", Word.DENIED) in world.asked
    assert ("b", Word.GRANTED) not in world.asked
    world.heal()
    world.run(10)
    assert active(world) == ["a"]
    assert world.both == 0


@pytest.mark.parametrize("use", USES)
def test_a_gateway_that_dies_is_taken_over_from(use: ArbiterUse) -> None:
    world = formed(use)
    world.power_off("a")
    world.run(8)
    assert active(world) == ["b"]
    assert world.both == 0
    if use is ASKED:
        assert world.none_longest < 0.2
    else:
        assert world.timing.give_up_s < world.none_longest + 0.2 < world.timing.give_up_s + 0.5


def test_while_it_is_away_a_dead_gateway_is_taken_over_from_a_little_later() -> None:
    world = formed(ASKED)
    world.reaches["b"] = False
    world.power_off("a")
    world.run(5)
    assert active(world) == ["b"]
    assert 1.0 < world.none_longest < 1.3


def test_where_it_is_required_nobody_serves_without_it() -> None:
    world = formed(REQUIRED)
    world.reaches = {"a": False, "b": False}
    world.power_off("b")
    world.run(10)
    assert active(world) == []
    assert any("neither the other gateway nor the arbiter" in note.text for note in world.machines["a"].notes)
    world.reaches["a"] = True
    world.run(5)
    assert active(world) == ["a"]


def test_cut_off_from_it_too_both_serve_as_without_it_unless_it_is_required() -> None:
    for use, left in ((ASKED, ["a", "b"]), (REQUIRED, [])):
        world = formed(use)
        world.reaches = {"a": False, "b": False}
        world.isolate()
        world.run(20)
        assert active(world) == left
        world.heal()
        world.run(10)
        assert len(active(world)) == 1


@pytest.mark.parametrize("frozen", [False, True])
def test_an_active_gateway_that_is_cut_off_from_everything_has_let_go_before_the_other_one_claims(frozen: bool) -> None:
    for seed in range(4):
        world = formed(REQUIRED, seed)
        world.run(seed * 0.11)
        world.reaches["a"] = False
        world.isolate()
        if frozen:
            world.freeze("a")
        world.run(12)
        assert world.serving() == ["b"]
        assert world.both == 0
        world.thaw("a")
        world.run(3)
        assert active(world) == ["b"]


def test_one_that_is_cut_off_from_it_later_is_followed_when_its_word_has_ended() -> None:
    for use, left in ((ASKED, ["a", "b"]), (REQUIRED, ["b"])):
        world = formed(use)
        world.isolate()
        world.run(20)
        world.reaches["a"] = False
        world.run(15)
        assert active(world) == left
        if use is REQUIRED:
            assert world.both == 0
        world.reaches["a"] = True
        world.run(2)
        assert active(world) == ["b"]


@pytest.mark.parametrize("use", USES)
def test_one_that_dies_while_they_are_cut_off_is_followed_when_its_word_has_ended(use: ArbiterUse) -> None:
    world = formed(use)
    world.isolate()
    world.run(10)
    world.power_off("a")
    world.run(8)
    assert active(world) == ["b"]
    assert world.both == 0
    assert world.none_longest < math.ceil(world.timing.give_up_s) + 2 + 1.5


@pytest.mark.parametrize("use", USES)
def test_a_lossy_network_moves_nothing_and_leaves_nothing_behind(use: ArbiterUse) -> None:
    world = formed(use)
    world.loss = 0.3
    world.run(30)
    assert active(world) == ["a"]
    assert world.both == 0 == world.none_longest
    world.loss = 0.0
    world.run(1)
    assert not world.owner  # a death now is not waited for


def test_a_gateway_that_is_told_too_late_releases_at_once() -> None:
    world = formed(ASKED)
    world.reaches["a"] = False  # its first question is lost
    world.isolate()
    world.run(0.4)
    assert active(world) == ["a", "b"]
    world.reaches["a"] = True
    world.run(1.5)
    assert active(world) == ["b"]
    assert world.both < 1.3


@pytest.mark.parametrize("deaf", ["a", "b"])
@pytest.mark.parametrize("use", USES)
def test_a_cut_in_one_direction_leaves_one(use: ArbiterUse, deaf: str) -> None:
    world = formed(use)
    talker = "b" if deaf == "a" else "a"
    world.cut = frozenset(f"{path}:{talker}" for path in ALL_PATHS)
    if deaf == "b":
        world.lan.between = lambda: False  # type: ignore[method-assign]
        world.cut = frozenset({*world.cut, "service", "lan0 (Ethernet)"})
    world.run(15)
    assert active(world) == ["a"]
    assert world.both == 0 == world.none_longest


def test_what_was_granted_is_given_back_when_the_other_one_is_heard_again() -> None:
    world = formed(ASKED)
    world.delay_s = 0.05
    world.isolate(carriers=False)
    world.reaches["a"] = False
    while ("b", Word.GRANTED) not in world.asked:
        world.run(0.001)
    world.heal()  # its answer is on the way
    world.reaches["a"] = True
    world.run(1)
    assert active(world) == ["a"]
    assert world.owner != "b"
    world.isolate(carriers=False)
    world.run(5)
    assert active(world) == ["a"]
    assert world.both == 0


def test_an_answer_of_an_earlier_doubt_counts_for_nothing() -> None:
    world = formed(ASKED)
    core = world.machines["b"].core
    assert core is not None
    world._tell(world.machines["b"], events.ArbiterAnswered(0, Word.GRANTED, world.now))
    assert core.arbiter.verdict() is None
    assert core.role is Role.PASSIVE


def test_both_booting_cut_off_from_each_other_leave_one() -> None:
    for use in USES:
        for seed in range(6):
            world = ArbiterWorld(use, seed)
            world.isolate()
            world.start("a")
            world.run(seed * 0.01)
            world.start("b")
            world.run(15)
            assert len(active(world)) == 1
            assert world.both == 0


def test_an_agent_that_is_restarted_goes_on_only_with_a_proof_where_it_is_required() -> None:
    world = formed(REQUIRED)
    world.kill("a")
    world.run(0.3)
    world.start("a", machine_boot=False)
    world.run(3)
    assert active(world) == ["a"]  # the other one echoes
    world.reaches["a"] = False
    world.isolate()
    world.kill("a")
    world.run(0.3)
    world.start("a", machine_boot=False)
    world.run(10)
    assert active(world) == ["b"]
    assert world.both == 0


@pytest.mark.parametrize("silent_s", [0.9, 1.3, 1.65])
@pytest.mark.parametrize("data", [False, True])
def test_a_restart_that_nobody_hears_leases_nothing_without_a_proof_where_it_is_required(
    silent_s: float, data: bool
) -> None:
    world = formed(REQUIRED, data=data)
    world.reaches["a"] = False
    world.isolate(carriers=False)
    machine = world.machines["a"]
    world.run(silent_s)
    until = machine.lease_until
    world._tell(machine, events.RestartRequested(15.0))
    world.run(0.4)
    assert machine.lease_until <= until and not machine.handovers[-1].ok, world.log
    world.run(15)
    assert active(world) == ["b"] and world.both == 0, world.log


def test_commits_do_not_go_on_alone_before_it_has_granted() -> None:
    world = formed(ASKED, data=True)
    database = world.machines["a"].database
    world.follow("a", True)
    world.run(0.2)
    assert database.synchronous
    world.reaches["a"] = False
    world.isolate(carriers=False)
    world.run(0.8)  # without an arbiter they go on after 0.4 s
    assert database.synchronous
    world.run(1)
    assert not database.synchronous


@pytest.mark.parametrize("seed", range(12))
def test_under_random_faults_never_two_where_it_is_required(seed: int) -> None:
    world, dice = formed(REQUIRED, seed), random.Random(seed)
    for _ in range(25):
        _fault(world, dice)
        world.run(dice.choice([0.05, 0.3, 1.0, 4.0]))
    assert world.both <= 0.01, world.log[-20:]
    _mend(world)
    world.run(40)
    assert len(active(world)) == 1


def _fault(world: ArbiterWorld, dice: random.Random) -> None:
    name = dice.choice("ab")
    machine = world.machines[name]
    match dice.randrange(9):
        case 0:
            world.isolate(dice.random() < 0.5)
        case 1:
            world.heal()
        case 2 | 3:
            world.reaches[name] = not world.reaches[name]
        case 4 if machine.core is not None:
            world.kill(name)
        case 5 if machine.powered and machine.core is None:
            world.start(name, machine_boot=False)
        case 6:
            world.freeze(name)
        case 7:
            world.thaw(name)
        case 8:
            world.power_off(name) if machine.powered else world.power_on(name)


def _mend(world: ArbiterWorld) -> None:
    world.heal()
    world.reaches = {"a": True, "b": True}
    for name, machine in world.machines.items():
        world.thaw(name)
        if not machine.powered:
            world.power_on(name)
        elif machine.core is None:
            world.start(name, machine_boot=False)


class Inert:
    """What stands in for the arbiter's part of a core that has none."""

    use = ArbiterUse.NONE
    word = None

    def __init__(self, core: Core) -> None:
        pass

    def deadline(self) -> float:
        return float("inf")

    def consents(self) -> bool:
        return True

    settled = proven = consents

    def not_before(self) -> float:
        return float("-inf")

    def in_words(self) -> tuple[str, ...]:
        return ()

    def nothing(self, *_: Any) -> None:
        pass

    step = leave = heard = carrier_lost = forget_peer = nothing


@pytest.mark.parametrize("seed", range(3))
def test_without_one_every_effect_is_what_it_is_without_this_code(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def trace() -> list[str]:
        found: list[str] = []

        class Traced(ArbiterWorld):
            def performed(self, machine: Any, effects: list[events.Effect]) -> None:
                found.extend(f"{self.now:.6f} {machine.name} {effect}" for effect in effects)
                super().performed(machine, effects)

        world, dice = Traced(ArbiterUse.NONE, seed), random.Random(seed)
        world.form()
        for _ in range(20):
            _fault(world, dice)
            world.run(dice.choice([0.05, 0.3, 2.0]))
        return found

    with_code = trace()
    monkeypatch.setattr("flask_hsmx_cluster.decision.core.Arbiter", Inert)
    assert with_code == trace()
    assert any("Claim(" in line for line in with_code)


def test_heartbeats_say_how_it_is_used() -> None:
    for use in ArbiterUse:
        world: World = ArbiterWorld(use)
        world.form()
        peer = world.machines["a"].core.peer  # type: ignore[union-attr]
        assert peer is not None
        assert (peer.kind, peer.arbiter) == (Kind.BEAT, use)
