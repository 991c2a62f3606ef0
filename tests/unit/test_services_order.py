"""The conductor: who does what when, and that one who fails or hangs stops nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from flask_hsmx_cluster.errors import ClusterError
from flask_hsmx_cluster.services.conductor import ALONE_MOST_S, Conductor
from flask_hsmx_cluster.services.firmware import END_S
from flask_hsmx_cluster.services.participant import Stage
from flask_hsmx_cluster.services.pppoe import RELEASE_S

from ..waiting import within


class Recorder:
    """A participant that notes its steps where all do."""

    def __init__(self, name: str, steps: list[str]) -> None:
        self.name, self.steps = name, steps

    def configure(self, setup: Mapping[str, Any]) -> None: ...
    def stop_now(self) -> None: ...
    def tick(self, now_s: float) -> None: ...

    def before_active(self) -> None:
        self.steps.append(f"{self.name} before active")

    def after_active(self) -> None:
        self.steps.append(f"{self.name} active")

    def before_passive(self) -> None:
        self.steps.append(f"{self.name} before passive")

    def after_passive(self) -> None:
        self.steps.append(f"{self.name} passive")

    def status(self) -> dict[str, Any]:
        return {}


class Only(Recorder):
    exclusive = True

    def command(self, **wish: Any) -> None:
        self.steps.append(str(wish))


def test_what_must_not_be_there_twice_begins_in_its_order_and_ends_first() -> None:
    steps: list[str] = []
    reached = threading.Event()
    conductor = Conductor([Only("line", steps), Recorder("dhcp", steps)], lambda *_: None, lambda *_: reached.set())
    assert reached.wait(10)
    for turn, stage in enumerate((Stage.ACTIVE, Stage.BEFORE_PASSIVE), 1):
        steps.clear()
        reached.clear()
        conductor.want(stage, turn)
        assert reached.wait(10)
        if stage is Stage.ACTIVE:
            assert steps == ["line before active", "dhcp before active", "line active", "dhcp active"]
    assert steps == ["line before passive", "dhcp before passive"]


def test_an_operators_wish_reaches_the_participant_that_takes_wishes() -> None:
    steps: list[str] = []
    conductor = Conductor([Only("line", steps), Recorder("dhcp", steps)], lambda *_: None, lambda *_: None)
    conductor.command("line", name="x")
    assert str({"name": "x"}) in steps
    for name in ("dhcp", "nobody"):
        with pytest.raises(ClusterError):
            conductor.command(name, name="x")


def test_a_hand_over_waits_until_the_last_of_it_has_been_killed() -> None:
    """What is killed only after the role was passed on may meet the other gateway's."""
    assert max(RELEASE_S, END_S) < ALONE_MOST_S


class Noting:
    """A participant that writes down its steps, and hangs in some until it is stopped."""

    def __init__(self, name: str, log: list[str], hangs: str = "", fails: str = "") -> None:
        self.name, self.log, self.hangs, self.fails = name, log, hangs, fails
        self.freed = threading.Event()

    def configure(self, setup: Any) -> None:
        self.log.append(f"{self.name} configure {setup}")

    def __getattr__(self, step: str) -> Callable[[], None]:
        if step not in list(Stage):
            raise AttributeError(step)

        def work() -> None:
            self.log.append(f"{self.name} {step}")
            if step == self.hangs:
                self.freed.wait(60)
            if step == self.fails:
                raise ClusterError("No.", "Do.")

        return work

    def stop_now(self) -> None:
        self.log.append(f"{self.name} stop_now")
        self.freed.set()

    def tick(self, now_s: float) -> None:
        pass

    def status(self) -> dict[str, Any]:
        return {}


def conduct(*made: Noting) -> tuple[Conductor, list[tuple[str, str]], list[tuple[Stage, int]]]:
    failed: list[tuple[str, str]] = []
    reached: list[tuple[Stage, int]] = []
    participants: list[Any] = list(made)
    conductor = Conductor(
        participants, lambda name, step, _error: failed.append((name, step)), lambda *told: reached.append(told)
    )
    assert within(10, lambda: reached == [(Stage.PASSIVE, 0)])
    reached.clear()
    made[0].log.clear()
    return conductor, failed, reached


def test_participants_become_active_in_their_order_and_passive_the_other_way_round() -> None:
    log: list[str] = []
    conductor, _failed, reached = conduct(Noting("x", log), Noting("y", log))
    for turn, stage in enumerate((Stage.BEFORE_ACTIVE, Stage.ACTIVE, Stage.BEFORE_PASSIVE, Stage.PASSIVE), 1):
        conductor.want(stage, turn)
        conductor.want(stage, turn)
        assert within(10, lambda stage=stage, turn=turn: (stage, turn) in reached)
    assert log[:6] == ["x before_active", "y before_active", "x after_active", "y after_active", "y before_passive",
                       "x before_passive"]  # fmt: skip
    assert sorted(log[6:]) == ["x after_passive", "y after_passive"], "at the same time"


def test_one_that_fails_or_hangs_stops_nothing_and_is_told() -> None:
    log: list[str] = []
    hangs = Noting("hangs", log, hangs="before_active")
    conductor, failed, reached = conduct(hangs, Noting("fails", log, fails="before_active"), Noting("good", log))
    conductor.want(Stage.BEFORE_ACTIVE, 1)
    assert within(10, lambda: (Stage.BEFORE_ACTIVE, 1) in reached)
    assert ("hangs", "before_active") in failed
    assert within(10, lambda: ("fails", "before_active") in failed and "good before_active" in log)
    conductor.want(Stage.PASSIVE, 2)
    assert within(10, lambda: (Stage.PASSIVE, 2) in reached)
    assert "hangs stop_now" in log and log.index("hangs stop_now") < log.index("hangs after_passive")


def test_steps_of_a_role_that_has_gone_meanwhile_are_not_done_any_more() -> None:
    log: list[str] = []
    hangs = Noting("hangs", log, hangs="before_active")
    hangs.stop_now = lambda: log.append("stop_now")  # type: ignore[method-assign] # of no use
    conductor, _failed, reached = conduct(hangs)
    conductor.want(Stage.BEFORE_ACTIVE, 1)
    assert within(10, lambda: (Stage.BEFORE_ACTIVE, 1) in reached)
    conductor.want(Stage.ACTIVE, 2)
    time.sleep(0.05)
    conductor.want(Stage.PASSIVE, 3)
    assert within(10, lambda: "stop_now" in log)
    hangs.freed.set()
    assert within(10, lambda: (Stage.PASSIVE, 3) in reached)
    assert "hangs after_active" not in log and "hangs after_passive" in log


def test_what_is_stopped_at_once_is_begun_again_when_the_agent_says_so() -> None:
    log: list[str] = []
    conductor, _failed, reached = conduct(Noting("x", log))
    assert not conductor.stop_now(), "nothing runs"
    conductor.want(Stage.ACTIVE, 1)
    assert within(10, lambda: (Stage.ACTIVE, 1) in reached)
    assert conductor.stop_now()
    assert within(10, lambda: "x after_passive" in log and "x stop_now" in log)
    conductor.want(Stage.ACTIVE, 1)
    assert within(10, lambda: log.count("x after_active") == 2)


def test_what_is_wanted_again_at_once_after_a_stop_is_begun_again() -> None:
    """The agent speaks again before the conductor has come to know that everything was stopped."""
    log: list[str] = []
    x = Noting("x", log, hangs="after_active")
    conductor, _failed, reached = conduct(x)
    conductor.want(Stage.ACTIVE, 1)
    assert within(10, lambda: "x after_active" in log)
    with conductor._changed:  # which keeps the conductor from seeing what is between the two
        assert conductor.stop_now()
        conductor.want(Stage.ACTIVE, 1)
    assert within(10, lambda: (Stage.ACTIVE, 1) in reached)
    assert log.count("x after_active") == 2


def test_who_stops_everything_waits_for_who_does_so_already() -> None:
    log: list[str] = []
    slow = Noting("slow", log)
    stopping, goes_on = threading.Event(), threading.Event()

    def stop_now() -> None:
        stopping.set()
        goes_on.wait(60)
        log.append("stopped")

    slow.stop_now = stop_now  # type: ignore[method-assign]
    conductor, _failed, reached = conduct(slow)
    conductor.want(Stage.ACTIVE, 1)
    assert within(10, lambda: (Stage.ACTIVE, 1) in reached)
    first = threading.Thread(target=conductor.stop_now)
    first.start()
    assert stopping.wait(10)
    threading.Timer(0.05, goes_on.set).start()
    assert not conductor.stop_now()
    assert "stopped" in log
    first.join()
    with conductor._stopping:  # as a signal finds it, on the thread that stops everything
        assert not conductor.stop_now()


def test_a_hook_that_hangs_keeps_no_service_running_and_nobody_from_looking_after_the_others() -> None:
    log: list[str] = []
    service, hook = Noting("service", log), Noting("hook", log, hangs="after_passive")
    hook.stop_now = lambda: None  # type: ignore[method-assign]
    looked = threading.Semaphore(0)
    service.tick = lambda now_s: looked.release()  # type: ignore[method-assign]
    hook.freed.set()
    conductor, _failed, reached = conduct(service, hook)
    hook.freed.clear()
    conductor.want(Stage.ACTIVE, 1)
    assert within(10, lambda: (Stage.ACTIVE, 1) in reached)
    log.clear()
    conductor.want(Stage.PASSIVE, 2)
    assert within(10, lambda: "service after_passive" in log and "hook after_passive" in log)
    while looked.acquire(blocking=False):
        pass
    assert looked.acquire(timeout=10) and (Stage.PASSIVE, 2) not in reached
    hook.freed.set()
