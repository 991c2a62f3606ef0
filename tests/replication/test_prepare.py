"""A stock PostgreSQL becomes ready, and only the other gateway comes in."""

from __future__ import annotations

import os
import select
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from flask_hsmx_cluster.errors import ChecksFailed, RequestRefused
from flask_hsmx_cluster.replication import server_files
from flask_hsmx_cluster.replication.access import (
    MAX_ADDRESSES,
    checked_addresses,
    checked_database,
    drop_access,
    grant_shared,
    peer_dsn,
    pin_certificate,
    present_access,
    set_access,
)
from flask_hsmx_cluster.replication.credentials import Credentials
from flask_hsmx_cluster.replication.database import DatabaseFailure
from flask_hsmx_cluster.replication.names import AGENT_ROLE, APPLY_ROLE, PEER_ROLE, PUBLICATION
from flask_hsmx_cluster.replication.prepare import Preparation, new_certificate, prepare
from flask_hsmx_cluster.replication.requirements import check
from sample_app.lab.postgres import PostgresServer, free_port

from .conftest import DATABASE, Pair

PASSWORD = "a 'secret' \\ of the pair"
#: The server's own addresses on its links, and the other gateway's.
LINKS = ("127.0.0.1", "127.0.0.3")
PEER = ("127.0.0.1", "127.0.0.2")
STRANGER = "127.0.0.9"
WITHIN_S = 30


@dataclass
class Ready:
    """A server as ``initdb`` leaves it, then prepared, then restarted."""

    server: PostgresServer
    before: list[str]
    first: Preparation
    again: Preparation
    log: str

    @property
    def credentials(self) -> Credentials:
        return self.first.credentials

    def dsn(self, certificate: Path, **changes: Any) -> str:
        """Connection string of the other gateway, as it would be on this machine."""
        base = peer_dsn(["127.0.0.1"], self.server.port, DATABASE, PASSWORD, str(certificate))
        return make_conninfo(base, **changes)


@pytest.fixture(scope="module")
def ready(servers_directory: Path) -> Iterator[Ready]:
    server = PostgresServer(servers_directory / "stock", addresses=["localhost"], port=free_port())
    server.create()
    try:
        server.start()
        with server.connect() as connection:
            connection.execute(f"CREATE DATABASE {DATABASE}")
        server.database = DATABASE
        with server.connect() as connection:
            connection.execute("ALTER SYSTEM SET log_statement = 'all'")
            connection.execute("ALTER SYSTEM SET log_min_duration_statement = 0")
            connection.execute("SELECT pg_reload_conf()")
            before = [finding.key for finding in check(connection, listen=checked_addresses(LINKS))]
        with server.connect() as connection:
            first = prepare(connection, LINKS)
            again = prepare(connection, LINKS, first.credentials)
        log = server.log()
        server.stop()
        server.start()
        yield Ready(server, before, first, again, log)
    finally:
        server.remove()


@pytest.fixture
def pinned(ready: Ready, tmp_path: Path) -> Path:
    path = tmp_path / "peer.crt"
    path.write_text(ready.credentials.certificate)
    return path


@pytest.fixture
def open_to_peer(ready: Ready) -> Iterator[psycopg.Connection[Any]]:
    """The agent's own connection, with the peer let in from its addresses."""
    with psycopg.connect(ready.credentials.dsn, autocommit=True) as connection:
        set_access(connection, PEER, password=PASSWORD)
        yield connection
        drop_access(connection)


@contextmanager
def seen_from(source: str, port: int) -> Iterator[int]:
    """Give a port whose connections reach the server's port from another address; bytes pass unchanged."""
    def carry(inner: socket.socket) -> None:
        with inner, socket.create_connection(("127.0.0.1", port), source_address=(source, 0)) as outer, \
                suppress(OSError):
            while ready := select.select([inner, outer], [], [], WITHIN_S)[0]:
                for end in ready:
                    if not (data := end.recv(65536)):
                        return
                    (outer if end is inner else inner).sendall(data)

    def serve() -> None:
        with suppress(OSError):
            while True:
                threads.append(threading.Thread(target=carry, args=(listener.accept()[0],)))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threads = [threading.Thread(target=serve)]
        threads[0].start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join(WITHIN_S)


def refused(dsn: str, **parameters: Any) -> str:
    """Return why the server or the driver refuses a connection."""
    with pytest.raises(psycopg.OperationalError) as caught:
        psycopg.connect(dsn, connect_timeout=5, **parameters).close()
    return str(caught.value)


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + WITHIN_S
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return met


def hba(server: PostgresServer) -> Path:
    return server.data / "pg_hba.conf"


# ---- preparing ----


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
        connection.execute("ALTER SYSTEM SET wal_sender_timeout = 0")
        connection.execute("SELECT pg_reload_conf()")
        assert eventually(lambda: connection.execute("SHOW wal_sender_timeout").fetchone() == ("0",))
        assert {finding.key for finding in check(connection)} == {"database_role", "database_setting"}
        done = prepare(connection, LINKS, ready.credentials)
        mended = {f"role {PEER_ROLE}", f"role {APPLY_ROLE}", "wal_sender_timeout"}
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


# ---- access ----


def test_the_agents_role_comes_in_by_the_unix_socket_only(ready: Ready) -> None:
    psycopg.connect(ready.credentials.dsn).close()
    for sslmode in ("require", "disable"):
        why = refused(ready.credentials.dsn, host="127.0.0.1", sslmode=sslmode)
        assert "pg_hba.conf rejects connection" in why
    assert "pg_hba.conf rejects connection" in refused(ready.credentials.dsn, dbname="postgres")
    assert "password authentication failed" in refused(ready.credentials.dsn, password="guessed")


@pytest.mark.parametrize("host", ["", "127.0.0.1"])
def test_nobody_comes_in_as_the_role_that_applies(ready: Ready, host: str) -> None:
    where = {"host": host} if host else {}
    assert "pg_hba.conf rejects connection" in refused(ready.credentials.dsn, user=APPLY_ROLE, **where)


def test_the_peer_comes_in_with_tls_from_its_address(
    ready: Ready, open_to_peer: psycopg.Connection[Any], pinned: Path
) -> None:
    with psycopg.connect(ready.dsn(pinned)) as connection:
        assert connection.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone() == (True,)
    with seen_from("127.0.0.2", ready.server.port) as port:
        psycopg.connect(ready.dsn(pinned, port=port)).close()
    with psycopg.connect(ready.dsn(pinned), replication="database", autocommit=True) as connection:
        assert connection.execute("IDENTIFY_SYSTEM").fetchone() is not None


def test_who_waits_for_the_peers_answer_learns_soon_that_it_has_lost_its_power(
    ready: Ready, open_to_peer: psycopg.Connection[Any], pinned: Path
) -> None:
    """A rejoin, a comparison or a check waited for two hours, and meanwhile no other one began."""
    with psycopg.connect(ready.dsn(pinned)) as connection, socket.socket(fileno=os.dup(connection.fileno())) as its:
        on = its.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        idle, every, times = (
            its.getsockopt(socket.IPPROTO_TCP, name)
            for name in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT))
    assert on and idle + every * times < 10


def test_nobody_else_comes_in_as_the_peer(
    ready: Ready, open_to_peer: psycopg.Connection[Any], pinned: Path, tmp_path: Path
) -> None:
    rejected = "pg_hba.conf rejects"
    with seen_from(STRANGER, ready.server.port) as port:
        assert rejected in refused(ready.dsn(pinned, port=port))
    assert rejected in refused(ready.dsn(pinned, sslmode="disable", channel_binding="disable"))
    assert rejected in refused(ready.dsn(pinned, dbname="postgres"))
    assert rejected in refused(ready.dsn(pinned), replication="true")
    local = {"host": str(ready.server.directory), "channel_binding": "disable", "sslmode": "disable"}
    assert rejected in refused(ready.dsn(pinned, **local))
    assert "password authentication failed" in refused(ready.dsn(pinned, password="guessed"))
    other = tmp_path / "other.crt"
    other.write_bytes(new_certificate()[0])
    assert "certificate verify failed" in refused(ready.dsn(other))


def test_without_pairing_the_peers_role_comes_in_nowhere(ready: Ready, pinned: Path) -> None:
    with ready.server.connect() as connection:
        assert present_access(connection) == ()
    assert "pg_hba.conf rejects" in refused(ready.dsn(pinned))


def test_sessions_end_when_their_address_is_no_longer_allowed(
    ready: Ready, open_to_peer: psycopg.Connection[Any], pinned: Path
) -> None:
    with seen_from("127.0.0.2", ready.server.port) as port:
        kept, ended = psycopg.connect(ready.dsn(pinned)), psycopg.connect(ready.dsn(pinned, port=port))
        set_access(open_to_peer, ["127.0.0.1"])
        with pytest.raises(psycopg.OperationalError):
            ended.execute("SELECT 1")
        kept.execute("SELECT 1")
        drop_access(open_to_peer)
        with pytest.raises(psycopg.OperationalError):
            kept.execute("SELECT 1")
        kept.close()
        ended.close()
    assert "pg_hba.conf rejects" in refused(ready.dsn(pinned))


def test_the_operators_lines_stay_as_they_are(ready: Ready, open_to_peer: psycopg.Connection[Any]) -> None:
    path = hba(ready.server)
    block, mark, rest = path.read_bytes().partition(b"# hsmx_cluster: end.\n")
    path.write_bytes(block + mark + b"host all all 127.0.0.9/32 trust \\\n # odd\n" + rest)
    with_more = path.read_bytes().partition(mark)[2]
    set_access(open_to_peer, ["127.0.0.2", "::1"])
    assert path.read_bytes().partition(mark)[2] == with_more
    assert path.read_bytes().startswith(b"# hsmx_cluster: begin.")
    assert b'hostssl "hsmx" "hsmx_cluster_peer" ::1/128 scram-sha-256\n' in path.read_bytes()
    # The line lets everybody in from there without a password, but not in our roles.
    with seen_from("127.0.0.9", ready.server.port) as port:
        psycopg.connect(host="127.0.0.1", port=port, user="postgres", dbname=DATABASE).close()
        assert "rejects" in refused(ready.credentials.dsn, host="127.0.0.1", port=port)
    findings = check(open_to_peer)
    assert [(finding.key, finding.blocking) for finding in findings] == [("database_open", False)]
    path.write_bytes(block + mark + rest)


@pytest.mark.parametrize("damage", ["begin", "end", "twice", "moved"])
def test_an_edited_block_is_refused(ready: Ready, open_to_peer: psycopg.Connection[Any], damage: str) -> None:
    path = hba(ready.server)
    good = path.read_bytes()
    block, mark, rest = good.partition(b"# hsmx_cluster: end.\n")
    path.write_bytes({
        "begin": good.partition(b"\n")[2], "end": block + rest, "twice": good + block + mark,
        "moved": b"host all all 0.0.0.0/0 trust\n" + good,
    }[damage])
    edited = path.read_bytes()
    with pytest.raises(RequestRefused, match="has been edited"):
        set_access(open_to_peer, ["127.0.0.2"])
    assert path.read_bytes() == edited
    path.write_bytes(good)


def test_what_the_server_reads_otherwise_is_taken_back(ready: Ready, open_to_peer: psycopg.Connection[Any]) -> None:
    """Without TLS a line for TLS can never match: PostgreSQL reports it as an error."""
    good = hba(ready.server).read_bytes()
    open_to_peer.execute("ALTER SYSTEM SET ssl = off")
    open_to_peer.execute("SELECT pg_reload_conf()")
    assert eventually(lambda: open_to_peer.execute("SHOW ssl").fetchone() == ("off",))
    with pytest.raises(DatabaseFailure, match="SSL is disabled"):
        set_access(open_to_peer, ["127.0.0.2"])
    assert hba(ready.server).read_bytes() == good
    open_to_peer.execute("ALTER SYSTEM SET ssl = on")
    open_to_peer.execute("SELECT pg_reload_conf()")
    assert eventually(lambda: open_to_peer.execute("SHOW ssl").fetchone() == ("on",))


@pytest.mark.parametrize("addresses", [
    [], ["10.0.0.0/8"], ["all"], ["samenet"], ["10.0.0.1 trust\nhost all all all trust"], ["gw-a"], [""], ["0.0.0.0"],
    ["::"], ["fe80::1%eth0"], ["::ffff:10.0.0.1"], ["224.0.0.1"], ["255.255.255.255"], ["10.0.0.1;x"], ["1" * 5000],
    [f"10.0.0.{n}" for n in range(MAX_ADDRESSES + 1)],
])
def test_hostile_addresses_are_refused(
    ready: Ready, open_to_peer: psycopg.Connection[Any], addresses: list[str]
) -> None:
    before = hba(ready.server).read_bytes()
    with pytest.raises(RequestRefused):
        set_access(open_to_peer, addresses)
    if addresses:
        with pytest.raises(RequestRefused):
            prepare(open_to_peer, addresses)
    assert hba(ready.server).read_bytes() == before


@pytest.mark.parametrize("name", ['a"b', "a\nb", "/.*", "@file", "+all", "a\\", "x" * 64, "", "a,b", "a#b"])
def test_hostile_names_of_databases_are_refused(name: str) -> None:
    with pytest.raises(RequestRefused):
        checked_database(name)


@pytest.mark.parametrize("name", ["all", "replication", "sameuser", "Gäste", "a b-c.d"])
def test_a_database_is_meant_literally_whatever_its_name(ready: Ready, name: str) -> None:
    with ready.server.connect() as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    try:
        with ready.server.connect(dbname=name) as connection:
            set_access(connection, PEER)
            assert "rejects" in refused(ready.credentials.dsn)
            psycopg.connect(ready.credentials.dsn, dbname=name).close()
    finally:
        with ready.server.connect() as connection:
            drop_access(connection)
            connection.execute(f'DROP DATABASE "{name}"')


# ---- files of the server ----


def test_a_file_is_whole_or_the_old_one(tmp_path: Path) -> None:
    """The script that the server runs gets half of the content, as when its session is killed."""
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o640)
    (tmp_path / "file.hsmx_cluster").write_text("left by a crash")

    def write(sent: bytes) -> int:
        arguments = ["sh", "-euc", server_files._WRITE, "sh", str(path), sha256(b"new content").hexdigest()]
        return subprocess.run(arguments, input=sent, capture_output=True).returncode

    assert write(b"bmV3IGNv") != 0
    assert path.read_text() == "old"
    assert write(b"bmV3IGNvbnRlbnQ=") == 0
    assert path.read_text() == "new content" and stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_server_files(ready: Ready) -> None:
    content = bytes(range(256)) * 500
    with ready.server.connect() as connection:
        path = server_files.data_file(connection, "it's a; $(touch x) file")
        assert server_files.read_file(connection, path) is None
        for each in (content, b""):
            server_files.write_file(connection, path, each)
            assert server_files.read_file(connection, path) == each == Path(path).read_bytes()
        assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
        Path(path).unlink()
        with pytest.raises(DatabaseFailure, match="cannot write /nowhere/x"):
            server_files.write_file(connection, "/nowhere/x", b"")
        for bad in ("relative", "/a\nb", ""):
            with pytest.raises(RequestRefused):
                server_files.write_file(connection, bad, b"")
        with pytest.raises(RequestRefused, match="larger"):
            server_files.write_file(connection, path, bytes(server_files.MAX_BYTES + 1))


@pytest.mark.parametrize("pem", ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_only_a_certificate_can_be_pinned(ready: Ready, pem: str) -> None:
    good = ready.credentials.certificate
    with ready.server.connect() as connection:
        for each in (pem, good + good, good + "x" * 20000):
            with pytest.raises(RequestRefused):
                pin_certificate(connection, each)
        path = Path(pin_certificate(connection, f"rubbish\n{good}more\n"))
    assert path.read_text() == good


# ---- together ----


def test_a_subscription_with_pinned_certificate_and_only_what_is_published(
    ready: Ready, pair: Pair, open_to_peer: psycopg.Connection[Any], pinned: Path
) -> None:
    for server in (ready.server, pair.b):
        with server.connect() as connection:
            connection.execute("CREATE TABLE voucher (id int PRIMARY KEY, own text)")
    open_to_peer.execute("CREATE TABLE licence (id int PRIMARY KEY)")
    open_to_peer.execute("INSERT INTO voucher VALUES (1)")
    open_to_peer.execute(f"CREATE PUBLICATION {PUBLICATION} FOR TABLE voucher (id)")
    grant_shared(open_to_peer)
    with psycopg.connect(ready.dsn(pinned), autocommit=True) as peer:
        assert peer.execute("SELECT id FROM voucher").fetchall() == [(1,)]
        for query in ("SELECT own FROM voucher", "SELECT * FROM licence", "DELETE FROM voucher", "CREATE TABLE x ()"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                peer.execute(query)
    with pair.b.connect() as connection:
        dsn = ready.dsn(Path(pin_certificate(connection, ready.credentials.certificate)))
        quoted = dsn.replace("'", "''")
        connection.execute(f"CREATE SUBSCRIPTION s CONNECTION E'{quoted.replace(chr(92), chr(92) * 2)}' "
                           f"PUBLICATION {PUBLICATION}")
        assert eventually(lambda: connection.execute("SELECT id FROM voucher").fetchall() == [(1,)])
        open_to_peer.execute("INSERT INTO voucher VALUES (2)")
        assert eventually(lambda: len(connection.execute("SELECT id FROM voucher").fetchall()) == 2)
        connection.execute("DROP SUBSCRIPTION s")
    open_to_peer.execute(f"DROP PUBLICATION {PUBLICATION}")
    open_to_peer.execute("DROP TABLE voucher, licence")


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
