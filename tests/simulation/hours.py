"""Many hours: seeds spread over the cores, each kept as it ends, so that an interruption costs one seed at most."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import count
from pathlib import Path
from typing import Any

from .run import Case, run


def one_seed(seed: int, minutes: float, heartbeat_ms: int) -> dict[str, Any]:
    """Run a seed; the form of a line in the state file."""
    case = Case.of_seed(seed, minutes, heartbeat_ms)
    return {**run(case).as_dict(), "minutes": minutes, "heartbeat_ms": case.heartbeat_ms}


def kept(state: Path) -> list[dict[str, Any]]:
    """Return what was run already; a line that an interruption has cut short does not count."""
    found = []
    for line in state.read_text().splitlines() if state.exists() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def run_seeds(seconds: float, minutes: float, heartbeat_ms: int, state: Path, jobs: int) -> list[dict[str, Any]]:
    """Run seeds until so many seconds are simulated, those of the state file included.

    :param seconds: simulated.
    """
    done = kept(state)
    seen = {row["seed"] for row in done}
    seeds: Iterator[int] = (seed for seed in count(1) if seed not in seen)
    with ProcessPoolExecutor(jobs or os.cpu_count() or 1) as pool, state.open("a") as file:
        if state.stat().st_size and not state.read_text().endswith("\n"):
            file.write("\n")  # an interruption has cut the last line short
        running: set[Future[dict[str, Any]]] = set()
        under_way = 0.0
        while True:
            simulated = sum(row["seconds"] for row in done)
            while len(running) < (jobs or os.cpu_count() or 1) and simulated + under_way < seconds:
                running.add(pool.submit(one_seed, next(seeds), minutes, heartbeat_ms))
                under_way += minutes * 60
            if not running:
                return done
            ended, running = wait(running, return_when=FIRST_COMPLETED)
            for one in ended:
                under_way -= minutes * 60
                row = one.result()
                done.append(row)
                file.write(json.dumps(row) + "\n")
                file.flush()
                for violation in row["violations"]:
                    print(f"seed {row['seed']}: VIOLATED {violation['name']}: {violation['text']}", file=sys.stderr)


def shrinks(row: dict[str, Any]) -> str:
    """Return the command that runs a row's seed as it was run, and shrinks what failed."""
    return (f"python -m tests.simulation shrink --seed {row['seed']} --minutes {row['minutes']} "
            f"--heartbeat-ms {row['heartbeat_ms']}")  # fmt: skip


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what all seeds came to."""
    faults: Counter[str] = Counter()
    for row in rows:
        faults.update(row["faults"])
    return {
        "seeds": len(rows),
        "hours": round(sum(row["seconds"] for row in rows) / 3600, 2),
        "faults": sum(faults.values()),
        "by_kind": dict(sorted(faults.items())),
        "reigns": sum(row["reigns"] for row in rows),
        "violations": sum(len(row["violations"]) for row in rows),
        "violated_seeds": [row["seed"] for row in rows if row["violations"]],
        "shrinks": [shrinks(row) for row in rows if row["violations"]],
        "longest": {
            name: max((row["longest"].get(name, 0.0) for row in rows), default=0.0)
            for name in ("two", "two_parted", "none")
        },
    }


def hours(wanted: float, minutes: float, heartbeat_ms: int, state: Path, jobs: int, as_json: bool) -> int:
    """Run so many simulated hours and print what they came to; return the exit status."""
    try:
        rows = run_seeds(wanted * 3600, minutes, heartbeat_ms, state, jobs)
    except KeyboardInterrupt:
        print("\ninterrupted; call it again to go on from here", file=sys.stderr)
        rows = kept(state)
    found = summary(rows)
    if as_json:
        print(json.dumps(found))
    else:
        print(f"{found['hours']} simulated hours, {found['seeds']} seeds, {found['faults']} faults, "
              f"{found['reigns']} reigns, {found['violations']} violations")  # fmt: skip
        for line in found["shrinks"]:
            print(line)
    return 1 if found["violations"] else 0
