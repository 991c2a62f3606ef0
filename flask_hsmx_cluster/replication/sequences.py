"""Sequences are not replicated: the gateway that takes over must not hand out a number twice.

The active gateway tells the last values of its sequences in a replicated table. The passive one keeps its own ahead of
them, so that at a promotion one quick look at the largest numbers in use is enough.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass

from psycopg import sql
from psycopg.errors import LockNotAvailable

from .database import Connection, table
from .names import SCHEMA
from .scope import Scope

#: A sequence is moved this far (in its own steps) past the last number known, and again when half of it is used up:
#: what was drawn and lost in a fail-over, or waits in quarantine, is not drawn again.
MARGIN = 1000
#: ... and this far where a table cannot be read at a promotion, because another session has locked it.
LEAP = 100_000

_ALL = """
SELECT s.seqrelid, n.nspname, c.relname, s.seqincrement, s.seqmin, s.seqmax, tn.nspname, t.relname, a.attname
FROM pg_sequence s
JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = s.seqrelid
    AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
LEFT JOIN pg_class t ON t.oid = d.refobjid LEFT JOIN pg_namespace tn ON tn.oid = t.relnamespace
LEFT JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
WHERE n.nspname <> %s AND c.relpersistence <> 't'
"""
_TELL = b"""
INSERT INTO hsmx_cluster.sequence_position AS known (name, last_value)
SELECT schemaname || '.' || sequencename, last_value FROM pg_sequences
WHERE last_value IS NOT NULL AND schemaname || '.' || sequencename = ANY(%s)
ON CONFLICT (name) DO UPDATE SET last_value = excluded.last_value WHERE known.last_value <> excluded.last_value
"""


@dataclass(frozen=True)
class _Sequence:
    """One sequence, and the column that it numbers, if any."""

    oid: int
    schema: str
    name: str
    increment: int
    least: int
    most: int
    column_of: tuple[str, str, str] | None

    def used(self) -> sql.Composable:
        """Return SQL for the largest number in its column (the smallest, if it counts down)."""
        if self.column_of is None:
            return sql.SQL("NULL")
        schema, name, column = self.column_of
        which = sql.SQL("max" if self.increment > 0 else "min")
        return sql.SQL("(SELECT {}({}) FROM {})").format(which, sql.Identifier(column), table(schema, name))

    def told(self) -> sql.Composable:
        """Return SQL for the value that the other gateway told."""
        return sql.SQL("(SELECT last_value FROM hsmx_cluster.sequence_position WHERE name = {})").format(
            sql.Literal(f"{self.schema}.{self.name}")
        )


class Sequences:
    """The sequences of shared data: all but those that number a local table.

    :param connection: on which they are looked up now. The statement that moves them is planned once a connection.
    """

    def __init__(self, connection: Connection, scope: Scope) -> None:
        local = {(one.schema, one.table) for one in scope.tables if one.kind == "local"}
        found = [
            _Sequence(oid, schema, name, increment, least, most, (owner_schema, owner, column) if column else None)
            for oid, schema, name, increment, least, most, owner_schema, owner, column in connection.execute(
                _ALL, (SCHEMA,)
            ).fetchall()
            if (owner_schema, owner) not in local
        ]
        self._names = [f"{one.schema}.{one.name}" for one in found]
        self._known = _statement(found, told=True).as_string(connection).encode() if found else b""
        self._used = _statement(found, told=False).as_string(connection).encode() if found else b""
        self._far = _leap(found).as_string(connection).encode() if found else b""

    def tell(self, connection: Connection) -> None:
        """On the active gateway: put the last values where the other one sees them; only what has changed."""
        if self._names:
            connection.execute(_TELL, (self._names,), prepare=True)

    def keep_ahead(self, connection: Connection) -> int:
        """On the passive gateway, every second: move what is not far enough ahead; return how many were moved."""
        return _count(connection, self._known)

    def move(self, connection: Connection) -> int:
        """At a promotion: the same, by the numbers in use alone; what was told before is behind already.

        It waits for no other session: where one has locked a table, all sequences leap instead.
        """
        try:
            return self._move(connection)
        except LockNotAvailable:
            return _count(connection, self._far)

    def rehearse(self, connection: Connection) -> None:
        """On the passive gateway: let the move be planned on the connection that will do it (15 to 40 ms for 200)."""
        with contextlib.suppress(LockNotAvailable):
            self._move(connection)

    def _move(self, connection: Connection) -> int:
        with connection.transaction():
            connection.execute(b"SET LOCAL lock_timeout = '5ms'")
            return _count(connection, self._used)


def _count(connection: Connection, statement: bytes) -> int:
    row = connection.execute(statement, prepare=True).fetchone() if statement else None
    return int(row[0]) if row else 0


def _statement(sequences: Iterable[_Sequence], told: bool) -> sql.Composed:
    """Return one statement for all: planned once on a connection, it takes some 15 us for each sequence."""
    rows = sql.SQL(", ").join(
        sql.SQL("({}::oid, {}::numeric, {}::numeric, {}::numeric, {}::numeric, {}::numeric)").format(
            sql.Literal(one.oid),
            sql.Literal(one.increment),
            sql.Literal(one.least),
            sql.Literal(one.most),
            one.used(),
            one.told() if told else sql.SQL("NULL"),
        )
        for one in sequences
    )
    return sql.SQL(
        "SELECT count(setval(seq, greatest(lowest, least(highest, last + {margin} * step))::bigint)) FROM (SELECT *, "
        "CASE WHEN step > 0 THEN greatest(used, told) ELSE least(used, told) END AS last "
        "FROM (VALUES {rows}) AS one (seq, step, lowest, highest, used, told)) AS sequence WHERE last IS NOT NULL AND "
        "coalesce((pg_sequence_last_value(seq) - last) * sign(step) < {margin} * abs(step) / 2, true)"
    ).format(rows=rows, margin=sql.Literal(MARGIN))


def _leap(sequences: Iterable[_Sequence]) -> sql.Composed:
    """Return one statement that moves all by :data:`LEAP` and looks at no table."""
    rows = sql.SQL(", ").join(
        sql.SQL("({}::oid, {}::numeric, {}::numeric, {}::numeric)").format(
            sql.Literal(one.oid), sql.Literal(one.increment), sql.Literal(one.least), sql.Literal(one.most)
        )
        for one in sequences
    )
    return sql.SQL(
        "SELECT count(setval(seq, greatest(lowest, least(highest, last + {leap} * step))::bigint)) FROM (SELECT *, "
        "coalesce(pg_sequence_last_value(seq), CASE WHEN step > 0 THEN lowest ELSE highest END) AS last "
        "FROM (VALUES {rows}) AS one (seq, step, lowest, highest)) AS sequence"
    ).format(rows=rows, leap=sql.Literal(LEAP))
