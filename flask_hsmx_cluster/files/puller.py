"""Pulls: one pass after the other, each over the first way to the other gateway that works, by a thread of its own."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ClusterError
from ..network.clock import boot_time_s
from . import plan as plans
from .declare import Tree
from .exclude import STAGING, TEMPORARY
from .places import Places
from .rsync import Source, pull

log = logging.getLogger(__name__)
#: What rsync ends with: all is well; some could not be read, or has just gone; some was not deleted.
_WELL, _PARTLY, _GONE, _NOT_DELETED = 0, 23, 24, 25
#: Neither the way there nor the other gateway is at fault: our own disk, or what we asked for.
_OWN_FAULT = (1, 3, 4, 11, 13, 22)
_LONGEST_LINE = 16384
#: More changed paths than this are not remembered while they wait: the whole tree is looked at.
PATHS_MOST = 2000


class NoWay(ClusterError):
    """The other gateway could not be reached this way, or the connection was lost."""


class Stopped(ClusterError):
    """The pass was ended: this gateway is not passive any more."""


@dataclass
class Result:
    """How the last pass of a tree went.

    :param at: its end, boot time in s; ``seconds``: how long it took.
    :param files: files that came; ``size``: their length, bytes; ``deleted``: files and directories.
    :param whole: the whole tree was looked at.
    :param error: why it failed; empty if it did not. ``remedy``: what to do.
    :param partly: what could not be copied, in rsync's words.
    :param asks: deletions that wait for an operator; ``of``: files here; ``examples``: some of them.
    :param aside: the directory where what was replaced or deleted is kept; empty: nothing was.
    """

    at: float = 0.0
    seconds: float = 0.0
    files: int = 0
    size: int = 0
    deleted: int = 0
    whole: bool = False
    error: str = ""
    remedy: str = ""
    partly: str = ""
    asks: int = 0
    of: int = 0
    examples: tuple[str, ...] = ()
    aside: str = ""
    host: str = ""

    def remember(self, former: Result | None) -> None:
        """Take over from the pass before what this one has not looked at."""
        if former is None:
            return
        if not self.whole:
            self.asks, self.of, self.examples = former.asks, former.of, former.examples
            self.partly = self.partly or former.partly
        if former.aside and os.path.isdir(former.aside):
            self.aside = self.aside or former.aside


@dataclass
class Progress:
    """How far a pass is. Of a whole pass all is known beforehand, of single files nothing is."""

    tree: str
    files: int = 0
    size: int = 0
    of_files: int = 0
    of_size: int = 0
    began_at: float = field(default_factory=boot_time_s)


class Puller:
    """Brings this gateway's copies up to date while it is passive.

    :param here: how many files there are in a tree now; waits until it was looked at.
    :param ended: called with a tree's name after each pass.
    """

    def __init__(
        self, rsync: str, places: Places, here: Callable[[str], int], ended: Callable[[str], None] = lambda _: None
    ) -> None:
        self._rsync, self._places, self._here, self._ended = rsync, places, here, ended
        self._lock = threading.Condition()
        self._trees: dict[str, Tree] = {}
        self._sources: Sequence[Source] = ()
        self._wanted: dict[str, set[str] | None] = {}
        self._repair: set[str] = set()
        self._fresh: set[str] = set()  # trees of which all was not taken over yet since this gateway is passive
        self._came: set[str] = set()  # those of them of which all has come, and deletions wait for an operator
        self._allowed: dict[str, int] = {}
        self._deleted: dict[str, list[tuple[float, int]]] = {}  # when how many were, of late
        self._passive = False
        self._process: subprocess.Popen[bytes] | None = None
        self.results: dict[str, Result] = {}
        self.progress: Progress | None = None

    def configure(self, trees: Sequence[Tree], passive: bool) -> None:
        """Take over what is declared, and the role. Whatever is under way ends when this gateway is not passive."""
        with self._lock:
            if passive and not self._passive:
                self._fresh, self._came = {tree.name for tree in trees}, set()
                self._deleted.clear()
                for result in self.results.values():
                    result.asks = 0
            self._trees, self._passive = {tree.name: tree for tree in trees}, passive
            if not passive:
                self._wanted.clear()
                self._allowed.clear()
                self._end_process()

    def want(self, sources: Sequence[Source], trees: dict[str, list[str] | None], repair: bool = False) -> None:
        """Pull soon.

        :param trees: by name the paths that changed; None: the whole tree.
        :param repair: compare contents: lengths and times say that nothing differs, and it does.
        """
        with self._lock:
            if not self._passive:
                return
            self._sources = tuple(sources)
            for name in trees.keys() & self._trees.keys():
                self._wanted[name] = together(self._wanted.get(name, set()), trees[name])
                if repair:
                    self._repair.add(name)
            self._lock.notify_all()

    def allow(self, name: str, deletions: int) -> None:
        """Let the next pass of a tree delete so many files."""
        with self._lock:
            self._allowed[name] = deletions

    @property
    def busy(self) -> bool:
        """Whether a pass is under way or due."""
        return self.progress is not None or bool(self._wanted)

    def run(self) -> None:
        """Do one pass after the other, for ever."""
        while True:
            with self._lock:
                while not self._wanted:
                    self._lock.wait()
                name, paths = next(iter(self._wanted.items()))
                del self._wanted[name]
                if name in self._fresh:
                    paths = None
                repair = name in self._repair
                self._repair.discard(name)
                tree, self.progress = self._trees[name], Progress(name)
            began, result = boot_time_s(), Result(whole=paths is None)
            try:
                self._pass(tree, paths, repair, result)
            except Stopped:
                result.error = "ended: this gateway is not passive any more"
            except ClusterError as error:
                result.error, result.remedy = error.message, error.remedy
            except Exception as error:  # the next one may succeed
                log.exception("A pass of %s failed", name)
                result.error = f"{getattr(error, 'strerror', None) or error}"[:300]
            result.remember(self.results.get(name))
            result.at, result.seconds = boot_time_s(), boot_time_s() - began
            self.results[name], self.progress = result, None
            self._ended(name)

    def as_dict(self) -> dict[str, Any]:
        progress = self.progress
        return {
            "results": {name: asdict(one) for name, one in list(self.results.items())},
            "progress": asdict(progress) if progress else None,
            "busy": self.busy,
        }

    # -- one pass ---------------------------------------------------------------------------------------------

    def _pass(self, tree: Tree, paths: set[str] | None, repair: bool, result: Result) -> None:
        failures = []
        for source in self._sources:
            try:
                self._prepare(tree)
                result.host = source.host
                if paths is None:
                    self._whole(tree, source, repair, result)
                else:
                    self._some(tree, source, paths, result)
                return
            except NoWay as error:  # what has arrived is kept, and another way goes on with it
                failures.append(f"{source.host}: {error.message}")
        why = "; ".join(failures) or "no link"
        raise ClusterError(f"The other gateway could not be reached for its files ({why}).",
                           "See whether its sshd, or its rsync daemon, answers, and the firewalls.")  # fmt: skip

    def _prepare(self, tree: Tree) -> None:
        root = Path(tree.path)
        if not root.is_dir():
            raise ClusterError(f"{tree.path} is no directory on this gateway.", "Make it, for the agent to write in.")
        temporary = root / TEMPORARY
        try:
            if temporary.is_symlink() or (temporary.exists() and temporary.stat().st_uid != os.geteuid()):
                raise ClusterError(f"{temporary} is not the agent's own.", "Remove it.")  # it may lead anywhere
            temporary.mkdir(mode=0o700, exist_ok=True)
            for former in temporary.iterdir():  # of a pass that was cut off
                former.unlink()
        except OSError as error:
            raise ClusterError(f"{tree.path} cannot be written: {error.strerror}.",
                               "Let the agent's user write there; see docs/files.md.") from None  # fmt: skip

    def _whole(self, tree: Tree, source: Source, repair: bool, result: Result) -> None:
        files = str(self._places.rules(tree)), str(self._places.protected(tree))
        dry = pull(self._rsync, source, tree, *files, dry=True, delete_most=10**9, checksum=repair)
        plan = plans.planned(self._lines(dry), lambda name: _length(os.path.join(tree.path, name)))
        here, former = self._here(tree.name), self.results.get(tree.name)
        if not plans.has_room(plan.size, _free(tree.path)):
            raise ClusterError(f"There is no room for {plan.size:,} bytes of {tree.name}.", "Make room on the disk.")
        with self._lock:
            asks = plans.asks_first(
                plan.deleted_files, here, self._allowed.get(tree.name, 0), self._deleted_lately(tree.name),
                bool(former and former.asks),
            )  # fmt: skip
            if self.progress:
                self.progress.of_files, self.progress.of_size = plan.files, plan.size
        if asks:
            result.asks, result.of, result.examples = plan.deleted_files, here, plan.examples
        fresh = tree.name in self._fresh
        keeps = fresh and not (asks and tree.name in self._came)  # what comes now replaces nothing of our own
        aside = self._places.new_aside(tree.name) if keeps else None
        if aside is not None and not _same_disk(tree.path, aside.parent) and not plans.has_room(
            plan.replaced, _free(str(aside.parent))
        ):
            raise ClusterError(
                f"There is no room for the {plan.replaced:,} bytes of {tree.name} that only this gateway has: they are "
                "kept aside before anything is overwritten.",
                f"Make room on the disk of {aside.parent}; what lies there may be moved elsewhere.",
            )
        if plan.files or plan.deletions:
            argv = pull(self._rsync, source, tree, *files, delete_most=0 if asks else plan.deletions,
                        aside=str(aside or ""), checksum=repair)  # fmt: skip
            self._carry_out(argv, tree, result)
        if aside is not None and aside.exists():
            result.aside = str(aside)
            self._places.bound_asides(tree.name)
        _sweep(tree)
        with self._lock:
            if asks and not result.partly:
                self._came.add(tree.name)
            elif not asks:
                self._fresh.discard(tree.name)
                if self._allowed.pop(tree.name, None) is None:
                    self._deleted.setdefault(tree.name, []).append((boot_time_s(), result.deleted))
                else:  # that was somebody's will
                    self._deleted.pop(tree.name, None)

    def _deleted_lately(self, name: str) -> int:
        since = boot_time_s() - plans.DELETIONS_WITHIN_S
        self._deleted[name] = [one for one in self._deleted.get(name, []) if one[0] > since]
        return sum(count for _at, count in self._deleted[name])

    def _some(self, tree: Tree, source: Source, paths: set[str], result: Result) -> None:
        files = str(self._places.rules(tree)), str(self._places.protected(tree))
        argv = pull(self._rsync, source, tree, *files, paths=True)
        self._carry_out(argv, tree, result, b"".join(os.fsencode(path) + b"\0" for path in sorted(paths)))

    def _carry_out(self, argv: list[str], tree: Tree, result: Result, given: bytes = b"") -> None:
        try:
            with contextlib.closing(self._lines(argv, given, result)) as lines:
                for line in lines:
                    if (how_far := plans.progress(line)) is not None:
                        self._arrived(tree, *how_far, result)
                    elif line.startswith("del.") and not line.endswith("/"):
                        result.deleted += 1
        except (NoWay, Stopped):
            raise  # what has arrived is gone on with
        except ClusterError:
            _sweep(tree)  # on a full disk halves would be in the way of everything else
            raise

    def _arrived(self, tree: Tree, files: int, size: int, result: Result) -> None:
        """Take note of how far a pass is; more may come than was told beforehand."""
        result.files, result.size = files, size
        if self.progress:
            self.progress.files, self.progress.size = files, size
        if not plans.has_room(0, _free(tree.path)):
            raise ClusterError(f"The copy of {tree.name} was ended: the disk is nearly full.", "Make room on the disk.")

    def _lines(
        self, argv: list[str], given: bytes = b"", result: Result | None = None
    ) -> Generator[str, None, None]:
        """Yield what rsync says.

        :raises NoWay: another way may work.
        :raises ClusterError: none would.
        """
        with tempfile.TemporaryFile() as errors, tempfile.TemporaryFile() as told:
            told.write(given)
            told.seek(0)
            with self._lock:
                if not self._passive:
                    raise Stopped("ended")
                process = self._process = subprocess.Popen(
                    ["setpriv", "--pdeathsig", "KILL", "--", *argv], stdin=told, stdout=subprocess.PIPE, stderr=errors,
                    env={**os.environ, "LC_ALL": "C"}, start_new_session=True,
                )  # fmt: skip
            assert process.stdout is not None
            try:
                with process.stdout as output:
                    yield from _split(output.fileno())
                code = process.wait()
            finally:
                with self._lock:
                    self._end_process()
                    self._process = None
                process.wait()
            errors.seek(0)
            said = _words(errors.read(4000))
        if not self._passive:
            raise Stopped("ended")
        if code in (_PARTLY, _GONE) and result is not None:
            result.partly = said if code == _PARTLY else ""
        elif code in _OWN_FAULT:
            raise ClusterError(f"The copy failed: {said}", "See the agent's log and the disk.")
        elif code not in (_WELL, _PARTLY, _GONE, _NOT_DELETED):
            raise NoWay(said or f"rsync ended with {code}")

    def _end_process(self) -> None:
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)


def together(waiting: set[str] | None, paths: list[str] | None) -> set[str] | None:
    """Return which paths are to be pulled if some wait and others have changed; None: the whole tree."""
    if waiting is None or paths is None or len(found := waiting.union(paths)) > PATHS_MOST:
        return None
    return found


def _sweep(tree: Tree) -> None:
    """Remove what passes have left where files wait: cut off for good, or of files that the other one has no more."""
    waiting = [tree.path]
    while waiting:  # however deep
        directory = waiting.pop()
        with contextlib.suppress(OSError), os.scandir(directory) as found:
            for one in found:
                if one.name == STAGING:
                    shutil.rmtree(one.path, ignore_errors=True)
                elif one.is_dir(follow_symlinks=False):
                    waiting.append(one.path)


def _split(descriptor: int) -> Iterator[str]:
    """Yield lines; progress ends with a carriage return. What is too long for a line is cut."""
    rest = b""
    while data := os.read(descriptor, 65536):
        *lines, rest = (rest + data).replace(b"\r", b"\n").split(b"\n")
        rest = rest[-_LONGEST_LINE:]
        yield from (line.decode(errors="replace") for line in lines if line)
    if rest:
        yield rest.decode(errors="replace")


def _words(said: bytes) -> str:
    lines = [line for line in said.decode(errors="replace").splitlines() if line.strip()]
    return "".join(filter(str.isprintable, "; ".join(lines)))[:400]


def _length(path: str) -> int:
    """Return the length of what is at a path, bytes; 0: no file is."""
    try:
        found = os.lstat(path)
    except (OSError, ValueError):
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def _same_disk(one: str, other: Path) -> bool:
    """Return whether a file is moved from one to the other without a copy."""
    return os.stat(one).st_dev == os.stat(other).st_dev


def _free(path: str) -> int:
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize
