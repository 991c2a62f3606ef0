"""A stock PostgreSQL becomes ready."""

from __future__ import annotations

import stat
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from flask_hsmx_cluster.errors import ChecksFailed
from flask_hsmx_cluster.replication.access import (
    checked_addresses,
    present_access,
)
from flask_hsmx_cluster.replication.credentials import Credentials
from flask_hsmx_cluster.replication.names import AGENT_ROLE, APPLY_ROLE, PEER_ROLE
from flask_hsmx_cluster.replication.prepare import Preparation, prepare
from flask_hsmx_cluster.replication.requirements import check

from .conftest import Pair
from .stock import LINKS, PEER, Ready, eventually, hba, refused


def test_a_stock_server_becomes_ready(ready: Ready) -> None:
    assert set(ready.before) == {"database_setting", "database_role", "database_access",
                                 "database_not_listening", "database_tls"}
    changed = {change.what: change for change in ready.first.changes}
    assert changed["wal_level"].after == "logical" and changed["wal_level"].restart
    assert changed["wal_level"].before == "replica"
    assert not changed["wal_sender_timeout"].restart
    assert changed["listen_addresses"].after == "localhost, 127.0.0.1, 127.0.0.3"
    assert {f"role {AGENT_ROLE}", f"role {PEER_ROLE}", "pg_hba.conf", "ssl", "max_slot_wal_keep_size"} <= set(changed)
    assert ready.first.restart
    with ready.server.connect() as connection:
        assert check(connection, listen=checked_addresses(LINKS)) == []


def test_a_second_run_changes_nothing(ready: Ready) -> None:
    assert ready.again.changes == () and ready.again.restart
    with ready.server.connect() as connection:
        content = hba(ready.server).read_bytes()
        done = prepare(connection, LINKS, ready.credentials)
        assert (done.changes, done.restart, done.credentials) == ((), False, ready.credentials)
        assert hba(ready.server).read_bytes() == content


def test_what_an_operator_has_set_generously_stays(ready: Ready) -> None:
    with ready.server.connect() as connection:
        connection.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '9GB'")
        connection.execute("ALTER SYSTEM SET max_sync_workers_per_subscription = 6")
        assert prepare(connection, LINKS, ready.credentials).changes == ()


def test_preparing_mends_what_was_broken_and_keeps_the_peers_addresses(
    ready: Ready, open_to_peer: psycopg.Connection[Any]
) -> None:
    with ready.server.connect() as connection:
        for role in (PEER_ROLE, APPLY_ROLE):
            connection.execute(f"ALTER ROLE {role} SUPERUSER")
        connection.execute(f"ALTER ROLE {PEER_ROLE} SET wal_sender_timeout = '1s'")
        connection.execute("ALTER SYSTEM SET wal_sender_timeout = 0")
        connection.execute("SELECT pg_reload_conf()")
        assert eventually(lambda: connection.execute("SHOW wal_sender_timeout").fetchone() == ("0",))
        assert {finding.key for finding in check(connection)} == {"database_role", "database_setting"}
        done = prepare(connection, LINKS, ready.credentials)
        mended = {f"role {PEER_ROLE}", f"role {APPLY_ROLE}", "wal_sender_timeout",
                  f"wal_sender_timeout of the role {PEER_ROLE}"}  # fmt: skip
        assert {change.what for change in done.changes} == mended
        assert present_access(connection) == checked_addresses(PEER)
        assert check(connection) == []


def test_a_lost_password_is_replaced(ready: Ready) -> None:
    wrong = Credentials(make_conninfo(ready.credentials.dsn, password="another"), ready.credentials.certificate)
    with ready.server.connect() as connection:
        done = prepare(connection, LINKS, wrong)
        assert [change.what for change in done.changes] == [f"password of {AGENT_ROLE}"]
        psycopg.connect(done.credentials.dsn).close()
        assert "password authentication failed" in refused(ready.credentials.dsn)
    ready.first = Preparation((), False, done.credentials)


def test_only_a_superuser_can_prepare(pair: Pair) -> None:
    with pair.a.connect(user="hsmx") as connection, pytest.raises(ChecksFailed) as caught:
        prepare(connection)
    assert [finding.key for finding in caught.value.findings] == ["database_not_superuser"]


def test_no_secret_is_in_the_log(ready: Ready) -> None:
    """The server of this module logs every statement with its parameters."""
    assert 'CREATE ROLE "hsmx_cluster_agent"' in ready.log
    password = conninfo_to_dict(ready.credentials.dsn)["password"]
    assert isinstance(password, str)
    key = (ready.server.data / "hsmx_cluster_server.key").read_text().splitlines()[1]
    for secret in (password, key, "SCRAM-SHA-256$", "PRIVATE KEY"):
        assert secret not in ready.log


def test_the_servers_key_is_its_own(ready: Ready) -> None:
    key = ready.server.data / "hsmx_cluster_server.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert key.stat().st_uid == ready.server.data.stat().st_uid


def test_shared_tables_that_cannot_be_shared_are_found(ready: Ready) -> None:
    with ready.server.connect() as connection:
        connection.execute("""
            CREATE SCHEMA t; SET search_path = t;
            CREATE TABLE good (id int PRIMARY KEY);
            CREATE TABLE child (id int PRIMARY KEY REFERENCES good);
            CREATE TABLE keyless (id int);
            CREATE TABLE whole (id int); ALTER TABLE whole REPLICA IDENTITY FULL;
            CREATE TABLE nothing (id int PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING;
            CREATE TABLE parted (id int) PARTITION BY RANGE (id);
            CREATE TABLE part PARTITION OF parted FOR VALUES FROM (0) TO (9);
            CREATE UNLOGGED TABLE fleeting (id int PRIMARY KEY);
            CREATE VIEW looked AS SELECT 1;
            CREATE TABLE hidden (id int PRIMARY KEY); ALTER TABLE hidden ENABLE ROW LEVEL SECURITY;
            CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
            CREATE TABLE watched (id int PRIMARY KEY);
            CREATE TRIGGER plain BEFORE INSERT ON watched FOR EACH ROW EXECUTE FUNCTION f();
            CREATE TRIGGER "Always" BEFORE INSERT ON watched FOR EACH ROW EXECUTE FUNCTION f();
            ALTER TABLE watched ENABLE ALWAYS TRIGGER "Always";
        """)
        names = [name for (name,) in connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 't'::regnamespace AND relkind IN ('r', 'p', 'v')")]
        findings = check(connection, [*(("t", name) for name in names), ("t", "absent")])
        connection.execute("DROP SCHEMA t CASCADE")
    found = sorted((finding.key, finding.text.split()[0 if "trigger" not in finding.key else 4]) for finding in findings
                   if finding.key != "table_missing")
    assert found == [
        ("table_identity", "keyless"), ("table_identity", "nothing"), ("table_identity", "part"),
        ("table_identity", "part"), ("table_kind", "t.fleeting"), ("table_kind", "t.looked"),
        ("table_row_security", "t.hidden"), ("table_trigger", "watched's"),
    ]
    assert any('"Always"' in finding.text for finding in findings)
    assert [finding.text for finding in findings if finding.key == "table_missing"] == [
        "The shared table t.absent does not exist here."]
