"""The present reign in memory: what anybody may have put there instead is nothing."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest

from flask_hsmx_cluster.agent.heartbeat import reign
from flask_hsmx_cluster.agent.heartbeat.reign import Reign, ReignMemory
from flask_hsmx_cluster.decision.model import MOST_TERM
from flask_hsmx_cluster.network.clock import machine_boot_id


@pytest.fixture
def memory(tmp_path: Path) -> ReignMemory:
    return ReignMemory(tmp_path / "reign")


def of(term: int, asked: bool = False) -> Reign:
    return Reign(term, "node", "cluster", asked)


def recalled(memory: ReignMemory) -> Reign | None:
    return memory.recall("node", "cluster")


def test_one_reign_is_remembered_until_it_is_forgotten(memory: ReignMemory) -> None:
    assert recalled(memory) is None
    memory.remember(of(7))
    memory.remember(of(9, asked=True))
    assert recalled(ReignMemory(memory.path)) == of(9, asked=True)
    assert memory.path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in memory.path.parent.iterdir()] == ["reign"], "nothing is left beside it"
    memory.forget()
    memory.forget()
    assert recalled(memory) is None


def test_another_boot_of_the_machine_knows_of_none(memory: ReignMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    memory.remember(of(7))
    monkeypatch.setattr(reign, "machine_boot_id", lambda: "another boot")
    assert recalled(ReignMemory(memory.path)) is None


def test_neither_does_another_cluster_nor_another_identity(memory: ReignMemory) -> None:
    memory.remember(of(7))
    assert memory.recall("node", "another") is memory.recall("another", "cluster") is None
    assert recalled(memory) == of(7)


def test_each_gateway_of_a_machine_has_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reign, "DIRECTORY", tmp_path)
    here, there = (ReignMemory.of(tmp_path / name) for name in "ab")
    here.remember(of(7))
    assert recalled(there) is None and recalled(ReignMemory.of(tmp_path / "b" / ".." / "a")) == of(7)


def sound(**other: object) -> str:
    return json.dumps({**asdict(of(7)), "boot_id": machine_boot_id(), **other})


@pytest.mark.parametrize(
    "written",
    ["", "7", "[]", "{", "\0" * 300, "[" * 200, sound()[:-1], sound(term=0), sound(term=-1), sound(term=MOST_TERM + 1),
     sound(term=True), sound(term=7.0), sound(term="7"), sound(asked=1), sound(boot_id=""), sound(more="x" * 300)],
)  # fmt: skip
def test_what_makes_no_sense_is_no_reign(memory: ReignMemory, written: str) -> None:
    memory.path.write_text(written)
    memory.path.chmod(0o600)
    assert recalled(memory) is None


def test_what_somebody_else_may_have_written_is_no_reign(memory: ReignMemory, tmp_path: Path) -> None:
    memory.path.write_text(sound())
    memory.path.chmod(0o600)
    assert recalled(memory) == of(7)
    memory.path.chmod(0o620)
    assert recalled(memory) is None, "others may write it"
    elsewhere = memory.path.rename(tmp_path / "elsewhere")
    elsewhere.chmod(0o600)
    memory.path.symlink_to(elsewhere)
    assert recalled(memory) is None, "a link"
    memory.path.unlink()
    os.mkfifo(memory.path, 0o600)
    assert recalled(memory) is None, "and nobody waits for a pipe"
    memory.path.unlink()
    memory.path.mkdir()
    before = len(os.listdir("/proc/self/fd"))
    assert recalled(memory) is None and len(os.listdir("/proc/self/fd")) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_another_users_file_is_no_reign(memory: ReignMemory) -> None:
    memory.remember(of(7))
    os.chown(memory.path, 12345, -1)
    assert recalled(memory) is None


def test_where_it_cannot_be_remembered_an_earlier_one_is_forgotten(
    memory: ReignMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.remember(of(7))
    memory.path.with_suffix(".new").mkdir()
    with pytest.raises(OSError):
        memory.remember(of(8))
    assert recalled(memory) is None


def test_without_room_nothing_is_left_either(memory: ReignMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    memory.remember(of(7))
    with monkeypatch.context() as full:
        full.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(OSError):
            memory.remember(of(8))
    assert list(memory.path.parent.iterdir()) == []


def test_a_link_in_its_place_is_not_followed(memory: ReignMemory, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for path in (memory.path, memory.path.with_suffix(".new")):
        path.symlink_to(victim)
    memory.remember(of(8))
    assert victim.read_text() == "precious" and recalled(memory) == of(8)
