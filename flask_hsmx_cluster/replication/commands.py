"""What ``flask cluster database ...`` does: connects as the system's superuser of PostgreSQL, and calls the rest."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from psycopg.conninfo import make_conninfo
from sqlalchemy.engine import make_url

from ..errors import ConfigError, Finding
from . import requirements
from .access import checked_addresses
from .credentials import Credentials
from .database import Connection, connect
from .prepare import Preparation
from .prepare import prepare as prepare_server
from .scope import Scope

#: Where Debian's PostgreSQL has its Unix sockets, and the system's user that is its superuser.
SOCKETS = "/var/run/postgresql"
SUPERUSER = "postgres"


def prepare(dsn: str | None, url: str | None, listen: Sequence[str], credentials: Path) -> Preparation:
    """Make the server ready and keep the agent's credentials.

    :param dsn: how a superuser reaches the host's database; None: by the Unix socket.
    :param url: the host's database, as an SQLAlchemy URL.
    :param listen: own addresses on the links.
    :param credentials: file for the agent's password.
    :raises ClusterError: see :func:`flask_hsmx_cluster.replication.prepare.prepare`.
    """
    stored = Credentials.load(credentials)
    with closing(_superuser(dsn, url)) as connection:
        done = prepare_server(connection, listen, stored)
    if done.credentials != stored:
        done.credentials.save(credentials)
    return done


def check(dsn: str | None, url: str | None, listen: Sequence[str], scope: str = "") -> list[Finding]:
    """Return what is missing, be it of the shared tables; nothing is changed.

    :param scope: what is shared, in its JSON form; "": nothing is declared.
    """
    shared = Scope.from_json(scope).shared() if scope else ()
    names = [(each.schema, each.table) for each in shared]
    with closing(_superuser(dsn, url)) as connection:
        return requirements.check(connection, names, checked_addresses(listen))


def _superuser(dsn: str | None, url: str | None) -> Connection:
    if dsn is not None:
        return connect(dsn, "flask cluster database")
    with _as_superuser():
        return connect(local_dsn(url), "flask cluster database")


def local_dsn(url: str | None) -> str:
    """Return how the system's superuser reaches the host's database by the Unix socket.

    :raises ConfigError: the host has no database, or it is not PostgreSQL.
    """
    found = make_url(url) if url else None
    if found is None or found.get_backend_name() != "postgresql" or not found.database:
        raise ConfigError("The app has no PostgreSQL database.", "Set HSMX_CLUSTER_DATABASE_URL, or give --dsn.")
    host = found.query.get("host", "")
    socket = host if isinstance(host, str) and host.startswith("/") else SOCKETS
    return make_conninfo(host=socket, port=found.port or 5432, dbname=found.database, user=SUPERUSER)


@contextmanager
def _as_superuser() -> Iterator[None]:
    """While connecting, let root be the system's user whom PostgreSQL knows as its superuser."""
    if os.geteuid() != 0:
        yield
        return
    try:
        user = pwd.getpwnam(SUPERUSER)
    except KeyError:
        raise ConfigError(f"This system has no user {SUPERUSER}.", "Give --dsn of a superuser.") from None
    os.seteuid(user.pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)
