"""The host's schema changes while replication runs, and what is large passes; on real servers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flask_hsmx_cluster.replication import new_tables, synchrony
from flask_hsmx_cluster.replication.database import one
from flask_hsmx_cluster.replication.scope import Scope, TableScope

from .conftest import Pair
from .side import NODE_IDS, Side, wait_until

SCOPE = Scope((TableScope("public", "voucher", "shared"), TableScope("public", "log", "bulk")))
TABLES = "CREATE TABLE voucher (id integer PRIMARY KEY, code text); CREATE TABLE log (id integer PRIMARY KEY)"
NEW = "CREATE TABLE offer (id integer PRIMARY KEY, text text)"
WITH_NEW = Scope((*SCOPE.tables, TableScope("public", "offer", "shared")))


@pytest.fixture
def sides(pair: Pair) -> Iterator[tuple[Side, Side]]:
    a, b = (Side(server, own, other, SCOPE, TABLES)
            for server, own, other in ((pair.a, *NODE_IDS), (pair.b, *reversed(NODE_IDS))))
    a.promote(1)
    b.follow(a)
    a.be_synchronous()
    yield a, b
    synchrony.set_name(a.connection, "")
    a.close()
    b.close()


def migrate(side: Side, statement: str, scope: Scope) -> None:
    """The host's migration, then its agent's restart with what is declared now."""
    side.connection.execute(statement.encode())
    side.close()
    side.scope = scope
    side.connect()


def rows(side: Side, table: str) -> int:
    return int(one(side.connection, f"SELECT count(*) FROM {table}"))


def test_a_new_table_is_followed_when_both_have_it(sides: tuple[Side, Side]) -> None:
    """Its changes were skipped without a word: the subscription did not know it."""
    a, b = sides
    migrate(b, NEW, WITH_NEW)
    with b.server.connect() as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("INSERT INTO offer VALUES (1, 'a row of its own')")
    assert new_tables.take(b.connection, a.connection, b.scope) == []
    migrate(a, NEW, WITH_NEW)
    a.connection.execute("INSERT INTO offer VALUES (1, 'written before it is followed')")
    a.connection.execute("INSERT INTO voucher VALUES (1, 'x')")
    assert new_tables.take(b.connection, a.connection, b.scope) == [("public", "offer")]
    assert new_tables.take(b.connection, a.connection, b.scope) == []
    a.connection.execute("INSERT INTO offer VALUES (2, 'and after')")
    wait_until(lambda: rows(b, "offer") == 2)
    assert one(b.connection, "SELECT text FROM offer WHERE id = 1") == "written before it is followed"
    assert one(b.connection, 'SELECT text FROM hsmx_cluster_aside."public.offer"') == "a row of its own"
    assert rows(b, "voucher") == 1


def test_a_new_table_on_the_active_first_stops_the_stream_until_the_passive_has_it(sides: tuple[Side, Side]) -> None:
    a, b = sides
    migrate(a, NEW, WITH_NEW)
    assert new_tables.take(b.connection, a.connection, b.scope) == []
    synchrony.set_name(a.connection, "")  # as the agent does with a gateway that does not follow
    a.connection.execute("INSERT INTO offer VALUES (1, 'early')")
    a.connection.execute("INSERT INTO voucher VALUES (1, 'x')")
    wait_until(lambda: "target relation \"public.offer\" does not exist" in b.server.log())
    b.connection.execute(NEW.encode())
    assert new_tables.take(b.connection, a.connection, b.scope) == [], "its agent does not share it yet"
    b.connection.execute("DROP TABLE offer")
    migrate(b, NEW, WITH_NEW)
    assert new_tables.take(b.connection, a.connection, b.scope) == [("public", "offer")]
    wait_until(lambda: rows(b, "offer") == rows(b, "voucher") == 1)


def test_a_column_is_added_on_the_passive_first(sides: tuple[Side, Side]) -> None:
    a, b = sides
    add = "ALTER TABLE voucher ADD note text NOT NULL DEFAULT 'none'"
    migrate(b, add, SCOPE)
    a.connection.execute("INSERT INTO voucher VALUES (1, 'before')")
    b.wait_for(a)
    migrate(a, add, SCOPE)
    a.connection.execute("INSERT INTO voucher VALUES (2, 'after', 'noted')")
    a.connection.execute("UPDATE voucher SET note = 'later' WHERE id = 1")
    b.wait_for(a)
    assert b.connection.execute("SELECT * FROM voucher ORDER BY id").fetchall() == [
        (1, "before", "later"), (2, "after", "noted")]


def test_truncate_and_a_large_row_and_a_large_transaction(sides: tuple[Side, Side]) -> None:
    a, b = sides
    a.connection.execute("INSERT INTO voucher VALUES (1, 'gone')")
    a.connection.execute("TRUNCATE voucher, log")
    a.connection.execute("INSERT INTO voucher SELECT 2, string_agg(md5(n::text), '') FROM generate_series(1, 32768) n")
    b.wait_for(a)
    query = "SELECT id, length(code), md5(code) FROM voucher"
    assert b.connection.execute(query.encode()).fetchall() == a.connection.execute(query.encode()).fetchall()
    assert one(b.connection, "SELECT length(code) FROM voucher") == 1 << 20
    a.connection.execute("INSERT INTO voucher SELECT n, 'x' FROM generate_series(1001, 501000) n")
    b.wait_for(a)
    assert rows(b, "voucher") == 500_001
