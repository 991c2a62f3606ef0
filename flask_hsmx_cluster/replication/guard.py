"""Lease and guard: only the gateway that may write shared data does, whoever the writer is.

The lease is a row (:mod:`.schema`) that the agent renews together with the addresses; it always ends before theirs.
The guard is a trigger on every shared table and on each of its partitions (an INSERT into a partition passes no
trigger of its parent). Apply workers write in the replica role, which fires no such trigger.

The guard is also where writers are slowed while the other gateway cannot keep up (:mod:`.brake`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from psycopg import sql

from .database import Connection, failures, table
from .schema import SERVER
from .scope import Scope, TableScope

#: The trigger on every guarded table.
TRIGGER = "hsmx_cluster_guard"

# The sequences follow the row, under its lock: a renewal never undoes a revocation. Boot time may have begun anew.
_GRANT = f"""
WITH granted AS (
    INSERT INTO hsmx_cluster.lease (term, until_cs, server_started) VALUES (%s, %s, pg_postmaster_start_time())
    ON CONFLICT (single) DO UPDATE
    SET term = excluded.term, until_cs = excluded.until_cs, server_started = excluded.server_started
    RETURNING until_cs)
SELECT setval('hsmx_cluster.lease_seen', 0), setval('hsmx_cluster.lease_server', {SERVER}),
    setval('hsmx_cluster.lease_until_cs', until_cs), setval('hsmx_cluster.brake_until_cs', 0),
    setval('hsmx_cluster.unhindered', 1)
FROM granted""".encode()
_RENEW = b"""
WITH renewed AS (
    UPDATE hsmx_cluster.lease SET until_cs = %s WHERE term = %s AND server_started = pg_postmaster_start_time()
    RETURNING until_cs)
SELECT setval('hsmx_cluster.lease_seen', 0), setval('hsmx_cluster.lease_until_cs', until_cs) FROM renewed"""
_REVOKE = b"""
WITH revoked AS (DELETE FROM hsmx_cluster.lease RETURNING term)
SELECT setval('hsmx_cluster.unhindered', 0), setval('hsmx_cluster.lease_until_cs', 0),
    setval('hsmx_cluster.lease_seen', 0), setval('hsmx_cluster.brake_until_cs', 0)
FROM (SELECT count(*) FROM revoked) AS counted"""
_BRAKE = b"""
SELECT setval('hsmx_cluster.brake_ms', %s), setval('hsmx_cluster.brake_until_cs', %s),
    setval('hsmx_cluster.unhindered', %s)
FROM (SELECT FROM hsmx_cluster.lease FOR UPDATE) AS granted"""
_PARTS = b"SELECT n.nspname, c.relname FROM pg_partition_tree(%s::regclass) AS part \
JOIN pg_class c ON c.oid = part.relid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE part.level > 0"
_FOUND = b"""SELECT n.nspname::text, c.relname::text, t.tgname::text,
    CASE WHEN t.tgenabled IN ('O', 'A') AND t.tgqual IS NULL AND t.tgfoid = to_regproc(
        CASE t.tgtype & 1 WHEN 1 THEN 'hsmx_cluster.guard_row' ELSE 'hsmx_cluster.guard' END)
        THEN t.tgtype::int ELSE 0 END,
    ARRAY(SELECT a.attname::text FROM pg_attribute a
          WHERE a.attrelid = c.oid AND a.attnum = ANY(t.tgattr::int2[]) ORDER BY a.attname),
    encode(t.tgargs, 'hex')
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND starts_with(t.tgname, %s)"""


def grant(connection: Connection, term: int, until_s: float) -> None:
    """Let this gateway write shared data until that boot time, s."""
    connection.execute(_GRANT, (term, int(until_s * 100)), prepare=True)


def renew(connection: Connection, term: int, until_s: float) -> bool:
    """Extend the lease of a term; False if there is none, for example because the server was restarted meanwhile."""
    return connection.execute(_RENEW, (int(until_s * 100), term), prepare=True).rowcount == 1


def revoke(connection: Connection) -> None:
    """End the lease at once; transactions that are under way are refused at their commit."""
    connection.execute(_REVOKE, prepare=True)


def brake(connection: Connection, ms: int, until_s: float) -> None:
    """Slow each transaction that writes shared data by that much, until that boot time, s; 0: none any more.

    Does nothing where no lease is granted.
    """
    connection.execute(_BRAKE, (ms, int(until_s * 100) if ms else 0, int(not ms)), prepare=True)


# As in pg_trigger.tgtype.
_ROW, _BEFORE, _INSERT, _DELETE, _UPDATE, _TRUNCATE = 1, 2, 4, 8, 16, 32


@dataclass(frozen=True)
class _Trigger:
    """One trigger of the guard.

    :param kind: what fires it, as in ``pg_trigger.tgtype``; 0: nothing does.
    :param columns: that an update must name, in their order; (): any.
    :param rows: condition of the shared rows, if each row is asked.
    """

    schema: str
    table: str
    name: str
    kind: int
    columns: tuple[str, ...] = ()
    rows: str = ""

    @property
    def place(self) -> tuple[str, str, str]:
        return self.schema, self.table, self.name

    def make(self) -> sql.Composed:
        """Return the statement that makes it, in place of one of the same name."""
        update = sql.SQL("UPDATE")
        if self.columns:
            columns = sql.SQL(", ").join(map(sql.Identifier, self.columns))
            update = sql.SQL("UPDATE OF {}").format(columns)  # type: ignore[assignment]
        fires = ((_INSERT, sql.SQL("INSERT")), (_UPDATE, update), (_DELETE, sql.SQL("DELETE")),
                 (_TRUNCATE, sql.SQL("TRUNCATE")))
        return sql.SQL("CREATE OR REPLACE TRIGGER {} {} {} ON {} FOR EACH {} EXECUTE FUNCTION {}({})").format(
            sql.Identifier(self.name),
            sql.SQL("BEFORE" if self.kind & _BEFORE else "AFTER"),
            sql.SQL(" OR ").join(event for bit, event in fires if self.kind & bit),
            table(self.schema, self.table),
            sql.SQL("ROW" if self.kind & _ROW else "STATEMENT"),
            sql.Identifier("hsmx_cluster", "guard_row" if self.kind & _ROW else "guard"),
            sql.Literal(self.rows) if self.rows else sql.SQL(""),
        )


def arm(connection: Connection, scope: Scope) -> None:
    """Put the guard on every shared table, and take it from what is shared no more.

    What is as it should be is not touched: a long reader there holds up nothing.

    :raises DatabaseFailure: a table is missing, or is not ours to guard.
    """
    with failures("The guard cannot be put on the shared tables"), connection.transaction():
        wanted: list[_Trigger] = []
        for one in scope.shared():
            wanted += _triggers(one, one.schema, one.table)
            for schema, name in _partitions(connection, one):
                wanted += _triggers(one, schema, name, partition=True)
        found = {each.place: each for each in _found(connection)}
        _drop(connection, set(found) - {each.place for each in wanted})
        for each in wanted:
            if found.get(each.place) != each:
                connection.execute(each.make())


def disarm(connection: Connection) -> None:
    """Take the guard from every table."""
    _drop(connection, {each.place for each in _found(connection)})


def _found(connection: Connection) -> Iterator[_Trigger]:
    for schema, name, trigger, kind, columns, arguments in connection.execute(_FOUND, (TRIGGER,)).fetchall():
        rows = bytes.fromhex(arguments).removesuffix(b"\0").decode()
        yield _Trigger(schema, name, trigger, kind, tuple(columns), rows)


def _drop(connection: Connection, places: Iterable[tuple[str, str, str]]) -> None:
    for schema, name, trigger in sorted(places):
        connection.execute(
            sql.SQL("DROP TRIGGER {} ON {}").format(sql.Identifier(trigger), table(schema, name))
        )


def _partitions(connection: Connection, scope: TableScope) -> list[tuple[str, str]]:
    name = table(scope.schema, scope.table).as_string(connection)
    return [(schema, part) for schema, part in connection.execute(_PARTS, (name,)).fetchall()]


def _triggers(scope: TableScope, schema: str, name: str, partition: bool = False) -> Iterator[_Trigger]:
    """Yield what guards one table: its shared columns, and if only some rows are shared, these.

    :param partition: triggers for rows come from the parent, those for statements do not.
    """
    columns = tuple(sorted(scope.columns))
    change = _INSERT | _UPDATE | _DELETE
    if scope.rows and not partition:
        yield _Trigger(schema, name, TRIGGER, _ROW | change, columns, scope.rows)
    if scope.rows:
        yield _Trigger(schema, name, f"{TRIGGER}_truncate", _BEFORE | _TRUNCATE)
    else:
        yield _Trigger(schema, name, TRIGGER, _BEFORE | change | _TRUNCATE, columns)
