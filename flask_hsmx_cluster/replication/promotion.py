"""Becoming the gateway that writes, and ceasing to be it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from . import channel, guard, synchrony
from .database import Connection, DatabaseFailure, failures, one
from .names import NOBODY, SUBSCRIPTION, SUBSCRIPTION_BULK
from .scope import Scope
from .sequences import Sequences

#: Between two looks at what is to end, s.
LOOK_EVERY_S = 0.001
#: An apply worker, or a session, that has not ended its transaction by then keeps this gateway from its role, s.
END_MOST_S = 1.0

#: A position before every other one.
NOWHERE = "0/0"
# A reign is promoted again after a crash of the server and after a hand-over that failed: it began where it began.
_REMEMBER_FORK = b"""UPDATE hsmx_cluster.node
SET term = %s, fork_lsn = greatest(%s::pg_lsn, %s::pg_lsn), fork_bulk_lsn = greatest(%s::pg_lsn, %s::pg_lsn),
    own_lsn = pg_current_wal_insert_lsn()
WHERE term <> %s RETURNING own_lsn::text"""
_REMEMBER_TERM = b"UPDATE hsmx_cluster.node SET term = %s RETURNING coalesce(own_lsn, '0/0')::text"
#: By subscription: what is applied here, and up to where its worker has told the other gateway that all is.
_REACHED = b"""SELECT s.subname, pg_replication_origin_progress('pg_' || s.oid, false)::text, latest_end_lsn::text
FROM pg_subscription s LEFT JOIN pg_stat_subscription w ON w.subid = s.oid AND w.relid IS NULL
WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND s.subname IN ('hsmx_cluster', 'hsmx_cluster_bulk')"""
_COPYING = b"SELECT FROM hsmx_cluster.node WHERE copying"
# Not an ALTER to the driver: after one it would forget all prepared statements.
_DISABLE = b"""DO $$ DECLARE name text; BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    FOR name IN SELECT subname FROM pg_subscription JOIN pg_database d ON d.oid = subdbid
        WHERE d.datname = current_database() AND subname IN ('hsmx_cluster', 'hsmx_cluster_bulk') AND subenabled
    LOOP EXECUTE format('ALTER SUBSCRIPTION %I DISABLE', name); END LOOP;
END $$"""
#: Apply workers that are in a transaction. (What ``pg_stat_activity`` itself says of that depends on a setting.)
_APPLYING = b"""SELECT pid FROM pg_stat_activity WHERE backend_type = 'logical replication worker'
AND datname = current_database() AND pid IN (SELECT pid FROM pg_locks WHERE locktype = 'virtualxid')"""
#: Sessions of a rejoin, or of checks that take up new tables: they write rows, and enable subscriptions.
_FOLLOWING = b"""SELECT pid FROM pg_stat_activity WHERE application_name = 'hsmx_cluster following'
AND datname = current_database()"""
_WRITERS = b"""SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND backend_xid IS NOT NULL
AND datname = current_database() AND pid <> pg_backend_pid()"""
_MARK = b"""INSERT INTO hsmx_cluster.sequence_position AS mark VALUES ('confirmed', 1)
ON CONFLICT (name) DO UPDATE SET last_value = mark.last_value + 1"""
# While no commit waits for it, the other gateway applies without flushing (:mod:`.pace`), and confirms only later.
_CONFIRMED = b"""SELECT FROM pg_replication_slots s JOIN pg_stat_replication r ON r.pid = s.active_pid
WHERE slot_name = %s AND %s::pg_lsn < CASE WHEN current_setting('synchronous_standby_names') = ''
    THEN greatest(r.replay_lsn, s.confirmed_flush_lsn) ELSE s.confirmed_flush_lsn END"""


#: What the subscriptions follow, and of which all rows have come.
_FOLLOWED = b"""INSERT INTO hsmx_cluster.followed
SELECT DISTINCT n.nspname, c.relname FROM pg_subscription_rel r JOIN pg_subscription s ON s.oid = r.srsubid
JOIN pg_class c ON c.oid = r.srrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND s.subname IN ('hsmx_cluster', 'hsmx_cluster_bulk') AND r.srsubstate = 'r'"""


@dataclass(frozen=True)
class Fork:
    """Where this gateway's data parted from the other one's.

    :param lsn: last position of the other gateway's WAL that was applied here, as text; "0/0" if nothing ever was.
    :param own_lsn: position of this gateway's own WAL then: what comes after it is new to the other one.
    """

    term: int
    lsn: str
    bulk_lsn: str
    own_lsn: str = "0/0"


def promote(
    connection: Connection, sequences: Sequences, term: int, until_s: float, known: Mapping[str, str] | None = None
) -> Fork:
    """Make this gateway the one that writes, whatever the state of the other one.

    Nothing more of the other one's is applied, the positions of both WALs are kept, sequences are moved past what it
    used, and the lease is granted. No step waits for another transaction. :func:`settle` does the rest later, off the
    critical path.

    :param until_s: boot time at which the lease ends, s.
    :param known: by subscription, a position of the other gateway's WAL up to which all is applied here, as was seen
        earlier. A worker that has gone tells none, and an origin tells only of transactions since the first copy.
    """
    with failures("The database cannot be made writable"):
        if connection.execute(_COPYING, prepare=True).fetchone() is not None:
            raise DatabaseFailure(
                "The first copy of the other gateway's data was not complete: what is here is not whole.",
                "Bring the other gateway back, or leave the cluster here: this gateway's own data was kept aside.",
            )
        _end(connection, _FOLLOWING)
        told = {**(known or {}), **{name: told for name, _, told in _reached(connection) if told != NOWHERE}}
        connection.execute(_DISABLE)
        # At the start of a transaction a worker takes note of what was committed before, so also that its subscription
        # is disabled. One that is idle ends by itself, later: its end takes processor time that a promotion needs
        # (10 ms), and 1 s while the other gateway is frozen.
        _end(connection, _APPLYING)
        applied = {name: lsn for name, lsn, _ in _reached(connection)}
        main, bulk = (applied.get(name, NOWHERE) for name in (SUBSCRIPTION, SUBSCRIPTION_BULK))
        with connection.transaction():
            # It need not wait for the disk: whatever is acknowledged in this reign stands behind it in the log.
            connection.execute(b"SET LOCAL synchronous_commit = off", prepare=True)
            row = None
            if applied:
                reached = (main, told.get(SUBSCRIPTION), bulk, told.get(SUBSCRIPTION_BULK))
                row = connection.execute(_REMEMBER_FORK, (term, *reached, term), prepare=True).fetchone()
                sequences.move(connection)
            if row is None:
                row = connection.execute(_REMEMBER_TERM, (term,), prepare=True).fetchone()
        guard.grant(connection, term, until_s)
        return Fork(term, main, bulk, row[0] if row else NOWHERE)


def _reached(connection: Connection) -> list[tuple[str, str, str]]:
    rows = connection.execute(_REACHED, prepare=True).fetchall()
    return [(name, applied or NOWHERE, told or NOWHERE) for name, applied, told in rows]


def settle(connection: Connection, scope: Scope, peer_id: str) -> bool:
    """After a promotion: let the fork slots begin where this reign began, and forget the subscriptions.

    Until then a rejoin must not begin. Does nothing where nothing is left to do, so that it can be repeated.

    :return: False if this gateway was not promoted yet: with the subscriptions their positions would be forgotten.
    """
    with failures("The take-over cannot be completed"):
        if not one(connection, "SELECT hsmx_cluster.writable()"):
            return False
        own_lsn = one(connection, "SELECT own_lsn::text FROM hsmx_cluster.node")
        if own_lsn and peer_id:
            if one(connection, "SELECT pg_current_wal_flush_lsn() <= %s::pg_lsn", own_lsn):
                # The promotion did not wait for the disk, and no slot is moved past what is there.
                connection.execute("SELECT pg_logical_emit_message(true, 'hsmx_cluster', 'settled')")
            channel.advance_slots(connection, scope, peer_id, upto=own_lsn)
        if channel.streams(connection):
            with connection.transaction():
                connection.execute("DELETE FROM hsmx_cluster.followed")
                connection.execute(_FOLLOWED)
        channel.forget_subscriptions(connection)
        return True


def rehearse(connection: Connection, sequences: Sequences) -> None:
    """On a passive gateway, every second: let what takes long to plan be planned, on the connection that promotes."""
    with failures("The database cannot be made ready for a take-over"):
        for statement in (_COPYING, _FOLLOWING, _REACHED, _APPLYING):
            connection.execute(statement, prepare=True)
        sequences.rehearse(connection)


def _end(connection: Connection, sessions: bytes) -> None:
    """End what writes the other gateway's rows here, and wait until it is gone.

    :param sessions: the statement that finds it.
    """
    deadline = time.monotonic() + END_MOST_S
    while pids := [pid for (pid,) in connection.execute(sessions, prepare=True)]:
        if time.monotonic() > deadline:
            raise DatabaseFailure("An apply worker of PostgreSQL does not end.", "See PostgreSQL's log.")
        connection.execute(b"SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) AS pid", (pids,), prepare=True)
        time.sleep(LOOK_EVERY_S)


def demote(connection: Connection, patience_s: float) -> bool:
    """Let nobody write shared data here any more, and acknowledge nothing that the other gateway does not have.

    Open transactions get that much time to end, then their sessions are ended. A commit that waits for the other
    gateway is not told "success" (rule 5): before the synchronous name is cleared, no session is left in a transaction.

    :return: whether the other gateway had confirmed everything in time (if commits were synchronous at all).
    """
    with failures("The database cannot be made read-only"):
        guard.revoke(connection)
        orderly = _wait_for_writers(connection, patience_s)
        if synchrony.name(connection) and not orderly:
            synchrony.set_name(connection, NOBODY)
        deadline = time.monotonic() + END_MOST_S
        while not _wait_for_writers(connection, 0):
            connection.execute(b"SELECT pg_terminate_backend(pid) FROM (" + _WRITERS + b") AS writer", prepare=True)
            if time.monotonic() > deadline:
                raise DatabaseFailure("A session does not end its transaction.", "See PostgreSQL's log.")
            time.sleep(LOOK_EVERY_S)
        synchrony.set_name(connection, "")
        return orderly


def give_up(connection: Connection, patience_s: float) -> bool:
    """Refuse writes for a hand-over; False if a transaction did not end in time, and this gateway was demoted at once.

    If True, whoever still commits wrote nothing shared: the synchronous name can be cleared when all is confirmed, and
    no session has to end.
    """
    with failures("The database cannot be made read-only"):
        guard.revoke(connection)
        orderly = _wait_for_writers(connection, patience_s)
        if not orderly:
            demote(connection, 0)
        return orderly


def rehearse_giving_up(connection: Connection) -> None:
    """On an active gateway, with each renewal: let be planned what a hand-over asks while writes are refused."""
    _wait_for_writers(connection, 0)


def confirmed(connection: Connection, slot: str, patience_s: float) -> bool:
    """Wait until the other gateway has everything that was written here; False if not in that time."""
    # A small commit of our own, which travels, brings the log to the disk: only from there it is sent, and what was
    # written without waiting for the disk may lie in memory for 0.2 s. Where it is applied, all before it is.
    with connection.transaction():
        connection.execute(_MARK, prepare=True)
        # Its commit ends behind this position: were it itself not applied, this gateway would have one change more.
        row = connection.execute(b"SELECT pg_current_wal_insert_lsn()::text", prepare=True).fetchone()
    deadline = time.monotonic() + patience_s
    while connection.execute(_CONFIRMED, (slot, *(row or ())), prepare=True).fetchone() is None:
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_EVERY_S)
    return True


def _wait_for_writers(connection: Connection, patience_s: float) -> bool:
    deadline = time.monotonic() + patience_s
    while connection.execute(_WRITERS, prepare=True).fetchone() is not None:
        if time.monotonic() >= deadline:
            return False
        time.sleep(LOOK_EVERY_S)
    return True
