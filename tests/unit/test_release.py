"""Whether the other gateway has ended what it runs: from the brain to the participant that waits for it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import pytest

from flask_hsmx_cluster.errors import ClusterError
from flask_hsmx_cluster.services.conductor import Conductor
from flask_hsmx_cluster.services.participant import Stage


class Recorder:
    """A participant that waits for the other gateway's release."""

    name = "recorder"

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.ticked = threading.Semaphore(0)

    def configure(self, setup: Mapping[str, Any]) -> None: ...
    def stop_now(self) -> None: ...

    def other_has_released(self) -> None:
        self.steps.append("released")

    def before_active(self) -> None: ...

    def after_active(self) -> None:
        self.steps.append("active")

    def before_passive(self) -> None: ...

    def after_passive(self) -> None:
        self.steps.append("passive")

    def tick(self, now_s: float) -> None:
        self.ticked.release()

    def command(self, **wish: Any) -> None:
        self.steps.append(str(wish))

    def status(self) -> dict[str, Any]:
        return {}


def reach(conductor: Conductor, reached: threading.Event, stage: Stage, turn: int, released: bool = False) -> None:
    reached.clear()
    conductor.want(stage, turn, released)
    assert reached.wait(10)


def test_it_is_told_once_for_each_role_and_only_if_it_is_so() -> None:
    one, reached = Recorder(), threading.Event()
    conductor = Conductor([one], lambda *_: None, lambda *_: reached.set())
    reach(conductor, reached, Stage.ACTIVE, 1, released=True)
    for _ in range(2):
        assert one.ticked.acquire(timeout=10)
    reach(conductor, reached, Stage.PASSIVE, 2)
    reach(conductor, reached, Stage.ACTIVE, 3)
    assert [step for step in one.steps if step != "passive"] == ["released", "active", "active"]


def test_an_operators_wish_reaches_the_participant_that_takes_wishes() -> None:
    one = Recorder()
    conductor = Conductor([one], lambda *_: None, lambda *_: None)
    conductor.command("recorder", name="x")
    assert str({"name": "x"}) in one.steps
    with pytest.raises(ClusterError):
        conductor.command("nobody", name="x")
