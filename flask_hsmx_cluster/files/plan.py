"""What a pass would do, from what rsync says beforehand; when an operator is asked first; and how far a pass is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

#: More deletions at once than this are not done before an operator has allowed them.
DELETIONS_MOST = 1000
#: Nor more than this part of the files that are here.
DELETIONS_PART = 0.2
#: Deletions within this time count together, s; unless they are so few: one by one these are an everyday matter.
DELETIONS_WITHIN_S, EVERYDAY = 60.0, 10
#: Room that is left on the disk, bytes.
ROOM_LEFT = 64 * 1024 * 1024
_EXAMPLES = 5
_DONE = re.compile(r"(recv|del\.) +([0-9]{1,19}) (.*)", re.DOTALL)
_PROGRESS = re.compile(r"^ *([0-9]{1,19}) +[0-9]+% .*\(xfr#([0-9]{1,19}), ")


@dataclass(frozen=True)
class Plan:
    """What a pass would do.

    :param files: files to be copied; ``size``: their length, bytes.
    :param deletions: files and directories that the other gateway does not have; ``deleted_files``: the files among
        them; ``examples``: some of these.
    :param replaced: length of the files here that would be replaced or deleted, bytes.
    """

    files: int = 0
    size: int = 0
    deletions: int = 0
    deleted_files: int = 0
    examples: tuple[str, ...] = ()
    replaced: int = 0


def planned(lines: Iterable[str], length: Callable[[str], int] = lambda _name: 0) -> Plan:
    """Return what a dry run says. Names of directories end with a slash, and their length says nothing.

    :param length: of the file here that has a name, bytes.
    """
    files = size = deletions = deleted_files = replaced = 0
    examples: list[str] = []
    for line in lines:
        found = _DONE.fullmatch(line)
        if found is None:
            continue
        what, new, name = found.groups()
        replaced += length(name)
        if what == "del.":
            deletions += 1
            if not name.endswith("/"):
                deleted_files += 1
                if len(examples) < _EXAMPLES:
                    examples.append(name[:200])
        elif not name.endswith("/"):
            files += 1
            size += int(new)
    return Plan(files, size, deletions, deleted_files, tuple(examples), replaced)


def asks_first(deletions: int, here: int, allowed: int = 0, lately: int = 0, asked: bool = False) -> bool:
    """Return whether an operator is to be asked before files are deleted.

    :param deletions: of files.
    :param here: how many files this gateway has.
    :param allowed: so many were allowed.
    :param lately: so many were deleted a moment ago: whoever empties a directory does it file by file.
    :param asked: the question is there already; only an answer ends it, or that the files are back.
    """
    together = deletions + lately
    if together <= EVERYDAY:
        together, lately = deletions, 0
    if deletions <= allowed or together <= 1:
        return False
    return asked or together > DELETIONS_MOST or together > DELETIONS_PART * (here + lately)


def has_room(size: int, free: int) -> bool:
    """Return whether there is room for what is to be copied, bytes. A file that is replaced needs its room twice.

    :param free: bytes that are free.
    """
    return size + ROOM_LEFT <= free


def progress(line: str) -> tuple[int, int] | None:
    """Return how many files and bytes have arrived, from a line of rsync's progress; None: it is another line."""
    found = _PROGRESS.match(line)
    return (int(found[2]), int(found[1])) if found else None
