"""Writers are slowed while the other gateway does not catch up, on real servers: as little as is needed."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg import errors

from flask_hsmx_cluster.replication import guard, promotion
from flask_hsmx_cluster.replication.database import connect, one
from flask_hsmx_cluster.replication.names import SUBSCRIPTION
from flask_hsmx_cluster.replication.pace import Pace
from flask_hsmx_cluster.replication.replicator import Replicator
from flask_hsmx_cluster.replication.scope import Scope, TableScope
from flask_hsmx_cluster.replication.setup import Peer, Setup
from tests.bench.writers import Writers

from .conftest import OWNER, Pair
from .side import NODE_IDS, Side, boot_time_s, wait_until
from .tables import client, rows

SCOPE = Scope((
    TableScope("public", "t", "shared"), TableScope("public", "part", "shared"), TableScope("public", "bulk", "bulk"),
    TableScope("public", "some_rows", "shared", rows="scope = 'shared'", key=("scope", "id")),
    TableScope("public", "some_columns", "shared", columns=("id", "name")), TableScope("public", "local", "local"),
))  # fmt: skip
TABLES = f"""
SET ROLE {OWNER};
CREATE TABLE t (id bigserial PRIMARY KEY, v text);
CREATE TABLE part (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
CREATE TABLE part_low PARTITION OF part FOR VALUES FROM (0) TO (100);
CREATE TABLE bulk (id int PRIMARY KEY, v text);
CREATE TABLE some_rows (scope text, id int, v text, PRIMARY KEY (scope, id));
CREATE TABLE some_columns (id int PRIMARY KEY, name text, load int);
CREATE TABLE local (id serial PRIMARY KEY, v text);
"""
FOR_EVER_MS = 3_600_000
#: The other gateway applies some hundreds of rows in a second: fewer than four clients write that never pause.
SLOW = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.001); RETURN NEW; END $$;
CREATE TRIGGER slow BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION slow();
ALTER TABLE t ENABLE ALWAYS TRIGGER slow
"""
SLEEPERS = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND usename = %s"


@pytest.fixture
def sides(pair: Pair) -> Iterator[tuple[Side, Side]]:
    a, b = (Side(server, own, other, SCOPE, TABLES)
            for server, own, other in ((pair.a, *NODE_IDS), (pair.b, *reversed(NODE_IDS))))
    yield a, b
    a.close()
    b.close()


@pytest.fixture
def active(sides: tuple[Side, Side]) -> Side:
    sides[0].promote(1)
    sides[0].connection.execute("INSERT INTO t (id, v) VALUES (0, 'before')")
    return sides[0]


def replicator_of(side: Side, synchronous: bool = True) -> Replicator:
    found = Replicator()
    peer = Peer(side.peer_id, (), 0, "", "", "1234", "", "")
    found._setup = Setup(side.server.dsn, side.node_id, peer, SCOPE, synchronous=synchronous)
    return found


def slowed(connection: psycopg.Connection[tuple[object, ...]], statement: str) -> bool:
    """Return whether a statement is slowed by more than a session waits."""
    connection.execute("SET statement_timeout = '300ms'")
    try:
        connection.execute(statement.encode())
    except errors.QueryCanceled:
        return True
    finally:
        connection.execute("SET statement_timeout = 0")
    return False


def be_slow(side: Side, ms: int = FOR_EVER_MS, for_s: float = 1000) -> None:
    guard.brake(side.connection, ms, boot_time_s() + for_s)


# What is slowed ------------------------------------------------------------------------------------------------------


def test_whoever_writes_shared_data_is_slowed_as_long_as_it_is_told(active: Side) -> None:
    statements = (
        "INSERT INTO t (v) VALUES ('x')", "UPDATE t SET v = 'y'", "INSERT INTO part VALUES (1)",
        "INSERT INTO bulk VALUES (1)", "INSERT INTO some_rows VALUES ('shared', 1)", "DELETE FROM t", "TRUNCATE t",
    )  # fmt: skip
    with client(active) as connection:
        be_slow(active)
        assert [each for each in statements if not slowed(connection, each)] == []
        assert guard.renew(active.connection, 1, boot_time_s() + 1000)
        assert slowed(connection, statements[0]), "a lease that goes on changes nothing"
        be_slow(active, 0)
        for each in statements:
            connection.execute(each.encode())


def test_whoever_reads_or_writes_what_is_local_is_not(active: Side) -> None:
    be_slow(active)
    with client(active) as connection:
        for statement in (
            "SELECT * FROM t", "INSERT INTO local (v) VALUES ('x')", "INSERT INTO some_rows VALUES ('own', 1)",
            "UPDATE some_columns SET load = 1",
        ):  # fmt: skip
            connection.execute(statement.encode())


def test_a_transaction_is_slowed_once_before_it_writes_and_then_no_more(active: Side) -> None:
    with client(active, autocommit=False) as late:
        late.execute("UPDATE t SET v = 'one'")
        be_slow(active)
        late.execute("UPDATE t SET v = 'two'")
        late.commit()
    assert rows(active, "SELECT v FROM t") == [("two",)]


def test_a_row_is_not_locked_while_its_writer_is_slowed(active: Side) -> None:
    """Else whoever writes the same row would wait for all that come before him."""
    be_slow(active)
    with client(active) as slow, ThreadPoolExecutor(1) as clients, client(active, autocommit=False) as other:
        writing = clients.submit(slow.execute, "UPDATE t SET v = 'slow'")
        wait_until(lambda: one(active.connection, SLEEPERS, OWNER))
        other.execute("SELECT FROM t FOR UPDATE NOWAIT")
        other.rollback()
        slow.cancel()
        assert isinstance(writing.exception(), errors.QueryCanceled)


# How it ends ---------------------------------------------------------------------------------------------------------


def test_it_ends_by_itself_when_nobody_renews_it(active: Side) -> None:
    """The process that looks was killed, or its connection hangs."""
    be_slow(active, for_s=0.5)
    with client(active) as connection:
        wait_until(lambda: not slowed(connection, "INSERT INTO t (v) VALUES ('x')"))
        connection.execute("INSERT INTO t (v) VALUES ('y')")


def test_it_ends_with_the_reign_and_the_next_one_begins_without(active: Side) -> None:
    be_slow(active, for_s=1e9)
    guard.revoke(active.connection)
    with client(active) as connection:
        with pytest.raises(errors.ReadOnlySqlTransaction):
            connection.execute("INSERT INTO t (v) VALUES ('x')")
        be_slow(active)  # who looks has not noticed yet
        with pytest.raises(errors.ReadOnlySqlTransaction):
            connection.execute("INSERT INTO t (v) VALUES ('x')")
        active.promote(2)
        connection.execute("INSERT INTO t (v) VALUES ('x')")


def test_whoever_is_slowed_while_the_role_goes_is_refused(active: Side) -> None:
    be_slow(active, 2000)
    with client(active) as slow, ThreadPoolExecutor(1) as clients:
        writing = clients.submit(slow.execute, "UPDATE t SET v = 'late'")
        wait_until(lambda: one(active.connection, SLEEPERS, OWNER))
        guard.revoke(active.connection)
        assert isinstance(writing.exception(), errors.ReadOnlySqlTransaction)
    assert rows(active, "SELECT v FROM t") == [("before",)]


def test_a_transaction_that_was_begun_within_the_lease_does_not_end_after_it_either(active: Side) -> None:
    be_slow(active, 1)
    with client(active, autocommit=False) as late:
        late.execute("INSERT INTO t (v) VALUES ('late')")
        assert guard.renew(active.connection, 1, boot_time_s() - 0.02)
        with pytest.raises(errors.ReadOnlySqlTransaction):
            late.commit()


def test_a_lease_of_before_the_brake_was_known_goes_on(active: Side) -> None:
    """The firmware is upgraded on the active gateway."""
    for name in ("unhindered", "brake_ms", "brake_until_cs"):
        active.connection.execute(f"DROP SEQUENCE hsmx_cluster.{name}".encode())
    active.connection.execute("UPDATE hsmx_cluster.node SET version = 1")
    active.close()
    active.connect()
    with client(active) as connection:
        connection.execute("INSERT INTO t (v) VALUES ('x')")
    replicator = replicator_of(active)
    replicator.watch.look()
    assert one(active.connection, "SELECT last_value FROM hsmx_cluster.unhindered") == 1
    replicator.close()


# When it comes -------------------------------------------------------------------------------------------------------


def test_a_slow_gateway_catches_up_with_clients_that_never_pause(sides: tuple[Side, Side], active: Side) -> None:
    """It fell behind for as long as they wrote, and no commit ever waited for it."""
    passive = sides[1]
    passive.follow(active)
    passive.connection.execute(SLOW)
    passive.connection.execute(f"ALTER SUBSCRIPTION {SUBSCRIPTION} DISABLE")
    replicator, statement = replicator_of(active), "INSERT INTO t (id, v) VALUES (%s, 'x')"
    slots = [active.slot]
    brakes: list[int] = []

    def caught_up() -> bool:
        found = replicator.watch.look()
        brakes.append(found["brake_ms"])
        return bool(found["caught_up"])

    with Writers(lambda: client(active), statement, first=1) as writers:
        wait_until(lambda: len(writers.acknowledged) > 1000)
        passive.connection.execute(f"ALTER SUBSCRIPTION {SUBSCRIPTION} ENABLE")
        Pace(lambda: connect(passive.server.dsn), lambda: connect(active.server.dsn), lambda: slots,
             lambda: NODE_IDS[0]).keep()  # fmt: skip
        wait_until(caught_up)
        assert max(brakes) > 0 == brakes[-1]
        assert one(active.connection, "SELECT last_value FROM hsmx_cluster.unhindered") == 1
        active.be_synchronous()
        before = len(writers.acknowledged)
        wait_until(lambda: len(writers.acknowledged) > before + 100)
        assert replicator.watch.look()["brake_ms"] == 0, "they go at its pace now"
    assert promotion.confirmed(active.connection, active.slot, 30)
    assert len(rows(passive, "SELECT id FROM t")) == len(writers.acknowledged) + 1
    replicator.close()


def test_where_commits_are_never_to_wait_nobody_is_slowed_either(sides: tuple[Side, Side], active: Side) -> None:
    passive = sides[1]
    passive.follow(active)
    replicators = {synchronous: replicator_of(active, synchronous) for synchronous in (True, False)}
    brakes: dict[bool, set[int]] = {True: set(), False: set()}
    with passive.server.connect(autocommit=False) as holds_up, client(active) as writer:
        holds_up.execute("LOCK TABLE t IN EXCLUSIVE MODE")

        def slows() -> bool:
            writer.execute("INSERT INTO t (v) VALUES ('x')")
            for synchronous, replicator in replicators.items():
                brakes[synchronous].add(replicator.watch.look()["brake_ms"])
            return bool(max(brakes[True]))

        wait_until(slows)
    assert brakes[False] == {0}
    for replicator in replicators.values():
        replicator.close()
