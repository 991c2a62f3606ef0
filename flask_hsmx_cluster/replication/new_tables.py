"""A table that a new version of the host's software has brought: the passive gateway takes it into its stream.

PostgreSQL's apply worker stops at a change of a table that is not there (so the passive gateway is migrated first), and
skips those of a table that is there, but that its subscription does not know, without a word. So the passive gateway
compares what the active one publishes with what it takes. A table that is new to it is cleared (its rows here are kept
aside), and PostgreSQL copies it and follows it from there.
"""

from __future__ import annotations

import logging

from psycopg import sql

from . import channel, forming
from .database import Connection
from .names import SCHEMA
from .scope import Scope
from .tables import Name, SchemaMismatch, local_columns, shared_tables

log = logging.getLogger(__name__)

_TAKEN = b"""
SELECT n.nspname, c.relname FROM pg_subscription_rel r
JOIN pg_subscription s ON s.oid = r.srsubid AND s.subname = %s
JOIN pg_database d ON d.oid = s.subdbid AND d.datname = current_database()
JOIN pg_class c ON c.oid = r.srrelid JOIN pg_namespace n ON n.oid = c.relnamespace
"""
_PUBLISHED = b"SELECT DISTINCT schemaname, tablename FROM pg_publication_tables WHERE pubname = ANY(%s)"


def take(own: Connection, peer: Connection, scope: Scope) -> list[Name]:
    """Take what the active gateway publishes and this one does not follow yet; returns these tables.

    Nothing happens as long as a table or column is missing here, or this gateway's agent does not share the table yet:
    then its software is older than the active one's, which the next look may find changed.

    :raises DatabaseFailure: a database refuses.
    """
    taken: list[Name] = []
    for stream in channel.streams(own):
        publications = channel.TAKES[stream.name]
        there = set(peer.execute(_PUBLISHED, (list(publications),), prepare=True).fetchall())
        here = set(own.execute(_TAKEN, (stream.name,), prepare=True).fetchall())
        if there == here:
            continue
        new = [table for name, table in shared_tables(peer, publications, scope).items() if name in there - here]
        declared = {(each.schema, each.table) for each in scope.shared()}
        try:
            for table in new:
                local_columns(own, table)
        except SchemaMismatch as error:
            log.debug("What is new on the other gateway is not followed yet: %s", error.message)
            continue
        if any(table.schema != SCHEMA and (table.schema, table.name) not in declared for table in new):
            continue
        forming.clear_aside(own, new)
        own.execute(sql.SQL("ALTER SUBSCRIPTION {} REFRESH PUBLICATION").format(sql.Identifier(stream.name)))
        taken += [(table.schema, table.name) for table in new]
    return taken
