"""Do both gateways have the same shared rows? Answered while writes go on.

Each table is walked in chunks of its key. The digest of a chunk is a sum over its rows, so their order does not matter,
and one row costs each server one hash of its shared columns' text. Where two chunks differ their rows are compared,
and a row counts as different only if the active gateway had the same value before and after the passive one was read,
and the passive one had applied everything up to the first reading. A row that is written all the time may stay
unsettled; that is told apart.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from psycopg import sql

from . import channel
from .database import Connection, failures, one
from .scope import Scope
from .tables import Key, SharedTable, canonical, identifiers, same_key, shared_tables

#: Rows of one chunk.
CHUNK: Final = 10_000
#: Different keys that are listed for one table; then it is left at that.
MOST_KEYS: Final = 1000
#: Readings of a row that is being written, and the pause before each, s.
ROUNDS: Final = 8
PAUSE_S: Final = 0.05
#: How long the passive gateway gets to apply what the active one has written, s.
APPLY_MOST_S: Final = 10.0

_APPLIED = """
SELECT coalesce(bool_and(confirmed_flush_lsn >= %s::pg_lsn), true) FROM pg_replication_slots
WHERE slot_name = ANY(%s) AND active
"""

#: Digest of rows by their key.
Digests = dict[Key, int]


@dataclass(frozen=True)
class Range:
    """Rows by key: those behind ``after`` up to and with ``upto``; None: from the first, to the last."""

    after: Key | None = None
    upto: Key | None = None


@dataclass(frozen=True)
class Digest:
    """What some rows come to."""

    rows: int
    total: int


@dataclass(frozen=True)
class Progress:
    """How far a comparison has come.

    :param rows: rows of this table that are compared.
    :param expected: rows that PostgreSQL believes this table to have.
    :param all_rows: rows of all tables that are compared, of ``all_expected``.
    """

    table: str
    tables_done: int
    tables: int
    rows: int
    expected: int
    all_rows: int
    all_expected: int


@dataclass(frozen=True)
class TableResult:
    """The comparison of one table.

    :param rows: rows of the active gateway that were compared.
    :param key_columns: () for a table without key, of which only the whole is compared.
    :param differing: keys of rows that only one of them has, or that differ; at most :data:`MOST_KEYS`.
    :param incomplete: there are more of them; the rest of the table was not compared.
    :param unsettled: rows that were written whenever they were read.
    """

    table: str
    rows: int
    key_columns: tuple[str, ...]
    differing: tuple[Key, ...]
    incomplete: bool
    unsettled: int

    @property
    def equal(self) -> bool:
        return not self.differing and not self.incomplete and not self.unsettled


@dataclass(frozen=True)
class Result:
    """The comparison of all shared tables."""

    tables: tuple[TableResult, ...]
    seconds: float

    @property
    def equal(self) -> bool:
        return all(each.equal for each in self.tables)


def verify(
    active: Connection, passive: Connection, scope: Scope, passive_id: str, *,
    progress: Callable[[Progress], None] = lambda _: None, chunk: int = CHUNK,
) -> Result:
    """Compare the shared tables of both gateways.

    :param active: where writes go on. Both connections in autocommit mode and used by nobody else meanwhile.
    :param passive_id: node id of the passive gateway.
    :param chunk: rows of one chunk.
    :raises DatabaseFailure: one of them fails, or lacks a table or column.
    """
    begun = time.monotonic()
    subscriptions = channel.subscriptions(scope)
    publications = [name for subscription in subscriptions for name in channel.TAKES[subscription]]
    slots = tuple(channel.slot_of(subscription, passive_id) for subscription in subscriptions)
    with failures("The data cannot be compared"), ThreadPoolExecutor(1) as beside:
        for connection in (active, passive):
            canonical(connection)
        tables = list(shared_tables(active, publications, scope).values())
        expected = [_expected(active, table) for table in tables]
        results: list[TableResult] = []
        for number, table in enumerate(tables):
            compare = _Comparison(active, passive, table, slots, beside)
            before, after = sum(each.rows for each in results), sum(expected[number + 1 :])
            for rows in compare.walk(chunk):
                here = max(rows, expected[number])
                done, whole = before + rows, before + here + after
                progress(Progress(str(table), number, len(tables), rows, here, done, whole))
            results.append(compare.result())
    return Result(tuple(results), time.monotonic() - begun)


class _Comparison:
    """The comparison of one table that goes on."""

    def __init__(
        self, active: Connection, passive: Connection, table: SharedTable, slots: tuple[str, ...],
        beside: ThreadPoolExecutor,
    ) -> None:
        self._active, self._passive = active, passive
        self._table, self._mirror = table, table.as_peer()
        self._slots = slots
        self._beside = beside
        self._rows = self._unsettled = 0
        self._differing: list[Key] = []
        self._incomplete = False

    def walk(self, chunk: int) -> Iterator[int]:
        """Compare chunk by chunk; yields the rows that are done."""
        if not self._table.key:
            yield from self._whole()
            return
        upto: Key | None = None
        part, here = next_chunk(self._active, self._table, upto, chunk)
        while not self._incomplete:
            there = self._beside.submit(digest, self._passive, self._mirror, part)
            upto = part.upto
            # The active gateway reads the next chunk while the passive one reads this.
            following = next_chunk(self._active, self._table, upto, chunk) if upto is not None else None
            if there.result() != here:
                self._compare(part)
            self._rows += here.rows
            yield self._rows
            if following is None:
                return
            part, here = following

    def result(self) -> TableResult:
        self._differing.sort()
        return TableResult(str(self._table), self._rows, self._table.key, tuple(self._differing), self._incomplete,
                           self._unsettled)  # fmt: skip

    def _whole(self) -> Iterator[int]:
        """Compare a table without key."""
        for _ in range(ROUNDS):
            before = digest(self._active, self._table, Range())
            applied = self._wait_for_apply()
            there = digest(self._passive, self._mirror, Range())
            after = digest(self._active, self._table, Range())
            self._rows = after.rows
            if there in (before, after):
                break
            if applied and before == after:
                self._differing.append(())
                break
            time.sleep(PAUSE_S)
        else:
            self._unsettled = 1
        yield self._rows

    def _compare(self, part: Range) -> None:
        """Find the rows of a chunk that really differ."""
        other = self._beside.submit(row_digests, self._passive, self._mirror, part)
        here = row_digests(self._active, self._table, part)
        open_keys = differing(here, other.result())
        for number in range(ROUNDS):
            if not open_keys:
                return
            if len(open_keys) > MOST_KEYS:
                open_keys = set(sorted(open_keys)[: MOST_KEYS + 1])
            time.sleep(PAUSE_S if number else 0)
            open_keys = self._settle(open_keys)
            if len(self._differing) > MOST_KEYS:
                self._incomplete = True
                del self._differing[MOST_KEYS:]
                return
        self._unsettled += len(open_keys)

    def _settle(self, keys: Collection[Key]) -> set[Key]:
        """Read rows again; returns those of which nothing can be said yet."""
        before = digests_of(self._active, self._table, keys)
        applied = self._wait_for_apply()
        there = digests_of(self._passive, self._mirror, keys)
        after = digests_of(self._active, self._table, keys)
        left = set()
        for key in keys:
            values = before.get(key), after.get(key)
            if there.get(key) in values:
                continue
            if applied and values[0] == values[1]:
                self._differing.append(key)
            else:
                left.add(key)
        return left

    def _wait_for_apply(self) -> bool:
        position = one(self._active, "SELECT pg_current_wal_insert_lsn()::text")
        deadline = time.monotonic() + APPLY_MOST_S
        while not one(self._active, _APPLIED, position, list(self._slots)):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        return True


# Digests -----------------------------------------------------------------------------------------------------------


def next_chunk(connection: Connection, table: SharedTable, after: Key | None, size: int) -> tuple[Range, Digest]:
    """Return the range of the next rows behind a key, and their digest; the last range is open."""
    query = sql.SQL(
        "WITH part AS MATERIALIZED (SELECT {key}, {row} AS digest FROM {rows} AS t WHERE {where} "
        "ORDER BY {key} LIMIT {size}) "
        "SELECT count(*), coalesce(sum(digest), 0), (SELECT ARRAY[{texts}] FROM part ORDER BY {down} LIMIT 1) FROM part"
    ).format(
        key=identifiers(table.key), row=_row_digest(table), rows=table.shared_rows, where=_in(table, Range(after)),
        size=size, texts=_texts(table, "part"),
        down=sql.SQL(", ").join(sql.SQL("{} DESC").format(sql.Identifier(name)) for name in table.key),
    )  # fmt: skip
    rows, total, last = connection.execute(query).fetchone() or (0, 0, None)
    return Range(after, tuple(last) if rows == size else None), Digest(rows, int(total))


def digest(connection: Connection, table: SharedTable, part: Range) -> Digest:
    """Return the digest of a range."""
    query = sql.SQL("SELECT count(*), coalesce(sum({}), 0) FROM {} AS t WHERE {}").format(
        _row_digest(table), table.shared_rows, _in(table, part)
    )
    rows, total = connection.execute(query).fetchone() or (0, 0)
    return Digest(rows, int(total))


def row_digests(connection: Connection, table: SharedTable, part: Range) -> Digests:
    """Return the digest of each row of a range."""
    query = sql.SQL("SELECT {}, {} FROM {} AS t WHERE {}").format(
        _texts(table, "t"), _row_digest(table), table.shared_rows, _in(table, part)
    )
    return {tuple(key): value for *key, value in connection.execute(query)}


def digests_of(connection: Connection, table: SharedTable, keys: Collection[Key]) -> Digests:
    """Return the digest of each row that is there of these."""
    query = sql.SQL("SELECT {}, {} FROM {} AS t JOIN {} ON {}").format(
        _texts(table, "t"), _row_digest(table), table.shared_rows, keys_source(table, keys),
        same_key(table.key, "t", "k"),
    )  # fmt: skip
    return {tuple(key): value for *key, value in connection.execute(query)}


def differing(one_side: Digests, other_side: Digests) -> set[Key]:
    """Return the keys that only one side has, or whose rows differ."""
    return {key for key, _ in one_side.items() ^ other_side.items()}


def keys_source(table: SharedTable, keys: Collection[Key]) -> sql.Composed:
    """Return SQL of a source for FROM that has these keys, with the alias ``k``."""
    arrays = sql.SQL(", ").join(
        sql.SQL("{}::{}[]").format(sql.Literal(list(values)), sql.SQL(type_name))
        for values, type_name in zip(zip(*keys, strict=True), table.key_types, strict=True)
    )
    return sql.SQL("unnest({}) AS k ({})").format(arrays, identifiers(table.key))


def _row_digest(table: SharedTable) -> sql.Composed:
    return sql.SQL("hashtextextended(ROW({})::text, 0)").format(identifiers(table.columns, "t"))


def _texts(table: SharedTable, alias: str) -> sql.Composed:
    return sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(alias, name)) for name in table.key)


def _in(table: SharedTable, part: Range) -> sql.Composable:
    conditions = [
        sql.SQL("({}) {} ({})").format(
            identifiers(table.key, "t"), sql.SQL(sign), sql.SQL(", ").join(
                sql.SQL("{}::{}").format(sql.Literal(value), sql.SQL(type_name))
                for value, type_name in zip(bound, table.key_types, strict=True)))
        for sign, bound in ((">", part.after), ("<=", part.upto)) if bound is not None
    ]  # fmt: skip
    return sql.SQL(" AND ").join(conditions) if conditions else sql.SQL("true")


def _expected(connection: Connection, table: SharedTable) -> int:
    name = table.identifier.as_string(connection)
    return max(0, int(one(connection, "SELECT reltuples::bigint FROM pg_class WHERE oid = to_regclass(%s)", name) or 0))
