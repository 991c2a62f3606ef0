"""The two gateways between which data moves when one of them begins to follow the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg
from psycopg import sql

from .database import Connection, DatabaseFailure, one

#: How long a slot or the active gateway's disk may keep a gateway waiting, s.
SLOT_PATIENCE_S: Final = 15.0


@dataclass(frozen=True)
class Gateways:
    """The two gateways, and the connections between them.

    :param own: this gateway's database, as a superuser, in autocommit mode; ``open_own`` opens another such one.
    :param peer: the active gateway's, as a role that may read the shared tables and peek at slots, in autocommit mode;
        ``open_peer`` opens another one, with more of libpq's parameters.
    :param conninfo: for the subscription: libpq's connection string to the active gateway.
    """

    own: Connection
    peer: Connection
    open_own: Callable[[], Connection]
    open_peer: Callable[..., Connection]
    conninfo: str = field(repr=False)
    own_id: str
    peer_id: str


@dataclass(frozen=True)
class Snapshot:
    """What the active gateway had at one position of its WAL.

    :param name: for ``SET TRANSACTION SNAPSHOT``.
    """

    position: str
    name: str

    def enter(self, peer: Connection) -> None:
        """Let the transaction that ``peer`` has just begun see it."""
        peer.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        peer.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(self.name)))


@contextmanager
def snapshot(gateways: Gateways, slot: str, patience_s: float) -> Iterator[Snapshot]:
    """Give a snapshot of the active gateway that can be entered as long as this lasts.

    A temporary slot gives it, and its position. It ends with its connection; streams continue from the slot that was
    kept, which has all changes behind that position, too.

    :param slot: name of the temporary slot.
    :param patience_s: how long open transactions there are waited for.
    :raises psycopg.errors.LockNotAvailable: one stays open for longer.
    """
    deadline = time.monotonic() + patience_s
    parameters: dict[str, Any] = {"replication": "database"}
    with gateways.open_peer(**parameters) as replication:
        while True:
            try:
                created = replication.execute(
                    sql.SQL("CREATE_REPLICATION_SLOT {} TEMPORARY LOGICAL pgoutput (SNAPSHOT 'export')").format(
                        sql.Identifier(slot))).fetchone()
                break
            except psycopg.errors.LockNotAvailable:
                if time.monotonic() > deadline:
                    raise
        assert created is not None
        yield Snapshot(str(created[1]), str(created[2]))


def wait_for_flush(peer: Connection, position: str) -> None:
    """A snapshot may show commits that are not on the active gateway's disk yet; it must not lose them later."""
    deadline = time.monotonic() + SLOT_PATIENCE_S
    while not one(peer, "SELECT pg_current_wal_flush_lsn() >= %s::pg_lsn", position):
        if time.monotonic() > deadline:
            raise DatabaseFailure("The active gateway does not write its log to disk.", "See its disk and its log.")
        time.sleep(0.02)
