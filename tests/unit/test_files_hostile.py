"""Trees that nobody expects and requests that nobody should make, with the real rsync and the real configuration."""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from flask_hsmx_cluster.files import plan
from flask_hsmx_cluster.files.declare import Tree
from flask_hsmx_cluster.files.manifest import Manifest
from flask_hsmx_cluster.files.places import Peer, Places
from flask_hsmx_cluster.files.puller import PATHS_MOST, Puller, Result, together
from flask_hsmx_cluster.files.rsync import Source
from flask_hsmx_cluster.files.ssh import serve_command

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJmkCb1ULZ1jVLcOB0eS9IU0gDqzvYIQbYyGxQb0pZcM"
RSYNC = shutil.which("rsync") or ""
pytestmark = pytest.mark.skipif(not RSYNC or not shutil.which("ssh-keygen"), reason="not installed: rsync, ssh")


class Pair:
    """An active gateway's tree and a passive one's; between them a shell that runs the forced command and no other."""

    def __init__(self, directory: Path, file_mb: int = 1024) -> None:
        self.here, self.there = directory / "passive", directory / "active"
        for one in (self.here, self.there, directory / "state", directory / "own"):
            one.mkdir()
        self.trees = Tree("portal", str(self.there), file_mb=file_mb), Tree("portal", str(self.here), file_mb=file_mb)
        self._places, self._own_places = Places(str(directory / "state")), Places(str(directory / "own"))
        for tree, places in zip(self.trees, (self._places, self._own_places), strict=True):
            places.make_keys()
            places.write([tree], Peer(KEY, KEY, "cd" * 24, ("127.0.0.1",)), 22, True, RSYNC)
        configuration = self._places.serve_configuration(False)
        if os.geteuid() == 0:  # as root rsync would serve as nobody, who may not read the test's directory
            configuration = directory / "ssh.conf"
            text = self._places.serve_configuration(False).read_text()
            configuration.write_text(f"uid = 0\ngid = 0\n{text}")
        self.shell = directory / "shell"
        self.shell.write_text(
            f"#!/bin/sh\nexport SSH_CONNECTION='127.0.0.1 1 127.0.0.1 22'\n"
            f"exec {serve_command(RSYNC, str(configuration))}\n"
        )
        self.shell.chmod(0o700)
        self._ended: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.puller = Puller(RSYNC, self._own_places, lambda _: self.manifest(1).summary().files, self._ended.put)
        self.puller.configure(self.trees[1:], passive=True)
        threading.Thread(target=self.puller.run, daemon=True).start()

    def manifest(self, which: int) -> Manifest:
        """Return what is known of the active gateway's tree (0) or the passive one's (1)."""
        found = Manifest(self.trees[which])
        found.read()
        return found

    def pull(self, paths: list[str] | None = None) -> Result:
        """Let both gateways look at their trees, and the passive one pull; return how that went."""
        for which, places in enumerate((self._places, self._own_places)):
            places.leave_out(self.trees[which], self.manifest(which).left_out)
        self.puller.want([Source("localhost", shell=str(self.shell))], {"portal": paths})
        self._ended.get(timeout=60)
        result = self.puller.results["portal"]
        assert not result.error
        return result

    def steal(self, path: str, *options: str) -> set[str]:
        """Ask the active gateway for something as a hostile one would; return the names of what has come."""
        loot = self.here.parent / "loot"
        shutil.rmtree(loot, ignore_errors=True)
        argv = [RSYNC, f"--rsh={self.shell}", "-r", *options, f"localhost::portal/{path}", f"{loot}/"]
        subprocess.run(argv, capture_output=True, timeout=60)
        return {one.name for one in loot.rglob("*") if one.is_file()}

    @property
    def alike(self) -> bool:
        return self.manifest(0).summary().digest == self.manifest(1).summary().digest


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


def test_no_link_leads_to_what_is_never_sent(pair: Pair) -> None:
    (pair.there / "ssl").mkdir()
    (pair.there / "ssl" / "secret").write_text("x")
    (pair.there / "page").write_text("x")
    for name in ("pub", "a\\b[*", "new\nline"):
        (pair.there / name).symlink_to("ssl")
    assert pair.pull().files == 1
    for name in ("pub", "a\\b[*", "new\nline", "ssl"):
        for path in (f"{name}/", f"{name}/secret"):
            assert pair.steal(path) == set(), path
            paths = pair.here.parent / "paths"
            paths.write_text(f"{path}\0")
            assert pair.steal("", "--from0", f"--files-from={paths}") == set(), path
    assert pair.steal("") == {"page"}


def test_nothing_is_sent_of_a_tree_that_was_not_looked_at(pair: Pair) -> None:
    (pair.there / "page").write_text("x")
    assert pair.steal("") == set()
    pair.pull()
    assert pair.steal("") == {"page"}


def test_a_file_in_whose_place_comes_what_is_not_copied_goes(tmp_path: Path) -> None:
    pair = Pair(tmp_path, file_mb=1)
    for name in ("link", "pipe", "large", *map(str, range(20))):
        (pair.there / name).write_text("x")
    pair.pull()
    assert pair.alike
    (pair.there / "link").unlink()
    (pair.there / "link").symlink_to("large")
    (pair.there / "pipe").unlink()
    os.mkfifo(pair.there / "pipe")
    with (pair.there / "large").open("r+") as file:
        file.truncate(2 * 1024 * 1024)
    assert pair.pull().deleted == 3
    assert pair.alike and not (pair.here / "link").exists() and not (pair.here / "large").exists()


def test_the_links_of_the_gateway_that_has_become_passive_stay_unless_a_file_comes_in_their_place(pair: Pair) -> None:
    for name in ("one", "two", *map(str, range(9))):
        (pair.there / name).write_text("x")
    for name in ("a\\b[*", "new\nline", "current", " two "):
        (pair.here / name).symlink_to("one")
    (pair.here / "sub").mkdir()
    (pair.here / "sub" / "deeper").symlink_to("../one")
    pair.pull()
    assert pair.alike and len([one for one in pair.here.rglob("*") if one.is_symlink()]) == 5
    (pair.there / "current").write_text("a file")
    pair.pull()
    assert pair.alike and (pair.here / "current").read_text() == "a file" and not (pair.here / "current").is_symlink()


def test_a_directory_that_holds_only_what_is_a_gateways_own_makes_no_difference(pair: Pair) -> None:
    for name in ("theme", "other"):
        (pair.there / name).mkdir()
        (pair.there / name / "style.css").write_text("x")
    pair.pull()
    (pair.here / "theme" / "LICENSE").write_text("ours")
    shutil.rmtree(pair.there / "theme")
    pair.pull()
    assert (pair.here / "theme" / "LICENSE").read_text() == "ours" and pair.alike


def test_what_is_said_to_have_changed_is_copied_though_length_and_second_are_the_same(pair: Pair) -> None:
    for directory, text in ((pair.there, "new"), (pair.here, "old")):
        (directory / "page").write_text(text)
        os.utime(directory / "page", (10**9, 10**9))
    pair.pull()
    pair.pull(["page"])
    assert (pair.here / "page").read_text() == "new"


def test_directories_are_no_files_to_the_brake(pair: Pair) -> None:
    for name in range(10):
        (pair.there / f"file{name}").write_text("x")
        (pair.there / "empty" / str(name)).mkdir(parents=True)
    pair.pull()
    shutil.rmtree(pair.there / "empty")
    (pair.there / "file0").unlink()
    result = pair.pull()
    assert not result.asks and not (pair.here / "empty").exists() and not (pair.here / "file0").exists()
    shutil.rmtree(pair.there)
    pair.there.mkdir()
    (pair.here / "own").mkdir()
    result = pair.pull()
    assert (result.asks, result.of) == (9, 9) and (pair.here / "file9").exists()


def test_half_a_file_that_nobody_sends_any_more_does_not_lie_about(pair: Pair) -> None:
    (pair.there / "sub").mkdir()
    (pair.there / "sub" / "page").write_text("x")
    pair.pull()
    waiting = pair.here / "sub" / ".hsmx-staging"
    waiting.mkdir()
    (waiting / "upload").write_text("half")
    pair.pull()
    assert not waiting.exists() and (pair.here / "sub" / "page").exists()


def test_however_much_is_said_to_have_changed_what_is_remembered_is_bounded() -> None:
    paths = [str(one) for one in range(PATHS_MOST)]
    assert together(set(), paths) == set(paths) == together({"0"}, paths)
    assert together({"other"}, paths) is None and together(None, ["a"]) is None and together({"a"}, None) is None


def test_a_further_name_of_a_file_and_a_link_are_noticed(tmp_path: Path) -> None:
    manifest = Manifest(Tree("a", str(tmp_path)))
    (tmp_path / "file").write_text("x")
    (tmp_path / "other").hardlink_to(tmp_path / "file")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "written").write_text("half of it")
    assert manifest.complete({b"other", b"link", b"written", b"gone"}) == {b"other", b"link"}


def test_a_plan_tells_files_and_directories_apart() -> None:
    found = plan.planned(["del. 0 d/", "del. 3 a", "recv 4 b", "recv 4096 e/"])
    assert (found.deletions, found.deleted_files, found.files) == (2, 1, 1)
