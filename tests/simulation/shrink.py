"""Shrinking: the few faults of a failing seed that suffice for the same violation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from .faults import Fault
from .run import Case, run

#: A run ends so long after its last fault, minutes.
AFTER_MINUTES = 1.0


def fails(case: Case, name: str) -> bool:
    """Return whether a case breaks this invariant."""
    return any(violation.name == name for violation in run(case).violations)


def shrink(case: Case) -> tuple[Case, str] | None:
    """Return a case with as few faults as possible, and the invariant that it breaks; None if nothing fails.

    Halves first, then single faults (delta debugging), then shorter ones.
    """
    case = case.drawn()
    outcome = run(case)
    if not outcome.violations:
        return None
    violation = outcome.violations[0]
    faults = tuple(fault for fault in case.faults or () if fault.at <= violation.at)

    def with_these(some: tuple[Fault, ...]) -> Case:
        end = max((fault.at + fault.lasts for fault in some), default=0.0)
        return replace(case, faults=some, minutes=end / 60 + AFTER_MINUTES)

    faults = _fewest(faults, lambda some: bool(some) and fails(with_these(some), violation.name))
    faults = _shortest(faults, lambda some: fails(with_these(some), violation.name))
    return with_these(faults), violation.name


def _fewest(faults: tuple[Fault, ...], fails_still) -> tuple[Fault, ...]:  # type: ignore[no-untyped-def]
    parts = 2
    while len(faults) > 1:
        size = max(1, len(faults) // parts)
        for start in range(0, len(faults), size):
            rest = faults[:start] + faults[start + size :]
            if fails_still(rest):
                faults, parts = rest, max(2, parts - 1)
                break
        else:
            if size == 1:
                break
            parts = min(len(faults), parts * 2)
    return faults


def _shortest(faults: tuple[Fault, ...], fails_still) -> tuple[Fault, ...]:  # type: ignore[no-untyped-def]
    """Begin at once, and let each last as short as it may."""
    early = faults[0].at - 1.0
    moved = tuple(replace(fault, at=round(fault.at - early, 4)) for fault in faults)
    if fails_still(moved):
        faults = moved
    for index, fault in enumerate(faults):
        for part in (0.25, 0.5):
            shorter = (*faults[:index], replace(fault, lasts=round(fault.lasts * part, 3)), *faults[index + 1 :])
            if fault.lasts and fails_still(shorter):
                faults = shorter
                break
    return faults


def shrink_to_file(case: Case, path: Path) -> int:
    """Write what suffices; return the exit status."""
    found = shrink(case)
    if found is None:
        print(f"seed {case.seed}: everything held")
        return 0
    small, name = found
    small.write(path, about=f"breaks {name}")
    for fault in small.faults or ():
        print(f"{fault.at:8.3f} s  {fault.kind} {fault.who} {fault.which} {fault.how or ''} for {fault.lasts} s")
    print(f"{name}: {len(small.faults or ())} faults, in {path}; python -m tests.simulation replay {path}")
    return 1
