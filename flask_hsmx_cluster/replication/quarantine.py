"""Quarantine: what this gateway wrote and the other one never had, kept row by row before it is overwritten.

The source is this gateway's own outgoing slot. A transaction belongs here if the other gateway's fork position lies
before its end, and if it was made here: what was applied from the other gateway carries an origin. All of one visit
goes into one local transaction, so that it is there completely or not at all, and a transaction that is there already
is known by its position, number and time, so that a repeated visit adds nothing.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any, Final, Literal
from uuid import UUID, uuid4

from psycopg.types.json import Jsonb

from .database import Connection, failures, one
from .names import SCHEMA
from .pgoutput import (
    UNCHANGED,
    Begin,
    Change,
    Commit,
    Decoder,
    Delete,
    Insert,
    MalformedMessage,
    Origin,
    Relation,
    Row,
    Truncate,
    int_to_lsn,
    lsn_to_int,
)
from .tables import Name, canonical, shared_tables

Operation = Literal["insert", "update", "delete", "truncate"]
State = Literal["kept", "reapplied", "discarded"]
#: Where a row's values are.
VALUES: Final = ("key", "new_row", "old_row")
#: Values by column, as text; a column that a change left as it was may be missing.
Values = dict[str, str | None]

#: Messages that are fetched from the server at once; one may be a row of 1 MB.
FETCH: Final = 200
#: Rows, and bytes in them, that are held in memory before they are written.
WRITE_ROWS: Final = 5000
WRITE_BYTES: Final = 16 << 20
#: Rows that are held in memory when they are shown.
SHOW: Final = 5

_PEEK: Final = """
SELECT data FROM pg_logical_slot_peek_binary_changes(
    %s, %s, NULL, 'proto_version', '1', 'publication_names', %s)
"""
#: A commit that brings the log to the disk, and where its record ends.
_FLUSH: Final = "SELECT pg_logical_emit_message(true, 'hsmx_cluster', '')::text"
_KNOWN: Final = b"SELECT DISTINCT xid, committed_at FROM hsmx_cluster.quarantine WHERE source_node = %s"
_COPY: Final = """
COPY hsmx_cluster.quarantine (batch, source_node, term, xid, end_lsn, committed_at, schema_name, table_name, operation,
                              key, new_row, old_row, note) FROM STDIN
"""
#: The end of a transaction is known only there. Rows of a big one are written before, with this.
_UNKNOWN_END: Final = "0/0"
_SET_END: Final = b"UPDATE hsmx_cluster.quarantine SET end_lsn = %s WHERE batch = %s AND xid = %s AND end_lsn = %s"
#: Both keys of an update that changed the key have to be replaced.
_DIRTY: Final = b"""
INSERT INTO hsmx_cluster.dirty_key (batch, schema_name, table_name, key)
SELECT DISTINCT batch, schema_name, table_name, each.key
FROM hsmx_cluster.quarantine, LATERAL (
    SELECT key UNION SELECT jsonb_object_agg(name, new_row -> name) FROM jsonb_object_keys(key) AS name
    WHERE operation = 'update' HAVING count(*) > 0) AS each (key)
WHERE batch = %s
"""
_COLUMNS = "id, batch, source_node, term, end_lsn::text, committed_at, kept_at, schema_name, table_name, operation, \
key, new_row, old_row, state, note"
#: The same, with values cut in the database: a page of rows of 1 MB each must not be carried to be cut.
_CUT = """CASE WHEN {0} IS NOT NULL THEN coalesce((
    SELECT jsonb_object_agg(name, left(value, {1:d})) FROM jsonb_each_text({0}) AS e (name, value)), '{{}}') END"""

#: ``note`` of rows that a comparison found, because the slot that would tell them exactly was lost.
FOUND_BY_COMPARISON = "found by comparing all rows: what happened to this row, and when, is not known"


@dataclass(frozen=True)
class Source:
    """Whose transactions are kept, and where they parted.

    :param node: id of this gateway.
    :param term: the reign of the other gateway that they are kept for.
    """

    node: str
    term: int


@dataclass(frozen=True)
class Slot:
    """One outgoing slot of this gateway.

    :param fork_lsn: last position of our WAL that the other gateway has, as text.
    :param own_lsn: position at which this gateway was promoted last. Before it there is nothing of its own that is not
        dealt with; but a slot may begin earlier than it once did, because its position is not kept through a crash.
    """

    name: str
    publications: tuple[str, ...]
    fork_lsn: str
    own_lsn: str = "0/0"


@dataclass(frozen=True)
class Kept:
    """What a visit kept.

    :param batch: None if there was nothing to keep.
    """

    batch: UUID | None
    transactions: int
    rows: int


@dataclass(frozen=True)
class QuarantinedRow:
    """One change of one row that the other gateway never had.

    :param key: the row's key; None for TRUNCATE.
    :param new_row: the row after the change; columns that it left as they were may be missing. None for a deletion.
    :param old_row: the row before the change, if known.
    """

    id: int
    batch: UUID
    source_node: str
    term: int
    end_lsn: str
    committed_at: datetime
    kept_at: datetime
    schema_name: str
    table_name: str
    operation: Operation
    key: Values | None
    new_row: Values | None
    old_row: Values | None
    state: State
    note: str

    def as_dict(self) -> dict[str, object]:
        """Return the form for JSON."""
        plain = dict(vars(self))
        return plain | {"batch": str(self.batch), "committed_at": self.committed_at.isoformat(),
                        "kept_at": self.kept_at.isoformat()}  # fmt: skip


@dataclass(frozen=True)
class Filter:
    """Which rows are meant; empty fields let everything through.

    :param table: with its schema or without.
    :param batch: of one rejoin, as hexadecimal digits.
    :param ids: these rows only.
    :param upto: no row behind this one: what was kept later was not seen by who chose.
    """

    state: str = ""
    table: str = ""
    batch: str = ""
    ids: tuple[int, ...] = ()
    upto: int = 0


# Keeping -----------------------------------------------------------------------------------------------------------


def keep(own: Connection, source: Source, slots: Iterable[Slot]) -> Kept:
    """Keep what the other gateway never had, and note its keys in ``dirty_key``; committed when it returns.

    :param own: connection to this gateway's database, in autocommit mode.
    :raises DatabaseFailure: a slot is missing or lost.
    :raises MalformedMessage: the slot's content cannot be read, or the fork position is none of our transactions' ends.
    """
    batch = uuid4()
    canonical(own)
    with failures("The quarantine cannot be written"), ExitStack() as stack:
        own.execute("SET synchronous_commit = local")
        # Without a bound a slot is read up to where the log is on the disk. That may be amid a record, and then the
        # rest of it is waited for, which nobody may write for many seconds.
        upto = str(one(own, _FLUSH))
        stack.enter_context(own.transaction())
        cursors = stack.enter_context(ExitStack())
        known = {(xid, at) for xid, at in own.execute(_KNOWN, (source.node,))}
        transactions = kept = 0
        for slot in slots:
            cursor = cursors.enter_context(own.cursor(f"hsmx_{slot.name}", binary=True))
            cursor.itersize = FETCH
            cursor.execute(_PEEK, (slot.name, upto, ",".join(slot.publications)))
            keys = {name: each.key for name, each in shared_tables(own, slot.publications).items()}
            writer = _Writer(own, batch, source, keys, known)
            stream = (data for (data,) in cursor)
            writer.take(stream, lsn_to_int(slot.fork_lsn), lsn_to_int(slot.own_lsn))
            transactions += writer.transactions
            kept += writer.rows
        own.execute(_DIRTY, (batch,))
    return Kept(batch if kept else None, transactions, kept)


class _Writer:
    """Writes the changes of one slot that are to be kept."""

    def __init__(
        self, own: Connection, batch: UUID, source: Source, keys: Mapping[Name, tuple[str, ...]],
        known: set[tuple[int, datetime]],
    ) -> None:
        self.transactions = self.rows = 0
        self._own = own
        self._batch = batch
        self._source = source
        self._keys = keys
        self._known = known
        self._waiting: list[list[Any]] = []
        self._size = 0
        self._written_early = False

    def take(self, stream: Iterable[bytes], fork: int, own: int) -> None:
        """Read whole transactions; keep those that end behind the fork position and begin behind our own."""
        begin: Begin | None = None
        wanted, first = False, 0
        for message in Decoder().decode_all(stream):
            if isinstance(message, Begin):
                begin, first = message, len(self._waiting)
                # Decided by where the commit record begins, because that is known first; checked at the commit.
                wanted = begin.final_lsn >= max(fork, own) and (begin.xid, begin.committed_at) not in self._known
            elif isinstance(message, Origin):
                wanted = False
            elif isinstance(message, Commit):
                if begin is None or (begin.final_lsn >= fork) != (message.end_lsn > fork):
                    raise MalformedMessage(f"{int_to_lsn(fork)} lies within a transaction")
                self._end(begin, message, first)
                begin = None
            elif isinstance(message, Change) and wanted:
                if begin is None:
                    raise MalformedMessage("a change outside of a transaction")
                self._change(message, begin)
        if begin is not None:
            raise MalformedMessage("a transaction without end")
        self._write()

    def _change(self, change: Change, begin: Begin) -> None:
        for relation in change.relations if isinstance(change, Truncate) else (change.relation,):
            values = _values(change, relation, self._keys.get((relation.schema, relation.table)))
            self._waiting.append([
                self._batch, self._source.node, self._source.term, begin.xid, _UNKNOWN_END, begin.committed_at,
                relation.schema, relation.table, *values, "",
            ])  # fmt: skip
            self._size += sum(len(value) for row in values[1:] if row for value in row.obj.values() if value)
        if len(self._waiting) >= WRITE_ROWS or self._size >= WRITE_BYTES:
            self._written_early = True
            self._write()

    def _end(self, begin: Begin, commit: Commit, first: int) -> None:
        end = int_to_lsn(commit.end_lsn)
        if self._written_early:
            self._own.execute(_SET_END, (end, self._batch, begin.xid, _UNKNOWN_END))
            first = 0
        for row in self._waiting[first:]:
            row[4] = end
        if self._written_early or len(self._waiting) > first:
            self.transactions += 1
        self._written_early = False

    def _write(self) -> None:
        self.rows += len(self._waiting)
        with self._own.cursor() as cursor, cursor.copy(_COPY) as copy:
            for row in self._waiting:
                copy.write_row(row)
        self._waiting.clear()
        self._size = 0


def _values(change: Change, relation: Relation, key: tuple[str, ...] | None) -> tuple[Operation, *tuple[Any, ...]]:
    """Return the operation and, as JSON, the row's key, the row afterwards and before.

    The key is the one that the row had before the change.
    """
    if isinstance(change, Truncate):
        return "truncate", None, None, None
    whole = relation.identity == "f"
    columns = key or tuple(column.name for column in relation.columns if column.in_key or whole)
    new = None if isinstance(change, Delete) else _named(relation, change.new)
    old = None if isinstance(change, Insert) or change.old is None else _named(relation, change.old)
    before = old or new or {}
    row_key = {name: before.get(name) for name in columns}
    operation: Operation = "insert" if isinstance(change, Insert) else "update" if new is not None else "delete"
    return operation, Jsonb(row_key), new and Jsonb(new), Jsonb(old) if old and whole else None


def _named(relation: Relation, row: Row) -> Values:
    return {column.name: value for column, value in zip(relation.columns, row, strict=True) if value is not UNCHANGED}


# Showing -----------------------------------------------------------------------------------------------------------


def stream(
    own: Connection, only: Filter, *, after: int, limit: int, longest: int
) -> Generator[QuarantinedRow, None, None]:
    """Yield rows in the order in which the changes were made, few at a time.

    :param after: id of the last row that was seen already.
    :param longest: characters of each value.
    """
    where, parameters = _where(only)
    columns = _columns(longest)
    query = f"SELECT {columns} FROM hsmx_cluster.quarantine WHERE {where} AND id > %s ORDER BY id LIMIT %s"
    with own.transaction(), own.cursor("hsmx_quarantine") as cursor:
        cursor.itersize = SHOW
        for found in cursor.execute(query.encode(), (*parameters, after, limit)):
            yield QuarantinedRow(*found)


def count(own: Connection, only: Filter) -> int:
    """Return how many rows the filter lets through."""
    where, parameters = _where(only)
    return int(one(own, f"SELECT count(*) FROM hsmx_cluster.quarantine WHERE {where}", *parameters))


def waiting(own: Connection) -> int:
    """Return how many rows wait for somebody to look at them."""
    query = f"SELECT count(*) FROM hsmx_cluster.quarantine WHERE state = 'kept' AND schema_name <> '{SCHEMA}'"
    return int(one(own, query))  # the condition as the index has it


def newest(own: Connection) -> int:
    """Return the id of the row that was kept last; 0 if there is none."""
    return int(one(own, "SELECT coalesce(max(id), 0) FROM hsmx_cluster.quarantine"))


def row(own: Connection, row_id: int, longest: int | None = None) -> QuarantinedRow | None:
    """Return one row.

    :param longest: characters of each value; None: all of them.
    """
    columns = _COLUMNS if longest is None else _columns(longest)
    query = f"SELECT {columns} FROM hsmx_cluster.quarantine WHERE id = %s"
    found = own.execute(query.encode(), (row_id,)).fetchone()
    return None if found is None else QuarantinedRow(*found)


def piece(own: Connection, row_id: int, which: str, column: str, offset: int, most: int) -> tuple[str, int] | None:
    """Return a part of one value, and how long that is as a whole, characters; None if there is none.

    :param which: ``key``, ``new_row`` or ``old_row``.
    """
    assert which in VALUES
    value = f"{which} ->> %s"
    query = f"SELECT substr({value}, %s, %s), length({value}) FROM hsmx_cluster.quarantine WHERE id = %s"
    found = own.execute(query.encode(), (column, offset + 1, most, column, row_id)).fetchone()
    return None if found is None or found[0] is None else (found[0], found[1])


def ids(own: Connection, only: Filter, *, after: int, limit: int) -> list[int]:
    """Return the rows' ids, in the order in which the changes were made."""
    where, parameters = _where(only)
    query = f"SELECT id FROM hsmx_cluster.quarantine WHERE {where} AND id > %s ORDER BY id LIMIT %s"
    return [found for (found,) in own.execute(query.encode(), (*parameters, after, limit))]


def _columns(longest: int) -> str:
    columns = _COLUMNS
    for name in VALUES:
        columns = columns.replace(name, _CUT.format(name, longest))
    return columns


def _where(only: Filter) -> tuple[str, list[object]]:
    conditions: dict[str, object] = {
        "state = %s": only.state, "%s IN (table_name, schema_name || '.' || table_name)": only.table,
        "batch = %s::uuid": only.batch, "id = ANY(%s)": list(only.ids), "id <= %s": only.upto,
    }  # fmt: skip
    used = {condition: value for condition, value in conditions.items() if value}
    # Our own tables are there for the rejoin, which has to replace their rows too; people have no use for them.
    return " AND ".join((f"schema_name <> '{SCHEMA}'", *used)), list(used.values())


def describe(kept: QuarantinedRow, names: Mapping[str, str] | None = None, zone: tzinfo | None = None) -> str:
    """Return one row in words: ``voucher 8841 created 11:02:13 on gw-a``.

    :param names: what gateways are called, by node id.
    :param zone: time zone of the reader; the machine's if None.
    """
    moment = kept.committed_at.astimezone(zone)
    node = (names or {}).get(kept.source_node, kept.source_node[:12])
    when = f"{moment:%H:%M:%S} on {node}"
    if kept.operation == "truncate":
        return f"{kept.table_name}: all rows removed {when}"
    key = ", ".join("none" if value is None else value[:80] for value in (kept.key or {}).values())
    if kept.note == FOUND_BY_COMPARISON:
        verb = "exists only on" if kept.operation == "insert" else "is different on"
        return f"{kept.table_name} {key} {verb} {node}"
    verb = {"insert": "created", "update": "changed", "delete": "deleted"}[kept.operation]
    return f"{kept.table_name} {key} {verb} {when}"


def mark(own: Connection, row_ids: Sequence[int], before: State, after: State) -> int:
    """Note what became of rows; they stay in the table. Returns how many of them were in the state before."""
    query = "UPDATE hsmx_cluster.quarantine SET state = %s WHERE id = ANY(%s) AND state = %s"
    with failures("The quarantine cannot be written"):
        return own.execute(query, (after, list(row_ids), before)).rowcount
