"""All rows of shared tables copied from a snapshot of the other gateway, by several pairs of connections at once.

A large table is cut into ranges of its pages, so that it is copied in parallel, too. Meanwhile its indexes are not
kept: PostgreSQL is told that they are not ready, as it does itself while it makes one concurrently, and makes them anew
at the end. Their definitions stay where they are, so that an interruption loses none.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from psycopg import sql

from .database import Connection, one
from .gateways import Gateways, Snapshot
from .tables import SharedTable, identifiers, local_columns

#: Pairs of connections.
WORKERS: Final = 4
#: Pages of one range: 32 MB.
RANGE_PAGES: Final = 4096
#: Bytes that are passed on at once: PostgreSQL gives each row by itself.
BLOCK: Final = 1 << 16
#: A larger table's indexes are made anew, pages.
INDEXED_ANEW: Final = 1024

_PAGES: Final = b"""
SELECT coalesce(max(pg_relation_size(oid)), 0) / current_setting('block_size')::int,
       coalesce(sum(pg_table_size(oid)), 0)::bigint, coalesce(sum(greatest(reltuples, 0)), 0)::bigint,
       has_table_privilege(%s, 'SELECT')
FROM pg_class WHERE relkind = 'r' AND oid IN (SELECT %s::regclass UNION SELECT relid FROM pg_partition_tree(%s))
"""
_TYPES: Final = b"""
SELECT attname::text, atttypid, typnamespace = 'pg_catalog'::regnamespace AND typsend <> 0
FROM pg_attribute JOIN pg_type t ON t.oid = atttypid WHERE attrelid = %s::regclass AND attnum > 0
"""
_INDEXES: Final = """
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'i'
AND i.indrelid IN (SELECT name::regclass FROM unnest(%s::text[]) AS name
                   UNION SELECT relid FROM unnest(%s::text[]) AS name, pg_partition_tree(name::regclass))
"""
_NOT_READY: Final = f"UPDATE pg_index SET indisready = false, indisvalid = false WHERE indisready AND indisvalid \
AND indexrelid IN (SELECT c.oid {_INDEXES})"
_LEFT: Final = f"SELECT n.nspname, c.relname {_INDEXES} AND NOT i.indisready"


@dataclass
class Amount:
    """How much is copied, or is to be."""

    rows: int = 0
    bytes: int = 0
    tables: int = 0


@dataclass(frozen=True)
class _Range:
    """Rows of one table in some of its pages; all of them if ``pages`` is None, and to the end if its second is."""

    table: SharedTable
    binary: bool
    pages: tuple[int, int | None] | None
    bytes: int


class Copy:
    """One copy of all rows.

    :param tables: what the other gateway publishes.
    :param tell: called from time to time with what is done.
    """

    def __init__(self, gateways: Gateways, tables: Sequence[SharedTable], tell: Callable[[Amount], None]) -> None:
        self._gateways, self._tables, self._tell = gateways, tables, tell
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._ranges: queue.SimpleQueue[_Range] = queue.SimpleQueue()
        self._open: dict[SharedTable, int] = {}
        self._large: list[str] = []
        self._done = Amount()

    def plan(self) -> Amount:
        """Cut the tables into ranges; returns what there is to copy, its rows as PostgreSQL estimates them."""
        total, ranges = Amount(tables=len(self._tables)), []
        for table in self._tables:
            name = table.identifier.as_string(self._gateways.peer)
            row = self._gateways.peer.execute(_PAGES, (name, name, name)).fetchone()
            assert row is not None
            pages, size, rows, whole = row
            if pages < INDEXED_ANEW:
                rows = one(self._gateways.peer, f"SELECT count(*) FROM {name} AS t WHERE {table.rows or 'true'}")
            else:
                if not table.rows and not local_columns(self._gateways.own, table):
                    self._large.append(name)
            total.rows += rows
            total.bytes += size
            starts: list[int | None] = [*range(0, pages, RANGE_PAGES)] or [0]
            binary, parts = self._alike(table, name), len(starts) if whole else 1
            for first, last in zip(starts, [*starts[1:], None], strict=True):
                assert first is not None
                ranges.append(_Range(table, binary, (first, last) if whole else None, size // parts))
                if not whole:
                    break
            self._open[table] = parts
        # The largest table's ranges are begun first, so that no worker is left alone with them at the end.
        for each in sorted(ranges, key=lambda one: -self._open[one.table]):
            self._ranges.put(each)
        return total

    def leave_indexes(self) -> None:
        """Do not keep the indexes of large tables from now on.

        Where rows or columns are this gateway's own they are kept: the host may write there meanwhile.
        """
        self._gateways.own.execute(_NOT_READY.encode(), (self._large, self._large))

    def run(self, snapshot: Snapshot) -> None:
        """Copy. Each range is there as soon as it is complete."""
        with ThreadPoolExecutor(WORKERS, "copy") as workers:
            for future in [workers.submit(self._work, snapshot) for _ in range(WORKERS)]:
                future.result()

    def _work(self, snapshot: Snapshot) -> None:
        try:
            with (
                self._gateways.open_own() as own,
                self._gateways.open_peer() as peer,
                peer.transaction(),
            ):
                snapshot.enter(peer)
                own.execute("SET session_replication_role = replica")
                own.execute("SET synchronous_commit = off")
                while not self._stopped.is_set():
                    self._copy(own, peer, self._ranges.get_nowait())
        except queue.Empty:
            pass
        except BaseException:
            self._stopped.set()
            raise

    def _copy(self, own: Connection, peer: Connection, part: _Range) -> None:
        table, how = part.table, sql.SQL("(FORMAT binary)" if part.binary else "")
        pages = sql.SQL("")
        if part.pages is not None:
            first, last = part.pages
            pages = sql.SQL(" AND t.ctid >= {}").format(sql.Literal(f"({first},0)"))  # type: ignore[assignment]
            if last is not None:
                pages += sql.SQL(" AND t.ctid < {}").format(sql.Literal(f"({last},0)"))  # type: ignore[assignment]
        query = sql.SQL("COPY (SELECT {} FROM {} AS t WHERE {}{}) TO STDOUT {}").format(
            identifiers(table.columns), table.identifier, table.condition, pages, how)
        into = sql.SQL("COPY {} ({}) FROM STDIN {}").format(table.identifier, identifiers(table.columns), how)
        with peer.cursor() as there, own.cursor() as here:
            with there.copy(query) as source, here.copy(into) as target:
                held = bytearray()
                for row in source:
                    held += row
                    if len(held) > BLOCK:
                        if self._stopped.is_set():
                            return
                        target.write(bytes(held))
                        held.clear()
                target.write(bytes(held))
            self._count(part, max(here.rowcount, 0))

    def _count(self, part: _Range, rows: int) -> None:
        with self._lock:
            self._open[part.table] -= 1
            self._done.rows += rows
            self._done.bytes += part.bytes
            self._done.tables += not self._open[part.table]
            self._tell(self._done)

    def _alike(self, table: SharedTable, name: str) -> bool:
        """Return whether both gateways have the same types of PostgreSQL's own: these they may pass on as they are."""
        here, there = (
            {column: (type_id, plain) for column, type_id, plain in connection.execute(_TYPES, (name,)).fetchall()
             if column in table.columns}
            for connection in (self._gateways.own, self._gateways.peer)
        )  # fmt: skip
        return here == there and all(plain for _, plain in here.values())


def complete_indexes(own: Connection, open_own: Callable[[], Connection], tables: Iterable[SharedTable]) -> None:
    """Make the indexes that were left, by :meth:`Copy.leave_indexes`."""
    names = [table.identifier.as_string(own) for table in tables]
    left = own.execute(_LEFT.encode(), (names, names)).fetchall()

    def make(index: tuple[str, str]) -> None:
        with open_own() as connection:
            connection.execute("SET maintenance_work_mem = '256MB'")
            connection.execute("SET synchronous_commit = off")
            connection.execute(sql.SQL("REINDEX INDEX {}").format(sql.Identifier(*index)))

    with ThreadPoolExecutor(2, "index") as workers:
        for future in [workers.submit(make, index) for index in left]:
            future.result()


def left_s(began: float, done: int, total: int) -> float | None:
    """Return the time that is left, s, by what the time since ``began`` (monotonic, s) has brought."""
    return (time.monotonic() - began) * (total - done) / done if done else None
