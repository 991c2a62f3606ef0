"""A participant of which there must never be two ends first; operators' wishes reach the one that takes them."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import pytest

from flask_hsmx_cluster.errors import ClusterError
from flask_hsmx_cluster.services.conductor import Conductor
from flask_hsmx_cluster.services.participant import Stage


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
