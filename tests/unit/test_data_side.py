"""The agent's care for the data, with a replicator that says what a test wants: what people are then shown."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flask_hsmx_cluster.agent.data import side as data
from flask_hsmx_cluster.agent.data.side import CREDENTIALS, REHEARSE_MOST_S, DataSide
from flask_hsmx_cluster.agent.peer.client import Route
from flask_hsmx_cluster.errors import ClusterError, RequestRefused

LOOK: dict[str, Any] = {
    "writable": True, "synchronous_standby": "hsmx_cluster", "streams": [], "following": {"under_way": False},
}  # fmt: skip


class Clock:
    """Time that passes where it is waited for."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Replicator:
    """Answers every verb, or with ``refusal`` none."""

    refusal: ClusterError | None = None
    shared = True
    writable = True

    def __init__(self) -> None:
        self.clock = Clock()
        self.asked: list[str] = []
        #: Whether the other gateway confirms a write, and what that takes, s; the last one goes on for ever.
        self.confirmations = [(True, 0.002)]

    def alive(self) -> bool:
        return True

    def ask(self, verb: str, timeout_s: float = 0.0, **arguments: Any) -> dict[str, Any]:
        self.asked.append(verb)
        if self.refusal is not None:
            raise self.refusal
        if verb == "confirm":
            self.clock.now += self.confirmations[0][1]
            confirmed, took_s = self.confirmations.pop(0) if len(self.confirmations) > 1 else self.confirmations[0]
            return {"confirmed": confirmed, "took_s": took_s, "writable": self.writable}
        return dict(LOOK) if verb == "look" else {}


def side_of(directory: Path, link: Replicator) -> DataSide:
    settings = SimpleNamespace(peer_of=lambda node_id: None)
    heads = SimpleNamespace(applied=SimpleNamespace(settings=settings))
    cluster: Any = SimpleNamespace(
        node_id="a" * 32, role=lambda: "active", hot=SimpleNamespace(snapshot=lambda: {"peer": None}),
        store=SimpleNamespace(record=lambda *words: None), heads=lambda: heads, require_heads=lambda: heads,
        config=SimpleNamespace(state_dir=str(directory), scope="", node_name="gw-a", synchronous=True),
    )  # fmt: skip
    exchange: Any = SimpleNamespace(handle=lambda *words: None)
    replicator: Any = link
    return DataSide(cluster, exchange, replicator)


@pytest.fixture
def link() -> Replicator:
    return Replicator()


@pytest.fixture
def side(tmp_path: Path, link: Replicator) -> DataSide:
    (tmp_path / CREDENTIALS).write_text(json.dumps({"dsn": "dbname=hsmx", "certificate": ""}))
    side = side_of(tmp_path, link)
    side.set_up()
    return side


def test_what_was_seen_last_is_not_shown_as_if_it_were_so_still(side: DataSide, link: Replicator) -> None:
    side.tend()
    assert side.status() == {**LOOK, "set_up": True, "problem": "", "remedy": ""}
    link.refusal = RequestRefused("PostgreSQL does not answer.", "Start it.")
    with pytest.raises(RequestRefused):
        side.tend()
    side.set_up()  # nothing to be changed: that is no news of the database
    assert (side.status()["problem"], side.status()["remedy"]) == ("PostgreSQL does not answer.", "Start it.")
    link.refusal = None
    side.tend()
    assert side.status()["problem"] == ""


def test_a_job_that_comes_amid_the_creation_of_a_cluster_takes_nothing_back(
    side: DataSide, link: Replicator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(side._cluster, "heads", lambda: None)
    side.set_up()
    assert link.asked[-1] == "forget"
    with side.ready_alone():
        side.set_up()
        assert link.asked[-1] == "configure"
    side.set_up()  # no cluster has come of it
    assert link.asked[-1] == "forget"


def test_what_an_agent_that_ended_had_not_forgotten_is_forgotten_once(
    tmp_path: Path, link: Replicator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its subscription kept a password that was no longer valid, and its guard stayed on the tables."""
    (tmp_path / CREDENTIALS).write_text(json.dumps({"dsn": "dbname=hsmx", "certificate": ""}))
    side = side_of(tmp_path, link)
    monkeypatch.setattr(side._cluster, "heads", lambda: None)
    side.set_up()
    side.set_up()
    assert link.asked == ["forget"]


def test_a_database_that_is_not_prepared_is_a_problem_with_its_remedy(tmp_path: Path, link: Replicator) -> None:
    side = side_of(tmp_path, link)
    with pytest.raises(RequestRefused):
        side.set_up()
    status = side.status()
    assert not status["set_up"] and "has not been prepared" in status["problem"]
    assert "flask cluster database prepare" in status["remedy"]
    assert side.tend() == status["problem"]


@pytest.fixture
def clock(link: Replicator, monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr(data, "time", link.clock)
    return link.clock


def test_a_hand_over_waits_until_the_other_gateway_keeps_up(side: DataSide, link: Replicator, clock: Clock) -> None:
    link.confirmations = [(False, 1.0), (True, 0.34), (True, 0.02)]
    side.rehearse_handover()
    assert len(link.confirmations) == 1 and 1.3 < clock.now - 100 < REHEARSE_MOST_S


@pytest.mark.parametrize(
    ("confirmed", "took_s", "words"), [(True, 0.34, "took 0.34 s"), (False, 1.0, "in vain for 1.00 s")]
)
def test_a_hand_over_to_a_gateway_that_does_not_keep_up_is_refused_before_any_write_is(
    side: DataSide, link: Replicator, clock: Clock, confirmed: bool, took_s: float, words: str
) -> None:
    link.confirmations = [(confirmed, took_s)]
    with pytest.raises(RequestRefused, match=words) as refused:
        side.rehearse_handover()
    assert refused.value.remedy.startswith("No write was refused.")
    assert REHEARSE_MOST_S < clock.now - 100 < REHEARSE_MOST_S + 2


@pytest.mark.parametrize("broken", ["not writable", "does not answer"])
def test_a_database_in_no_order_keeps_no_hand_over_from_happening(
    side: DataSide, link: Replicator, clock: Clock, broken: str
) -> None:
    link.confirmations, link.writable = [(False, 1.0)], False
    link.refusal = RequestRefused("PostgreSQL does not answer.") if broken == "does not answer" else None
    side.rehearse_handover()
    assert clock.now < 102


def test_links_that_are_to_change_need_both_databases_behind_them(
    side: DataSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    routes = {"sync": Route("10.97.0.1", "10.97.0.2"), "service": Route("10.0.0.1", "10.0.0.2")}
    silent: list[tuple[str, int]] = []
    monkeypatch.setattr(
        data.preflight_data, "_silent", lambda route, port: "refused" if (route.remote, port) in silent else ""
    )
    monkeypatch.setattr(side, "_facts", lambda: {"port": 5433})
    assert list(side.check_links(routes, "B")) == [], "not set up yet: there is nothing to compare with"
    side._in_force, side._peer_facts = {"peer": {}}, {"port": 5432}
    assert list(side.check_links(routes, "B")) == []
    silent.append(("10.97.0.2", 5432))
    assert ["The database of B" in one.text for one in side.check_links(routes, "B")] == [True]
    silent[:] = [("10.97.0.1", 5433), ("10.0.0.2", 5432)]
    (found,) = side.check_links(routes, "B")
    assert "The database of gw-a" in found.text and "--listen 10.97.0.1" in found.remedy
