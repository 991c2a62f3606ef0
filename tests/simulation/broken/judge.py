"""Judges a broken core: runs of the simulator one seed after the other, then the named scenarios."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from .cores import BrokenCore, make_copy

#: A run, or all scenarios, that have not ended by then never will, s of processor time: a core may ask to be woken for
#: ever.
RUN_MOST_S = 120
SCENARIOS_MOST_S = 600
#: What is no scenario but more runs.
RUNS = ("--ignore=tests/simulation/test_simulator.py", "--ignore=tests/simulation/test_random_faults.py")


class NoVerdict(ValueError):
    """A run ended without saying which invariants held: the core raised an error, or it could not be run at all."""


@dataclass(frozen=True)
class Verdict:
    """What became of a broken core.

    :param judge: who caught it: "seed", "scenario", or "" for nobody.
    :param by: the invariant that was broken, or the scenario that failed.
    :param runs: runs of the simulator until then, the one that caught it included.
    """

    name: str
    maker: str
    idea: str
    judge: str
    by: str
    runs: int
    seconds: float

    @property
    def caught(self) -> bool:
        return bool(self.judge)


class Judge:
    """Runs broken cores until they are caught. A run that the shipped core does not get through either proves nothing.

    :param seeds: so many runs of each at most, before the scenarios have their turn.
    :param minutes: simulated time of each run.
    :param scenarios: whether they have.
    """

    def __init__(self, seeds: int, minutes: float, scenarios: bool = True) -> None:
        self.seeds, self.minutes, self.scenarios = seeds, minutes, scenarios
        self._shipped: dict[int, str] = {}
        self._lock = Lock()

    def judge(self, core: BrokenCore) -> Verdict:
        """Return the verdict.

        :raises ValueError: the core does not apply to the shipped source any more, or the shipped core fails, too, or
            nothing can be run here.
        """
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="broken-core-") as directory:
            root = Path(directory)
            make_copy(root)
            core.apply(root)
            who, by, runs = "", "", 0
            while runs < self.seeds and not by:
                runs += 1
                try:
                    by = run_seed(root, runs, self.minutes)
                except NoVerdict as failure:
                    by = str(failure)
                    self._run_shipped(runs)  # anew: what was run before does not tell that it can be run now
                if by and self.shipped(runs):
                    by = ""
            if by:
                who = "seed"
            elif self.scenarios and (by := run_scenarios(root)):
                who = "scenario"
                self._must_pass(by if "::" in by else "")
        return Verdict(core.name, core.maker, core.idea, who, by, runs, round(time.monotonic() - began, 1))

    def shipped(self, seed: int) -> str:
        """Return which invariant the shipped core breaks in a run, or "" if none."""
        with self._lock:
            if seed not in self._shipped:
                self._shipped[seed] = self._run_shipped(seed)
            return self._shipped[seed]

    def _run_shipped(self, seed: int) -> str:
        with tempfile.TemporaryDirectory(prefix="shipped-core-") as directory:
            make_copy(Path(directory))
            return run_seed(Path(directory), seed, self.minutes)

    def _must_pass(self, scenario: str) -> None:
        with tempfile.TemporaryDirectory(prefix="shipped-core-") as directory:
            make_copy(Path(directory))
            if failed := run_scenarios(Path(directory), scenario):
                raise ValueError(f"{failed} fails with the shipped core, too")


def run_seed(root: Path, seed: int, minutes: float) -> str:
    """Return which invariant a run of the copy below ``root`` breaks, or "" if none.

    :raises NoVerdict: it said nothing.
    """
    run = ("run", "--seed", str(seed), "--minutes", str(minutes), "--json")
    done = _python(root, RUN_MOST_S, "-m", "tests.simulation", *run)
    if not done.returncode:
        return ""
    if done.returncode == -signal.SIGXCPU:
        return f"it did not end within {RUN_MOST_S} s"
    try:
        return str(json.loads(done.stdout)["violations"][0]["name"])
    except ValueError:
        last = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
        raise NoVerdict(last) from None


def run_scenarios(root: Path, which: str = "") -> str:
    """Return which named scenario of the copy below ``root`` fails first, or "" if none.

    :param which: this one only, as it was returned.
    :raises NoVerdict: none failed, but pytest did.
    """
    pytest = ("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", f"tests/simulation/{which}")
    done = _python(root, SCENARIOS_MOST_S, *pytest, *([] if which else RUNS))
    if not done.returncode:
        return ""
    if done.returncode == -signal.SIGXCPU:
        return f"they did not end within {SCENARIOS_MOST_S} s"
    failed = re.search(r"^(?:FAILED|ERROR) tests/simulation/(\S+)", done.stdout, re.MULTILINE)
    if not failed:
        raise NoVerdict(f"pytest ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-500:]}")
    return failed[1]


def _python(root: Path, most_s: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    command = ["prlimit", f"--cpu={most_s}:{most_s + 5}", sys.executable, *arguments]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
