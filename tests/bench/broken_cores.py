"""That the simulator's checks can fail: broken cores, and how many runs it took to catch each."""

from __future__ import annotations

from tests.simulation.broken.cores import all_cores
from tests.simulation.broken.court import Court

from .results import Results

UNITS = {"broken_cores": "", "broken_cores_caught": "", "broken_cores_caught_after": "runs"}


def measure(results: Results) -> None:
    """Judge each broken core once; an interrupted judgment goes on from where it was."""
    if results.count("broken_cores"):
        return
    verdicts = list(Court().judge(all_cores()))
    for verdict in verdicts:
        if verdict.judge == "seed":
            results.add({"broken_cores_caught_after": verdict.runs})
        elif not verdict.caught:
            results.add_failure("broken_cores_caught", f"{verdict.name}: {verdict.idea}")
    results.add({"broken_cores": len(verdicts), "broken_cores_caught": sum(one.caught for one in verdicts)})
