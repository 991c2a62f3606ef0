"""The guard: who may write what when, whatever a client tries, against real servers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from psycopg import errors

from flask_hsmx_cluster.replication import guard
from flask_hsmx_cluster.replication.names import PEER_ROLE

from .conftest import OWNER, Pair
from .side import Side, boot_time_s
from .tables import SCOPE, client, contents, rows, two_sides

#: Every way to write shared data. Those with a row that is there already find it: the superuser makes it.
SHARED_WRITES = (
    "INSERT INTO t (v) VALUES ('x')",
    "UPDATE t SET v = 'x'",
    "DELETE FROM t",
    "TRUNCATE t",
    "COPY t (v) FROM STDIN",
    "INSERT INTO bulk VALUES (2)",
    "INSERT INTO part VALUES (2)",
    "INSERT INTO part_low VALUES (2)",
    "UPDATE part_low SET v = 'x'",
    "TRUNCATE part_low",
    "INSERT INTO some_rows VALUES ('shared', 2)",
    "UPDATE some_rows SET v = 'x' WHERE scope = 'shared'",
    "UPDATE some_rows SET scope = 'shared', id = 3 WHERE scope = 'own'",
    "UPDATE some_rows SET scope = 'own', id = 3 WHERE scope = 'shared'",
    "DELETE FROM some_rows WHERE scope = 'shared'",
    "TRUNCATE some_rows",
    "UPDATE some_columns SET name = 'x'",
    "INSERT INTO some_columns VALUES (2)",
    "DELETE FROM some_columns",
    "WITH one AS (INSERT INTO t (v) VALUES ('x') RETURNING id) SELECT * FROM one",
    "INSERT INTO t VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET v = 'x'",
)
OWN_WRITES = (
    "INSERT INTO local (v) VALUES ('x')",
    "TRUNCATE local",
    "INSERT INTO some_rows VALUES ('own', 2)",
    "UPDATE some_rows SET v = 'x' WHERE scope = 'own'",
    "DELETE FROM some_rows WHERE scope = 'own'",
    "UPDATE some_columns SET load = 1",
)


TRIGGERS = """SELECT pg_get_triggerdef(oid), tgenabled FROM pg_trigger
WHERE tgname ~ '^hsmx_cluster_guard' AND tgparentid = 0 ORDER BY 1"""


@pytest.fixture
def sides(pair: Pair) -> Iterator[tuple[Side, Side]]:
    """Two databases, both passive."""
    with two_sides(pair) as sides:
        yield sides


def fill(side: Side) -> None:
    """Give each table a row, past the guard."""
    with side.server.connect(options="-c session_replication_role=replica") as connection:
        connection.execute("""
            INSERT INTO t (v) VALUES ('old'); INSERT INTO bulk VALUES (1); INSERT INTO part VALUES (1);
            INSERT INTO local (v) VALUES ('old'); INSERT INTO some_rows VALUES ('own', 1), ('shared', 1);
            INSERT INTO some_columns VALUES (1, 'old', 0)""")


def write(connection: psycopg.Connection[tuple[Any, ...]], statement: str) -> None:
    if statement.startswith("COPY"):
        with connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
            copy.write("x\n")
    else:
        connection.execute(statement.encode())


@pytest.mark.parametrize("lease", ["never had one", "lapsed", "revoked", "of a server that was restarted"])
def test_without_a_lease_nobody_writes_shared_data_and_everybody_writes_own(
    sides: tuple[Side, Side], lease: str
) -> None:
    side, _ = sides
    fill(side)
    if lease != "never had one":
        side.promote(1)
    if lease == "lapsed":
        guard.grant(side.connection, 1, boot_time_s() - 0.02)
    elif lease == "revoked":
        guard.revoke(side.connection)
    elif lease == "of a server that was restarted":
        side.server.stop()
        side.server.start()
    with client(side) as connection:
        for statement in SHARED_WRITES:
            with pytest.raises(errors.ReadOnlySqlTransaction, match="not the active one") as refused:
                write(connection, statement)
            assert refused.value.sqlstate == "25006"
        for statement in OWN_WRITES:
            write(connection, statement)


def test_within_the_lease_everything_is_written(sides: tuple[Side, Side]) -> None:
    side, _ = sides
    fill(side)
    side.promote(1)
    with client(side) as connection:
        for statement in (*OWN_WRITES, *SHARED_WRITES):
            with connection.transaction(force_rollback=True):
                write(connection, statement)


@pytest.mark.parametrize("statement", [
    "INSERT INTO t (v) VALUES ('late')", "INSERT INTO part_low VALUES (7)",
    "INSERT INTO some_rows VALUES ('shared', 7)", "UPDATE some_columns SET name = 'late'",
])
@pytest.mark.parametrize("end", ["lapsed", "revoked"])
def test_what_was_begun_within_the_lease_is_not_committed_after_it(
    sides: tuple[Side, Side], statement: str, end: str
) -> None:
    side, _ = sides
    fill(side)
    side.promote(1)
    before = contents(side)
    with client(side, autocommit=False) as late:
        late.execute(statement.encode())
        if end == "lapsed":
            assert guard.renew(side.connection, 1, boot_time_s() - 0.02)
        else:
            guard.revoke(side.connection)
        with pytest.raises(errors.ReadOnlySqlTransaction):
            late.commit()
    assert contents(side) == before


def test_a_transaction_of_own_data_is_committed_after_the_lease(sides: tuple[Side, Side]) -> None:
    side, _ = sides
    side.promote(1)
    with client(side, autocommit=False) as late:
        late.execute("INSERT INTO local (v) VALUES ('late')")
        guard.revoke(side.connection)
        late.commit()
    assert rows(side, "SELECT v FROM local") == [("late",)]


@pytest.mark.parametrize("trick", [
    "SET LOCAL hsmx_cluster.checked = '1'",
    "SAVEPOINT s; INSERT INTO t (v) VALUES ('x'); ROLLBACK TO s",
    "SAVEPOINT s; INSERT INTO t (v) VALUES ('x'); ROLLBACK TO s; SET LOCAL hsmx_cluster.checked = '1'",
    "CREATE FUNCTION pg_temp.pg_read_file(text) RETURNS text LANGUAGE sql AS $$ SELECT '0 0' $$; "
    "SET LOCAL search_path = pg_temp, public, pg_catalog",
])
def test_a_plain_user_does_not_get_a_late_commit_past_the_guard(sides: tuple[Side, Side], trick: str) -> None:
    side, _ = sides
    side.promote(1)
    with client(side, autocommit=False) as late:
        late.execute(trick.encode())
        late.execute("INSERT INTO t (v) VALUES ('late')")
        assert guard.renew(side.connection, 1, boot_time_s() - 0.02)
        with pytest.raises(errors.ReadOnlySqlTransaction):
            late.commit()
    assert rows(side, "SELECT v FROM t") == []


AT_ONCE = "SET CONSTRAINTS ALL IMMEDIATE"


#: Transactions whose checks a client wants at once.
CHECKED_AT_ONCE = (
    ["INSERT INTO t (v) VALUES ('late')", AT_ONCE],
    [AT_ONCE, "INSERT INTO t (v) VALUES ('late')"],
    ["INSERT INTO t (v) VALUES ('late')", AT_ONCE, AT_ONCE, "UPDATE t SET v = 'later'"],
    ["INSERT INTO t (v) VALUES ('late')", AT_ONCE, "SET CONSTRAINTS ALL DEFERRED", AT_ONCE],
    [f"INSERT INTO t (v) VALUES ('late'); {AT_ONCE}"],
    ["INSERT INTO t (v) VALUES ('late')", "DO $$ BEGIN EXECUTE 'SET CONS' || 'TRAINTS ALL IMMEDIATE'; END $$"],
    ["INSERT INTO t (v) VALUES ('late')", f"SAVEPOINT s; {AT_ONCE}; ROLLBACK TO s", AT_ONCE],
    [f"SAVEPOINT s; INSERT INTO t (v) VALUES ('x'); {AT_ONCE}; ROLLBACK TO s", "INSERT INTO t (v) VALUES ('late')"],
)


@pytest.mark.parametrize("end", ["lapsed", "revoked", "goes on"])
def test_checks_that_a_client_wants_at_once_are_made_at_the_commit_too(sides: tuple[Side, Side], end: str) -> None:
    side, _ = sides
    for statements in CHECKED_AT_ONCE:
        side.promote(1)
        with client(side, autocommit=False) as late:
            for statement in statements:
                late.execute(statement.encode())
            if end == "lapsed":
                assert guard.renew(side.connection, 1, boot_time_s() - 0.02)
            elif end == "revoked":
                guard.revoke(side.connection)
            if end == "goes on":
                late.commit()
            else:
                with pytest.raises(errors.ReadOnlySqlTransaction):
                    late.commit()
    assert len(rows(side, "SELECT v FROM t")) == (len(CHECKED_AT_ONCE) if end == "goes on" else 0)


@pytest.mark.parametrize("statement", [
    f"BEGIN; INSERT INTO t (v) VALUES ('x'); {AT_ONCE}; INSERT INTO t (v) VALUES ('y'); COMMIT",
    f"{AT_ONCE}; INSERT INTO t (v) VALUES ('x'); INSERT INTO t (v) VALUES ('y')",
    "DO $$ BEGIN INSERT INTO t (v) VALUES ('x'); COMMIT; INSERT INTO t (v) VALUES ('y'); END $$",
])
def test_a_check_that_is_in_doubt_at_the_commit_is_made_once(sides: tuple[Side, Side], statement: str) -> None:
    side, _ = sides
    side.promote(1)
    with client(side) as connection:
        connection.execute(statement.encode())
    assert rows(side, "SELECT v FROM t ORDER BY 1") == [("x",), ("y",)]
    guard.revoke(side.connection)
    with client(side) as connection, pytest.raises(errors.ReadOnlySqlTransaction):
        connection.execute(statement.encode())


@pytest.mark.parametrize("end", ["lapsed", "revoked"])
def test_a_commit_after_the_lease_is_refused_however_recently_another_one_was_not(
    sides: tuple[Side, Side], end: str
) -> None:
    side, _ = sides
    side.promote(1)
    with client(side) as early, client(side, autocommit=False) as late:
        late.execute("INSERT INTO t (v) VALUES ('late')")
        for _ in range(20):
            early.execute("INSERT INTO t (v) VALUES ('early')")
        if end == "lapsed":
            assert guard.renew(side.connection, 1, boot_time_s() - 0.02)
        else:
            guard.revoke(side.connection)
        with pytest.raises(errors.ReadOnlySqlTransaction):
            late.commit()
    assert rows(side, "SELECT DISTINCT v FROM t") == [("early",)]


def test_a_reading_of_an_earlier_reign_counts_for_none(sides: tuple[Side, Side]) -> None:
    """A clean restart keeps it, and boot time may begin anew."""
    side, _ = sides
    side.promote(1)
    with client(side) as early:
        early.execute("INSERT INTO t (v) VALUES ('early')")
    assert rows(side, "SELECT last_value > 0 FROM hsmx_cluster.lease_seen") == [(True,)]
    side.promote(2)
    assert rows(side, "SELECT last_value FROM hsmx_cluster.lease_seen") == [(0,)]


def test_a_transaction_may_be_made_read_only_after_it_wrote(sides: tuple[Side, Side]) -> None:
    side, _ = sides
    side.promote(1)
    with client(side, autocommit=False) as connection:
        connection.execute("INSERT INTO t (v) VALUES ('x')")
        connection.execute("SET TRANSACTION READ ONLY")
        connection.commit()
    assert rows(side, "SELECT v FROM t") == [("x",)]


def test_commits_without_a_pause_end_with_the_lease(sides: tuple[Side, Side]) -> None:
    side, _ = sides
    until_s = boot_time_s() + 1
    guard.grant(side.connection, 1, until_s)
    began_s = []
    with client(side) as connection, suppress(errors.ReadOnlySqlTransaction):
        while not began_s or began_s[-1] < until_s + 60:
            began_s.append(boot_time_s())
            connection.execute("INSERT INTO t (v) VALUES ('x')")
    assert len(rows(side, "SELECT v FROM t")) == len(began_s) - 1
    assert began_s[-2] <= until_s


@pytest.mark.parametrize("step_s", [-3600, -1, 1, 3600])
def test_a_wall_clock_that_was_stepped_makes_no_lease_longer(sides: tuple[Side, Side], step_s: int) -> None:
    side, _ = sides
    side.promote(1)
    with client(side, autocommit=False) as late:
        late.execute("INSERT INTO t (v) VALUES ('late')")
        assert guard.renew(side.connection, 1, boot_time_s() - 0.02)
        # As if a commit within this lease had been at a time that the clock, stepped since, tells otherwise.
        side.connection.execute(
            "SELECT setval('hsmx_cluster.lease_seen', (date_part('epoch', clock_timestamp()) * 1000000)::int8 + 5000 "
            "- %s * 1000000::int8)", (step_s,))
        with pytest.raises(errors.ReadOnlySqlTransaction):
            late.commit()


@pytest.mark.parametrize("level", list(psycopg.IsolationLevel))
def test_a_lease_ends_and_goes_on_whatever_a_transaction_saw_at_its_begin(
    sides: tuple[Side, Side], level: psycopg.IsolationLevel
) -> None:
    side, _ = sides
    side.promote(1, lease_s=0.3)
    with client(side, autocommit=False) as early:
        early.isolation_level = level
        early.execute("SELECT * FROM t")
        assert guard.renew(side.connection, 1, boot_time_s() + 1000)
        time.sleep(0.3)
        early.execute("INSERT INTO t (v) VALUES ('within')")
        early.commit()
        early.execute("SELECT * FROM t")
        guard.revoke(side.connection)
        with pytest.raises(errors.ReadOnlySqlTransaction):
            early.execute("INSERT INTO t (v) VALUES ('late')")
    assert rows(side, "SELECT v FROM t") == [("within",)]


def test_a_lease_of_a_server_that_was_restarted_is_not_renewed(sides: tuple[Side, Side]) -> None:
    side, _ = sides
    side.promote(1)
    assert guard.renew(side.connection, 1, boot_time_s() + 1000)
    side.close()
    side.server.stop()
    side.server.start()
    side.connect()
    assert not guard.renew(side.connection, 1, boot_time_s() + 1000)
    side.promote(1)
    assert rows(side, "SELECT hsmx_cluster.writable()") == [(True,)]


@pytest.mark.parametrize("statement", [
    "PREPARE TRANSACTION 'late'", "prepare/* a */transaction'late'", "/* a */ PREPARE -- b\n TRANSACTION 'late'",
])
def test_a_transaction_that_is_prepared_within_the_lease_cannot_be_committed_after_it(
    sides: tuple[Side, Side], statement: str
) -> None:
    side, _ = sides
    side.connection.execute("ALTER SYSTEM SET max_prepared_transactions = 2")
    side.close()
    side.server.stop()
    side.server.start()
    side.connect()
    side.promote(1)
    with client(side, autocommit=False) as late:
        late.execute("INSERT INTO t (v) VALUES ('late')")
        with pytest.raises(errors.FeatureNotSupported):
            late.execute(statement.encode())
    assert rows(side, "SELECT gid FROM pg_prepared_xacts") == []


def test_a_transaction_leaves_one_row_for_its_check_also_after_a_savepoint_was_rolled_back(
    sides: tuple[Side, Side],
) -> None:
    a = sides[0]
    a.promote(1)
    left = b"SELECT count(*) FROM hsmx_cluster.commit_check WHERE xmin = pg_current_xact_id()::xid"
    with a.server.connect(autocommit=False) as late:
        late.execute("INSERT INTO t (v) VALUES ('one'); INSERT INTO some_rows VALUES ('shared', 1)")
        late.execute("UPDATE t SET v = 'two'; INSERT INTO part VALUES (1)")
        assert late.execute(left).fetchone() == (1,)
        late.rollback()
        late.execute("SAVEPOINT before; INSERT INTO t (v) VALUES ('gone'); ROLLBACK TO before")
        assert late.execute(left).fetchone() == (0,)
        late.execute("INSERT INTO t (v) VALUES ('late')")
        guard.revoke(a.connection)
        with pytest.raises(errors.ReadOnlySqlTransaction):
            late.commit()
    assert rows(a, "SELECT v FROM t WHERE v IN ('one', 'two', 'gone', 'late')") == []


@pytest.mark.parametrize("statement", [
    "SET session_replication_role = replica",
    "SELECT setval('hsmx_cluster.lease_until_cs', 999999999999)",
    "SELECT setval('hsmx_cluster.lease_seen', 999999999999)",
    "INSERT INTO hsmx_cluster.lease VALUES (true, 1, 999999999999, pg_postmaster_start_time())",
    "DELETE FROM hsmx_cluster.commit_check",
    "UPDATE hsmx_cluster.node SET term = 7",
    "ALTER TABLE hsmx_cluster.lease OWNER TO hsmx",
    "CREATE OR REPLACE FUNCTION hsmx_cluster.writable() RETURNS boolean LANGUAGE sql AS 'SELECT true'",
])
def test_a_plain_user_has_no_hand_on_lease_and_guard(sides: tuple[Side, Side], statement: str) -> None:
    with client(sides[0]) as connection, pytest.raises(errors.InsufficientPrivilege):
        connection.execute(statement.encode())


@pytest.mark.parametrize("role", [OWNER, PEER_ROLE])
def test_nobody_gets_more_rights_by_a_guard_of_his_own(sides: tuple[Side, Side], role: str) -> None:
    """The guard's condition is an argument of its trigger, and who has a table chooses it."""
    a = sides[0]
    a.promote(1)
    with a.server.connect() as connection:
        connection.execute(f"SET SESSION AUTHORIZATION {role}".encode())
        connection.execute(
            b"CREATE TEMP TABLE mine (a int); CREATE TEMP TABLE seen (role name);"
            b"CREATE FUNCTION pg_temp.mine() RETURNS boolean LANGUAGE sql AS "
            b"'INSERT INTO pg_temp.seen VALUES (current_user) RETURNING true';"
            b"CREATE TRIGGER mine AFTER INSERT ON mine FOR EACH ROW "
            b"EXECUTE FUNCTION hsmx_cluster.guard_row('pg_temp.mine()'); INSERT INTO mine VALUES (1)")
        assert connection.execute("SELECT role FROM seen").fetchall() == [(role,)]


@pytest.mark.parametrize("role", [OWNER, PEER_ROLE])
def test_nobody_makes_the_check_at_the_commit_read_a_row_of_his_own(sides: tuple[Side, Side], role: str) -> None:
    """What it compares would be cast to a number by a function of that role, with our rights."""
    a = sides[0]
    a.promote(1)
    with a.server.connect() as connection:
        connection.execute(f"SET SESSION AUTHORIZATION {role}".encode())
        connection.execute(
            b"CREATE TEMP TABLE seen (role name); CREATE TYPE pg_temp.cheat AS (x int);"
            b"CREATE FUNCTION pg_temp.number(pg_temp.cheat) RETURNS int LANGUAGE sql AS "
            b"'INSERT INTO pg_temp.seen VALUES (current_user) RETURNING -1';"
            b"CREATE CAST (pg_temp.cheat AS int) WITH FUNCTION pg_temp.number AS IMPLICIT;"
            b"CREATE TEMP TABLE mine (transaction xid8, turn pg_temp.cheat)")
        with suppress(errors.InsufficientPrivilege), connection.transaction():
            connection.execute("CREATE TRIGGER mine AFTER INSERT ON mine FOR EACH ROW "
                               "EXECUTE FUNCTION hsmx_cluster.guard_commit()")
            connection.execute("INSERT INTO mine VALUES (pg_current_xact_id(), ROW(1))")
        assert connection.execute("SELECT role FROM seen WHERE role <> session_user").fetchall() == []


def test_a_guard_that_is_as_it_should_be_is_not_made_again(sides: tuple[Side, Side]) -> None:
    """Each set-up made all anew, and waited for the longest reader of a shared table."""
    a = sides[0]
    a.connection.execute("SET lock_timeout = '50ms'")
    with a.server.connect(autocommit=False) as reader:
        reader.execute("LOCK t, part, part_low, some_rows, some_columns IN ACCESS SHARE MODE")
        guard.arm(a.connection, SCOPE)


def test_a_guard_that_is_not_as_it_should_be_is_made_again(sides: tuple[Side, Side]) -> None:
    a = sides[0]
    armed = rows(a, TRIGGERS)
    assert len(armed) > 5
    a.connection.execute("""
        ALTER TABLE t DISABLE TRIGGER hsmx_cluster_guard; DROP TRIGGER hsmx_cluster_guard ON part_low;
        CREATE TRIGGER hsmx_cluster_guard BEFORE INSERT ON local FOR EACH STATEMENT
            EXECUTE FUNCTION hsmx_cluster.guard();
        CREATE OR REPLACE TRIGGER hsmx_cluster_guard BEFORE INSERT OR UPDATE OF load ON some_columns
            FOR EACH STATEMENT EXECUTE FUNCTION hsmx_cluster.guard();
        CREATE OR REPLACE TRIGGER hsmx_cluster_guard AFTER INSERT OR UPDATE OR DELETE ON some_rows FOR EACH ROW
            EXECUTE FUNCTION hsmx_cluster.guard_row('false');
        CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE OR REPLACE TRIGGER hsmx_cluster_guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON bulk
            FOR EACH STATEMENT EXECUTE FUNCTION guard();
        CREATE OR REPLACE TRIGGER hsmx_cluster_guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON mirror
            FOR EACH STATEMENT WHEN (false) EXECUTE FUNCTION hsmx_cluster.guard()""")
    assert rows(a, TRIGGERS) != armed
    guard.arm(a.connection, SCOPE)
    assert rows(a, TRIGGERS) == armed
    guard.disarm(a.connection)
    assert rows(a, TRIGGERS) == []
