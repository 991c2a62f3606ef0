"""The passes of a passive gateway: the real rsync, with the real configuration, and no ssh in between."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flask_hsmx_cluster.files import plan as plans
from flask_hsmx_cluster.files import puller as pullers
from flask_hsmx_cluster.files.declare import Tree
from flask_hsmx_cluster.files.exclude import STAGING, rsync_rules
from flask_hsmx_cluster.files.places import ASIDES_MOST, Places
from flask_hsmx_cluster.files.puller import Puller, Result
from flask_hsmx_cluster.files.rsync import Source, serve_text
from flask_hsmx_cluster.files.ssh import serve_command

RSYNC = shutil.which("rsync") or ""
pytestmark = pytest.mark.skipif(not RSYNC, reason="not installed: rsync")
NAME = "portal"


class Gateway:
    """A passive gateway's files (``here``), and the active one's (``there``)."""

    def __init__(self, directory: Path) -> None:
        self.here, self.there, self.state = (directory / name for name in ("here", "there", "state"))
        for path in (self.here, self.there, self.state / "files"):
            path.mkdir(parents=True)
        self.tree, self.places = Tree(NAME, str(self.here)), Places(str(self.state))
        self.places.rules(self.tree).write_text(rsync_rules(()))
        self.places.leave_out(self.tree, ())
        self.source = Source("192.0.2.2", shell=str(self._shell(directory)))
        self._passed = threading.Semaphore(0)
        self.puller = Puller(RSYNC, self.places, self.count, lambda _name: self._passed.release())
        threading.Thread(target=self.puller.run, daemon=True).start()
        self.puller.configure([self.tree], passive=True)

    def _shell(self, directory: Path) -> Path:
        """Return a program that does for rsync what ssh and the forced command do."""
        configuration, shell = directory / "rsyncd.conf", directory / "shell"
        rules = {NAME: str(self.places.served(self.tree))}
        configuration.write_text(
            serve_text([Tree(NAME, str(self.there))], rules, ["192.0.2.1"], str(directory / "lock"))
        )
        shell.write_text(
            "#!/bin/sh\nSSH_CONNECTION='192.0.2.1 1 192.0.2.2 22' exec " + serve_command(RSYNC, str(configuration))
        )
        shell.chmod(0o755)
        return shell

    def count(self, _tree: str) -> int:
        argv = ["find", str(self.here), "-type", "f", "-printf", "x"]
        return len(subprocess.run(argv, capture_output=True, check=True).stdout)

    def pull(self, *paths: str) -> Result:
        """Do a pass, of the whole unless paths are named, and return how it went."""
        self.puller.want([self.source], {NAME: list(paths) or None})
        assert self._passed.acquire(timeout=30)
        return self.puller.results[NAME]

    def become_active(self) -> None:
        self.puller.configure([self.tree], passive=False)

    def become_passive(self) -> None:
        self.puller.configure([self.tree], passive=True)

    def asides(self) -> list[dict[str, str]]:
        """Return what was kept aside, by name of the file, the oldest first."""
        base = self.places.directory / "aside" / NAME
        return [{one.name: one.read_text() for one in aside.iterdir()} for aside in sorted(base.iterdir())]


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path)
    yield gateway
    gateway.become_active()


def test_what_only_this_gateway_had_outlasts_any_number_of_changes_while_deletions_wait(gateway: Gateway) -> None:
    (gateway.here / "changed").write_text("ours")
    for number in range(9):
        (gateway.here / f"own{number}").write_text("only here")
    (gateway.there / "changed").write_text("theirs")
    result = gateway.pull()
    assert result.asks == 9 and (gateway.here / "changed").read_text() == "theirs"
    for number in range(ASIDES_MOST + 3):
        (gateway.there / "changed").write_text("x" * number)
        assert gateway.pull("changed").asks == 9
    assert gateway.asides() == [{"changed": "ours"}]
    gateway.puller.allow(NAME, 9)
    assert gateway.pull().deleted == 9
    assert gateway.asides()[0] == {"changed": "ours"}
    assert gateway.asides()[1] == {f"own{number}": "only here" for number in range(9)}


def test_what_cut_off_passes_have_left_goes_however_deep_it_lies(gateway: Gateway) -> None:
    deepest = gateway.here
    for _ in range(1200):
        deepest = deepest / "d"
        deepest.mkdir()
    left = deepest / STAGING
    left.mkdir()
    (left / "file").write_text("x")
    gateway.puller.allow(NAME, 10**6)
    try:
        assert not gateway.pull().error and not left.exists()
    finally:  # before pytest, which cannot
        subprocess.run(["rm", "-rf", gateway.here / "d"], check=True)


def test_a_question_stays_while_single_files_come(gateway: Gateway) -> None:
    for number in range(10):
        (gateway.there / f"page{number}").write_text("x")
    gateway.pull()
    for number in range(1, 10):
        (gateway.there / f"page{number}").unlink()
    assert gateway.pull().asks == 9
    (gateway.there / "page0").write_text("new")
    result = gateway.pull("page0")
    assert (gateway.here / "page0").read_text() == "new"
    assert (result.asks, result.of, len(result.examples)) == (9, 10, 5)


def test_a_directory_that_is_emptied_bit_by_bit_is_noticed_and_stays_in_question(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans, "DELETIONS_WITHIN_S", 10_000.0)
    for number in range(100):
        (gateway.there / f"page{number}").write_text("x")
    gateway.pull()
    results = []
    for number in range(40):
        (gateway.there / f"page{number}").unlink()
        results.append(gateway.pull())
    assert gateway.count(NAME) == 80, "no more than a fifth went unasked"
    assert [one.asks for one in results] == [0] * 20 + list(range(1, 21))
    monkeypatch.setattr(plans, "DELETIONS_WITHIN_S", 0.0)
    assert gateway.pull().asks == 20, "time alone is no answer"
    gateway.puller.allow(NAME, 20)
    assert gateway.pull().deleted == 20
    (gateway.there / "page50").unlink()
    assert not gateway.pull().asks


def test_where_it_is_kept_is_said_until_it_is_gone(gateway: Gateway) -> None:
    (gateway.here / "own").write_text("only here")
    aside = gateway.pull().aside
    assert aside and gateway.pull().aside == aside
    shutil.rmtree(aside)
    assert gateway.pull().aside == ""


def test_each_time_is_kept_for_itself_and_the_last_ten_are(gateway: Gateway) -> None:
    for number in range(ASIDES_MOST + 3):
        gateway.become_active()
        (gateway.here / "own").write_text(str(number))
        gateway.become_passive()
        gateway.pull()
        gateway.become_active()
        gateway.become_passive()
        gateway.pull()  # nothing differs: nothing is kept, and nothing makes room for it
    assert {one["own"] for one in gateway.asides()} == {str(number) for number in range(3, ASIDES_MOST + 3)}


def test_without_room_to_keep_what_is_ours_nothing_is_overwritten(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    (gateway.here / "changed").write_text("ours")
    (gateway.there / "changed").write_text("theirs")
    monkeypatch.setattr(pullers, "_same_disk", lambda _one, _other: False)
    monkeypatch.setattr(pullers, "_free", lambda path: 10**12 if path == str(gateway.here) else 1000)
    result = gateway.pull()
    assert "kept aside" in result.error and str(gateway.places.directory) in result.remedy
    assert (gateway.here / "changed").read_text() == "ours"
    monkeypatch.undo()
    assert not gateway.pull().error and gateway.asides() == [{"changed": "ours"}]


@pytest.mark.parametrize("paths", [(), ("big",)], ids=["whole", "single"])
def test_a_pass_ends_before_the_disk_is_full(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, paths: tuple[str, ...]
) -> None:
    """More may come than was told: the other gateway may be a hostile one, and of single files nothing is told."""
    gateway.pull()  # the first one is always of the whole
    (gateway.there / "big").write_bytes(os.urandom(4_000_000))
    free = iter([10**12] if not paths else [])
    monkeypatch.setattr(pullers, "_free", lambda _path: next(free, plans.ROOM_LEFT - 1))
    result = gateway.pull(*paths)
    assert "disk is nearly full" in result.error and result.remedy
    monkeypatch.undo()
    assert not list(gateway.here.rglob(STAGING))
    assert gateway.pull(*paths).error == ""
    assert (gateway.here / "big").stat().st_size == 4_000_000


def test_what_could_not_be_copied_is_named(gateway: Gateway) -> None:
    gateway.pull()
    (gateway.here / "x").mkdir()
    for name in "ab":
        (gateway.here / "x" / name).write_text("only here")
    (gateway.there / "x").write_text("a file of this name")
    result = gateway.pull()
    assert result.asks and "x" in result.partly
    (gateway.there / "y").write_text("another one")
    assert gateway.pull("y").partly == result.partly, "one file that came says nothing of the others"
