"""Fuzzes one target, guided by coverage: ``python -m tests.fuzz TARGET --seconds 300``; crashes are kept and counted.

The engine is atheris, which is libFuzzer with Python's own bytecode instrumented. It mutates bytes by itself; JSON is
mutated as a tree beside that. What it has learned stays in ``.work/fuzz``, where the next run goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import random
import resource
import sys
import time
from pathlib import Path
from typing import Any

import atheris

from .corpus import corpus
from .mutate import mutated
from .targets import NAMES

REPOSITORY = Path(__file__).resolve().parents[2]
#: Memory that a target may take in all, MB.
MOST_MB = 1024
_SAVED_EVERY_S = 2.0


class _Session:
    """One run of one target."""

    def __init__(self, name: str, seconds: float, directory: Path, report: Path) -> None:
        with atheris.instrument_imports(include=["flask_hsmx_cluster"]):
            from .target import Runner
            from .targets import load

            self.target = load(name)
        self.runner = Runner(self.target)
        self._directory, self._report = directory, report
        self._began = self._saved_at = time.monotonic()
        self._until = self._began + seconds
        self._crashes: dict[str, str] = {}
        self._start_mb = _memory_mb()

    def one(self, data: bytes) -> None:
        """Hand in an input; a crash is kept, and the run goes on."""
        try:
            self.runner.run(data)
        except Exception as error:
            self._keep(data, error)
            self.target.renew()
        now = time.monotonic()
        if now - self._saved_at >= _SAVED_EVERY_S or now >= self._until:
            self._saved_at = now
            self.save()
        if now >= self._until:
            sys.stderr.flush()
            os._exit(0)  # libFuzzer looks at its own clock between two inputs only, and threads may wait for a peer

    def _keep(self, data: bytes, error: Exception) -> None:
        cause = error.__cause__ or error
        place, trace = "", cause.__traceback__
        while trace is not None:
            place, trace = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}", trace.tb_next
        key = f"{type(cause).__name__} at {place}: {error}"
        if key not in self._crashes:
            path = self._directory / f"crash-{hashlib.sha256(data).hexdigest()[:16]}"
            path.write_bytes(data)
            self._crashes[key] = path.name
            print(f"CRASH {key}: {path}", file=sys.stderr)

    def save(self) -> None:
        """Write down how far it is."""
        found: dict[str, Any] = {
            "target": self.target.name, "seconds": round(time.monotonic() - self._began, 1),
            "executions": self.runner.executions, "taken": self.runner.taken, "crashes": self._crashes,
            "longest_ms": round(1000 * self.runner.longest_s, 3), "longest_bytes": len(self.runner.longest_input),
            "grown_mb": round(_memory_mb() - self._start_mb, 1),
        }  # fmt: skip
        part = self._report.with_suffix(".part")
        part.write_text(json.dumps(found, indent=2) + "\n")
        part.replace(self._report)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=NAMES)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=0, help="of the engine; 0: another one each time")
    parser.add_argument("--report", type=Path, help="JSON file with how far it is, kept up to date")
    options = parser.parse_args()
    logging.basicConfig(level=logging.CRITICAL)
    directory = REPOSITORY / ".work" / "fuzz" / options.target
    learned = directory / "corpus"
    learned.mkdir(parents=True, exist_ok=True)
    session = _Session(options.target, options.seconds, directory, options.report or directory / "report.json")
    target = session.target
    seeds = [*corpus(options.target), *target.seeds()]
    for data in seeds:
        (learned / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    (directory / "words").write_text("".join(f'"{_escaped(word)}"\n' for word in target.words if word))

    def mutate(data: bytes, longest: int, seed: int) -> bytes:
        if random.Random(seed).random() < 0.5:
            return mutated(data, target.words, target.is_json, min(longest, target.longest), seed)
        return bytes(atheris.Mutate(data, longest))

    arguments = [
        sys.argv[0], str(learned), f"-max_len={target.longest}", f"-rss_limit_mb={MOST_MB}", "-timeout=30",
        *([f"-dict={directory / 'words'}"] if target.words else []), f"-artifact_prefix={directory}/",
        *([f"-seed={options.seed}"] if options.seed else []),
    ]  # fmt: skip
    atheris.Setup(arguments, session.one, custom_mutator=mutate, internal_libfuzzer=True)
    atheris.Fuzz()


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


def _memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
