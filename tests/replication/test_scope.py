"""What the scope promises, kept by PostgreSQL: the sample firmware's tables, published as they are declared."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from flask_hsmx_cluster.replication.declare import read
from flask_hsmx_cluster.replication.scope import Scope, mirror_trigger_sql
from sample_app.firmware.demo_data import demo_rows
from sample_app.firmware.models import Base
from sample_app.lab.postgres import PostgresServer

from .conftest import Pair

DAY = datetime(2026, 5, 31)
PATIENCE_S = 20


def publish(connection: psycopg.Connection[Any], scope: Scope) -> None:
    """Publish what is shared; tables of which only some rows are apart, without TRUNCATE."""
    for name, truncates in (("whole", True), ("rows", False)):
        tables = []
        for table in scope.shared():
            if table.truncates == truncates:
                columns = sql.SQL(" ({})").format(sql.SQL(", ").join(map(sql.Identifier, table.columns)))
                rows = sql.SQL(" WHERE ({})").format(sql.SQL(table.rows))
                tables.append(sql.Identifier(table.schema, table.table) + (columns if table.columns else sql.SQL(""))
                              + (rows if table.rows else sql.SQL("")))
        connection.execute(sql.SQL("CREATE PUBLICATION {} FOR TABLE {} WITH (publish = {})").format(
            sql.Identifier(name), sql.SQL(", ").join(tables),
            sql.Literal("insert,update,delete" + (",truncate" if truncates else ""))))


def prepare(server: PostgresServer, gateway: str) -> Scope:
    """Make the firmware's tables and the demo's rows on a server, and its triggers; twice, as an upgrade would."""
    scope = read(Base.metadata).scope
    engine = create_engine("postgresql+psycopg://", creator=lambda: server.connect(autocommit=False))
    with engine.begin() as connection:
        Base.metadata.create_all(connection)
    with Session(engine) as session:
        session.add_all(demo_rows(gateway, DAY))
        session.commit()
    engine.dispose()
    with server.connect() as plain:
        plain.execute("CREATE SCHEMA hsmx_cluster")
        for statement in mirror_trigger_sql(scope) * 2:
            plain.execute(statement)
    return scope


@contextmanager
def replicating(pair: Pair) -> Iterator[tuple[psycopg.Connection[Any], psycopg.Connection[Any]]]:
    """Gateway A publishes, gateway B takes over A's shared rows and then subscribes."""
    scope = prepare(pair.a, "Gateway A")
    prepare(pair.b, "Gateway B")
    with pair.a.connect() as a, pair.b.connect() as b:
        publish(a, scope)
        b.execute("SET session_replication_role = replica")
        for table in scope.shared():
            where = f" WHERE {table.rows}" if table.rows else ""
            b.execute(f"DELETE FROM {table.name}{where}")
        b.execute("RESET session_replication_role")
        b.execute(sql.SQL("CREATE SUBSCRIPTION s CONNECTION {} PUBLICATION whole, rows").format(
            sql.Literal(pair.a.dsn)))
        until(b, "SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel", (True,))
        yield a, b


def until(connection: psycopg.Connection[Any], query: str, row: tuple[Any, ...]) -> None:
    """Wait until a query gives this row."""
    end = time.monotonic() + PATIENCE_S
    while (found := connection.execute(query).fetchone()) != row:
        if time.monotonic() > end:
            pytest.fail(f"{query}: {found} instead of {row}")
        time.sleep(0.05)


def one(connection: psycopg.Connection[Any], query: str) -> Any:
    found = connection.execute(query).fetchone()
    assert found is not None
    return found[0] if len(found) == 1 else found


def test_mirrored_columns_are_swapped_in_the_first_copy_and_afterwards(pair: Pair) -> None:
    with replicating(pair) as (a, b):
        own = one(a, "SELECT own FROM port_address")
        assert one(b, "SELECT own, other FROM port_address") == (None, own)
        a.execute("INSERT INTO port_address VALUES ('lan0', 'a1', 'b1', '')")
        until(b, "SELECT own, other FROM port_address WHERE port = 'lan0'", ("b1", "a1"))
        a.execute("UPDATE port_address SET note = 'only this one' WHERE port = 'lan0'")
        a.execute("UPDATE port_address SET other = 'b2' WHERE port = 'lan0'")
        until(b, "SELECT own, other, note FROM port_address WHERE port = 'lan0'", ("b2", "a1", "only this one"))


def test_the_hosts_own_writes_are_not_swapped_and_rows_of_the_peer_are(pair: Pair) -> None:
    prepare(pair.b, "Gateway B")
    with pair.b.connect() as b:
        b.execute("INSERT INTO port_address VALUES ('lan0', 'mine', 'yours', '')")
        assert one(b, "SELECT own FROM port_address WHERE port = 'lan0'") == "mine"
        b.execute("SET session_replication_role = replica")
        b.execute("INSERT INTO port_address VALUES ('lan1', 'yours', 'mine', '')")
        assert one(b, "SELECT own FROM port_address WHERE port = 'lan1'") == "mine"


def test_local_rows_and_columns_stay_through_changes_of_kind_and_truncate(pair: Pair) -> None:
    with replicating(pair) as (a, b):
        address = one(b, "SELECT address FROM interface WHERE kind = 'wan'")
        assert address != one(a, "SELECT address FROM interface WHERE kind = 'wan'")
        b.execute("UPDATE access_point SET reached_at = '2026-05-31 12:00' WHERE id = 1")
        a.execute("UPDATE access_point SET channel = 7, reached_at = now() WHERE id = 1")
        until(b, "SELECT channel, reached_at FROM access_point WHERE id = 1", (7, datetime(2026, 5, 31, 12)))
        a.execute("INSERT INTO interface VALUES ('wan', 9, 'wan1', '192.0.2.1/24', '')")
        a.execute("UPDATE interface SET kind = 'alias' WHERE kind = 'wan' AND id = 9")
        until(b, "SELECT count(*) FROM interface WHERE kind = 'alias' AND id = 9", (1,))
        a.execute("UPDATE interface SET kind = 'wan' WHERE kind = 'alias' AND id = 9")
        until(b, "SELECT count(*) FROM interface WHERE id = 9", (0,))
        a.execute("TRUNCATE interface")
        a.execute("TRUNCATE accounting")
        until(b, "SELECT count(*) FROM accounting", (0,))
        assert one(b, "SELECT address FROM interface WHERE kind = 'wan'") == address


def test_tables_of_one_machine_are_untouched(pair: Pair) -> None:
    with replicating(pair) as (a, b):
        serial = one(b, "SELECT serial FROM licence")
        a.execute("UPDATE licence SET serial = 'other'")
        a.execute("UPDATE voucher SET note = 'after it' WHERE id = 1")
        until(b, "SELECT note FROM voucher WHERE id = 1", ("after it",))
        assert one(b, "SELECT serial FROM licence") == serial
