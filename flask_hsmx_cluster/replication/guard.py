"""Lease and guard: only the gateway that may write shared data does, whoever the writer is.

The lease is a row (:mod:`.schema`) that the agent renews together with the addresses; it always ends before theirs.
The guard is a trigger on every shared table and on each of its partitions (an INSERT into a partition passes no
trigger of its parent). Apply workers write in the replica role, which fires no such trigger.
"""

from __future__ import annotations

from collections.abc import Iterable

from psycopg import sql

from .database import Connection, failures, table
from .schema import SERVER
from .scope import Scope, TableScope

#: The trigger on every guarded table.
TRIGGER = "hsmx_cluster_guard"

# The sequences follow the row, under its lock: a renewal never undoes a revocation.
_GRANT = f"""
WITH granted AS (
    INSERT INTO hsmx_cluster.lease (term, until_cs, server_started) VALUES (%s, %s, pg_postmaster_start_time())
    ON CONFLICT (single) DO UPDATE
    SET term = excluded.term, until_cs = excluded.until_cs, server_started = excluded.server_started
    RETURNING until_cs)
SELECT setval('hsmx_cluster.lease_server', {SERVER}), setval('hsmx_cluster.lease_until_cs', until_cs)
FROM granted""".encode()
_RENEW = b"""
WITH renewed AS (
    UPDATE hsmx_cluster.lease SET until_cs = %s WHERE term = %s AND server_started = pg_postmaster_start_time()
    RETURNING until_cs)
SELECT setval('hsmx_cluster.lease_until_cs', until_cs) FROM renewed"""
_REVOKE = b"""
WITH revoked AS (DELETE FROM hsmx_cluster.lease RETURNING term)
SELECT setval('hsmx_cluster.lease_until_cs', 0) FROM (SELECT count(*) FROM revoked) AS counted"""
_PARTS = b"SELECT n.nspname, c.relname FROM pg_partition_tree(%s::regclass) AS part \
JOIN pg_class c ON c.oid = part.relid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE part.level > 0"


def grant(connection: Connection, term: int, until_s: float) -> None:
    """Let this gateway write shared data until that boot time, s."""
    connection.execute(_GRANT, (term, int(until_s * 100)), prepare=True)


def renew(connection: Connection, term: int, until_s: float) -> bool:
    """Extend the lease of a term; False if there is none, for example because the server was restarted meanwhile."""
    return connection.execute(_RENEW, (int(until_s * 100), term), prepare=True).rowcount == 1


def revoke(connection: Connection) -> None:
    """End the lease at once; transactions that are under way are refused at their commit."""
    connection.execute(_REVOKE, prepare=True)


def arm(connection: Connection, scope: Scope) -> None:
    """Put the guard on every shared table, and take it from what is shared no more.

    :raises DatabaseFailure: a table is missing, or is not ours to guard.
    """
    with failures("The guard cannot be put on the shared tables"), connection.transaction():
        disarm(connection)
        for one in scope.shared():
            for statement in _triggers(one, table(one.schema, one.table)):
                connection.execute(statement)
            for schema, name in _partitions(connection, one):
                for statement in _triggers(one, table(schema, name), partition=True):
                    connection.execute(statement)


def disarm(connection: Connection) -> None:
    """Take the guard from every table."""
    found = connection.execute(
        """SELECT n.nspname, c.relname, t.tgname FROM pg_trigger t
           JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
           WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND starts_with(t.tgname, %s)""",
        (TRIGGER,),
    ).fetchall()
    for schema, name, trigger in found:
        connection.execute(
            sql.SQL("DROP TRIGGER {} ON {}").format(sql.Identifier(trigger), table(schema, name))
        )


def _partitions(connection: Connection, scope: TableScope) -> list[tuple[str, str]]:
    name = table(scope.schema, scope.table).as_string(connection)
    return [(schema, part) for schema, part in connection.execute(_PARTS, (name,)).fetchall()]


def _triggers(scope: TableScope, name: sql.Identifier, partition: bool = False) -> Iterable[sql.Composed]:
    """Yield what guards one table: its shared columns, and if only some rows are shared, these.

    :param partition: triggers for rows come from the parent, those for statements do not.
    """
    update = sql.SQL("UPDATE")
    if scope.columns:
        columns = sql.SQL(", ").join(map(sql.Identifier, scope.columns))
        update = sql.SQL("UPDATE OF {}").format(columns)  # type: ignore[assignment]
    if scope.rows and not partition:
        yield sql.SQL(
            "CREATE TRIGGER {} AFTER INSERT OR {} OR DELETE ON {} FOR EACH ROW "
            "EXECUTE FUNCTION hsmx_cluster.guard_row({})"
        ).format(sql.Identifier(TRIGGER), update, name, sql.Literal(scope.rows))
    if scope.rows:
        yield sql.SQL(
            "CREATE TRIGGER {} BEFORE TRUNCATE ON {} FOR EACH STATEMENT EXECUTE FUNCTION hsmx_cluster.guard()"
        ).format(sql.Identifier(f"{TRIGGER}_truncate"), name)
    else:
        yield sql.SQL(
            "CREATE TRIGGER {} BEFORE INSERT OR {} OR DELETE OR TRUNCATE ON {} FOR EACH STATEMENT "
            "EXECUTE FUNCTION hsmx_cluster.guard()"
        ).format(sql.Identifier(TRIGGER), update, name)
