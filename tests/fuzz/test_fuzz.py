"""Every target for a moment, with the same inputs each time; and that a target can fail at all."""

from __future__ import annotations

import json
import logging
import os
import random
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import targets
from .corpus import corpus
from .mutate import _written, mutated
from .target import Broken, Runner, Target

REPOSITORY = Path(__file__).resolve().parents[2]
#: Inputs of each target beside its seeds and the kept ones.
INPUTS = {"pairing_answer": 3, "peer_answer": 20, "peer_request": 30, "control_line": 40, "settings": 20}
USUALLY = 150


@pytest.mark.parametrize("name", targets.NAMES)
def test_hostile_input_is_refused_with_typed_errors_and_changes_nothing(name: str) -> None:
    runner = Runner(targets.load(name))
    try:
        seeds = [*corpus(name), *runner.target.seeds()]
        for data in seeds:
            runner.run(data)
        for number in range(INPUTS.get(name, USUALLY)):
            seed = random.Random(f"{name} {number}").choice(seeds)
            runner.run(mutated(seed, runner.target.words, runner.target.is_json, runner.target.longest, number))
        assert runner.executions > len(seeds)
    finally:
        runner.close()


class _Faulty(Target):
    """Keeps no promise, each with another input."""

    name = "faulty"
    most_s = 0.05

    def __init__(self) -> None:
        self._changed = 0

    def seeds(self) -> list[bytes]:
        return [b""]

    def take(self, data: bytes) -> bool:
        match data:
            case b"raise":
                raise KeyError("x")
            case b"apologise":
                try:
                    raise KeyError("x")
                except KeyError:
                    logging.getLogger("flask_hsmx_cluster.x").exception("The verb failed")
            case b"change":
                self._changed += 1
            case b"slow":
                sum(number * number for number in range(3_000_000))
        return False

    def state(self) -> int:
        return self._changed


@pytest.fixture
def faulty() -> Iterator[Runner]:
    runner = Runner(_Faulty())
    yield runner
    runner.close()


def test_what_was_apologised_for_is_found_where_nothing_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the engine runs, which shows nothing but its own lines."""
    monkeypatch.setattr(logging.getLogger(), "level", logging.CRITICAL)
    logging.getLogger("flask_hsmx_cluster").manager._clear_cache()  # type: ignore[attr-defined]
    runner = Runner(_Faulty())
    with pytest.raises(Broken):
        runner.run(b"apologise")
    runner.close()


@pytest.mark.parametrize("data", [b"raise", b"apologise", b"change", b"slow"])
def test_a_promise_that_is_not_kept_is_found(faulty: Runner, data: bytes) -> None:
    with pytest.raises((Broken, KeyError)):
        faulty.run(data)
    faulty.run(b"harmless")


def test_the_engine_runs(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="has wheels for x86_64 only")
    report = tmp_path / "report.json"
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "router_message", "--seconds", "1", "--seed", "1", "--report", report],
        cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(report.read_text())
    assert told["executions"] > 10 and told["crashes"] == {}


def test_what_holds_a_long_list_many_times_is_written_no_further_than_needed() -> None:
    row: list[object] = ["10.0.0.9"] * 3000
    assert len(_written([[row] * 3000] * 3000, 1000)) < 2000


def test_the_same_seed_makes_the_same_input() -> None:
    message = b'{"verb": "hello", "arguments": {"a": [1, "x"]}}'
    found = [mutated(message, (b"word",), True, 4096, seed) for seed in range(200)]
    assert found == [mutated(message, (b"word",), True, 4096, seed) for seed in range(200)]
    assert len(set(found)) > 100


def test_a_long_list_is_not_made_a_thousand_times_as_long_first() -> None:
    message = json.dumps([0] * 20_000).encode()
    tracemalloc.start()
    mutated(message, (), True, 65_536, seed=1888)  # which does just that
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 20 * 2**20
