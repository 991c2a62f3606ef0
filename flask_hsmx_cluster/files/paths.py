"""Paths that another machine names: relative to a tree, and never out of it."""

from __future__ import annotations

#: Longest path, characters, and most of them told at once; beyond it the whole tree is looked at.
PATH_MOST, PATHS_MOST = 1000, 200


def is_inside(path: object) -> bool:
    """Return whether this is a path below a tree's directory, in the one way in which it may be written."""
    if not isinstance(path, str) or not 0 < len(path) <= PATH_MOST or "\0" in path:
        return False
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return all(part not in ("", ".", "..") for part in path.split("/"))


def tellable(paths: set[bytes] | None) -> list[str] | None:
    """Return changed paths in the form in which the other gateway is told; None: the whole tree is to be looked at."""
    if paths is None or len(paths) > PATHS_MOST:
        return None
    try:
        found = [path.decode() for path in sorted(paths)]
    except UnicodeDecodeError:
        return None
    return found if all(map(is_inside, found)) else None
