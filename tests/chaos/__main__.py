"""One run of chaos in the lab: ``python -m tests.chaos --seed 7 --minutes 30 --out DIR``; needs root."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .driver import Run
from .kinds import KINDS
from .record import Record, numbered, read
from .timeline import draw_run
from .verdict import Verdict, judge, title


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="what the faults are drawn from (default: 1)")
    parser.add_argument("--minutes", type=float, default=10, help="with what this seed had already (default: 10)")
    parser.add_argument("--out", type=Path, default=Path(".work/chaos"), help="where records and pictures go")
    parser.add_argument("--kinds", default="", help="only these faults, separated by commas")
    parser.add_argument("--episodes", type=int, help="end after so many episodes")
    parser.add_argument("--picture", action="store_true", help="draw the whole run, too")
    options = parser.parse_args()
    kinds = [kind for kind in options.kinds.split(",") if kind] or list(KINDS)
    if unknown := set(kinds) - set(KINDS):
        parser.error(f"no such fault: {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")

    def told(verdict: Verdict, record: Record, took_s: float) -> None:
        print(line(verdict, record), flush=True)

    run = Run(options.seed, options.out, kinds, told)
    done = numbered(read(run.lines))
    had_s = sum(record.episode.ms for record in done) / 1000
    try:
        run.go_on(len(done), options.minutes * 60 - had_s, options.episodes)
    except KeyboardInterrupt:
        print("\ninterrupted; call it again to go on from here", file=sys.stderr)
    records = list(read(run.lines))
    if options.picture and records:
        path = options.out / f"run-{options.seed}.svg"
        path.write_text(draw_run(records, f"Chaos, seed {options.seed}"))
        print(f"drawn: {path}")
    broken = sum(len(judge(record).violations) for record in records)
    faults = sum(judge(record).faults for record in records)
    print(f"{len(records)} episodes, {faults} faults, {broken} invariants broken")
    return 1 if broken else 0


def line(verdict: Verdict, record: Record) -> str:
    """Return an episode in a line."""
    order = "not in order" if verdict.converged_s is None else f"in order after {verdict.converged_s:4.1f} s"
    found = "; ".join(f"BROKEN {each.invariant}: {each.text}" for each in verdict.violations)
    return f"two {verdict.two_ms:6.1f} ms, none {verdict.none_ms:6.0f} ms, {order}  {title(record)}  {found}".rstrip()


if __name__ == "__main__":
    sys.exit(main())
