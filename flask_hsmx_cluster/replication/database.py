"""Connections to the gateway's own PostgreSQL, and to the other one's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from ..errors import ClusterError

Connection = psycopg.Connection[TupleRow]
#: A database that does not answer a connection by then is down, s.
CONNECT_TIMEOUT_S = 2
#: Our own sessions never wait for the other gateway: a commit that does would wait for what we are here to decide.
#: Nor do they fill the server's log: advancing a slot writes three lines each time.
#: They are a superuser's: a function in the host's schemas with a name of PostgreSQL's own must never be meant.
SESSION = (
    "-c synchronous_commit=local -c lock_timeout=5s -c client_min_messages=warning -c TimeZone=UTC "
    "-c search_path=pg_catalog"
)
QUIET = " -c log_min_messages=fatal"
#: Parameters of a connection to another machine that is to be given up soon after that one has lost its power.
PROMPT: dict[str, Any] = {
    "keepalives_idle": 1, "keepalives_interval": 1, "keepalives_count": 3, "tcp_user_timeout": 3000,
}  # fmt: skip


class DatabaseFailure(ClusterError):
    """PostgreSQL does not answer, or refused what the cluster asked of it."""

    code = "database"


def connect(dsn: str, name: str = "hsmx_cluster agent", quiet: bool = False, **parameters: Any) -> Connection:
    """Return a connection in autocommit mode.

    :param dsn: connection string of libpq.
    :param name: shown as ``application_name``.
    :param quiet: leave nothing in the server's log; for superusers.
    :param parameters: more of libpq's, for example ``replication="database"``.
    :raises DatabaseFailure: it does not answer within :data:`CONNECT_TIMEOUT_S`, or refuses.
    """
    with failures("PostgreSQL cannot be reached"):
        return psycopg.connect(
            dsn,
            autocommit=True,
            connect_timeout=CONNECT_TIMEOUT_S,
            application_name=name,
            options=SESSION + (QUIET if quiet else ""),
            **parameters,
        )


@contextmanager
def failures(what: str) -> Iterator[None]:
    """Turn errors of the driver into :class:`DatabaseFailure`; passwords of connection strings are not repeated."""
    try:
        yield
    except psycopg.OperationalError as error:
        raise DatabaseFailure(f"{what}: {_first_line(error)}", "See whether PostgreSQL runs, and its log.") from None
    except psycopg.Error as error:
        raise DatabaseFailure(f"{what}: {_first_line(error)}", "See PostgreSQL's log.") from None


def one(connection: Connection, query: str, *parameters: object) -> Any:
    """Return the first field of the first row, None if there is none."""
    row = connection.execute(query.encode(), parameters or None).fetchone()
    return None if row is None else row[0]


def table(schema: str, name: str) -> sql.Identifier:
    """Return a qualified, quoted name."""
    return sql.Identifier(schema, name)


def _first_line(error: psycopg.Error) -> str:
    text = error.diag.message_primary or str(error)
    return text.strip().splitlines()[0][:200] if text.strip() else type(error).__name__
