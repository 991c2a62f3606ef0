"""What this gateway has of its own is kept aside before it is cleared: each table as a copy in a schema for that.

Such a schema is a *set*. It stays until a person deletes it: nothing of the cluster's reads it again.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict, dataclass
from typing import Any, Final

from psycopg import sql

from ..errors import RequestRefused
from .database import Connection, one, table

#: Where it is; what an earlier first copy put there gets another name.
ASIDE: Final = "hsmx_cluster_aside"
#: PostgreSQL cuts longer names, bytes.
MOST_NAME: Final = 63
#: Sets that are listed, the newest first, and tables of each, the largest first.
MOST_SETS: Final = 20
MOST_TABLES: Final = 50
#: Tables that are dropped at once: each takes a lock.
DROP_AT_ONCE: Final = 100

_SET_NAME: Final = re.compile(rf"{ASIDE}(_[0-9]{{14}}([0-9]{{6}})?)?")
_SETS: Final = """
SELECT n.nspname, coalesce(obj_description(n.oid, 'pg_namespace'), ''), count(c.oid),
       coalesce(sum(greatest(c.reltuples, 0)), 0)::int8, coalesce(sum(pg_total_relation_size(c.oid)), 0)::int8
FROM pg_namespace n LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relkind = 'r'
WHERE n.nspname ~ %s GROUP BY n.oid, n.nspname ORDER BY n.nspname = %s DESC, n.nspname DESC
"""
_TABLES: Final = """
SELECT coalesce(obj_description(c.oid, 'pg_class'), c.relname), c.relname::text, greatest(c.reltuples, 0)::int8,
       pg_total_relation_size(c.oid)
FROM pg_class c WHERE c.relnamespace = to_regnamespace(%s) AND c.relkind = 'r' ORDER BY 4 DESC, 2 LIMIT %s
"""


@dataclass(frozen=True)
class AsideTable:
    """One table that was put aside.

    :param table: its whole name; ``copy``: its name within the set.
    :param rows: as PostgreSQL estimates it.
    """

    table: str
    copy: str
    rows: int
    bytes: int


@dataclass(frozen=True)
class AsideSet:
    """All that was put aside at a time.

    :param name: of the schema.
    :param kept_at: since when (ISO); "": not known.
    :param tables: how many; ``listed`` are the largest of them.
    :param current: of the cluster in which this gateway is, or was last.
    """

    name: str
    kept_at: str
    tables: int
    rows: int
    bytes: int
    listed: tuple[AsideTable, ...] = ()

    @property
    def current(self) -> bool:
        return self.name == ASIDE

    def as_dict(self) -> dict[str, Any]:
        """Return the form for JSON."""
        return {**asdict(self), "listed": [asdict(each) for each in self.listed], "current": self.current}


def keep(connection: Connection, schema: str, name: str, stamp: str = "") -> None:
    """Make a copy of a table. Its comment has the table's whole name.

    :param stamp: sets it apart from other copies of the same table.
    """
    whole = f"{schema}.{name}"
    copy = table(ASIDE, _name(f"{stamp} {whole}" if stamp else whole))
    if not one(connection, "SELECT to_regnamespace(%s) IS NOT NULL", ASIDE):
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(ASIDE)))
        at = one(connection, "SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS') || '+00:00'")
        connection.execute(sql.SQL("COMMENT ON SCHEMA {} IS {}").format(sql.Identifier(ASIDE), sql.Literal(at)))
    connection.execute(sql.SQL("CREATE TABLE {} AS TABLE {}").format(copy, table(schema, name)))
    connection.execute(sql.SQL("COMMENT ON TABLE {} IS {}").format(copy, sql.Literal(whole)))
    connection.execute(sql.SQL("ANALYZE {}").format(copy))  # so that it can be told how many rows there are


def begin_anew(connection: Connection) -> None:
    """Give what is there another name."""
    if one(connection, "SELECT to_regnamespace(%s) IS NOT NULL", ASIDE):
        rename = sql.SQL("ALTER SCHEMA {} RENAME TO {}")
        former = sql.Identifier(f"{ASIDE}_{now(connection)}")
        connection.execute(rename.format(sql.Identifier(ASIDE), former))


def sets(connection: Connection) -> list[AsideSet]:
    """Return what was put aside, the newest first."""
    found = connection.execute(_SETS.encode(), (f"^{_SET_NAME.pattern}$", ASIDE)).fetchmany(MOST_SETS)
    return [
        AsideSet(name, kept_at, tables, rows, size, _largest(connection, name))
        for name, kept_at, tables, rows, size in found
    ]


def _largest(connection: Connection, name: str) -> tuple[AsideTable, ...]:
    return tuple(AsideTable(*row) for row in connection.execute(_TABLES.encode(), (name, MOST_TABLES)))


def drop(connection: Connection, name: str) -> AsideSet:
    """Delete a set; return what it was. What others have made of it, such as a view, keeps it from that.

    :raises RequestRefused: there is no such set, or it is being made.
    """
    known = {each.name: each for each in sets(connection)} if _SET_NAME.fullmatch(name) else {}
    if name not in known:
        raise RequestRefused("There is nothing put aside by that name.", "Look at the list again.")
    if name == ASIDE and one(connection, "SELECT copying FROM hsmx_cluster.node"):
        raise RequestRefused("The first copy is under way: until it is complete this is kept.", "Wait for its end.")
    while tables := connection.execute(_TABLES.encode(), (name, DROP_AT_ONCE)).fetchall():
        names = sql.SQL(", ").join(table(name, copy) for _whole, copy, *_size in tables)
        connection.execute(sql.SQL("DROP TABLE {}").format(names))
    connection.execute(sql.SQL("DROP SCHEMA {}").format(sql.Identifier(name)))
    return known[name]


def now(connection: Connection) -> str:
    """Return the transaction's time for names, to the microsecond: no two are the same."""
    return str(one(connection, "SELECT to_char(now(), 'YYYYMMDDHH24MISSUS')"))


def _name(wanted: str) -> str:
    """Return a name that PostgreSQL does not cut; of one that is too long, what is left is told apart by a digest."""
    encoded = wanted.encode()
    if len(encoded) <= MOST_NAME:
        return wanted
    digest = hashlib.sha256(encoded).hexdigest()[:16]
    return f"{encoded[:MOST_NAME - 17].decode(errors='ignore')} {digest}"
