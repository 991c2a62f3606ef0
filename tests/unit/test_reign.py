"""The present reign in memory: what anybody may have put there instead is nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from flask_hsmx_cluster.agent.heartbeat import reign
from flask_hsmx_cluster.agent.heartbeat.reign import Reign, ReignMemory
from flask_hsmx_cluster.decision.model import MOST_TERM
from flask_hsmx_cluster.network.clock import machine_boot_id


@pytest.fixture
def memory(tmp_path: Path) -> ReignMemory:
    return ReignMemory(tmp_path / "reign")


def test_one_reign_is_remembered_until_it_is_forgotten(memory: ReignMemory) -> None:
    assert memory.recall() is None
    memory.remember(Reign(7))
    memory.remember(Reign(9, asked=True))
    assert ReignMemory(memory.path).recall() == Reign(9, asked=True)
    assert memory.path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in memory.path.parent.iterdir()] == ["reign"], "nothing is left beside it"
    memory.forget()
    memory.forget()
    assert memory.recall() is None


def test_another_boot_of_the_machine_knows_of_none(memory: ReignMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    memory.remember(Reign(7))
    monkeypatch.setattr(reign, "machine_boot_id", lambda: "another boot")
    assert memory.recall() is None


def test_each_gateway_of_a_machine_has_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reign, "DIRECTORY", tmp_path)
    here, there = (ReignMemory.of(tmp_path / name) for name in "ab")
    here.remember(Reign(7))
    assert there.recall() is None and ReignMemory.of(tmp_path / "b" / ".." / "a").recall() == Reign(7)


def sound(**other: object) -> str:
    return json.dumps({"term": 7, "asked": False, "boot_id": machine_boot_id(), **other})


@pytest.mark.parametrize(
    "written",
    ["", "7", "[]", "{", "\0" * 300, "[" * 200, sound()[:-1], sound(term=0), sound(term=-1), sound(term=MOST_TERM + 1),
     sound(term=True), sound(term=7.0), sound(term="7"), sound(asked=1), sound(boot_id=""), sound(more="x" * 300)],
)  # fmt: skip
def test_what_makes_no_sense_is_no_reign(memory: ReignMemory, written: str) -> None:
    memory.path.write_text(written)
    memory.path.chmod(0o600)
    assert memory.recall() is None


def test_what_somebody_else_may_have_written_is_no_reign(memory: ReignMemory, tmp_path: Path) -> None:
    memory.path.write_text(sound())
    memory.path.chmod(0o600)
    assert memory.recall() == Reign(7)
    memory.path.chmod(0o620)
    assert memory.recall() is None, "others may write it"
    elsewhere = memory.path.rename(tmp_path / "elsewhere")
    elsewhere.chmod(0o600)
    memory.path.symlink_to(elsewhere)
    assert memory.recall() is None, "a link"
    memory.path.unlink()
    os.mkfifo(memory.path, 0o600)
    assert memory.recall() is None, "and nobody waits for a pipe"
    memory.path.unlink()
    memory.path.mkdir()
    assert memory.recall() is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_another_users_file_is_no_reign(memory: ReignMemory) -> None:
    memory.remember(Reign(7))
    os.chown(memory.path, 12345, -1)
    assert memory.recall() is None


def test_where_it_cannot_be_remembered_an_earlier_one_is_forgotten(
    memory: ReignMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.remember(Reign(7))
    memory.path.with_suffix(".new").mkdir()
    with pytest.raises(OSError):
        memory.remember(Reign(8))
    assert memory.recall() is None


def test_a_link_in_its_place_is_not_followed(memory: ReignMemory, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for path in (memory.path, memory.path.with_suffix(".new")):
        path.symlink_to(victim)
    memory.remember(Reign(8))
    assert victim.read_text() == "precious" and memory.recall() == Reign(8)
