"""``python -m tests.simulation``: runs seeds, shrinks what fails, plays it again."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from .run import Case, Outcome, run


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("run", help="run one seed; exit status 1 if something does not hold")
    one.add_argument("--minutes", type=float, default=10.0, help="simulated minutes (default: 10)")
    many = verbs.add_parser("hours", help="run seeds on all cores until so many simulated hours are done; goes on")
    many.add_argument("--hours", type=float, required=True)
    many.add_argument("--state", type=Path, required=True, help="keeps what was run, a line each")
    many.add_argument("--minutes", type=float, default=60.0, help="simulated minutes of one seed (default: 60)")
    many.add_argument("--jobs", type=int, default=0, help="processes (default: one for each core)")
    small = verbs.add_parser("shrink", help="find the few faults that suffice for a violation")
    small.add_argument("--minutes", type=float, default=10.0)
    small.add_argument("--out", type=Path, help="file for them (default: simulation-SEED.json)")
    again = verbs.add_parser("replay", help="run a file that shrink has written")
    again.add_argument("file", type=Path)
    for verb in (one, small):
        verb.add_argument("--seed", type=int, required=True)
    for verb in (one, many, small):
        verb.add_argument("--heartbeat-ms", type=int, default=100, help="with hours 0: 100 to 1000, by the seed")
    for verb in (one, many, again):
        verb.add_argument("--json", action="store_true", help="print the outcome as JSON")
    options = parser.parse_args(arguments)
    match options.verb:
        case "run":
            return told(run(Case.of_seed(options.seed, options.minutes, options.heartbeat_ms)), options.json)
        case "replay":
            return told(run(Case.read(options.file)), options.json)
        case "shrink":
            from .shrink import shrink_to_file

            case = Case.of_seed(options.seed, options.minutes, options.heartbeat_ms)
            return shrink_to_file(case, options.out or Path(f"simulation-{options.seed}.json"))
        case _:
            from .hours import hours

            asked = (options.hours, options.minutes, options.heartbeat_ms)
            return hours(*asked, options.state, options.jobs, options.json)


def told(outcome: Outcome, as_json: bool) -> int:
    """Print what came of a run and return the exit status."""
    if as_json:
        print(json.dumps(outcome.as_dict()))
    else:
        for violation in outcome.violations:
            print(f"VIOLATED at {violation.at:.3f} s: {violation.name}: {violation.text}")
            print(*(f"    {line}" for line in violation.recent), sep="\n")
        print(
            f"seed {outcome.seed}: {outcome.seconds / 60:.1f} minutes, {sum(outcome.faults.values())} faults, "
            f"{outcome.reigns} reigns, {len(outcome.violations)} violations, digest {outcome.digest}"
        )
    return 1 if outcome.violations else 0


if __name__ == "__main__":
    sys.exit(main())
