"""Judges many broken cores at a time, and keeps each verdict as it comes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

from .cores import REPOSITORY, BrokenCore
from .judge import Judge, Verdict

HERE = Path(__file__).parent
#: Runs that a broken core has to get through at most, and the simulated time of each, min.
SEEDS = 20
MINUTES = 10.0


class Court:
    """Verdicts of the code and the checks as they are now.

    :param seeds: so many runs of each broken core at most.
    :param minutes: simulated time of each run.
    :param scenarios: whether the named scenarios judge those that get through all runs.
    :param again: forget the verdicts that there are.
    """

    def __init__(
        self, seeds: int = SEEDS, minutes: float = MINUTES, scenarios: bool = True, again: bool = False
    ) -> None:
        self._judge = Judge(seeds, minutes, scenarios)
        self._path = REPOSITORY / ".work" / "broken_cores" / f"{self._checks()}.jsonl"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if again:
            self._path.unlink(missing_ok=True)
        self._known: dict[str, Verdict] = {}
        if self._path.exists():
            for line in self._path.read_text().splitlines():
                key, verdict = json.loads(line)
                self._known[key] = Verdict(**verdict)

    def judge(self, cores: Sequence[BrokenCore], jobs: int = 0) -> Iterator[Verdict]:
        """Yield the verdict of each broken core as it comes.

        :param jobs: so many at a time; 0 for one on each processor.
        """
        waiting: dict[Future[Verdict], str] = {}
        with ThreadPoolExecutor(jobs or os.cpu_count()) as pool:
            try:
                for core in cores:
                    key = _digest(core.name.encode(), core.text.encode())
                    if key in self._known:
                        yield self._known[key]
                    else:
                        waiting[pool.submit(self._judge.judge, core)] = key
                for done in as_completed(waiting):
                    self._keep(waiting[done], done.result())
                    yield done.result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _keep(self, key: str, verdict: Verdict) -> None:
        self._known[key] = verdict
        with self._path.open("a") as file:
            file.write(json.dumps([key, asdict(verdict)]) + "\n")

    def _checks(self) -> str:
        """Return what changes with the shipped source that is simulated, and with all that judges it."""
        places = [REPOSITORY / "flask_hsmx_cluster", REPOSITORY / "tests" / "simulation"]
        files = sorted(file for place in places for ending in ("*.py", "corpus/*.json") for file in place.rglob(ending))
        rules = f"{self._judge.seeds} {self._judge.minutes} {self._judge.scenarios}"
        return _digest(rules.encode(), *(file.read_bytes() for file in files if HERE not in file.parents))


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()[:16]
