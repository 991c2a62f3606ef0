"""Two PostgreSQL servers for a bench that needs no network: with our replication, or with PostgreSQL's own alone."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from flask_hsmx_cluster.replication.scope import Scope, TableScope
from sample_app.lab.postgres import READY, PostgresServer, free_port
from tests.replication.side import NODE_IDS, Side, wait_until

#: Durable as a gateway's: every commit reaches the disk.
SETTINGS = {**READY, "shared_buffers": "128MB", "max_connections": "60", "autovacuum": "off"}


@contextlib.contextmanager
def two_servers() -> Iterator[tuple[PostgresServer, PostgresServer]]:
    """Two empty servers that are running; nothing of them stays."""
    directory = Path(tempfile.mkdtemp(prefix="pg-hsmx-"))
    directory.chmod(0o755)
    with contextlib.ExitStack() as undo:
        undo.callback(shutil.rmtree, directory, ignore_errors=True)
        a, b = (PostgresServer(directory / name, port=free_port(), settings=SETTINGS) for name in "ab")
        for server in (a, b):
            undo.callback(server.remove)
            server.create()
            server.start()
        yield a, b


@contextlib.contextmanager
def two_sides(servers: Sequence[PostgresServer], scope: Scope, tables: str) -> Iterator[tuple[Side, Side]]:
    """An active gateway, and one that follows it synchronously.

    :param tables: SQL that makes the tables of the scope.
    """
    with contextlib.ExitStack() as undo:
        a, b = (
            undo.enter_context(contextlib.closing(Side(server, own, other, scope, tables)))
            for server, own, other in zip(servers, NODE_IDS, reversed(NODE_IDS), strict=True)
        )
        a.promote(1)
        b.follow(a)
        a.be_synchronous()
        yield a, b


def numbered_tables(names: Sequence[str], bulk: Sequence[str] = ()) -> tuple[Scope, str]:
    """Return the scope and the SQL of tables that have a numbered key and a text."""
    scope = Scope((
        *(TableScope("public", name, "shared") for name in names),
        *(TableScope("public", name, "bulk") for name in bulk),
        TableScope("public", "own", "local"),
    ))
    every = (*names, *bulk, "own")
    return scope, "".join(f"CREATE TABLE {name} (id bigserial PRIMARY KEY, v text);" for name in every)


class Bare:
    """PostgreSQL's own logical replication between two servers, synchronous, without anything of ours."""

    def __init__(self, servers: Sequence[PostgresServer], tables: Sequence[str]) -> None:
        a, b = servers
        with a.connect() as publisher, b.connect() as subscriber:
            publisher.execute(f"CREATE PUBLICATION bare FOR TABLE {', '.join(tables)}".encode())
            publisher.execute("SELECT pg_create_logical_replication_slot('bare', 'pgoutput')")
            subscriber.execute(
                f"CREATE SUBSCRIPTION bare CONNECTION '{a.dsn}' PUBLICATION bare WITH (create_slot = false, "
                "copy_data = false, synchronous_commit = on)".encode())
            wait_until(lambda: publisher.execute(
                "SELECT 1 FROM pg_stat_replication WHERE application_name = 'bare' AND state = 'streaming'").fetchone())
            publisher.execute("ALTER SYSTEM SET synchronous_standby_names = 'bare'")
            publisher.execute("SELECT pg_reload_conf()")
            wait_until(lambda: publisher.execute("SHOW synchronous_standby_names").fetchone() == ("bare",))
