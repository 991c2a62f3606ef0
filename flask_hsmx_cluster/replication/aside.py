"""What this gateway has of its own is kept aside before it is cleared: each table as a copy in a schema for that."""

from __future__ import annotations

import hashlib
from typing import Final

from psycopg import sql

from .database import Connection, one, table

#: Where it is; what an earlier first copy put there gets another name.
ASIDE: Final = "hsmx_cluster_aside"
#: PostgreSQL cuts longer names, bytes.
MOST_NAME: Final = 63


def keep(connection: Connection, schema: str, name: str, stamp: str = "") -> None:
    """Make a copy of a table. Its comment has the table's whole name.

    :param stamp: sets it apart from other copies of the same table.
    """
    whole = f"{schema}.{name}"
    copy = table(ASIDE, _name(f"{stamp} {whole}" if stamp else whole))
    connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(ASIDE)))
    connection.execute(sql.SQL("CREATE TABLE {} AS TABLE {}").format(copy, table(schema, name)))
    connection.execute(sql.SQL("COMMENT ON TABLE {} IS {}").format(copy, sql.Literal(whole)))


def begin_anew(connection: Connection) -> None:
    """Give what is there another name."""
    if one(connection, "SELECT to_regnamespace(%s) IS NOT NULL", ASIDE):
        rename = sql.SQL("ALTER SCHEMA {} RENAME TO {}")
        former = sql.Identifier(f"{ASIDE}_{now(connection)}")
        connection.execute(rename.format(sql.Identifier(ASIDE), former))


def now(connection: Connection) -> str:
    """Return the time for names, to the second."""
    return str(one(connection, "SELECT to_char(now(), 'YYYYMMDDHH24MISS')"))


def _name(wanted: str) -> str:
    """Return a name that PostgreSQL does not cut; of one that is too long, what is left is told apart by a digest."""
    encoded = wanted.encode()
    if len(encoded) <= MOST_NAME:
        return wanted
    digest = hashlib.sha256(encoded).hexdigest()[:16]
    return f"{encoded[:MOST_NAME - 17].decode(errors='ignore')} {digest}"
