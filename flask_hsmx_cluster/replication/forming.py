"""Forming with data: what the joining gateway has of its own is kept aside, then it becomes a copy of the other one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from psycopg import sql

from . import channel
from .database import Connection, failures, one, table
from .scope import Scope, TableScope

if TYPE_CHECKING:
    from .following import Progress

#: Where the joining gateway's own shared data is kept; what an earlier first copy put there gets another name.
ASIDE = "hsmx_cluster_aside"
LOOK_EVERY_S = 0.2
#: Tables that are thought to have fewer rows are counted.
COUNTED_MOST = 100_000
_STATES = """
SELECT format('%I.%I', n.nspname, c.relname), r.srsubstate::text, coalesce(p.tuples_processed, 0)
FROM pg_subscription_rel r
JOIN pg_class c ON c.oid = r.srrelid JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_stat_progress_copy p ON p.relid = r.srrelid
"""


def first_copy(
    connection: Connection, peer: Connection, scope: Scope, own_id: str, peer_dsn: str, progress: Progress
) -> None:
    """Keep aside, clear, and copy; at the end the subscription streams.

    :param peer: to the other gateway's database.
    :param peer_dsn: how our server reaches it.
    :raises DatabaseFailure: it was interrupted; it can be begun again.
    """
    channel.forget_subscriptions(connection)
    progress.step = "keeps this gateway's own data aside"
    with failures("The gateway's own data cannot be kept aside"):
        _set_aside(connection, scope)
    progress.step = "copies the other gateway's data"
    sizes = _sizes(peer, scope)
    progress.total = sum(sizes.values())
    with failures("The shared tables cannot be cleared"), connection.transaction():
        connection.execute("SET LOCAL session_replication_role = replica")
        for each in scope.shared():
            _clear(connection, each)
        connection.execute("DELETE FROM hsmx_cluster.incarnation")
        connection.execute("DELETE FROM hsmx_cluster.sequence_position")
    channel.subscribe(connection, peer_dsn, scope, own_id, copy=True)
    _wait(connection, sizes, progress)
    channel.copied(connection, peer_dsn)
    connection.execute("UPDATE hsmx_cluster.node SET copying = false")


def _set_aside(connection: Connection, scope: Scope) -> None:
    """Keep a copy of every shared table, unless an interrupted first copy has done so."""
    if one(connection, "SELECT copying FROM hsmx_cluster.node"):
        return
    with connection.transaction():
        if one(connection, "SELECT to_regnamespace(%s) IS NOT NULL", ASIDE):  # of a cluster that it has left, perhaps
            stamp = one(connection, "SELECT to_char(now(), 'YYYYMMDDHH24MISS')")
            rename = sql.SQL("ALTER SCHEMA {} RENAME TO {}")
            connection.execute(rename.format(sql.Identifier(ASIDE), sql.Identifier(f"{ASIDE}_{stamp}")))
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(ASIDE)))
        for each in scope.shared():
            connection.execute(
                sql.SQL("CREATE TABLE {} AS TABLE {}").format(
                    table(ASIDE, f"{each.schema}.{each.table}"), table(each.schema, each.table)
                )
            )
        connection.execute(
            "UPDATE hsmx_cluster.node SET copying = true, fork_lsn = NULL, fork_bulk_lsn = NULL, own_lsn = NULL"
        )


def _clear(connection: Connection, scope: TableScope) -> None:
    where = sql.SQL(f" WHERE ({scope.rows})" if scope.rows else "")
    connection.execute(sql.SQL("DELETE FROM {}{}").format(table(scope.schema, scope.table), where))


def _sizes(peer: Connection, scope: Scope) -> dict[str, int]:
    """Return how many rows each shared table has there, by its quoted name: counted if few, else estimated."""
    sizes: dict[str, int] = {}
    for each in scope.shared():
        name = one(peer, "SELECT format('%%I.%%I', %s::text, %s::text)", each.schema, each.table)
        rows = one(peer, "SELECT reltuples::bigint FROM pg_class WHERE oid = to_regclass(%s)", name) or 0
        if rows < COUNTED_MOST:
            found = peer.execute(sql.SQL("SELECT count(*) FROM {}").format(table(each.schema, each.table))).fetchone()
            rows = found[0] if found else 0
        sizes[name] = rows
    return sizes


def _wait(connection: Connection, sizes: dict[str, int], progress: Progress) -> None:
    """Wait until every table is copied, and tell the rows: those of complete tables, and what runs at this moment."""
    while True:
        left, done = 0, 0
        for name, state, copied in connection.execute(_STATES).fetchall():
            size = sizes.get(name, 0)
            done += size if state in ("r", "s") else min(copied, size)
            left += state != "r"
        progress.done = max(progress.done, done)
        if not left:
            return
        time.sleep(LOOK_EVERY_S)
