"""Files that both gateways have: how soon a change is on the passive one, and whether a power failure tears any.

A pair of the least firmware that declares one directory of 10,000 files of 1 to 100 kB in 100 directories.
``changed_file`` is the time from the writing of one of them on the active gateway until the passive one has it.
``bare_rsync_tree`` is what ``rsync`` takes for the same tree with one changed file, over the same sshd with a
connection of its own. For ``torn_files`` 500 files are written anew and the passive gateway's power is switched off in
the middle of their transfer; each file there must then be whole, as it was or as it is to be.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sample_app.lab import Gateway, Lab, LabError, form, wait_for_roles
from sample_app.lab.privileges import AGENT_CAPABILITIES, AGENT_UID, GROUP, WEB_UID, command

from .results import Results

UNITS = {"changed_file": "ms", "bare_rsync_tree": "ms", "torn_files": "count"}
FILES, DIRECTORIES, LEAST, MOST = 10_000, 100, 1_000, 100_000
#: Files written anew before the power goes.
REWRITTEN = 500
#: Longest wait for anything, s.
PATIENCE_S = 300.0
_TAG = 16


def measure(results: Results, cases: Sequence[str], runs: int, _long_runs: int) -> None:
    """Do so many runs of each case, less those that have been done."""
    left = {case: runs - results.count(case) for case in cases if results.count(case) < runs}
    if not left:
        return
    with _pair() as lab:
        for case, work in (("changed_file", _changed), ("bare_rsync_tree", _bare), ("torn_files", _torn)):
            for number in range(left.get(case, 0)):
                try:
                    figure = work(lab)
                except LabError as error:
                    results.add_failure(case, str(error))
                    print(f"{case}: FAILED: {error}", file=sys.stderr)
                    return
                results.add({case: figure})
                print(f"{case} {number + 1}: {figure:.0f} {UNITS[case]}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _pair() -> Iterator[Lab]:
    with Lab(sync="switch", backup="switch") as lab:
        for gateway in lab.gateways:
            gateway.declare_files(portal=[])
        root = _tree(lab.a)
        for directory in range(DIRECTORIES):
            (root / f"{directory:03}").mkdir()
            os.chown(root / f"{directory:03}", WEB_UID, GROUP)
        for number in range(FILES):
            _write(_path(lab.a, number), random.randrange(LEAST, MOST))
        lab.start()
        form(lab)
        _alike(lab)
        yield lab


def _tree(gateway: Gateway) -> Path:
    return gateway.files / "portal"


def _path(gateway: Gateway, number: int) -> Path:
    return _tree(gateway) / f"{number % DIRECTORIES:03}" / f"{number:05}"


def _write(path: Path, size: int) -> bytes:
    """Write a file of one tag over and over, as the firmware does: under another name, then renamed."""
    data = os.urandom(_TAG) * (size // _TAG)
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(data)
    os.chown(new, WEB_UID, GROUP)
    new.replace(path)
    return data


def _alike(lab: Lab) -> None:
    def synchronised() -> bool:
        told = [gateway.call("status")["files"]["trees"] for gateway in lab.gateways]
        return all(one[0]["state"] == "synchronised" for one in told)

    _wait(synchronised, "the files do not become the same")


def _changed(lab: Lab) -> float:
    """Return how long one changed file takes to the passive gateway, ms."""
    active = wait_for_roles(lab)
    _alike(lab)
    time.sleep(random.uniform(0.5, 1.5))  # at any moment of the periods of the jobs
    number = random.randrange(FILES)
    copy, began = _path(lab.other(active), number), time.monotonic()
    data = _write(_path(active, number), random.randrange(LEAST, MOST))
    while copy.read_bytes() != data:
        if time.monotonic() - began > PATIENCE_S:
            raise LabError("the changed file does not arrive")
        time.sleep(0.001)
    return (time.monotonic() - began) * 1000


def _bare(lab: Lab) -> float:
    """Return how long rsync alone takes for the tree, with one changed file, ms."""
    active = wait_for_roles(lab)
    passive = lab.other(active)
    copy = passive.directory / "bare"
    if not copy.exists():
        copy.mkdir()
        os.chown(copy, AGENT_UID, GROUP)
        _rsync(passive, active, copy)
    number = random.randrange(FILES)
    _write(_path(active, number), random.randrange(LEAST, MOST))
    began = time.monotonic()
    _rsync(passive, active, copy)
    took_ms = (time.monotonic() - began) * 1000
    if (copy / _path(active, number).relative_to(_tree(active))).read_bytes() != _path(active, number).read_bytes():
        raise LabError("bare rsync did not bring the changed file")
    return took_ms


def _rsync(passive: Gateway, active: Gateway, copy: Path) -> None:
    keys = passive.state / "files"
    shell = f"ssh -F none -i {keys}/key -o UserKnownHostsFile={keys}/known_hosts -o BatchMode=yes"
    host = active.address("sync0").partition("/")[0]
    argv = ["rsync", "-rt", "--delete", "-e", shell, f"{host}::portal/", f"{copy}/"]
    run = command(AGENT_UID, AGENT_CAPABILITIES, passive.directory, argv)
    done = subprocess.run(passive.namespace.command(*run), capture_output=True, text=True)
    if done.returncode:
        raise LabError(f"rsync: {done.stderr.strip()}")


def _torn(lab: Lab) -> float:
    """Return how many files the passive gateway's power failure in the middle of a transfer has torn."""
    while True:
        active = wait_for_roles(lab, timeout_s=PATIENCE_S)
        passive = lab.other(active)
        _alike(lab)
        numbers = random.sample(range(FILES), min(REWRITTEN, FILES))
        former = {number: _path(passive, number).read_bytes() for number in numbers}
        latter = {number: _write(_path(active, number), random.randrange(LEAST, MOST)) for number in numbers}
        began = time.monotonic()
        while not _arriving(passive):
            if time.monotonic() - began > 30:
                raise LabError("no transfer begins")
        time.sleep(random.uniform(0, 0.2))
        lab.faults.power_off(passive)
        amid = _arriving(passive)
        copies = {number: _path(passive, number).read_bytes() for number in numbers}
        torn = sum(copies[number] not in (former[number], latter[number]) for number in numbers)
        lab.faults.power_on(passive)
        if amid:
            return float(torn)


def _arriving(gateway: Gateway) -> bool:
    """Return whether files lie where they wait to be renamed."""
    root = _tree(gateway)
    with contextlib.suppress(OSError):
        if any((root / ".hsmx-temp").iterdir()):
            return True
    return any((root / f"{directory:03}" / ".hsmx-staging").exists() for directory in range(DIRECTORIES))


def _wait(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(what)
        time.sleep(0.1)  # the agent answers 50 questions a second
