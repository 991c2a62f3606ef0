"""Collects figures as they come, in a file that survives an interruption, and sums them up."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass
class Results:
    """Figures of one bench.

    :param units: unit of each case, in the order of the table.
    :param path: JSON lines, one for each run.
    """

    bench: str
    units: Mapping[str, str]
    path: Path
    values: dict[str, list[float]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    @classmethod
    def of_this_commit(cls, bench: str, units: Mapping[str, str], again: bool = False) -> Results:
        """Return the figures that were measured already of the code as it is now (unless ``again``)."""
        describe = ["git", "describe", "--always", "--dirty", "--exclude=*"]
        commit = subprocess.run(describe, cwd=REPOSITORY, capture_output=True, text=True).stdout.strip() or "unknown"
        path = REPOSITORY / ".work" / "bench" / f"{bench}-{commit}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        if again:
            path.unlink(missing_ok=True)
        results = cls(bench, units, path)
        if path.exists():
            for line in path.read_text().splitlines():
                results._take(json.loads(line))
        return results

    def count(self, case: str) -> int:
        """Return how many runs of a case there are."""
        return len(self.values.get(case, ()))

    def add(self, figures: Mapping[str, float]) -> None:
        """Keep what one run gave, by case."""
        self._keep({"figures": {case: round(value, 3) for case, value in figures.items()}})

    def add_failure(self, case: str, reason: str) -> None:
        """Keep that a run gave no figure, and why. It shows in the table: a failure is a result, too."""
        self._keep({"failed": case, "reason": reason})

    def summary(self) -> dict[str, Any]:
        """Return the documented JSON form."""
        return {
            "bench": self.bench,
            "cases": [
                {"case": case, "unit": self.units[case], "n": len(values), "min": min(values),
                 "median": round(median(values), 3), "max": max(values),
                 **({"sum": sum(values)} if self.units[case] == "count" else {})}
                for case in self.units if (values := self.values.get(case))
            ],
            "failures": self.failures,
        }

    def table(self) -> str:
        """Return the figures for people."""
        lines = [f"{'case':<36}{'unit':>8}{'n':>5}{'min':>11}{'median':>11}{'max':>11}{'sum':>9}"]
        lines += [
            f"{row['case']:<36}{row['unit']:>8}{row['n']:>5}{row['min']:>11.1f}{row['median']:>11.1f}{row['max']:>11.1f}"
            + (f"{row['sum']:>9.0f}" if "sum" in row else "")
            for row in self.summary()["cases"]
        ]
        return "\n".join([*lines, *(f"FAILED {failure}" for failure in self.failures)])

    def _keep(self, line: dict[str, Any]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        self._take(line)

    def _take(self, line: dict[str, Any]) -> None:
        if "failed" in line:
            self.failures.append(f"{line['failed']}: {line['reason']}")
        for case, value in line.get("figures", {}).items():
            self.values.setdefault(case, []).append(value)
