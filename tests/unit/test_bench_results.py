"""Figures survive an interruption, and a run that failed is not forgotten."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.bench import results as module
from tests.bench.results import Results

UNITS = {"outage": "ms", "moves": "count", "never_run": "ms"}


def commit(repository: Path) -> None:
    somebody = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *somebody, "commit", "-qm", "work", "--allow-empty"], cwd=repository, check=True)


@pytest.fixture(autouse=True)
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "REPOSITORY", tmp_path)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    commit(tmp_path)
    (tmp_path / ".gitignore").write_text("*\n")
    return tmp_path


def test_a_summary_has_the_documented_form() -> None:
    results = Results.of_this_commit("failover", UNITS)
    for outage in (12.0, 10.0, 17.5):
        results.add({"outage": outage})
    results.add({"moves": 0})
    summary = results.summary()
    assert summary["bench"] == "failover"
    assert summary["cases"] == [
        {"case": "outage", "unit": "ms", "n": 3, "min": 10.0, "median": 12.0, "max": 17.5},
        {"case": "moves", "unit": "count", "n": 1, "min": 0, "median": 0, "max": 0, "sum": 0},
    ]


def test_an_interrupted_bench_goes_on_where_it_was() -> None:
    Results.of_this_commit("failover", UNITS).add({"outage": 12.0})
    assert Results.of_this_commit("failover", UNITS).count("outage") == 1
    assert Results.of_this_commit("failover", UNITS, again=True).count("outage") == 0


def test_figures_of_another_commit_do_not_count(repository: Path) -> None:
    Results.of_this_commit("failover", UNITS).add({"outage": 12.0})
    commit(repository)
    assert Results.of_this_commit("failover", UNITS).count("outage") == 0


def test_a_failed_run_shows_in_the_table() -> None:
    results = Results.of_this_commit("failover", UNITS)
    results.add_failure("outage", "nobody answered")
    assert "FAILED outage: nobody answered" in results.table()
    assert Results.of_this_commit("failover", UNITS).failures == ["outage: nobody answered"]
