"""Becoming the gateway that writes, and ceasing to be it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from . import channel, guard, synchrony
from .database import Connection, DatabaseFailure, failures, one
from .names import NOBODY, SUBSCRIPTION, SUBSCRIPTION_BULK
from .scope import Scope
from .sequences import Sequences

#: Between two looks at what is to end, s.
LOOK_EVERY_S = 0.001
#: An apply worker that has not ended by then is left to end by itself; a disabled subscription starts no other, s.
WORKER_MOST_S = 1.0

#: A position before every other one.
NOWHERE = "0/0"
_REMEMBER_FORK = b"""UPDATE hsmx_cluster.node
SET term = %s, fork_lsn = greatest(%s::pg_lsn, %s::pg_lsn), fork_bulk_lsn = greatest(%s::pg_lsn, %s::pg_lsn),
    own_lsn = pg_current_wal_insert_lsn()"""
# Not an ALTER to the driver: after one it would forget all prepared statements. It need not reach the disk by itself:
# the lease is granted only after the fork, written later, is.
_DISABLE = b"""DO $$ DECLARE name text; BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    FOR name IN SELECT subname FROM pg_subscription JOIN pg_database d ON d.oid = subdbid
        WHERE d.datname = current_database() AND subname IN ('hsmx_cluster', 'hsmx_cluster_bulk') AND subenabled
    LOOP EXECUTE format('ALTER SUBSCRIPTION %I DISABLE', name); END LOOP;
END $$"""
_APPLY_WORKERS = b"SELECT pid FROM pg_stat_activity WHERE backend_type = 'logical replication worker' \
AND datname = current_database()"
_WRITERS = b"""SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND backend_xid IS NOT NULL
AND datname = current_database() AND pid <> pg_backend_pid()"""


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

    Its apply workers end, the positions of both WALs are kept, sequences are moved past what the other gateway used,
    and the lease is granted. No step waits for another transaction. :func:`settle` does the rest
    later, off the critical path.

    :param until_s: boot time at which the lease ends, s.
    :param known: by subscription, a position of the other gateway's WAL up to which all is applied here, as was seen
        earlier. A worker that has gone tells none, and an origin tells only of transactions since the first copy.
    """
    with failures("The database cannot be made writable"):
        if one(connection, "SELECT copying FROM hsmx_cluster.node"):
            raise DatabaseFailure(
                "The first copy of the other gateway's data was not complete: what is here is not whole.",
                "Bring the other gateway back, or leave the cluster here: this gateway's own data was kept aside.",
            )
        told = dict(known or {})
        for stream in channel.streams(connection):
            if stream.reported_lsn != NOWHERE:
                told[stream.name] = stream.reported_lsn
        connection.execute(_DISABLE)
        _end_apply_workers(connection)
        positions = {stream.name: stream.origin_lsn for stream in channel.streams(connection)}
        fork = Fork(term, positions.get(SUBSCRIPTION, "0/0"), positions.get(SUBSCRIPTION_BULK, "0/0"))
        if positions:
            reached = (fork.lsn, told.get(SUBSCRIPTION), fork.bulk_lsn, told.get(SUBSCRIPTION_BULK))
            with connection.transaction():
                connection.execute(_REMEMBER_FORK, (term, *reached), prepare=True)
                sequences.move(connection)
        else:
            connection.execute(b"UPDATE hsmx_cluster.node SET term = %s", (term,), prepare=True)
        guard.grant(connection, term, until_s)
        own_lsn = one(connection, "SELECT coalesce(own_lsn, '0/0')::text FROM hsmx_cluster.node")
        return replace(fork, own_lsn=own_lsn)


def settle(connection: Connection, scope: Scope, peer_id: str) -> None:
    """After a promotion: let the fork slots begin where this reign began, and forget the subscriptions.

    Until then a rejoin must not begin. Does nothing where nothing is left to do, so that it can be repeated.
    """
    with failures("The take-over cannot be completed"):
        own_lsn = one(connection, "SELECT own_lsn::text FROM hsmx_cluster.node")
        if own_lsn and peer_id:
            channel.advance_slots(connection, scope, peer_id, upto=own_lsn)
        channel.forget_subscriptions(connection)


def rehearse(connection: Connection, sequences: Sequences) -> None:
    """On a passive gateway, every second: let what takes long to plan be planned, on the connection that promotes."""
    with failures("The database cannot be made ready for a take-over"):
        channel.streams(connection)
        connection.execute(_APPLY_WORKERS, prepare=True)
        sequences.rehearse(connection)


def _end_apply_workers(connection: Connection) -> None:
    """A disabled worker ends by itself, but one that waits for a frozen peer takes a nap of 1 s first."""
    deadline = time.monotonic() + WORKER_MOST_S
    while True:
        pids = [pid for (pid,) in connection.execute(_APPLY_WORKERS, prepare=True)]
        if not pids:
            return
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
        deadline = time.monotonic() + WORKER_MOST_S
        while not _wait_for_writers(connection, 0):
            connection.execute(b"SELECT pg_terminate_backend(pid) FROM (" + _WRITERS + b") AS writer", prepare=True)
            if time.monotonic() > deadline:
                raise DatabaseFailure("A session does not end its transaction.", "See PostgreSQL's log.")
            time.sleep(LOOK_EVERY_S)
        synchrony.set_name(connection, "")
        return orderly


def confirmed(connection: Connection, slot: str, patience_s: float) -> bool:
    """Wait until the other gateway has everything that was written here; False if not in that time."""
    position = one(connection, "SELECT pg_current_wal_lsn()::text")
    deadline = time.monotonic() + patience_s
    while not one(
        connection,
        "SELECT confirmed_flush_lsn >= %s::pg_lsn FROM pg_replication_slots WHERE slot_name = %s AND active",
        position,
        slot,
    ):
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
