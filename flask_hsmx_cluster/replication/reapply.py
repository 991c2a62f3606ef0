"""Quarantined rows made again on the active gateway, one by one; what does not fit any more is a conflict, not a loss.

A change is based on what the row was before it. If the row is something else now, the other gateway has changed it
meanwhile, and a person decides. A change whose outcome is there already counts as made: so a repetition after a crash
between the two databases does no harm.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from ..errors import DataConflict, RequestRefused
from .database import Connection, failures, table
from .quarantine import QuarantinedRow, Values, row
from .scope import Scope
from .tables import canonical, identifiers

#: Characters of what a row may be for a change of it to fit; they are held in memory.
BASES_SIZE = 16 << 20
#: Changes of a row that are read at once; each may be 1 MB.
_FETCH = 10

Kind = Literal["changed", "exists", "gone", "unique", "reference", "rule", "schema"]

_TEXTS: dict[str, tuple[str, str]] = {
    "changed": ("{row} was changed on the active gateway, too.", "Compare both and decide which one is to stay."),
    "exists": ("{row} exists on the active gateway with other values.", "Compare both and decide which is to stay."),
    "gone": ("{row} does not exist on the active gateway any more.", "Discard this change, or enter the row again."),
    "unique": ("{row} has a value that another row has on the active gateway.", "Change or remove that row first."),
    "reference": ("{row} and another row refer to each other: {detail}", "Re-apply or remove the other row first."),
    "rule": ("{row} breaks a rule of the table: {detail}", "Enter the row again with allowed values."),
    "schema": ("{row} does not fit the table any more: {detail}", "Export the row and enter it again."),
}
_TYPES = b"""
SELECT a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a
WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' ORDER BY a.attnum
"""
_EARLIER = b"""
SELECT operation, new_row, old_row, note FROM (
    SELECT * FROM hsmx_cluster.quarantine WHERE key = %(key)s AND id <= %(id)s
    UNION ALL
    SELECT * FROM hsmx_cluster.quarantine
    WHERE operation = 'update' AND NOT new_row @> key AND new_row @> %(key)s AND key <> %(key)s AND id < %(id)s
        AND batch = %(batch)s
) AS earlier
WHERE batch = %(batch)s AND schema_name = %(schema)s AND table_name = %(table)s
ORDER BY id
"""
_UNIQUE_COLUMNS = b"""
SELECT ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) AS k (attnum)
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum)
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s
"""

#: ``note`` of rows that the other gateway changed as well before the two met again: what a change was based on is gone.
CHANGED_ON_BOTH = "changed on the other gateway, too"


class ReapplyConflict(DataConflict):
    """A quarantined change does not fit the active gateway's data any more; nothing was changed."""

    def __init__(
        self, kind: Kind, kept: QuarantinedRow, *, present: Values | None = None, base: Values | None = None,
        detail: str = "",
    ) -> None:
        name = f"{kept.table_name} {', '.join(str(value)[:80] for value in (kept.key or {}).values())}"
        message, remedy = _TEXTS[kind]
        super().__init__(
            message.format(row=name, detail=detail), remedy, kind=kind, wanted=kept.new_row, present=present, base=base,
            seen="" if present is None else _digest(present),
        )  # fmt: skip


@dataclass(frozen=True)
class Request:
    """One quarantined change, and what is to be known to make it on the active gateway.

    :param bases: what the row may be for the change to fit: as it was at the fork, or after an earlier change of ours.
    """

    kept: QuarantinedRow
    bases: tuple[Values, ...]


def request(source: Connection, row_id: int) -> Request:
    """Return what the active gateway must know to make a quarantined change.

    :param source: the database in which it lies. What is read there may be many MB.
    :raises RequestRefused: there is no such row, it is not waiting any more, or it is a TRUNCATE.
    """
    with failures("The quarantine cannot be read"):
        kept = row(source, row_id)
        if kept is None:
            raise RequestRefused(f"There is no row {row_id} in quarantine.")
        if kept.state != "kept":
            raise RequestRefused(f"Row {row_id} has been {kept.state} already.")
        if kept.operation == "truncate" or not kept.key:
            raise RequestRefused("That all rows of a table were removed is not repeated.", "Remove the rows there.")
        return Request(kept, () if kept.operation == "insert" else tuple(_bases(source, kept, BASES_SIZE)))


def make(
    active: Connection, wanted: Request, scope: Scope, *, active_id: str, overwrite: bool = False, seen: str = ""
) -> None:
    """Make a quarantined change; committed when it returns. Once made, it is found made.

    :param active: the active gateway's database, in autocommit mode, with the right to write shared tables.
    :param active_id: its node id.
    :param overwrite: also where the active gateway's row is not the one that the change was based on.
    :param seen: overwrite no other row than that of the conflict with this :attr:`.errors.DataConflict.seen`.
    :raises RequestRefused: the table is not shared.
    :raises ReapplyConflict: it does not fit any more.
    :raises DatabaseFailure: the database refuses, for example because that gateway is not the active one.
    """
    kept = wanted.kept
    declared = scope.find(kept.schema_name, kept.table_name)
    if declared is None or declared.kind == "local":
        raise RequestRefused(f"The table {kept.table_name} is not shared.", "Export the row and enter it again.")
    if kept.source_node == active_id:
        swap: Callable[[Values], Values] = dict
    else:
        swap = declared.as_peer_sees
    kept = replace(kept, new_row=kept.new_row and swap(kept.new_row), old_row=kept.old_row and swap(kept.old_row))
    canonical(active)
    with failures("The change cannot be made again"):
        change = _Change(active, kept, list(map(swap, wanted.bases)), overwrite, seen)
        with change.constraints(), active.transaction():
            # The host's triggers are fired, as if it had written: they may name their tables without a schema.
            active.execute("SELECT set_config('search_path', quote_ident(%s) || ', public', true)", (kept.schema_name,))
            change.make()


def _bases(source: Connection, kept: QuarantinedRow, most: int) -> list[Values]:
    """Return what the row may be: as it was first, which is what the other gateway had, and as it was last.

    :param most: characters; what was between is left out.
    """
    wanted = {"key": Jsonb(kept.key), "id": kept.id, "batch": kept.batch, "schema": kept.schema_name,
              "table": kept.table_name}  # fmt: skip
    first: list[Values] = []
    last: deque[tuple[int, Values]] = deque()
    current: Values | None = None
    with source.transaction(), source.cursor("hsmx_earlier") as found:
        found.itersize = _FETCH
        found.execute(_EARLIER, wanted)
        for operation, new_row, old_row, note in found:
            if note == CHANGED_ON_BOTH:
                return []
            if current is None and old_row is not None:
                current = old_row
            if current is not None:
                size = _size(current)
                most -= size
                if not first:
                    first.append(current)
                else:
                    last.append((size, current))
                while most < 0 and last:
                    most += last.popleft()[0]
                if most < 0:
                    return []
            current = None if operation == "delete" else {**(current or {}), **(new_row or {})}
    return [*first, *(values for _size_of, values in last)]


def _size(values: Values) -> int:
    return sum(len(value) for value in values.values() if value)


@dataclass(frozen=True)
class _Present:
    """A row of the active gateway, and where it is."""

    where: tuple[int, str]
    values: Values


class _Change:
    """One change that is about to be made."""

    def __init__(
        self, active: Connection, kept: QuarantinedRow, bases: list[Values], overwrite: bool, seen: str
    ) -> None:
        self._active = active
        self._kept = kept
        self._bases = bases
        self._overwrite = overwrite
        self._seen = seen
        self._table = table(kept.schema_name, kept.table_name)
        self._types: dict[str, str] = dict(active.execute(_TYPES, (self._table.as_string(active),)).fetchall())
        if missing := sorted({*(kept.key or {}), *(kept.new_row or {})} - set(self._types)):
            raise self._conflict("schema", detail=f"no {', '.join(missing)}" if self._types else "the table is gone")

    def make(self) -> None:
        kept, key = self._kept, self._kept.key or {}
        present = self._find(key)
        if kept.operation == "delete":
            if present is not None:
                self._check_base(present)
                self._execute("DELETE FROM {table} WHERE {where}", present)
            return
        new = kept.new_row or {}
        if present is None and kept.operation == "insert":
            self._insert(new)
        elif present is None:
            moved = self._find({name: new.get(name, value) for name, value in key.items()})
            if moved is None or not _agree(moved.values, new):
                raise self._conflict("gone", moved)
        elif not _agree(present.values, new):
            if kept.operation == "insert" and not self._may_overwrite(present):
                raise self._conflict("exists", present)
            if kept.operation == "update":
                self._check_base(present)
            self._update(present, new)

    @contextmanager
    def constraints(self) -> Iterator[None]:
        """Turn what a constraint refuses into a conflict; goes around the transaction, whose end checks some of them.

        After that the active gateway can be asked what stands against the change.
        """
        try:
            yield
        except psycopg.errors.UniqueViolation as error:
            raise self._conflict("unique", self._holder(error)) from None
        except psycopg.errors.ForeignKeyViolation as error:
            raise self._conflict("reference", detail=_detail(error)) from None
        except (psycopg.errors.IntegrityError, psycopg.errors.DataError) as error:
            raise self._conflict("rule", detail=_detail(error)) from None

    def _check_base(self, present: _Present) -> None:
        if not self._may_overwrite(present) and not any(_agree(present.values, base) for base in self._bases):
            raise self._conflict("changed", present, base=self._bases[-1] if self._bases else None)

    def _may_overwrite(self, present: _Present) -> bool:
        return self._overwrite and self._seen in ("", _digest(present.values))

    def _find(self, values: Values) -> _Present | None:
        """Return the row that has these values, locked."""
        condition = sql.SQL(" AND ").join(
            sql.SQL("{} IS NULL").format(sql.Identifier(name)) if value is None else
            sql.SQL("{} = {}").format(sql.Identifier(name), self._value(name, value)) for name, value in values.items()
        )
        query = sql.SQL("SELECT tableoid, ctid::text, {} FROM {} WHERE {} LIMIT 1 FOR UPDATE").format(
            identifiers(self._types), self._table, condition
        )
        with self._active.cursor() as cursor:
            cursor.execute(query)
            result = cursor.pgresult
            if result is None or not result.ntuples:
                return None
            # Read as PostgreSQL writes it: that is the form in which the quarantine has it.
            raw = [result.get_value(0, column) for column in range(result.nfields)]
        texts = [None if value is None else value.decode() for value in raw]
        return _Present((int(texts[0] or 0), texts[1] or ""), dict(zip(self._types, texts[2:], strict=True)))

    def _insert(self, new: Values) -> None:
        self._execute("INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE VALUES ({values})", values=new)

    def _update(self, present: _Present, new: Values) -> None:
        changed = {name: value for name, value in new.items() if present.values.get(name) != value}
        self._execute("UPDATE {table} SET ({columns}) = ROW ({values}) WHERE {where}", present, changed)

    def _execute(self, statement: str, present: _Present | None = None, values: Values | None = None) -> None:
        values = values or {}
        where: sql.Composable = sql.SQL("false")
        if present is not None:
            where = sql.SQL("tableoid = {} AND ctid = {}::tid").format(*map(sql.Literal, present.where))
        self._active.execute(sql.SQL(statement).format(
            table=self._table, columns=identifiers(values), where=where,
            values=sql.SQL(", ").join(self._value(name, value) for name, value in values.items()),
        ))  # fmt: skip

    def _value(self, name: str, value: str | None) -> sql.Composed:
        # The type's name comes from the catalogue, quoted where needed.
        return sql.SQL("{}::{}").format(sql.Literal(value), sql.SQL(self._types[name]))

    def _holder(self, error: psycopg.Error) -> _Present | None:
        """Return the row that has the unique value already."""
        names = (error.diag.schema_name, error.diag.constraint_name)
        found = self._active.execute(_UNIQUE_COLUMNS, names).fetchone()
        new = self._kept.new_row or {}
        if found is None or not found[0] or not set(found[0]) <= set(new):
            return None
        return self._find({name: new[name] for name in found[0]})

    def _conflict(
        self, kind: Kind, present: _Present | None = None, *, base: Values | None = None, detail: str = "",
    ) -> ReapplyConflict:
        values = None if present is None else present.values
        return ReapplyConflict(kind, self._kept, present=values, base=base, detail=detail)


def _digest(values: Values) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _agree(present: Values, values: Values) -> bool:
    return all(present.get(name) == value for name, value in values.items())


def _detail(error: psycopg.Error) -> str:
    return (error.diag.message_detail or error.diag.message_primary or "")[:300]
