"""The broken cores are what they say, and a few are caught here; all are by ``./tests/bench/run simulation``."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest

from . import judge as judging
from .cores import DECISION, REPOSITORY, BrokenCore, all_cores
from .judge import Judge, NoVerdict

CORES = all_cores()
#: Where they break something.
BREAKABLE = (DECISION, Path("flask_hsmx_cluster/agent/heartbeat"))
#: Some that one run catches, and who judges them.
QUICK = ("no_burst", "both_passive_for_ever", "deaf_to_answers")
JUDGE = Judge(seeds=6, minutes=10, scenarios=False)


def test_half_of_them_are_made_by_a_tool() -> None:
    makers = Counter(core.maker for core in CORES)
    assert makers["hand"] >= 12 and makers["cosmic-ray"] >= 12
    assert len({core.name for core in CORES}) == len(CORES) and all(core.idea for core in CORES)


@pytest.mark.parametrize("core", CORES, ids=lambda core: core.name)
def test_it_breaks_the_shipped_source_and_is_still_python(core: BrokenCore, tmp_path: Path) -> None:
    for place in BREAKABLE:
        shutil.copytree(REPOSITORY / place, tmp_path / place)
    core.apply(tmp_path)
    changed = {}
    for place in BREAKABLE:
        for path in (tmp_path / place).glob("*.py"):
            if path.read_text() != (REPOSITORY / place / path.name).read_text():
                changed[path] = compile(path.read_text(), path, "exec")
    assert changed


@pytest.mark.parametrize("name", QUICK)
def test_it_is_caught(name: str) -> None:
    core = next(core for core in CORES if core.name == name)
    assert JUDGE.judge(core).caught, core.idea


def test_where_nothing_can_be_run_nothing_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A virtual environment that had gone once made 57 of 74 look caught."""
    judge = Judge(seeds=1, minutes=1, scenarios=False)
    assert not judge.shipped(1)
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(NoVerdict):
        judge.judge(CORES[0])


def test_what_does_not_end_is_told_from_what_was_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(judging, "RUN_MOST_S", 1)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "__init__.py").touch()
    (tmp_path / "tests" / "simulation.py").write_text("while True: pass")
    assert judging.run_seed(tmp_path, 1, 1.0) == "it did not end within 1 s"
    (tmp_path / "tests" / "simulation.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(NoVerdict):
        judging.run_seed(tmp_path, 1, 1.0)
