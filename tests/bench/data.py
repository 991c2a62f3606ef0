"""What two gateways' data cost and keep: how long a take-over of the database takes, and what writers notice.

*Promotion*: from the call until shared data may be written; everything else of a take-over is not in it.
*Ratio*: transactions per second, ours by those of PostgreSQL's own logical replication of the same tables.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from flask_hsmx_cluster.replication import guard, promotion
from flask_hsmx_cluster.replication.database import Connection
from flask_hsmx_cluster.replication.scope import Scope, TableScope
from sample_app.lab import LabError
from sample_app.lab.postgres import PostgresServer, binaries
from tests.replication.side import Side

from . import data_lab, data_large
from .results import Results
from .servers import Bare, numbered_tables, two_servers, two_sides
from .stages import Figures, Run, Stage
from .writers import Writers

BULK_ROWS = 500_000
#: Each of the three is measured this often in a run, s for each time.
TURNS, TURN_S = 12, 1.0


# Promotion


class _Turns:
    """Two gateways that take turns at being active."""

    def __init__(self, a: Side, b: Side, tables: Sequence[str]) -> None:
        self.active, self.passive = a, b
        self._tables = tables
        self._term = 1

    def prepare(self) -> None:
        """Let every sequence be used, and the passive gateway be tended as its agent does, until some moment."""
        with self.active.server.connect() as connection:
            for name in self._tables:
                connection.execute(f"INSERT INTO {name} (v) VALUES ('x')".encode())
        self.active.tend_active()
        self.passive.wait_for(self.active)
        for _ in range(3):
            self.passive.tend_passive()
            time.sleep(random.uniform(0.5, 1))

    def promote(self) -> float:
        """Promote the passive gateway and return how long it took, ms."""
        self._term += 1
        began = time.perf_counter()
        self.passive.promote(self._term)
        took_ms = (time.perf_counter() - began) * 1000
        with self.passive.server.connect() as connection:
            connection.execute(f"INSERT INTO {self._tables[-1]} (v) VALUES ('first')".encode())
        return took_ms

    def turn(self) -> None:
        """Let the former active gateway follow the present one."""
        former, self.active = self.active, self.passive
        self.passive = former
        promotion.demote(former.connection, 0)
        self.active.tend_active()
        former.follow(self.active)
        self.active.be_synchronous()


def _promotion(
    sequences: int, fault: Callable[[_Turns], contextlib.AbstractContextManager[object]], case: str
) -> Stage:
    @contextlib.contextmanager
    def ready() -> Iterator[Run]:
        tables = [f"t{number}" for number in range(sequences)]
        with two_servers() as servers, two_sides(servers, *numbered_tables(tables, bulk=["bulk"])) as sides:
            turns = _Turns(*sides, tables)

            def run() -> Figures:
                turns.prepare()
                with fault(turns):
                    took_ms = turns.promote()
                turns.turn()
                return {case: took_ms}

            yield run

    return Stage({case: "ms"}, ready)


@contextlib.contextmanager
def _frozen_peer(turns: _Turns) -> Iterator[None]:
    turns.active.server.freeze()
    try:
        yield
    finally:
        turns.active.server.thaw()


@contextlib.contextmanager
def _open_transaction(turns: _Turns) -> Iterator[None]:
    with turns.passive.server.connect(autocommit=False) as connection:
        connection.execute("INSERT INTO own (v) VALUES ('open')")
        yield
        connection.commit()


# Throughput


@contextlib.contextmanager
def _throughput() -> Iterator[Run]:
    tables = ("pgbench_accounts", "pgbench_tellers", "pgbench_branches", "pgbench_history")
    scope = Scope(tuple(TableScope("public", name, "shared") for name in tables))
    with two_servers() as ours, two_servers() as bare:
        for server in (*ours, *bare):
            _pgbench(server, "-i", "-s", "4", "-q")
        Bare(bare, tables)
        with two_sides(ours, scope, "SELECT 1") as (active, _):
            yield lambda: _ratios(active, bare[0], scope)


def _ratios(active: Side, bare: PostgresServer, scope: Scope) -> Figures:
    """Measure the three in short turns, each time in another order, and compare the medians.

    Whatever else the machine does meanwhile then hits all three alike.
    """
    arms = {"bare": bare, "guarded": active.server, "unguarded": active.server}
    rates: dict[str, list[float]] = {arm: [] for arm in arms}
    orders = list(itertools.permutations(arms))
    for server in (bare, active.server):
        with server.connect() as connection:
            connection.execute("CHECKPOINT")
    for turn in range(TURNS):
        for arm in orders[turn % len(orders)]:
            if arm != "bare":
                (guard.arm if arm == "guarded" else _disarm)(active.connection, scope)
            rates[arm].append(_rate(arms[arm]))
            active.connection.execute("DELETE FROM hsmx_cluster.commit_check")  # as its agent does
    middle = {arm: statistics.median(found) for arm, found in rates.items()}
    return {
        "sync_throughput_ratio": middle["guarded"] / middle["bare"],
        "sync_throughput_ratio_unguarded": middle["unguarded"] / middle["bare"],
    }


def _disarm(connection: Connection, _scope: Scope) -> None:
    guard.disarm(connection)


def _rate(server: PostgresServer) -> float:
    """Return transactions per second of four clients that update and insert."""
    printed = _pgbench(server, "-N", "-n", "-c", "4", "-T", f"{TURN_S:.0f}")
    found = re.search(r"^tps = ([0-9.]+)", printed, re.MULTILINE)
    if found is None:
        raise LabError(f"pgbench: {printed}")
    return float(found[1])


def _pgbench(server: PostgresServer, *options: str) -> str:
    directory = binaries()
    assert directory is not None
    where = ("-h", str(server.directory), "-p", str(server.port), "-U", "postgres", "postgres")
    argv = [str(directory / "pgbench"), *options, *where]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise LabError(f"pgbench: {done.stderr[-500:]}")
    return done.stdout


# Stalls


@contextlib.contextmanager
def _bulk_update() -> Iterator[Run]:
    scope, tables = numbered_tables(["t"], bulk=["bulk"])
    tables += f"INSERT INTO bulk (v) SELECT 'x' || n FROM generate_series(1, {BULK_ROWS}) n"
    with two_servers() as servers, two_sides(servers, scope, tables) as (active, _):

        def run() -> Figures:
            with Writers(active.server.connect, "INSERT INTO t (v) VALUES (%s)") as writers:
                at = time.monotonic()
                with active.server.connect() as connection:
                    connection.execute("UPDATE bulk SET v = v || 'y'")
                time.sleep(2)  # What the walsender has still to leave out, it leaves out within this time.
                stall_ms = writers.longest_ms(at)
            active.connection.execute("VACUUM bulk")
            return {"stall_bulk_update": stall_ms}

        yield run


def _no_fault(_turns: _Turns) -> contextlib.AbstractContextManager[object]:
    return contextlib.nullcontext()


STAGES = (
    _promotion(1, _no_fault, "promotion_1seq"),
    _promotion(200, _no_fault, "promotion_200seq"),
    _promotion(1, _frozen_peer, "promotion_frozen_peer"),
    _promotion(1, _open_transaction, "promotion_open_transaction"),
    Stage({"sync_throughput_ratio": "ratio", "sync_throughput_ratio_unguarded": "ratio"}, _throughput),
    Stage({"stall_bulk_update": "ms"}, _bulk_update, takes_long=True),
    *data_lab.STAGES,
    *data_large.STAGES,
)

#: Every case with its unit.
UNITS = {case: unit for stage in STAGES for case, unit in stage.units.items()}


def measure(results: Results, cases: Sequence[str], runs: int, long_runs: int) -> None:
    """Run what is missing of the wanted cases."""
    for stage in STAGES:
        wanted = [case for case in stage.units if case in cases]
        missing = (min(runs, long_runs) if stage.takes_long else runs) - min(map(results.count, wanted), default=runs)
        if not wanted or missing <= 0:
            continue
        try:
            with stage.ready() as run:
                for _ in range(missing):
                    figures = run()
                    results.add(figures)
                    shown = ", ".join(f"{case} {figure:.2f} {stage.units[case]}" for case, figure in figures.items())
                    print(shown, file=sys.stderr, flush=True)
        except (LabError, TimeoutError) as error:
            results.add_failure(wanted[0], str(error))
            print(f"{wanted[0]}: FAILED: {error}", file=sys.stderr)
