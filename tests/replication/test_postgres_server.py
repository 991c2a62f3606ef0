"""The servers that all other tests here rely on."""

from __future__ import annotations

import os
import time
from pathlib import Path

import psycopg
import pytest

from sample_app.lab.postgres import PostgresServer, ended

from .conftest import Pair

DEAD_S = 2


def _count(server: PostgresServer) -> int:
    with server.connect() as connection:
        row = connection.execute("SELECT count(*) FROM t").fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("end", ["kill", "immediate", "fast", "smart"])
def test_what_was_committed_is_there_after_every_end(pair: Pair, end: str) -> None:
    with pair.a.connect() as connection:
        connection.execute("CREATE TABLE t (id int)")
        connection.execute("INSERT INTO t VALUES (1)")
    if end == "kill":
        pair.a.kill()
    else:
        pair.a.stop(end)
    assert not pair.a.running()
    assert not (pair.a.data / "postmaster.pid").exists()
    with pytest.raises(psycopg.OperationalError):
        pair.a.connect(connect_timeout=DEAD_S)
    pair.a.start()
    assert _count(pair.a) == 1


def test_a_kill_leaves_no_process_and_no_open_transaction(pair: Pair) -> None:
    with pair.a.connect() as connection:
        connection.execute("CREATE TABLE t (id int)")
    open_one = pair.a.connect(autocommit=False)
    open_one.execute("INSERT INTO t VALUES (1)")
    backend = open_one.info.backend_pid
    pair.a.kill()
    open_one.close()
    assert ended(backend)
    pair.a.start()
    assert _count(pair.a) == 0


def test_a_frozen_server_runs_but_does_not_answer_until_it_thaws(pair: Pair) -> None:
    with pair.a.connect() as connection:
        connection.execute("CREATE TABLE t (id int)")
    pair.a.freeze()
    assert pair.a.running() and not pair.a.ready()
    assert pair.b.ready()
    pair.a.thaw()
    assert _count(pair.a) == 0


def test_a_frozen_server_can_be_killed(pair: Pair) -> None:
    pair.a.freeze()
    pair.a.kill()
    pair.a.start()
    assert pair.a.ready()


def test_the_server_is_never_root(pair: Pair) -> None:
    assert pair.a.data.stat().st_uid != 0
    with pair.a.connect() as connection:
        pid = connection.info.backend_pid
        assert Path("/proc", str(pid)).stat().st_uid == pair.a.data.stat().st_uid
    assert pair.a.data.stat().st_uid == (os.geteuid() or 61004)


def test_tests_leave_nothing_to_each_other(pair: Pair) -> None:
    for server in (pair.a, pair.b):
        with server.connect() as connection:
            assert connection.execute("SELECT 1 FROM pg_class WHERE relname = 't'").fetchall() == []
            assert connection.execute("SELECT 1 FROM pg_subscription").fetchall() == []
            assert connection.execute("SELECT 1 FROM pg_replication_slots").fetchall() == []
            assert connection.execute("SHOW synchronous_standby_names").fetchall() == [("",)]
        with server.connect(user="hsmx") as connection:
            connection.execute("CREATE TABLE t (id int)")


def test_rows_reach_the_other_server(pair: Pair) -> None:
    for server in (pair.a, pair.b):
        with server.connect() as connection:
            connection.execute("CREATE TABLE t (id int PRIMARY KEY)")
    with pair.a.connect() as a, pair.b.connect() as b:
        a.execute("CREATE ROLE copy LOGIN REPLICATION PASSWORD 'secret' IN ROLE pg_read_all_data")
        a.execute("CREATE PUBLICATION p FOR TABLE t")
        b.execute(
            f"CREATE SUBSCRIPTION s CONNECTION 'host=127.0.0.1 port={pair.a.port} dbname=hsmx user=copy "
            "password=secret' PUBLICATION p WITH (synchronous_commit = on)")
        a.execute("ALTER SYSTEM SET synchronous_standby_names = 's'")
        a.execute("SELECT pg_reload_conf()")
        a.execute("INSERT INTO t VALUES (1)")
        deadline = time.monotonic() + 30
        while _count(pair.b) == 0 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert _count(pair.b) == 1
    # The next test starts from anew although writes on one server wait for the other, which is dead.
    pair.b.kill()
