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

#: Where the joining gateway's own shared data is kept; made anew at each first copy.
ASIDE = "hsmx_cluster_aside"
LOOK_EVERY_S = 0.2


def first_copy(connection: Connection, scope: Scope, own_id: str, peer_dsn: str, progress: Progress) -> None:
    """Keep aside, clear, and copy; at the end the subscription streams.

    :raises DatabaseFailure: it was interrupted; it can be begun again.
    """
    progress.step = "keeps this gateway's own data aside"
    channel.forget_subscriptions(connection)
    with failures("The gateway's own data cannot be kept aside"):
        _set_aside(connection, scope)
    progress.step = "copies the other gateway's data"
    with failures("The shared tables cannot be cleared"), connection.transaction():
        connection.execute("SET LOCAL session_replication_role = replica")
        for each in scope.shared():
            _clear(connection, each)
        connection.execute("DELETE FROM hsmx_cluster.incarnation")
        connection.execute("DELETE FROM hsmx_cluster.sequence_position")
    channel.subscribe(connection, peer_dsn, scope, own_id, copy=True)
    _wait(connection, progress)


def _set_aside(connection: Connection, scope: Scope) -> None:
    """Keep a copy of every shared table, unless an interrupted first copy has done so."""
    if one(connection, "SELECT to_regnamespace(%s) IS NOT NULL", ASIDE):
        return
    with connection.transaction():
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(ASIDE)))
        for each in scope.shared():
            connection.execute(
                sql.SQL("CREATE TABLE {} AS TABLE {}").format(
                    table(ASIDE, f"{each.schema}.{each.table}"), table(each.schema, each.table)
                )
            )


def _clear(connection: Connection, scope: TableScope) -> None:
    where = sql.SQL(f" WHERE ({scope.rows})" if scope.rows else "")
    connection.execute(sql.SQL("DELETE FROM {}{}").format(table(scope.schema, scope.table), where))


def _wait(connection: Connection, progress: Progress) -> None:
    while True:
        left, copied = connection.execute(
            """SELECT (SELECT count(*) FROM pg_subscription_rel WHERE srsubstate <> 'r'),
                      (SELECT coalesce(sum(tuples_processed), 0)::bigint FROM pg_stat_progress_copy)"""
        ).fetchone() or (0, 0)
        progress.done = copied
        if not left:
            return
        time.sleep(LOOK_EVERY_S)
