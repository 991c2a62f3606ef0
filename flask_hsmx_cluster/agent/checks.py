"""Health checks of this machine, apart from what the network shows: disk space, and the host's database."""

from __future__ import annotations

import contextlib
import shutil
import socket
import struct
from collections.abc import Iterable
from pathlib import Path

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

#: Less free space than this in the state directory or the database's is ill health, bytes.
DISK_FREE_LEAST = 50 * 1024 * 1024
#: A database that has not answered by then counts as ill, s.
DATABASE_TIMEOUT_S = 2.0
#: PostgreSQL's SSLRequest (protocol manual, 55.7): answered with one byte, before any login.
_SSL_REQUEST = struct.pack("!II", 8, 80877103)


def disk_is_low(directories: Iterable[str]) -> tuple[bool, str]:
    """Return whether a disk below one of these directories is nearly full, and the state of the fullest in words.

    A directory that this user may not look at does not count.
    """
    free = []
    for directory in directories:
        with contextlib.suppress(OSError):
            free.append(shutil.disk_usage(directory).free)
    least = min(free)
    return least < DISK_FREE_LEAST, f"{least // (1024 * 1024)} MB free"


def database_is_silent(url: str) -> tuple[bool, str]:
    """Return whether the host's PostgreSQL does not answer, and its state in words.

    It is asked whether it speaks TLS: that takes no credentials, no session and no driver (7 MB in the agent).
    A database that is no server, such as SQLite, is never silent.
    """
    try:
        found = make_url(url)
    except ArgumentError:
        return True, "its URL cannot be read"
    if not found.drivername.startswith("postgresql"):
        return False, f"{found.drivername} is no server"
    host = found.query.get("host") or found.host or "/var/run/postgresql"
    host = host if isinstance(host, str) else host[0]
    port = found.port or 5432
    try:
        with _connect(host, port) as connection:
            connection.sendall(_SSL_REQUEST)
            answer = connection.recv(1)
    except OSError as error:
        return True, f"{host}: {error.strerror or error}"
    return answer not in (b"S", b"N"), "it answers" if answer in (b"S", b"N") else "it does not speak PostgreSQL"


def _connect(host: str, port: int) -> socket.socket:
    if not host.startswith("/"):
        return socket.create_connection((host, port), DATABASE_TIMEOUT_S)
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(DATABASE_TIMEOUT_S)
    try:
        connection.connect(str(Path(host) / f".s.PGSQL.{port}"))
    except OSError:
        connection.close()
        raise
    return connection
