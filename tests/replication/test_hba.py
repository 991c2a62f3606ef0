"""The block in ``pg_hba.conf``: the operator's lines stay, nothing hostile gets in, what is edited is refused."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from flask_hsmx_cluster.errors import RequestRefused
from flask_hsmx_cluster.replication.access import (
    MAX_ADDRESSES,
    checked_database,
    drop_access,
    set_access,
)
from flask_hsmx_cluster.replication.database import DatabaseFailure
from flask_hsmx_cluster.replication.prepare import prepare
from flask_hsmx_cluster.replication.requirements import check

from .stock import DATABASE, PEER, Ready, eventually, hba, refused, seen_from


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
