"""What the other gateway tells of its files: taken only in the form in which it is used.

Each function raises :class:`~flask_hsmx_cluster.errors.RequestRefused` for anything else.
"""

from __future__ import annotations

import re
from typing import Any

from ...errors import RequestRefused
from ...files.declare import TREES_MOST
from ...files.paths import PATHS_MOST, is_inside
from ...files.ssh import public_key

Paths = dict[str, list[str] | None]


def facts(told: Any) -> dict[str, str]:
    """Return its keys: ``key``, ``host_key`` (may be empty) and ``secret``."""
    try:
        host_key = told["host_key"]
        found = {
            "key": public_key(told["key"]),
            "host_key": public_key(host_key) if host_key else "",
            "secret": told["secret"],
        }
    except (KeyError, TypeError):
        raise _unreadable() from None
    if not isinstance(found["secret"], str) or not re.fullmatch("[0-9a-f]{32,128}", found["secret"], re.ASCII):
        raise _unreadable()
    return found


def changes(told: Any) -> tuple[str, int, Paths]:
    """Return incarnation, revision, and what has changed by tree; a path that leads out of its tree stands for all."""
    try:
        incarnation, revision, trees = told["incarnation"], told["revision"], told["trees"]
        fits = len(trees) <= TREES_MOST and type(revision) is int and isinstance(incarnation, str)
        found = {_name(name): _paths(paths) for name, paths in trees.items()}
    except (KeyError, TypeError, AttributeError):
        fits, found = False, {}
    if not fits or len(incarnation) > 64:
        raise _unreadable()
    return incarnation, revision, found


def trees(told: Any) -> dict[str, str]:
    """Return the digest of each of its trees, by name; an empty one: it cannot be read there."""
    try:
        found = {_name(name): digest for name, digest in told.items()}
        fits = len(found) <= TREES_MOST and all(
            isinstance(digest, str) and re.fullmatch("([0-9a-f]{64})?", digest, re.ASCII) for digest in found.values()
        )
    except (TypeError, AttributeError):
        fits, found = False, {}
    if not fits:
        raise _unreadable()
    return found


def questions(told: Any) -> dict[str, int]:
    """Return how many deletions wait for a person there, by tree; of a gateway that does not tell it, none."""
    try:
        found = {_name(name): count for name, count in (told or {}).items()}
        fits = len(found) <= TREES_MOST and all(type(count) is int and 0 < count < 2**31 for count in found.values())
    except (TypeError, AttributeError):
        fits, found = False, {}
    if not fits:
        raise _unreadable()
    return found


def _name(name: Any) -> str:
    if not isinstance(name, str) or len(name) > 32:
        raise _unreadable()
    return name


def _paths(paths: Any) -> list[str] | None:
    if isinstance(paths, list) and len(paths) <= PATHS_MOST and all(map(is_inside, paths)):
        return paths
    return None


def _unreadable() -> RequestRefused:
    return RequestRefused("What the other gateway says of its files cannot be read.", "Are both gateways up to date?")
