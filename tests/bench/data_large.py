"""What takes a gateway long: to be filled for the first time, and to come back after much was written without it.

*Ratio*: time of the first copy, by that of ``pg_dump | psql`` of the same table on the same two servers.
*Rejoin*: from the first answer of the agent that came back until commits are synchronous again, as in
:mod:`.data_lab`; a full copy fails it. ``HSMX_BENCH_ROWS`` makes the tables smaller, to try it.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator

from flask_hsmx_cluster.replication import channel, forming, synchrony
from flask_hsmx_cluster.replication.database import connect, one
from flask_hsmx_cluster.replication.following import Progress
from flask_hsmx_cluster.replication.gateways import Gateways
from flask_hsmx_cluster.replication.scope import Scope, TableScope
from sample_app.lab import Gateway, Lab, LabError
from sample_app.lab.postgres import PostgresServer, binaries
from tests.replication.side import NODE_IDS, Side, wait_until

from .data_lab import hotel, server_of
from .servers import two_servers
from .stages import Figures, Run, Stage

#: Rows of the large table.
ROWS = int(os.environ.get("HSMX_BENCH_ROWS", "10_000_000"))
#: Transactions of one row each that a gateway misses.
MISSED = 100_000
#: How long it is away from the large table, s.
ABSENCE_S = 60.0
#: Rows of the large table that are made at once.
FILL_ROWS = 1_000_000
#: The first copy of the large table, and what it waits for, s.
FORMED_WITHIN_S = 900.0

_VOUCHER = """CREATE TABLE voucher (id bigint PRIMARY KEY, code text UNIQUE, hours int, devices int, note text,
    state text, created_at timestamptz)"""

_WRITE = """DO $$ BEGIN FOR row IN {first}..{last} LOOP
    INSERT INTO voucher (id, code, hours, devices, note, state, created_at)
    VALUES (row, 'm' || row, 1, 1, '', 'unused', now()); COMMIT;
END LOOP; END $$"""
_FILL = """INSERT INTO voucher (id, code, hours, devices, note, state, created_at)
SELECT row, left(md5(row::text), 14), 1, 1, repeat('n', 30), 'unused', now()
FROM generate_series({first}, {last}) AS row"""
#: Number of the first row of the large table; smaller ones are for what is written later.
LARGE = 1_000_000_000


def _write(active: Gateway, first: int) -> None:
    """Make transactions of one row each, as fast as it goes."""
    with server_of(active).connect(user="hsmx") as connection:
        connection.execute("SET synchronous_commit = off")
        connection.execute(_WRITE.format(first=first, last=first + MISSED - 1).encode())


@contextlib.contextmanager
def _many_missed() -> Iterator[Run]:
    with hotel() as pair:
        rows = iter(range(MISSED, 2**30, MISSED))

        def run() -> Figures:
            active = pair.ready()
            passive = pair.lab.other(active)
            pair.lab.faults.power_off(passive)
            time.sleep(2)
            _write(active, next(rows))
            return {"rejoin_100k": pair.power_on(passive, active)}

        yield run


@contextlib.contextmanager
def _much_missed() -> Iterator[Run]:
    """A large table that was there when the gateways were formed, and a minute of four clients without a pause."""
    with hotel(_large, formed_within_s=FORMED_WITHIN_S) as pair:

        def run() -> Figures:
            active = pair.ready(FORMED_WITHIN_S)
            passive = pair.lab.other(active)
            with pair.writers() as writers:
                pair.lab.faults.power_off(passive)
                missed = len(writers.acknowledged)
                time.sleep(ABSENCE_S)
                missed = len(writers.acknowledged) - missed
                at = time.monotonic()
                rejoin_ms = pair.power_on(passive, active)
                time.sleep(2)
                stall_ms = writers.longest_ms(at)
            print(f"{missed:,} transactions were missed", file=sys.stderr)
            return {"rejoin_10m": rejoin_ms, "stall_rejoin_10m": stall_ms}

        yield run


def _large(pair: Lab) -> None:
    """Give the gateway that is active first a table of :data:`ROWS` rows."""
    with server_of(pair.gateways[0]).connect(user="hsmx") as connection:
        for first in range(0, ROWS, FILL_ROWS):
            last = min(first + FILL_ROWS, ROWS) - 1
            connection.execute(_FILL.format(first=LARGE + first, last=LARGE + last).encode())
    with server_of(pair.gateways[0]).connect(dbname="hsmx") as connection:
        connection.execute("VACUUM ANALYZE voucher")


@contextlib.contextmanager
def _forming() -> Iterator[Run]:
    """The first copy of a large table that is indexed twice, and the same with PostgreSQL's own tools."""
    scope = Scope((TableScope("public", "voucher", "shared"),))
    with two_servers() as servers, contextlib.ExitStack() as undo:
        a, b = (
            undo.enter_context(contextlib.closing(Side(server, own, other, scope, _VOUCHER)))
            for server, own, other in zip(servers, NODE_IDS, reversed(NODE_IDS), strict=True)
        )
        a.promote(1)
        a.connection.execute(_FILL.format(first=LARGE, last=LARGE + ROWS - 1).encode())
        a.connection.execute("VACUUM ANALYZE voucher")
        size = one(a.connection, "SELECT pg_total_relation_size('voucher')")
        print(f"{size / 1e9:.2f} GB", file=sys.stderr)

        def run() -> Figures:
            theirs_s = _dump(*servers)
            b.connection.execute("UPDATE hsmx_cluster.node SET joined_system = NULL")
            began = time.monotonic()
            _first_copy(a, b)
            ours_s = time.monotonic() - began
            wait_until(lambda: synchrony.follower(a.connection, a.slot).streaming)
            channel.forget_subscriptions(b.connection)
            return {"forming_10m_ratio": ours_s / theirs_s, "forming_10m": ours_s}

        yield run


def _first_copy(active: Side, passive: Side) -> None:
    with connect(passive.server.dsn) as own, connect(active.server.dsn) as peer:
        between = Gateways(
            own, peer, lambda: connect(passive.server.dsn),
            lambda **parameters: connect(active.server.dsn, **parameters), active.server.dsn, passive.node_id,
            active.node_id,
        )  # fmt: skip
        forming.first_copy(between, passive.scope, "its system", Progress())


def _dump(source: PostgresServer, target: PostgresServer) -> float:
    """Copy the table with ``pg_dump | psql`` into a database of its own, and return how long that took, s."""
    directory = binaries()
    assert directory is not None
    with target.connect() as connection:
        connection.execute("CREATE DATABASE plain")
    try:
        from_, into = (
            [str(directory / name), "-h", str(server.directory), "-p", str(server.port), "-U", "postgres", *more]
            for name, server, more in (
                ("pg_dump", source, ("-t", "voucher", "postgres")), ("psql", target, ("-X", "-q", "plain")))
        )
        began = time.monotonic()
        with subprocess.Popen(from_, stdout=subprocess.PIPE) as dump:
            # The triggers of the cluster are not in that database; their errors are no matter.
            subprocess.run(into, stdin=dump.stdout, capture_output=True, check=True)
        took_s = time.monotonic() - began
        with target.connect(dbname="plain") as connection:
            if one(connection, "SELECT count(*) FROM voucher") != ROWS:
                raise LabError("pg_dump did not copy all rows")
        return took_s
    finally:
        with target.connect() as connection:
            connection.execute("DROP DATABASE plain WITH (FORCE)")
            connection.execute("CHECKPOINT")


STAGES = (
    Stage({"rejoin_100k": "ms"}, _many_missed),
    Stage({"rejoin_10m": "ms", "stall_rejoin_10m": "ms"}, _much_missed, takes_long=True),
    Stage({"forming_10m_ratio": "ratio", "forming_10m": "s"}, _forming, takes_long=True),
)
