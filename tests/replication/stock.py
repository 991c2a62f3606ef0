"""A server as ``initdb`` leaves it, then prepared; and connections to it from where the other gateway is."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from flask_hsmx_cluster.replication.access import (
    checked_addresses,
    peer_dsn,
)
from flask_hsmx_cluster.replication.credentials import Credentials
from flask_hsmx_cluster.replication.prepare import Preparation, prepare
from flask_hsmx_cluster.replication.requirements import check
from sample_app.lab.postgres import PostgresServer, free_port

#: The firmware's database.
DATABASE = "hsmx"
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


@contextmanager
def prepared(servers_directory: Path) -> Iterator[Ready]:
    """Give such a server."""
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
