"""The agent's care for the data, with a replicator that says what a test wants: what people are then shown."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flask_hsmx_cluster.agent.data import CREDENTIALS, DataSide
from flask_hsmx_cluster.errors import ClusterError, RequestRefused

LOOK: dict[str, Any] = {
    "writable": True, "synchronous_standby": "hsmx_cluster", "streams": [], "following": {"under_way": False},
}  # fmt: skip


class Replicator:
    """Answers every verb, or with ``refusal`` none."""

    refusal: ClusterError | None = None
    shared = True

    def alive(self) -> bool:
        return True

    def ask(self, verb: str, timeout_s: float = 0.0, **arguments: Any) -> dict[str, Any]:
        if self.refusal is not None:
            raise self.refusal
        return dict(LOOK) if verb == "look" else {}


def side_of(directory: Path, link: Replicator) -> DataSide:
    settings = SimpleNamespace(peer_of=lambda node_id: None)
    heads = SimpleNamespace(applied=SimpleNamespace(settings=settings))
    cluster: Any = SimpleNamespace(
        node_id="a" * 32, role=lambda: "active", hot=SimpleNamespace(snapshot=lambda: {"peer": None}),
        store=SimpleNamespace(record=lambda *words: None), heads=lambda: heads, require_heads=lambda: heads,
        config=SimpleNamespace(state_dir=str(directory), scope="", node_name="gw-a"),
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


def test_a_database_that_is_not_prepared_is_a_problem_with_its_remedy(tmp_path: Path, link: Replicator) -> None:
    side = side_of(tmp_path, link)
    with pytest.raises(RequestRefused):
        side.set_up()
    status = side.status()
    assert not status["set_up"] and "has not been prepared" in status["problem"]
    assert "flask cluster database prepare" in status["remedy"]
    assert side.tend() == status["problem"]
