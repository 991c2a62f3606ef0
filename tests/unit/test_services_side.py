"""The agent's part in what follows the role: a process runs where there is anything to do, and only there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from flask_hsmx_cluster.agent.child import ChildDown
from flask_hsmx_cluster.agent.heartbeat.services_hand import ServicesHand
from flask_hsmx_cluster.agent.services import side as side_module
from flask_hsmx_cluster.agent.services.side import ServicesSide

from .gateways import World


class Link:
    """The process of services, as far as its side can tell."""

    def __init__(self) -> None:
        self.runs = False
        self.asked: list[str] = []
        self.hangs = False

    def alive(self) -> bool:
        return self.runs

    def start(self) -> None:
        self.runs = True

    def stop(self) -> None:
        self.runs = False

    def ask(self, verb: str, timeout_s: float, **_arguments: Any) -> dict[str, Any]:
        self.asked.append(verb)
        if self.hangs:
            raise ChildDown(f"It did not answer within {timeout_s} s.")
        return {"stage": "after_passive", "participants": {"conntrack": {"state": "running"}}} if verb == "look" else {}


def side_of(world: World, **config: Any) -> tuple[ServicesSide, Link]:
    cluster, link = world.a.service._cluster, Link()
    cluster.config = replace(cluster.config, **config)
    return ServicesSide(cluster, link, ServicesHand(None, lambda *_: None)), link  # type: ignore[arg-type]


def test_no_process_runs_to_say_that_conntrackd_is_not_installed(world: World) -> None:
    side, link = side_of(world, conntrack="no-such-conntrackd")
    side.set_up(tell_loop=False)
    side.look()
    status = side.status()
    assert status is not None and status["conntrack"] == {"state": "absent"} and not side.alarms()
    assert not link.runs and link.asked == []


def test_where_nothing_follows_the_role_nothing_is_said(world: World) -> None:
    side, link = side_of(world, conntrack="")
    side.set_up(tell_loop=False)
    side.look()
    assert side.status() is None and not link.runs


def test_the_process_runs_as_long_as_there_is_something_to_do(world: World) -> None:
    side, link = side_of(world, conntrack="true")  # any program
    side.set_up(tell_loop=False)
    side.look()
    status = side.status()
    assert status is not None and status["conntrack"] == {"state": "running"}
    side.set_up(tell_loop=False)
    assert link.runs and link.asked == ["configure", "look"], "set up once"
    side._cluster.config = replace(side._cluster.config, conntrack="")
    side.set_up(tell_loop=False)
    assert not link.runs and side.status() is None


def test_a_process_that_hangs_keeps_the_agent_from_starting_for_a_moment_only(world: World) -> None:
    """Addresses that are leased still end otherwise before the agent adopts them."""
    side, link = side_of(world, conntrack="true")
    link.hangs = True
    side.begin()
    status = side.status()
    assert status is not None and "within 1.0 s" in status["problem"]
    link.hangs = False
    side.set_up(tell_loop=False)
    status = side.status()
    assert status is not None and not status["problem"] and link.asked == ["configure", "configure"]


def test_a_process_that_hangs_for_long_is_started_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    side, link = side_of(world, conntrack="true")
    side.set_up(tell_loop=False)
    link.hangs = True
    with pytest.raises(ChildDown):
        side.look()
    assert link.runs, "it may be busy"
    monkeypatch.setattr(side_module, "SILENT_MOST_S", 0.0)
    with pytest.raises(ChildDown):
        side.look()
    assert not link.runs
    link.hangs = False
    side.set_up(tell_loop=False)
    side.look()
    assert link.runs and link.asked[-2:] == ["configure", "look"]
