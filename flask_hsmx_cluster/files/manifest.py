"""What is in a tree: names and contents, and one digest of all of it, which is the same on both gateways or is not.

Links and special files are not copied, and so do not count; neither does what is never sent. Nor do directories: one
stays on the gateway where something of its own lies in it. Contents are read again only where a file has changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass

from .declare import Tree
from .exclude import excluder

#: A file that was changed within this time before it was read may change again without a trace in its times, ns.
_UNSURE_NS = 50_000_000
_PIECE = 1024 * 1024
_DIRECTORY = b"d"

#: What tells that a file has changed: number, length, times.
Stamp = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class _Entry:
    content: bytes
    size: int = 0
    stamp: Stamp | None = None


@dataclass(frozen=True)
class Summary:
    """What is told of a tree.

    :param digest: hex; empty while the directory cannot be read.
    :param left_out: links, special files and files that are too large.
    :param unreadable: paths that this process may not read, a few of them.
    """

    digest: str = ""
    files: int = 0
    size: int = 0
    left_out: int = 0
    unreadable: tuple[str, ...] = ()
    unreadable_count: int = 0


class Manifest:
    """Knows a tree. Not thread-safe."""

    def __init__(self, tree: Tree) -> None:
        self._root = os.fsencode(tree.path)
        self._most = tree.file_mb * 1024 * 1024
        self._excluded = excluder(tree.exclude)
        self._entries: dict[bytes, _Entry] = {}
        #: Links, special files and files that are too large.
        self.left_out: set[bytes] = set()
        self._unreadable: set[bytes] = set()
        self.directories: set[bytes] = set()

    def is_excluded(self, name: bytes) -> bool:
        """Return whether a file or directory of this name is never sent."""
        return self._excluded.fullmatch(name) is not None

    def read(self) -> None:
        """Look at the whole tree."""
        former, self._entries = self._entries, {}
        self.left_out, self._unreadable, self.directories = set(), set(), {b""}
        waiting = [b""]
        while waiting:  # however deep
            above = waiting.pop()
            for name, status in self._list(above):
                path = above + b"/" + name if above else name
                if self._take(path, status, former.get(path)):
                    waiting.append(path)

    def update(self, paths: set[bytes]) -> set[bytes]:
        """Look at files again, and return those whose contents or existence changed."""
        changed = set()
        for path in paths:
            before = self._entries.pop(path, None)
            self.left_out.discard(path)
            self._unreadable.discard(path)
            with contextlib.suppress(OSError):  # it has gone
                self._take(path, os.stat(self._full(path), follow_symlinks=False), None)
            after = self._entries.get(path)
            if (before and before.content) != (after and after.content):
                changed.add(path)
        return changed

    def complete(self, paths: set[bytes]) -> set[bytes]:
        """Return those of new paths to which no write is to follow: further names of files, links, special files."""
        found = set()
        for path in paths:
            with contextlib.suppress(OSError):  # it has gone
                status = os.stat(self._full(path), follow_symlinks=False)
                if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
                    found.add(path)
        return found

    def has(self, path: bytes) -> bool:
        """Return whether there is a file or directory at a path."""
        return path in self._entries

    def summary(self) -> Summary:
        """Return what is told of the tree as it was last looked at."""
        whole = hashlib.sha256()
        files = size = 0
        for path, entry in sorted(self._entries.items()):
            if entry.content != _DIRECTORY:
                whole.update(len(path).to_bytes(4, "big") + path + entry.content)
                files += 1
                size += entry.size
        unreadable = tuple(path[:200].decode(errors="backslashreplace") for path in sorted(self._unreadable)[:5])
        return Summary(whole.hexdigest(), files, size, len(self.left_out), unreadable, len(self._unreadable))

    def _full(self, path: bytes) -> bytes:
        return self._root + b"/" + path if path else self._root

    def _list(self, directory: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
        try:
            with os.scandir(self._full(directory)) as found:
                for one in found:
                    if not self.is_excluded(one.name):
                        try:
                            yield one.name, one.stat(follow_symlinks=False)
                        except FileNotFoundError:
                            continue
        except FileNotFoundError:
            self.directories.discard(directory)
        except OSError:
            self._unreadable.add(directory or b".")

    def _take(self, path: bytes, status: os.stat_result, former: _Entry | None) -> bool:
        """Take note of what is at a path, and return whether it is a directory."""
        if stat.S_ISDIR(status.st_mode):
            self._entries[path] = _Entry(_DIRECTORY)
            self.directories.add(path)
            return True
        if not stat.S_ISREG(status.st_mode) or status.st_size > self._most:
            self.left_out.add(path)
            return False
        stamp = status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        if former is not None and former.stamp == stamp:
            self._entries[path] = former
            return False
        try:
            content = self._digest(path)
        except FileNotFoundError:
            return False
        except OSError:
            self._unreadable.add(path)
            content = b"?"
        sure = time.time_ns() - status.st_ctime_ns > _UNSURE_NS
        self._entries[path] = _Entry(content, status.st_size, stamp if sure else None)
        return False

    def _digest(self, path: bytes) -> bytes:
        found = hashlib.sha256()
        descriptor = os.open(self._full(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            while piece := os.read(descriptor, _PIECE):
                found.update(piece)
        finally:
            os.close(descriptor)
        return b"f" + found.digest()
