"""What is large passes, and so does TRUNCATE; on real servers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from flask_hsmx_cluster.replication import synchrony
from flask_hsmx_cluster.replication.database import connect, one
from flask_hsmx_cluster.replication.names import PEER_ROLE
from flask_hsmx_cluster.replication.scope import Scope, TableScope

from .conftest import Pair
from .side import NODE_IDS, Side

SCOPE = Scope((TableScope("public", "voucher", "shared"), TableScope("public", "log", "bulk")))
TABLES = "CREATE TABLE voucher (id integer PRIMARY KEY, code text); CREATE TABLE log (id integer PRIMARY KEY)"


@pytest.fixture
def sides(pair: Pair) -> Iterator[tuple[Side, Side]]:
    a, b = (Side(server, own, other, SCOPE, TABLES)
            for server, own, other in ((pair.a, *NODE_IDS), (pair.b, *reversed(NODE_IDS))))
    a.promote(1)
    b.follow(a, PEER_ROLE)
    a.be_synchronous()
    yield a, b
    synchrony.set_name(a.connection, "")
    a.close()
    b.close()


def rows(side: Side, table: str) -> int:
    return int(one(side.connection, f"SELECT count(*) FROM {table}"))


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


def test_a_gateway_that_is_long_busy_with_one_change_is_not_taken_for_dead(sides: tuple[Side, Side]) -> None:
    """While it applies it answers nothing; a stream that was ended would begin the change from its beginning."""
    a, b = sides
    synchrony.set_name(a.connection, "")

    def senders() -> list[Any]:
        return a.connection.execute(b"SELECT pid, application_name FROM pg_stat_replication ORDER BY pid").fetchall()

    before = senders()
    assert len(before) == 2
    with connect(b.server.dsn) as holder, holder.transaction():
        holder.execute(b"LOCK TABLE public.voucher")
        a.connection.execute("INSERT INTO voucher VALUES (1, 'late')")
        time.sleep(5)  # longer than wal_sender_timeout
        assert senders() == before
    b.wait_for(a)
    assert rows(b, "voucher") == 1 and senders() == before
