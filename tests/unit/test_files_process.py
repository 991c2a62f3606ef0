"""The process of files, without the agent: what it knows of the declared directories, and when."""

from __future__ import annotations

import os
import shutil
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

import pytest

from flask_hsmx_cluster.agent_line import Line
from flask_hsmx_cluster.files.declare import Files, Tree
from flask_hsmx_cluster.files.manifest import Manifest
from flask_hsmx_cluster.files.process import Process


class Nobody:
    """Stands for the agent's lines."""

    def write(self, _message: Any) -> None:
        pass


@pytest.mark.skipif(not all(map(shutil.which, ("rsync", "ssh-keygen"))), reason="not installed: rsync, openssh-client")
def test_deletions_are_weighed_against_files_that_have_been_counted(tmp_path: Path) -> None:
    state, root = tmp_path / "state", tmp_path / "portal"
    state.mkdir()
    root.mkdir()
    for number in range(3):
        (root / str(number)).write_text("x")
    nobody = cast(Line, Nobody())
    process, here = Process(nobody, nobody), Future[int]()
    process._configure(
        Files((Tree("portal", str(root)),)).to_json(), str(state), "passive", "ssh", [],
        {"key": "", "host_key": "", "secret": "", "addresses": []},
    )  # fmt: skip
    threading.Thread(target=lambda: here.set_result(process._files_here("portal")), daemon=True).start()
    process._read_all()
    assert here.result(timeout=30) == 3


def test_a_tree_may_be_deeper_than_python_calls(tmp_path: Path) -> None:
    deepest = tmp_path
    for _ in range(1200):
        deepest = deepest / "d"
        os.mkdir(deepest)
    (deepest / "file").write_text("x")
    manifest = Manifest(Tree("a", str(tmp_path)))
    try:
        manifest.read()
        assert manifest.summary().files == 1 and len(manifest.directories) == 1201
    finally:  # before pytest, which cannot
        (deepest / "file").unlink()
        while deepest != tmp_path:
            os.rmdir(deepest)
            deepest = deepest.parent
