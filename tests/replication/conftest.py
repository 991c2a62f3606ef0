"""Everything in this directory runs against real PostgreSQL servers, which are made for it and removed after it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from flask_hsmx_cluster.replication.access import drop_access, set_access
from sample_app.lab.postgres import LEAST_VERSION, READY, PostgresServer, binaries, free_port

from . import stock

_HERE = Path(__file__).parent

#: The firmware's database and the plain user who owns it.
DATABASE = OWNER = stock.DATABASE


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if binaries() is None:
        reason = f"PostgreSQL {LEAST_VERSION} or newer is not installed (Debian: postgresql)"
        for item in items:
            if _HERE in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=reason))


@dataclass(frozen=True)
class Pair:
    """The servers of two gateways, both with an empty database ``hsmx``."""

    a: PostgresServer
    b: PostgresServer


@pytest.fixture(scope="session")
def servers_directory() -> Iterator[Path]:
    """A directory that the servers' user may enter, with a short name, as Unix sockets need it."""
    directory = Path(tempfile.mkdtemp(prefix="pg-hsmx-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def two_servers(servers_directory: Path) -> Iterator[Pair]:
    pair = Pair(*(
        PostgresServer(servers_directory / name, addresses=addresses, port=free_port(addresses[0]), settings=READY)
        for name, addresses in (("a", ("127.0.0.1", "127.0.0.3")), ("b", ("127.0.0.2", "127.0.0.4")))
    ))
    try:
        for server in (pair.a, pair.b):
            server.create()
            server.start()
        yield pair
    finally:
        for server in (pair.a, pair.b):
            server.remove()


@pytest.fixture
def pair(two_servers: Pair) -> Pair:
    """Two servers that are ready for replication, with nothing in them from other tests.

    Server ``a`` listens on 127.0.0.1 and 127.0.0.3, server ``b`` on 127.0.0.2 and 127.0.0.4.
    """
    both = (two_servers.a, two_servers.b)
    for server in both:
        server.thaw()
        if not server.running():
            server.start()
        release(server)
    # Subscriptions of both go first: a slot that streams cannot be dropped.
    for server in both:
        drop_subscriptions(server)
    for server in both:
        renew(server)
    return two_servers


@pytest.fixture(scope="session")
def ready(servers_directory: Path) -> Iterator[stock.Ready]:
    """A stock server that was prepared: one for all tests of that, because it takes seconds."""
    with stock.prepared(servers_directory) as ready:
        yield ready


@pytest.fixture
def pinned(ready: stock.Ready, tmp_path: Path) -> Path:
    """Where the other gateway has that server's certificate."""
    path = tmp_path / "peer.crt"
    path.write_text(ready.credentials.certificate)
    return path


@pytest.fixture
def open_to_peer(ready: stock.Ready) -> Iterator[psycopg.Connection[Any]]:
    """The agent's own connection, with the peer let in from its addresses."""
    with psycopg.connect(ready.credentials.dsn, autocommit=True) as connection:
        set_access(connection, stock.PEER, password=stock.PASSWORD)
        yield connection
        drop_access(connection)


def release(server: PostgresServer) -> None:
    """Undo ``ALTER SYSTEM``, so that no write waits for a peer any more."""
    with server.connect(dbname="postgres") as connection:
        connection.execute("ALTER SYSTEM RESET ALL")
        connection.execute("SELECT pg_reload_conf()")


def drop_subscriptions(server: PostgresServer) -> None:
    """Drop every subscription without asking its publisher."""
    with server.connect(dbname="postgres") as connection:
        found = connection.execute(
            "SELECT datname, subname FROM pg_subscription JOIN pg_database d ON d.oid = subdbid").fetchall()
    for database, name in found:
        with server.connect(dbname=database) as connection:
            for each in ("ALTER SUBSCRIPTION {} DISABLE", "ALTER SUBSCRIPTION {} SET (slot_name = NONE)",
                         "DROP SUBSCRIPTION {}"):
                connection.execute(sql.SQL(each).format(sql.Identifier(name)))


def renew(server: PostgresServer) -> None:
    """Replace everything that tests left on a server by one empty database."""
    server.database = DATABASE
    with server.connect(dbname="postgres") as connection:
        connection.execute("""
            DO $$ DECLARE slot name; BEGIN
                FOR slot IN SELECT slot_name FROM pg_replication_slots LOOP
                    PERFORM pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots
                        WHERE slot_name = slot AND active;
                    PERFORM pg_drop_replication_slot(slot);
                END LOOP;
                PERFORM pg_replication_origin_drop(roname) FROM pg_replication_origin;
            END $$""")
        for query, drop in (
            ("SELECT datname FROM pg_database WHERE datname <> 'postgres' AND NOT datistemplate",
             "DROP DATABASE {} WITH (FORCE)"),
            ("SELECT rolname FROM pg_roles WHERE rolname <> 'postgres' AND rolname !~ '^pg_'", "DROP ROLE {}"),
        ):
            for (name,) in connection.execute(query).fetchall():
                connection.execute(sql.SQL(drop).format(sql.Identifier(name)))
        names = {"database": sql.Identifier(DATABASE), "owner": sql.Identifier(OWNER)}
        connection.execute(sql.SQL("CREATE ROLE {owner} LOGIN").format(**names))
        connection.execute(sql.SQL("CREATE DATABASE {database} OWNER {owner}").format(**names))
