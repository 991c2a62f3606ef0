"""The host's database is migrated while its rows are shared: in the right order, and in the wrong one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest
import sqlalchemy.exc

from flask_hsmx_cluster.errors import Finding
from flask_hsmx_cluster.replication import channel, checks, guard
from flask_hsmx_cluster.replication.scope import Scope, TableScope

from ..migrations import Migrations
from .conftest import Pair
from .gateways import SCOPE, Gateway, TwoGateways, wait_for

COLOUR = 'op.add_column("voucher", sa.Column("colour", sa.Text()))'
PRICE = 'op.add_column("voucher", sa.Column("price", sa.Integer(), server_default="7", nullable=False))'
BILL = 'op.create_table("bill", sa.Column("id", sa.Integer(), primary_key=True), sa.Column("sum", sa.Integer()))'
WITH_BILL = Scope((*SCOPE.tables, TableScope("public", "bill", "shared")))


@pytest.fixture
def gateways(pair: Pair) -> Iterator[TwoGateways]:
    """The active gateway may write, the passive one's guard is armed."""
    both = TwoGateways(pair)
    for gateway in (both.a, both.b):
        guard.arm(gateway.connection, SCOPE)
    guard.grant(both.a.connection, 1, time.clock_gettime(time.CLOCK_BOOTTIME) + 1000)
    yield both
    both.close()


def migrate(migrations: Migrations, gateway: Gateway, revision: str = "head") -> None:
    migrations.upgrade(partial(psycopg.connect, gateway.server.dsn), revision)


def compared(gateways: TwoGateways) -> list[Finding]:
    return checks.compare(gateways.b.connection, gateways.a.connection, SCOPE, "gw-b", "gw-a")


def codes(gateway: Gateway) -> list[str]:
    return [code for (code,) in gateway.execute("SELECT code FROM voucher ORDER BY id")]


def test_passive_first_rows_flow_before_between_and_after(gateways: TwoGateways, tmp_path: Path) -> None:
    a, b = gateways.a, gateways.b
    migrations = Migrations(tmp_path, COLOUR, PRICE)
    a.execute("INSERT INTO voucher (id, code) VALUES (1, 'before')")
    migrate(migrations, b)
    assert {(one.key, one.blocking) for one in compared(gateways)} == {("schema_column_more", False)}
    a.execute("INSERT INTO voucher (id, code) VALUES (2, 'between')")
    gateways.settle(a, b)
    migrate(migrations, a)
    a.execute("INSERT INTO voucher (id, code, colour, price) VALUES (3, 'after', 'red', 9)")
    gateways.settle(a, b)
    assert compared(gateways) == [] and codes(b) == ["before", "between", "after"]
    rows = "SELECT id, colour, price FROM voucher ORDER BY id"
    assert a.execute(rows) == b.execute(rows) == [(1, None, 7), (2, None, 7), (3, "red", 9)]
    assert a.execute("SELECT * FROM alembic_version") == b.execute("SELECT * FROM alembic_version") == [("2",)]


def test_active_first_is_detected_and_said_and_nothing_is_lost(gateways: TwoGateways, tmp_path: Path) -> None:
    a, b = gateways.a, gateways.b
    migrations = Migrations(tmp_path, COLOUR)
    a.execute("INSERT INTO voucher (id, code) VALUES (1, 'before')")
    gateways.settle(a, b)
    migrate(migrations, a)
    a.execute("INSERT INTO voucher (id, code, colour) VALUES (2, 'stopped', 'red')")
    (finding,) = compared(gateways)
    assert finding.blocking and finding.key == "schema_column_missing" and "migration on gw-b" in finding.remedy
    wait_for(lambda: "colour" in checks.last_failure(b.connection))
    assert codes(b) == ["before"]
    migrate(migrations, b)
    gateways.settle(a, b)
    assert compared(gateways) == [] and codes(b) == ["before", "stopped"]
    assert b.execute("SELECT colour FROM voucher WHERE id = 2") == [("red",)]


def test_rows_are_written_on_the_active_gateway_only(gateways: TwoGateways, tmp_path: Path) -> None:
    """The script of docs/migrations.md."""
    fill = "op.execute(\"UPDATE voucher SET colour = 'blue'\")"
    a, b = gateways.a, gateways.b
    a.execute("INSERT INTO voucher (id, code) VALUES (1, 'x')")
    gateways.settle(a, b)
    migrations = Migrations(tmp_path, f"{COLOUR}\n    if may_write(op.get_bind()):\n        {fill}")
    for gateway in (b, a):
        migrate(migrations, gateway)
    gateways.settle(a, b)
    assert a.execute("SELECT colour FROM voucher") == b.execute("SELECT colour FROM voucher") == [("blue",)]


def test_a_migration_that_writes_rows_on_the_passive_is_undone(gateways: TwoGateways, tmp_path: Path) -> None:
    b = gateways.b
    migrations = Migrations(tmp_path, f"{COLOUR}\n    op.execute(\"UPDATE voucher SET code = 'x'\")")
    with pytest.raises(sqlalchemy.exc.SQLAlchemyError, match="not the active one"):
        migrate(migrations, b)
    assert b.execute("SELECT count(*) FROM pg_attribute WHERE attname = 'colour'") == [(0,)]


def test_a_new_table_is_shared_once_both_have_it(gateways: TwoGateways, tmp_path: Path) -> None:
    a, b = gateways.a, gateways.b
    migrations = Migrations(tmp_path, BILL)
    for gateway in (b, a):
        migrate(migrations, gateway)
        channel.publish(gateway.connection, WITH_BILL)
    a.execute("INSERT INTO bill VALUES (1, 10)")
    checks.take_up(b.connection, a.connection, WITH_BILL)
    a.execute("INSERT INTO bill VALUES (2, 20)")
    wait_for(lambda: b.execute("SELECT id FROM bill ORDER BY id") == [(1,), (2,)])


def test_a_column_that_is_dropped_on_the_active_first(gateways: TwoGateways, tmp_path: Path) -> None:
    a, b = gateways.a, gateways.b
    migrations = Migrations(tmp_path, 'op.drop_column("voucher", "minutes")')
    migrate(migrations, a)
    assert not any(one.blocking for one in compared(gateways))
    a.execute("INSERT INTO voucher (id, code) VALUES (1, 'between')")
    gateways.settle(a, b)
    migrate(migrations, b)
    a.execute("INSERT INTO voucher (id, code) VALUES (2, 'after')")
    gateways.settle(a, b)
    assert compared(gateways) == [] and codes(b) == ["between", "after"]
