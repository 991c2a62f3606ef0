"""Seeded faults on a real pair, for as many minutes as are asked for, and both nodes booting together.

Each episode gives the figures of its fault's cases, or of ``overlapping`` where there were several. The table of bounds
is ``tests/chaos/bounds.py``; a figure beyond its bound is a failure. Records and pictures are beside the figures, in
``.work/bench/chaos-...``. See ``docs/chaos.md``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from sample_app.lab import LabError
from tests.chaos.__main__ import line
from tests.chaos.bounds import OVERLAPPING, bound, with_the_machines_share
from tests.chaos.driver import Run
from tests.chaos.kinds import KINDS
from tests.chaos.record import FAULT, Record
from tests.chaos.verdict import Verdict

from . import booting
from .results import Results

SEED = 1
_CASES = (*KINDS, "overlapping")
CHAOS = {
    "faults": "count", "lost_acknowledged": "count", "unconverged": "count", "converged_s": "s", "episode_s": "s",
    **{f"two_holders_{case}": "ms" for case in _CASES}, **{f"none_{case}": "ms" for case in _CASES},
}
UNITS = CHAOS | booting.UNITS


def measure(results: Results, cases: Sequence[str], runs: int, long_runs: int, minutes: float = 0) -> None:
    """Run what is missing of the wanted cases.

    :param runs: of both nodes booting together.
    :param minutes: of chaos, those that this commit has had already included.
    """
    if set(cases) & set(CHAOS):
        _chaos(results, minutes)
        print(beside_bounds(results))
    if set(cases) & set(booting.UNITS):
        booting.measure(results, runs)


def _chaos(results: Results, minutes: float) -> None:
    def told(verdict: Verdict, record: Record, took_s: float) -> None:
        print(line(verdict, record), file=sys.stderr, flush=True)
        for violation in verdict.violations:
            results.add_failure(verdict.case, f"{violation.invariant}: {violation.text}")
        if not record.of(FAULT):
            results.add({"lost_acknowledged": verdict.lost})
            return
        cost = {f"two_holders_{verdict.case}": verdict.two_ms, f"none_{verdict.case}": verdict.none_ms}
        results.add({
            "faults": verdict.faults, "lost_acknowledged": verdict.lost, "episode_s": took_s,
            "unconverged": float(verdict.converged_s is None), "converged_s": verdict.converged_s or 0.0,
            **(cost if verdict.faults else {}),  # what was refused has cost nothing, and shows nothing
        })

    run = Run(SEED, results.path.with_suffix(""), told=told)
    left_s = minutes * 60 - sum(results.values.get("episode_s", ()))
    try:
        run.go_on(results.count("faults"), left_s)
    except LabError as error:
        results.add_failure("faults", str(error))
        print(f"FAILED: {error}", file=sys.stderr)


def beside_bounds(results: Results) -> str:
    """Return the longest times of each kind of fault beside their bounds, for people."""
    lines = [f"{'fault':<20}{'episodes':>9}{'two, ms':>10}{'bound':>8}{'none, ms':>10}{'bound':>8}"]
    for case in _CASES:
        if two := results.values.get(f"two_holders_{case}"):
            allowed = bound([case]) if case in KINDS else with_the_machines_share(OVERLAPPING)
            lines.append(f"{case:<20}{len(two):>9}{max(two):>10.1f}{allowed.two_ms:>8.0f}"
                         f"{max(results.values[f'none_{case}']):>10.0f}{allowed.none_ms:>8.0f}")
    return "\n".join(lines)
