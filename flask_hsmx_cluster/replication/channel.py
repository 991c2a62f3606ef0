"""The channel between the two databases: publications and fork slots on both, subscriptions on the passive one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import ObjectInUse

from .access import give_to_apply_role
from .database import Connection, failures, one, table
from .names import (
    PUBLICATION,
    PUBLICATION_BULK,
    PUBLICATION_ROWS,
    PUBLISHED,
    SCHEMA,
    SUBSCRIPTION,
    SUBSCRIPTION_BULK,
    slot_name,
)
from .scope import Scope, TableScope

#: By subscription: the publications that it takes.
TAKES = {SUBSCRIPTION: (PUBLICATION, PUBLICATION_ROWS), SUBSCRIPTION_BULK: (PUBLICATION_BULK,)}
#: How long dropping one slot may take, s.
DROP_MOST_S = 5.0
_ALL = "insert, update, delete, truncate"
_WITHOUT_TRUNCATE = "insert, update, delete"
_KEPT = b"""
SELECT coalesce(wal_status <> 'lost', true) AND confirmed_flush_lsn IS NOT NULL
FROM pg_replication_slots WHERE slot_name = %s AND database = current_database()
"""


@dataclass(frozen=True)
class Stream:
    """One subscription as the passive gateway sees it.

    :param origin_lsn: end of the last transaction of the publisher that is applied and durable here, as text.
    :param reported_lsn: the position up to which the worker has told the publisher that all is applied; while nothing
        is written there it is ahead of ``origin_lsn``. "0/0" without a worker.
    :param error_count: errors of the apply worker since the statistics were reset.
    """

    name: str
    enabled: bool
    worker_pid: int | None
    origin_lsn: str
    reported_lsn: str
    error_count: int


def publish(connection: Connection, scope: Scope) -> None:
    """Make the publications that the scope demands, in place of those that are there.

    :raises DatabaseFailure: a table is missing, or has no key.
    """
    shared = list(scope.shared())
    whole = [one for one in shared if one.kind == "shared" and not one.rows]
    some = [one for one in shared if one.kind == "shared" and one.rows]
    bulk = [one for one in shared if one.kind == "bulk"]
    ours = [sql.Composed([table(SCHEMA, name)]) for name in PUBLISHED]
    with failures("The shared tables cannot be published"), connection.transaction():
        unpublish(connection)
        _create(connection, PUBLICATION, [*map(_published, whole), *ours], _ALL)
        _create(connection, PUBLICATION_ROWS, [*map(_published, some)], _WITHOUT_TRUNCATE)
        _create(connection, PUBLICATION_BULK, [*map(_published, bulk)], _ALL)


def _create(connection: Connection, name: str, parts: Sequence[sql.Composed], publish: str) -> None:
    statement = sql.SQL("CREATE PUBLICATION {} {} {} WITH (publish = {}, publish_via_partition_root = true)").format(
        sql.Identifier(name),
        sql.SQL("FOR TABLE" if parts else ""),
        sql.SQL(", ").join(parts),
        sql.Literal(publish),
    )
    connection.execute(statement)


def _published(scope: TableScope) -> sql.Composed:
    columns = sql.SQL(" ({})").format(sql.SQL(", ").join(map(sql.Identifier, scope.columns)))
    return sql.Composed(
        [
            table(scope.schema, scope.table),
            columns if scope.columns else sql.SQL(""),
            # The condition is the developer's, who could run any SQL in this database anyway.
            sql.SQL(f" WHERE ({scope.rows})" if scope.rows else ""),
        ]
    )


def unpublish(connection: Connection) -> None:
    """Drop our publications."""
    for name in (PUBLICATION, PUBLICATION_ROWS, PUBLICATION_BULK):
        connection.execute(sql.SQL("DROP PUBLICATION IF EXISTS {}").format(sql.Identifier(name)))


def has_bulk(scope: Scope) -> bool:
    """Return whether anything is declared bulk, and so a second subscription needed."""
    return any(one.kind == "bulk" for one in scope.shared())


def subscriptions(scope: Scope) -> tuple[str, ...]:
    """Return the names of the subscriptions that this scope needs."""
    return (SUBSCRIPTION, SUBSCRIPTION_BULK) if has_bulk(scope) else (SUBSCRIPTION,)


def slot_of(subscription: str, consumer: str) -> str:
    """Return the slot from which a gateway's subscription reads, on the other gateway."""
    return slot_name(consumer, bulk=subscription == SUBSCRIPTION_BULK)


# Slots -------------------------------------------------------------------------------------------------------------


def make_slots(connection: Connection, scope: Scope, peer_id: str) -> None:
    """Make the slots for the other gateway. It waits for every open write transaction, so never while promoting."""
    with failures("A replication slot cannot be made"):
        for subscription in subscriptions(scope):
            slot = slot_of(subscription, peer_id)
            if not one(connection, "SELECT count(*) FROM pg_replication_slots WHERE slot_name = %s", slot):
                connection.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (slot,))


def lost(connection: Connection, slot: str) -> bool:
    """Return whether a slot is not there, or has not kept what it was to keep."""
    found = connection.execute(_KEPT, (slot,)).fetchone()
    return found is None or not found[0]


def remake_slot(connection: Connection, slot: str) -> None:
    """Make a slot anew, which keeps nothing from before; what is read afterwards is behind its position."""
    connection.execute(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s", (slot,)
    )
    connection.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (slot,))


def replace_lost_slots(connection: Connection, scope: Scope, peer_id: str) -> None:
    """On a gateway that follows: make fork slots anew that were lost, for example while a large first copy was written.

    Nothing that they would have told is missed: what is here came from the other gateway.
    """
    with failures("A lost replication slot cannot be replaced"):
        lost = connection.execute(
            b"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE wal_status = 'lost' "
            b"AND slot_name = ANY(%s)",
            ([slot_of(name, peer_id) for name in subscriptions(scope)],),
            prepare=True,
        ).fetchall()
    if lost:
        make_slots(connection, scope, peer_id)


def advance_slots(connection: Connection, scope: Scope, peer_id: str, upto: str = "") -> None:
    """Move the fork slots on: nothing before their position is ever sent to the other gateway.

    :param upto: a position of our own WAL, as text; the present one if empty.
    """
    # At the end of a page of 8 kB the log may be on the disk up to the midst of a record, and the rest of that would be
    # waited for, perhaps for many seconds. The next time will do.
    connection.execute(
        b"""SELECT pg_replication_slot_advance(slot_name, least(target, pg_current_wal_flush_lsn()))
            FROM (SELECT slot_name, confirmed_flush_lsn, active, coalesce(nullif(%s, '')::pg_lsn,
                         pg_current_wal_flush_lsn()) AS target FROM pg_replication_slots) AS slot
            WHERE slot_name = ANY(%s) AND NOT active AND confirmed_flush_lsn < target
            AND (target < pg_current_wal_flush_lsn() OR mod(pg_current_wal_flush_lsn() - '0/0', 8192) <> 0)""",
        (upto, [slot_of(name, peer_id) for name in subscriptions(scope)]),
        prepare=True,
    )


def drop_all_slots(connection: Connection) -> None:
    """Drop every slot of ours, whoever reads from it; who comes back meanwhile is ended again.

    :raises DatabaseFailure: a reader does not end, or is always there again first.
    """
    with failures("A replication slot cannot be dropped"):
        for (name,) in connection.execute(
            "SELECT slot_name FROM pg_replication_slots WHERE database = current_database() AND slot_name ~ '^hsmx_'"
        ).fetchall():
            _drop_slot(connection, name)


def _drop_slot(connection: Connection, name: str) -> None:
    deadline = time.monotonic() + DROP_MOST_S
    while True:
        connection.execute(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = %s AND active", (name,)
        )
        try:
            connection.execute("SELECT pg_drop_replication_slot(%s)", (name,))
        except ObjectInUse:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.002)  # a reader that is ended lets the slot go within that; a new one needs longer to log in
        else:
            return


# Subscriptions -----------------------------------------------------------------------------------------------------


def subscribe(
    connection: Connection, conninfo: str, scope: Scope, own_id: str, *, enabled: bool = True
) -> None:
    """Follow the other gateway from its slots for us.

    :param conninfo: libpq's connection string to the other gateway, sync link first, backup second.
    :param enabled: False: the subscriptions are there, but do not stream yet.
    :raises DatabaseFailure: it cannot be reached, refuses us, or has no such slot.
    """
    # From PostgreSQL 16 on rows are applied with the rights of each table's owner, unless told otherwise.
    as_owner = ", run_as_owner = true" if connection.info.server_version >= 160000 else ""
    with failures("The other gateway's changes cannot be subscribed to"), connection.transaction():
        for name in subscriptions(scope):
            connection.execute(
                sql.SQL(
                    "CREATE SUBSCRIPTION {} CONNECTION {} PUBLICATION {} WITH (create_slot = false, slot_name = {}, "
                    # 'off', the default, makes each synchronous commit of the other gateway wait 200 to 600 ms.
                    f"copy_data = false, enabled = {{}}, synchronous_commit = {{}}{as_owner})"
                ).format(
                    sql.Identifier(name),
                    sql.Literal(conninfo),
                    sql.SQL(", ").join(map(sql.Identifier, TAKES[name])),
                    sql.Identifier(slot_of(name, own_id)),
                    sql.Literal(enabled),
                    sql.Literal("on" if name == SUBSCRIPTION else "off"),
                )
            )
            give_to_apply_role(connection, name)


def advance_origin(connection: Connection, subscription: str, position: str) -> None:
    """Let a disabled subscription begin at a position, and know that it has everything before; never move it back.

    Without that its progress would be unknown until the first change comes, and with it what the active gateway lacks
    of this one, should this one be promoted before.
    """
    connection.execute(
        "SELECT pg_replication_origin_advance('pg_' || oid, %s::pg_lsn) FROM pg_subscription WHERE subname = %s "
        "AND subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()) "
        "AND coalesce(pg_replication_origin_progress('pg_' || oid, true), '0/0') < %s::pg_lsn AND NOT subenabled",
        (position, subscription, position),
    )


def reach_by(connection: Connection, conninfo: str) -> list[str]:
    """Let the subscriptions reach the other gateway this way; a running worker whose way was another connects anew.

    :param conninfo: as for :func:`subscribe`.
    :return: the subscriptions that went another way until now.
    """
    changed = []
    with failures("The subscription cannot be led over another link"):
        for name, present in connection.execute(
            b"""SELECT subname, subconninfo FROM pg_subscription WHERE subname = ANY(%s)
                AND subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())""",
            (list(TAKES),),
            prepare=True,
        ).fetchall():
            if conninfo_to_dict(present) != conninfo_to_dict(conninfo):
                change = sql.SQL("ALTER SUBSCRIPTION {} CONNECTION {}")
                connection.execute(change.format(sql.Identifier(name), sql.Literal(conninfo)))
                changed.append(name)
    return changed


def streams(connection: Connection) -> list[Stream]:
    """Return the subscriptions that are there."""
    rows = connection.execute(
        b"""SELECT s.subname, s.subenabled, w.pid, pg_replication_origin_progress('pg_' || s.oid, true)::text,
                   w.latest_end_lsn::text,
                   coalesce(e.apply_error_count + e.sync_error_count, 0)
            FROM pg_subscription s
            LEFT JOIN pg_stat_subscription w ON w.subid = s.oid AND w.relid IS NULL
            LEFT JOIN pg_stat_subscription_stats e ON e.subid = s.oid
            WHERE s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
              AND s.subname = ANY(%s)""",
        (list(TAKES),),
        prepare=True,
    ).fetchall()
    nothing = "0/0"
    return [Stream(name, on, pid, lsn or nothing, told or nothing, errors) for name, on, pid, lsn, told, errors in rows]


def disable(connection: Connection) -> None:
    """Let our subscriptions stand."""
    with failures("A subscription cannot be disabled"):
        for stream in streams(connection):
            connection.execute(sql.SQL("ALTER SUBSCRIPTION {} DISABLE").format(sql.Identifier(stream.name)))


def forget_subscriptions(connection: Connection) -> None:
    """Drop our subscriptions; the other gateway's slots stay, and it need not be there."""
    with failures("A subscription cannot be dropped"):
        for stream in streams(connection):
            name = sql.Identifier(stream.name)
            for statement in ("ALTER SUBSCRIPTION {} DISABLE", "ALTER SUBSCRIPTION {} SET (slot_name = NONE)",
                              "DROP SUBSCRIPTION {}"):
                connection.execute(sql.SQL(statement).format(name))
