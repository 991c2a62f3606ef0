"""Forming with data: what the joining gateway has of its own is kept aside, then it becomes a copy of the other one."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg import sql

from . import aside, channel
from .copying import Amount, Copy, complete_indexes, left_s
from .database import Connection, DatabaseFailure, failures, one
from .gateways import Gateways, snapshot, wait_for_flush
from .names import SCHEMA, slot_name
from .scope import Scope
from .tables import SharedTable, local_columns, shared_tables

if TYPE_CHECKING:
    from .following import Progress

#: How long open transactions of the other gateway are waited for, s.
PATIENCE_S: Final = 600.0

_COPYING: Final = "UPDATE hsmx_cluster.node SET copying = true, fork_lsn = NULL, fork_bulk_lsn = NULL, own_lsn = NULL"
_COPIED: Final = "UPDATE hsmx_cluster.node SET copying = false, joined_system = %s"


def first_copy(gateways: Gateways, scope: Scope, system: str, progress: Progress) -> None:
    """Keep aside, clear, and copy; at the end the subscriptions stream.

    :param system: identifier of the other gateway's database, to be known as the one that this is a copy of.
    :raises DatabaseFailure: it was interrupted; it can be begun again.
    :raises SchemaMismatch: a table or column is missing here; nothing was touched.
    """
    with failures("The other gateway's data cannot be copied"):
        _first_copy(gateways, scope, system, progress)


def _first_copy(gateways: Gateways, scope: Scope, system: str, progress: Progress) -> None:
    own, peer = gateways.own, gateways.peer
    publications = [name for each in channel.subscriptions(scope) for name in channel.TAKES[each]]
    tables = list(shared_tables(peer, publications, scope).values())
    for each in tables:
        local_columns(own, each)
    channel.forget_subscriptions(own)
    # They would keep all that is written by the copy; it is nobody's change.
    channel.drop_all_slots(own)
    progress.step = "keeps this gateway's own data aside"
    _set_aside(own, tables)
    progress.step = "waits for open transactions of the other gateway"
    try:
        for name in channel.subscriptions(scope):  # what they have kept until now is in the copy
            channel.remake_slot(peer, channel.slot_of(name, gateways.own_id))
        with snapshot(gateways, f"{slot_name(gateways.own_id)}_copy", PATIENCE_S) as seen:
            progress.step = "copies the other gateway's data"
            began = time.monotonic()

            def tell(done: Amount) -> None:
                progress.done, progress.done_bytes, progress.tables_done = done.rows, done.bytes, done.tables
                progress.total = max(progress.total, done.rows)
                progress.left_s = left_s(began, done.bytes, progress.total_bytes)

            copy = Copy(gateways, tables, tell)
            total = copy.plan()
            progress.total, progress.total_bytes, progress.tables = total.rows, total.bytes, total.tables
            _clear(gateways, tables)
            copy.leave_indexes()
            copy.run(seen)
            wait_for_flush(peer, seen.position)
    except psycopg.errors.LockNotAvailable:
        raise DatabaseFailure(
            "A transaction on the active gateway has been open for too long, or one here holds a shared table.",
            "End it, or wait for its end; the copy is begun again by itself.",
        ) from None
    progress.step, progress.left_s = "makes the indexes of the copied data", None
    complete_indexes(own, gateways.open_own, tables)
    channel.make_slots(own, scope, gateways.peer_id)
    channel.subscribe(own, gateways.conninfo, scope, gateways.own_id, enabled=False)
    for name in channel.subscriptions(scope):
        channel.advance_origin(own, name, seen.position)
    with own.transaction():
        own.execute(_COPIED.encode(), (system,))
        for name in channel.subscriptions(scope):
            own.execute(sql.SQL("ALTER SUBSCRIPTION {} ENABLE").format(sql.Identifier(name)))


def repair(own: Connection, open_own: Callable[[], Connection]) -> None:
    """After an interrupted first copy that is not to be repeated: make what it left undone of the tables."""
    publications = [name for names in channel.TAKES.values() for name in names]
    complete_indexes(own, open_own, shared_tables(own, publications).values())


def _set_aside(own: Connection, tables: Iterable[SharedTable]) -> None:
    """Keep a copy of every shared table, unless an interrupted first copy has; from then on nothing here is whole."""
    if one(own, "SELECT copying FROM hsmx_cluster.node"):
        return
    with own.transaction():
        aside.begin_anew(own)  # of a cluster that it has left, perhaps
        for each in tables:
            if each.schema != SCHEMA:
                aside.keep(own, each.schema, each.name)
        own.execute(_COPYING)


def _clear(gateways: Gateways, tables: Iterable[SharedTable]) -> None:
    """Remove all shared rows."""
    own, left = gateways.own, list(tables)
    with contextlib.suppress(psycopg.errors.FeatureNotSupported), own.transaction():  # a local table refers to one
        own.execute("SET LOCAL session_replication_role = replica")
        whole = sql.SQL(", ").join(each.identifier for each in tables if not each.rows)
        own.execute(sql.SQL("TRUNCATE {}").format(whole))
        left = [each for each in tables if each.rows]
    # Those that an interrupted copy has left: without them PostgreSQL refuses to delete from a published table.
    complete_indexes(own, gateways.open_own, tables)
    with own.transaction():
        own.execute("SET LOCAL session_replication_role = replica")
        for each in left:
            own.execute(sql.SQL("DELETE FROM {} WHERE {}").format(each.identifier, each.condition))
