"""Whether commits wait for the other gateway.

Only the active gateway ever has a synchronous name, and only while the other one keeps up: a name without a standby
makes every commit wait for ever, and a wait that is cancelled reports a success that is none.
"""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from .database import Connection, one
from .names import SUBSCRIPTION, WAITS

_NAME = """SELECT setting FROM pg_file_settings WHERE name = 'synchronous_standby_names' ORDER BY seqno DESC LIMIT 1"""


@dataclass(frozen=True)
class Follower:
    """The other gateway's subscriptions as the active one sees them.

    :param streaming: its synchronous subscription has caught up and streams.
    :param lag_bytes: what it has not confirmed yet.
    :param kept_bytes: WAL that is kept for it.
    :param wal_status: PostgreSQL's word for its slot: reserved, extended, unreserved, lost; "" if there is none.
    """

    streaming: bool
    lag_bytes: int
    kept_bytes: int
    wal_status: str


def name(connection: Connection) -> str:
    """Return the synchronous name that was set last, "" for asynchronous commits.

    Read from the file: for some milliseconds after it was set, a session still shows the one before.
    """
    return one(connection, _NAME) or ""


def set_name(connection: Connection, standby: str) -> None:
    """Set the synchronous name; "" releases every commit that waits. In force within some 6 ms (17 at most)."""
    if standby == name(connection):
        return
    value = sql.Literal(standby)
    connection.execute(sql.SQL("ALTER SYSTEM SET synchronous_standby_names = {}").format(value))
    connection.execute(b"SELECT pg_reload_conf()")
    if standby == SUBSCRIPTION:
        connection.execute(sql.SQL("NOTIFY {}").format(sql.Identifier(WAITS)))  # :mod:`.pace` listens


def follower(connection: Connection, slot: str) -> Follower:
    """Return how the other gateway follows.

    :param slot: its slot here.
    """
    row = connection.execute(
        b"""SELECT coalesce(r.state = 'streaming', false),
                   coalesce(pg_current_wal_lsn() - s.confirmed_flush_lsn, 0)::bigint,
                   coalesce(pg_current_wal_lsn() - s.restart_lsn, 0)::bigint, coalesce(s.wal_status, 'lost')
            FROM pg_replication_slots s
            LEFT JOIN pg_stat_replication r ON r.pid = s.active_pid AND r.application_name = %s
            WHERE s.slot_name = %s""",
        (SUBSCRIPTION, slot),
        prepare=True,
    ).fetchone()
    return Follower(*row) if row else Follower(False, 0, 0, "")
