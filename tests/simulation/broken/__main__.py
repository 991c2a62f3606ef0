"""Judge the broken cores: ``python -m tests.simulation.broken`` (--help says more).

Goes on from where it was interrupted: a verdict counts until the shipped source or the checks change.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from .cores import all_cores
from .court import MINUTES, SEEDS, Court
from .draw import draw


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.broken", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these (default: all)")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"runs of each at most (default: {SEEDS})")
    parser.add_argument("--minutes", type=float, default=MINUTES, help=f"simulated, of each run (default: {MINUTES:g})")
    parser.add_argument("--no-scenarios", action="store_true", help="judge by runs alone")
    parser.add_argument("--jobs", type=int, default=0, help="broken cores at a time (default: one for each processor)")
    parser.add_argument("--again", action="store_true", help="judge anew what was judged already")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the verdicts here, too")
    parser.add_argument("--draw", type=int, metavar="N", help="judge N mutants drawn by lot instead of the kept ones")
    parser.add_argument("--lot", type=int, default=1, help="with --draw: the seed of the lot (default: 1)")
    options = parser.parse_args()
    cores = all_cores() if options.draw is None else list(draw(options.lot, options.draw))
    if unknown := set(options.names) - {core.name for core in cores}:
        parser.error(f"no such broken core: {', '.join(sorted(unknown))}")
    chosen = [core for core in cores if not options.names or core.name in options.names]
    court = Court(options.seeds, options.minutes, scenarios=not options.no_scenarios, again=options.again)
    verdicts = []
    try:
        for verdict in court.judge(chosen, options.jobs):
            verdicts.append(verdict)
            how = f"{verdict.judge} after {verdict.runs}" if verdict.caught else f"NOT CAUGHT by {verdict.runs}"
            print(f"{verdict.name:<40} {how:<20} {verdict.by or verdict.idea}", flush=True)
    except KeyboardInterrupt:
        print("\ninterrupted; call it again to go on from here", file=sys.stderr)
    caught = sum(verdict.caught for verdict in verdicts)
    print(f"{caught} of {len(verdicts)} caught")
    if options.json:
        options.json.write_text(json.dumps([asdict(verdict) for verdict in verdicts], indent=2) + "\n")
    return 0 if caught == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
