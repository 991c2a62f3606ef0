"""Hostile input: how many inputs each way in has taken, how many broke a promise, and how long one took at most.

Times are of the thread that handles the input, ms of processor time. Each target runs for ``--seconds`` (300), a run
being of one target; what it has learned stays in ``.work/fuzz`` and is gone on from. See :mod:`tests.fuzz`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from typing import Any

from tests.fuzz.targets import NAMES

from .results import REPOSITORY, Results

SECONDS = 300.0
#: Loading a target takes this long at most on a busy machine, s.
_LOADED_S = 300.0
_FIGURES = {"executions": "number", "crashes": "number", "longest_ms": "ms"}
UNITS = {f"{name}_{figure}": unit for name in NAMES for figure, unit in _FIGURES.items()}


def measure(results: Results, cases: list[str], runs: int, long_runs: int) -> None:
    """Fuzz each target that one of the cases is of, ``long_runs`` times."""
    if importlib.util.find_spec("atheris") is None:
        results.add_failure("fuzz", "atheris is not installed: it has wheels for x86_64 only")
        return
    for name in NAMES:
        if any(f"{name}_{figure}" in cases for figure in _FIGURES):
            while results.count(f"{name}_executions") < long_runs:
                print(f"{name}, for {SECONDS:.0f} s", file=sys.stderr)
                _run(results, name)


def _run(results: Results, name: str) -> None:
    report = REPOSITORY / ".work" / "fuzz" / f"{name}.json"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.unlink(missing_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "tests.fuzz", name, "--seconds", str(SECONDS), "--report", str(report)]
    log = report.with_suffix(".log")
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=output, stderr=output)
        try:
            status = process.wait(2 * SECONDS + _LOADED_S)
        except subprocess.TimeoutExpired:  # an input that never ends is one of the findings
            process.kill()
            status = process.wait()
    found: dict[str, Any] = json.loads(report.read_text()) if report.exists() else {}
    if status != 0 or not found:
        results.add({f"{name}_executions": found.get("executions", 0), f"{name}_crashes": 1})
        results.add_failure(name, f"ended with status {status}: see {log}")
        return
    for crash, kept in found["crashes"].items():
        results.add_failure(f"{name}_crashes", f"{crash} ({kept})")
    results.add({
        f"{name}_executions": found["executions"], f"{name}_crashes": len(found["crashes"]),
        f"{name}_longest_ms": found["longest_ms"],
    })  # fmt: skip
