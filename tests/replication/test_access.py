"""Into a prepared PostgreSQL the agent comes and the other gateway, each by its own way; nobody else does."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import psycopg
import pytest

from flask_hsmx_cluster.replication.access import (
    drop_access,
    grant_shared,
    pin_certificate,
    present_access,
    set_access,
)
from flask_hsmx_cluster.replication.names import APPLY_ROLE, PUBLICATION
from flask_hsmx_cluster.replication.prepare import new_certificate

from .conftest import Pair
from .stock import STRANGER, Ready, eventually, refused, seen_from


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
