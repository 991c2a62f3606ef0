"""The shared tables as a publisher publishes them: columns, key, condition of the rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from psycopg import sql

from ..errors import ClusterError
from .database import Connection, table
from .scope import Scope

#: With these, both servers write every value as the same text.
_CANONICAL = {
    "TimeZone": "UTC", "DateStyle": "ISO, MDY", "IntervalStyle": "postgres", "extra_float_digits": "1",
    "bytea_output": "hex", "xmlbinary": "base64", "client_encoding": "UTF8", "lc_monetary": "C",
}  # fmt: skip

_PUBLISHED = """
SELECT p.schemaname, p.tablename, coalesce(p.rowfilter, ''),
       ARRAY(SELECT a.attname::text FROM pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND a.attgenerated = '' AND a.attname = ANY(p.attnames)
             ORDER BY a.attnum),
       ARRAY(SELECT a.attname::text FROM {key} ORDER BY k.n),
       ARRAY(SELECT format_type(a.atttypid, a.atttypmod) FROM {key} ORDER BY k.n)
FROM pg_publication_tables p
JOIN pg_namespace n ON n.nspname = p.schemaname
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename
WHERE p.pubname = ANY(%s)
ORDER BY 1, 2
""".replace("{key}", """pg_index i
       CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, n)
       JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
       WHERE i.indrelid = c.oid AND k.n <= i.indnkeyatts
       AND CASE c.relreplident WHEN 'i' THEN i.indisreplident ELSE i.indisprimary END""")

_COLUMNS = """
SELECT a.attname FROM pg_attribute a
WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
ORDER BY a.attnum
"""

#: Schema and name of a table.
Name = tuple[str, str]
#: Values of a table's key, as text.
Key = tuple[str, ...]


class SchemaMismatch(ClusterError):
    """The two databases do not have the same shared tables and columns."""

    code: ClassVar[str] = "schema_mismatch"


@dataclass(frozen=True)
class SharedTable:
    """One table that is published.

    :param columns: the shared columns.
    :param key: columns of the replica identity, or of the primary key where that is the whole row; () if there is none.
    :param key_types: their types in SQL.
    :param rows: SQL condition of the shared rows; "": all of them.
    :param mirrored: pairs of columns of which each gateway's first is the other one's second.
    """

    schema: str
    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    key_types: tuple[str, ...]
    rows: str = ""
    mirrored: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return self.name if self.schema == "public" else f"{self.schema}.{self.name}"

    def as_peer(self) -> SharedTable:
        """Return the table as the other gateway has it: the same values are in the columns in this order."""
        swapped = dict(pair for one, other in self.mirrored for pair in ((one, other), (other, one)))
        return replace(self, columns=tuple(swapped.get(column, column) for column in self.columns))

    @property
    def identifier(self) -> sql.Identifier:
        return table(self.schema, self.name)

    @property
    def condition(self) -> sql.Composable:
        """SQL that is true for the shared rows."""
        return sql.SQL("({})").format(sql.SQL(self.rows)) if self.rows else sql.SQL("true")

    @property
    def shared_rows(self) -> sql.Composed:
        """SQL of a source for FROM that has the shared columns of the shared rows only: the peer may read no others."""
        return sql.SQL("(SELECT {} FROM {} WHERE {})").format(
            identifiers(self.columns), self.identifier, self.condition
        )


def shared_tables(
    publisher: Connection, publications: Sequence[str], scope: Scope | None = None
) -> dict[Name, SharedTable]:
    """Return the tables of these publications.

    :param scope: says which columns are mirrored.
    """
    with publisher.transaction():
        # Types in conditions are written with their schema.
        publisher.execute("SET LOCAL search_path = pg_catalog")
        rows = publisher.execute(_PUBLISHED.encode(), (list(publications),)).fetchall()
    tables = {}
    for schema, name, where, columns, key, types in rows:
        declared = scope.find(schema, name) if scope else None
        usable = set(key) <= set(columns)
        tables[schema, name] = SharedTable(
            schema, name, tuple(columns), tuple(key) if usable else (), tuple(types) if usable else (), where,
            declared.mirrored if declared else (),
        )  # fmt: skip
    return tables


def local_columns(connection: Connection, shared: SharedTable) -> tuple[str, ...]:
    """Return the columns that a table has here beside the shared ones.

    :raises SchemaMismatch: the table, or one of its shared columns, is missing here.
    """
    name = shared.identifier.as_string(connection)
    here = [column for (column,) in connection.execute(_COLUMNS.encode(), (name,))]
    if missing := [column for column in shared.columns if column not in here]:
        raise SchemaMismatch(
            f"The table {shared} is missing here." if not here else
            f"The table {shared} has no column {', '.join(missing)} here.",
            "Bring both gateways to the same version of the software; the passive one is migrated first.",
        )
    return tuple(column for column in here if column not in shared.columns)


def canonical(connection: Connection) -> None:
    """Let a session write values from now on as every other one does; outside of a transaction."""
    connection.execute(
        b"SELECT set_config(name, value, false) FROM unnest(%s::text[], %s::text[]) AS s (name, value)",
        (list(_CANONICAL), list(_CANONICAL.values())),
    )


def identifiers(names: Iterable[str], prefix: str = "") -> sql.Composed:
    """Return column names, quoted and separated by commas.

    :param prefix: alias of the table that they belong to.
    """
    return sql.SQL(", ").join(sql.Identifier(prefix, name) if prefix else sql.Identifier(name) for name in names)


def same_key(columns: Iterable[str], one: str, other: str) -> sql.Composed:
    """Return the SQL condition that two aliases agree in these columns."""
    return sql.SQL(" AND ").join(
        sql.SQL("{} = {}").format(sql.Identifier(one, name), sql.Identifier(other, name)) for name in columns
    )
