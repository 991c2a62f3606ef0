"""Shared tables as PostgreSQL's catalogue has them: which are there, how they look, how large they are."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from .database import Connection, one
from .layout import Column, Layout
from .scope import Scope, TableScope

_WANTED = """
WITH wanted AS (
    SELECT c.oid, format('%%s.%%s', w.schema_name, w.table_name) AS name, c.relreplident
    FROM unnest(%s::text[], %s::text[]) AS w (schema_name, table_name)
    JOIN pg_namespace n ON n.nspname = w.schema_name
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.table_name AND c.relkind IN ('r', 'p'))
"""
_COLUMNS = _WANTED + """
SELECT w.name, a.attname::text, format_type(a.atttypid, a.atttypmod), a.attnotnull,
       a.atthasdef OR a.attidentity <> '', a.attgenerated <> ''
FROM wanted w JOIN pg_attribute a ON a.attrelid = w.oid AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY w.name, a.attnum
"""
_KEYS = _WANTED + """
SELECT w.name, array_agg(a.attname::text ORDER BY k.n)
FROM wanted w JOIN pg_index i ON i.indrelid = w.oid AND i.indisvalid
CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, n)
JOIN pg_attribute a ON a.attrelid = w.oid AND a.attnum = k.attnum
WHERE k.n <= i.indnkeyatts
    AND CASE w.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END
GROUP BY w.name
"""
_CONSTRAINTS = _WANTED + """
SELECT w.name, 'UNIQUE ' || regexp_replace(pg_get_indexdef(i.indexrelid), '^.* USING ', '')
FROM wanted w JOIN pg_index i ON i.indrelid = w.oid WHERE i.indisunique AND i.indisvalid AND NOT i.indisprimary
UNION
SELECT w.name, pg_get_constraintdef(c.oid)
FROM wanted w JOIN pg_constraint c ON c.conrelid = w.oid WHERE c.contype = 'c'
ORDER BY 1, 2
"""
_PUBLISHED = """
SELECT p.schemaname::text, p.tablename::text, p.attnames::text[] FROM pg_publication_tables p
WHERE p.pubname = ANY(%s)
"""
_SIZES = _WANTED + """
SELECT coalesce(sum(pg_total_relation_size(part)), 0)::bigint FROM (
    SELECT w.oid AS part FROM wanted w UNION SELECT t.relid FROM wanted w, pg_partition_tree(w.oid) AS t) AS parts
"""


@dataclass(frozen=True)
class Wanted:
    """A table that is to be looked at.

    :param columns: those that travel; None: all.
    """

    schema: str
    table: str
    columns: tuple[str, ...] | None = None


def of_scope(scope: Scope) -> list[Wanted]:
    """Return the shared tables as they are declared."""
    return [Wanted(each.schema, each.table, each.columns or None) for each in scope.shared()]


def published(connection: Connection, publications: Iterable[str]) -> list[Wanted]:
    """Return the tables that a database publishes, those of our own included."""
    rows = connection.execute(_PUBLISHED.encode(), (list(publications),)).fetchall()
    return [Wanted(schema, table, tuple(columns)) for schema, table, columns in rows]


def layouts(connection: Connection, tables: Sequence[Wanted]) -> dict[str, Layout]:
    """Return how tables look, by name; those that are not there are left out."""
    names = ([each.schema for each in tables], [each.table for each in tables])
    with connection.transaction():
        # Types and functions are written with their schema.
        connection.execute("SET LOCAL search_path = pg_catalog")
        columns = connection.execute(_COLUMNS.encode(), names).fetchall()
        keys: dict[str, list[str]] = dict(connection.execute(_KEYS.encode(), names).fetchall())
        constraints = connection.execute(_CONSTRAINTS.encode(), names).fetchall()
    travel = {f"{each.schema}.{each.table}": each.columns for each in tables}
    demands: dict[str, list[str]] = {}
    for name, text in constraints:
        demands.setdefault(name, []).append(text)
    found: dict[str, list[Column]] = {}
    for name, column, type_name, required, filled, generated in columns:
        chosen = travel[name]
        travels = not generated and (chosen is None or column in chosen)
        found.setdefault(name, []).append(Column(column, type_name, travels, required, filled, generated))
    return {
        name: Layout(name, tuple(its), tuple(keys.get(name, ())), tuple(demands.get(name, ())))
        for name, its in found.items()
    }


def present(connection: Connection, scope: Scope) -> Scope:
    """Return what of a scope can be shared now: tables and columns that the host has not made yet are left out.

    A migration may come later than the firmware that it belongs to.
    """
    there = layouts(connection, of_scope(scope))
    return Scope(tuple(
        _present(each, there[each.name]) if each.name in there else each
        for each in scope.tables if each.kind == "local" or each.name in there
    ))


def _present(scope: TableScope, layout: Layout) -> TableScope:
    there = {column.name for column in layout.columns}
    needed = {*scope.key, *sum(scope.mirrored, ())}
    if not scope.columns or not needed <= there:
        return scope  # Without a column that it needs, it cannot be shared at all: PostgreSQL says so.
    return replace(scope, columns=tuple(column for column in scope.columns if column in there))


def shared_bytes(connection: Connection, scope: Scope) -> int:
    """Return how large the shared tables are, with their indexes, bytes."""
    tables = of_scope(scope)
    return int(one(connection, _SIZES, [each.schema for each in tables], [each.table for each in tables]))


def free_bytes(connection: Connection) -> int | None:
    """Return how much is free where the server keeps its data, bytes; None if this process cannot see it."""
    found = disk(connection)
    return None if found is None else found[0]


def disk(connection: Connection) -> tuple[int, int] | None:
    """Return free and whole size of the disk with the server's data, bytes; None if this process cannot see it."""
    try:
        found = os.statvfs(str(one(connection, "SHOW data_directory")))
    except OSError:
        return None
    return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
