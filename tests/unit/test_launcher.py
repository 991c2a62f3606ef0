"""When PostgreSQL's launcher is begun anew: nobody tries to follow, although the other gateway's server answers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from types import SimpleNamespace
from typing import Any, cast

from flask_hsmx_cluster.replication.channel import Stream
from flask_hsmx_cluster.replication.database import Connection, DatabaseFailure
from flask_hsmx_cluster.replication.launcher import BACK_AFTER_S, PATIENCE_S, STARTS_OUTLIVE_IT, Launcher


class Server:
    """Counts how often its launcher was ended."""

    def __init__(self) -> None:
        self.ended_at: list[float] = []
        self.peer_answers = True
        self.now = 0.0
        self.info = SimpleNamespace(server_version=STARTS_OUTLIVE_IT - 1)
        self._launcher = Launcher(self._open_peer)

    def execute(self, query: bytes) -> None:
        assert b"logical replication launcher" in query
        self.ended_at.append(self.now)

    def run(self, seconds: float, *looks: Sequence[Stream]) -> None:
        """Show it streams once a second, the last ones until the time is over."""
        for number in range(round(seconds)):
            self.now += 1.0
            self._launcher.look(cast(Connection, self), looks[min(number, len(looks) - 1)], self.now)

    def _open_peer(self) -> AbstractContextManager[Any]:
        if not self.peer_answers:
            raise DatabaseFailure("PostgreSQL cannot be reached", "")
        return nullcontext()


def stream(pid: int | None = None, enabled: bool = True, errors: int = 0, name: str = "hsmx_cluster") -> Stream:
    return Stream(name, enabled, pid, "0/0", "0/0", errors)


def test_a_subscription_that_nobody_tries_is_noticed() -> None:
    server = Server()
    server.run(PATIENCE_S, [stream()])
    assert not server.ended_at
    server.run(1, [stream()])
    assert server.ended_at == [PATIENCE_S + 1]


def test_one_of_two_is_enough() -> None:
    server = Server()
    server.run(PATIENCE_S + 1, [stream(7), stream(name="hsmx_cluster_bulk")])
    assert len(server.ended_at) == 1


def test_where_starts_outlive_the_launcher_it_is_left_alone() -> None:
    server = Server()
    server.info.server_version = STARTS_OUTLIVE_IT
    server.run(60, [stream()])
    assert not server.ended_at


def test_it_is_given_time_to_come_back() -> None:
    server = Server()
    server.run(30, [stream()])
    first, second, *_ = server.ended_at
    assert second - first >= BACK_AFTER_S + PATIENCE_S


def test_whoever_is_tried_is_left_alone() -> None:
    server = Server()
    server.run(60, [stream(7)])
    server.run(60, *([stream(pid)] for pid in (None, None, None, 7) * 15))
    server.run(60, *([stream(errors=number)] for number in range(60)))
    server.run(60, [stream(enabled=False)])
    server.run(60, [])
    assert not server.ended_at


def test_nothing_helps_while_the_other_server_is_down() -> None:
    server = Server()
    server.peer_answers = False
    server.run(60, [stream()])
    assert not server.ended_at
    server.peer_answers = True
    server.run(PATIENCE_S + 1, [stream()])
    assert len(server.ended_at) == 1
