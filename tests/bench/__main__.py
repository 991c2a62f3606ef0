"""The one place where figures come from: ``./tests/bench/run NAME``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from . import chaos, data, failover, files, fuzz, network, simulation
from .results import Results

BENCHES = {
    "failover": failover, "data": data, "network": network, "files": files, "simulation": simulation, "chaos": chaos,
    "fuzz": fuzz,
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests/bench/run", description=__doc__)
    parser.add_argument("name", choices=BENCHES, help="what to measure")
    parser.add_argument("--runs", type=int, default=15, help="runs of each case (default: 15)")
    parser.add_argument("--long-runs", type=int, default=3, help="runs of cases of a minute each (default: 3)")
    parser.add_argument("--minutes", type=float, default=10, help="of chaos, in all (default: 10)")
    parser.add_argument("--cases", default="", help="only these, separated by commas (default: all)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the summary here, too")
    parser.add_argument(
        "--again", action="store_true",
        help="measure anew; else the runs that this commit has had already, before it was interrupted, count",
    )
    parser.add_argument("--seconds", type=float, default=fuzz.SECONDS, help="fuzz: time of each run (default: 300)")
    options = parser.parse_args()
    fuzz.SECONDS = options.seconds
    bench = BENCHES[options.name]
    cases = [case for case in options.cases.split(",") if case]
    if unknown := set(cases) - set(bench.UNITS):
        parser.error(f"no such case: {', '.join(sorted(unknown))}; there are {', '.join(bench.UNITS)}")
    results = Results.of_this_commit(options.name, bench.UNITS, again=options.again)
    try:
        more = {"minutes": options.minutes} if bench is chaos else {}
        bench.measure(results, cases or list(bench.UNITS), options.runs, options.long_runs, **more)
    except KeyboardInterrupt:
        print("\ninterrupted; call it again to go on from here", file=sys.stderr)
    print(results.table())
    if options.json:
        options.json.write_text(json.dumps(results.summary(), indent=2) + "\n")
    return 1 if results.failures else 0


if __name__ == "__main__":
    sys.exit(main())
