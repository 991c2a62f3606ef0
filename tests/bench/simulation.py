"""Simulated hours with random faults (:mod:`tests.simulation`): how many, and how many invariants they broke.

``--runs`` is the number of simulated hours, spread over the cores, with heartbeats of 100 ms to 1 s. What was run is
kept, seed by seed, beside the other figures; 10,000 hours go on where they were interrupted. As many hours are run
on a lossy network. And that the checks can fail: each broken core once (:mod:`tests.simulation.broken`).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.hours import run_seeds, summary
from tests.simulation.run import lossy, run

from . import broken_cores
from .results import Results

#: Simulated minutes of one seed.
SEED_MINUTES = 60.0
HOURS = {"hours": "h", "seeds": "", "faults": "", "violations": "", "two_longest": "ms", "two_parted_longest": "ms"}
#: An hour each with 20 % of all datagrams lost and 50 ms of jitter: how often the role moved for nothing.
LOSSY = {"lossy_false_failovers": ""}
UNITS = {**HOURS, **LOSSY, **broken_cores.UNITS}


def measure(results: Results, cases: Sequence[str], runs: int, _long_runs: int) -> None:
    """Run so many simulated hours, less those that have been run; the figures are of all together."""
    if LOSSY.keys() & set(cases):
        with ProcessPoolExecutor() as pool:
            seeds = range(results.count("lossy_false_failovers") + 1, runs + 1)
            for moves in pool.map(_false_failovers, seeds):
                results.add({"lossy_false_failovers": moves})
    if HOURS.keys() & set(cases):
        state = results.path.with_name(results.path.stem + "-seeds.jsonl")
        found = summary(run_seeds(runs * 3600, SEED_MINUTES, 0, state, 0))
        longest = found["longest"]
        figures = {
            **{name: float(found[name]) for name in ("hours", "seeds", "faults", "violations")},
            "two_longest": longest["two"] * 1000, "two_parted_longest": longest["two_parted"] * 1000,
        }  # fmt: skip
        results.values.update({case: [value] for case, value in figures.items() if case in cases})
        results.failures += found["shrinks"]
        print(found["by_kind"], file=sys.stderr)
    if broken_cores.UNITS.keys() & set(cases):
        broken_cores.measure(results)


def _false_failovers(seed: int) -> int:
    outcome = run(lossy(seed, 60.0))
    return outcome.reigns - 1 + len(outcome.violations)
