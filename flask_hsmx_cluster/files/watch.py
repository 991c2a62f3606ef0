"""Notices changes in directories at once: the kernel's inotify, of which Python has no module."""

from __future__ import annotations

import ctypes
import os
import select
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

_CLOSE_WRITE, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x8, 0x40, 0x80, 0x100, 0x200
_OVERFLOW, _IGNORED, _ONLYDIR, _DONT_FOLLOW, _IS_DIR = 0x4000, 0x8000, 0x0100_0000, 0x0200_0000, 0x4000_0000
_DELETE_SELF, _MOVE_SELF = 0x400, 0x800
_WANTED = _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _DELETE_SELF | _MOVE_SELF
_EVENT = struct.Struct("iIII")
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass
class Changes:
    """What has changed in one tree.

    :param touched: files that were written, or came or went.
    :param created: files that have just got a name; most are written next.
    :param whole: more than that, such as a directory that came or went: look at the whole tree.
    """

    touched: set[bytes] = field(default_factory=set)
    created: set[bytes] = field(default_factory=set)
    whole: bool = False


@dataclass(frozen=True)
class _Place:
    tree: str
    directory: bytes
    ignored: Callable[[bytes], bool]


class Watch:
    """Watches the directories of trees."""

    def __init__(self) -> None:
        self._descriptor: int = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._descriptor < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        self._places: dict[int, _Place] = {}
        #: Directories that are not watched, because the kernel has no room for more: their changes show later.
        self.unwatched: set[bytes] = set()

    def close(self) -> None:
        os.close(self._descriptor)

    def add(self, tree: str, root: bytes, directory: bytes, ignored: Callable[[bytes], bool]) -> None:
        """Watch a directory of a tree.

        :param directory: relative to its root.
        :param ignored: tells whether a name in it does not count.
        """
        full = root + b"/" + directory if directory else root
        number = _libc.inotify_add_watch(self._descriptor, full, _WANTED | _ONLYDIR | _DONT_FOLLOW)
        if number >= 0:
            self._places[number] = _Place(tree, directory, ignored)
            self.unwatched.discard(full)
        elif os.path.isdir(full):
            self.unwatched.add(full)

    def wait(self, timeout_s: float) -> bool:
        """Return whether something has happened within a time."""
        return bool(select.select([self._descriptor], [], [], timeout_s)[0])

    def take(self) -> dict[str, Changes]:
        """Return what has changed since the last time, by tree."""
        found: dict[str, Changes] = {}
        while True:
            try:
                data = os.read(self._descriptor, 65536)
            except BlockingIOError:
                return found
            offset = 0
            while offset < len(data):
                number, mask, _cookie, length = _EVENT.unpack_from(data, offset)
                offset += _EVENT.size + length
                self._note(found, number, mask, data[offset - length : offset].rstrip(b"\0"))

    def _note(self, found: dict[str, Changes], number: int, mask: int, name: bytes) -> None:
        if mask & _OVERFLOW:
            for each in self._places.values():
                found.setdefault(each.tree, Changes()).whole = True
            return
        if mask & _IGNORED:
            self._places.pop(number, None)
            return
        place = self._places.get(number)
        if place is None or (name and place.ignored(name)):
            return
        if mask & (_IS_DIR | _DELETE_SELF | _MOVE_SELF):
            found.setdefault(place.tree, Changes()).whole = True
        else:
            path = place.directory + b"/" + name if place.directory else name
            changes = found.setdefault(place.tree, Changes())
            (changes.created if mask & _CREATE else changes.touched).add(path)
