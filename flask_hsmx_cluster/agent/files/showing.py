"""What is known of both gateways' files, and how it is shown."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

#: A tree that still differs after a pass is pulled again after this time, s.
AGAIN_S = 10.0


@dataclass
class Seen:
    """What was seen last.

    :param shown: what the process said.
    :param there: the other gateway's digests, by tree.
    :param questions: how many deletions wait for a person there, by tree.
    """

    shown: dict[str, Any] = field(default_factory=dict)
    there: dict[str, str] = field(default_factory=dict)
    questions: dict[str, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    _equal: dict[str, bool] = field(default_factory=dict)
    _unlike: dict[str, float] = field(default_factory=dict)
    _alike_at: dict[str, str] = field(default_factory=dict)
    _pulled_at: dict[str, float] = field(default_factory=dict)

    def compared(self, equal: dict[str, bool], now: float, wall: str) -> None:
        """Take note of a comparison.

        :param now: boot time, s; ``wall``: the same for people.
        """
        for name, same in equal.items():
            if same:
                self._unlike.pop(name, None)
                self._alike_at[name] = wall
            else:
                self._unlike.setdefault(name, now)
        self._equal = dict(equal)

    def changed(self, names: Iterable[str]) -> None:
        """Take note that something changed on one gateway: whether both are alike is not known until compared."""
        for name in names:
            self._equal[name] = False

    def is_alike(self, name: str) -> bool:
        """Return whether both had the same when that was last looked at."""
        return self._equal.get(name, False)

    def unlike_since(self, name: str) -> float:
        """Return since when a tree differs, boot time in s; infinity: it does not."""
        return self._unlike.get(name, float("inf"))

    def alike_at(self, name: str) -> str:
        """Return when both last had the same, for people; empty: not yet."""
        return self._alike_at.get(name, "")

    def may_pull(self, name: str, now: float) -> bool:
        """Return whether it is time to pull a tree that differs once more, and take note that it is pulled."""
        if now - self._pulled_at.get(name, float("-inf")) < AGAIN_S:
            return False
        self._pulled_at[name] = now
        return True


def tree_state(name: str, path: str, role: str, seen: Seen, now: float) -> dict[str, Any]:
    """Return how a tree stands.

    Its ``state`` is ``synchronised`` (both digests are the same), ``copying``, ``asks`` (an operator), ``asks_there``
    (an operator, on the other gateway), ``failed``, ``behind``, ``absent`` (here), ``undeclared`` (there) or
    ``waiting`` (nothing is known of the other gateway yet).
    """
    here = seen.shown.get("trees", {}).get(name)
    result = seen.shown.get("results", {}).get(name) or {}
    progress = seen.shown.get("progress") or {}
    passive = role == "passive"
    error, remedy = result.get("error", ""), result.get("remedy", "")
    if not error and result.get("partly") and not seen.is_alike(name):
        error, remedy = result["partly"], "Let the agent's user read and write them; see docs/files.md."
    if here is None:
        state = "waiting"
    elif not here["digest"]:
        state = "absent"
    elif not seen.there:
        state = "waiting"
    elif name not in seen.there:
        state = "undeclared"
    elif passive and progress.get("tree") == name:
        state = "copying"
    elif passive and result.get("asks"):
        state = "asks"
    elif passive and error:
        state = "failed"
    elif role == "active" and seen.questions.get(name):
        state = "asks_there"
    else:
        state = "synchronised" if seen.is_alike(name) else "behind"
    return {
        "name": name,
        "path": path,
        "state": state,
        "files": here["files"] if here else 0,
        "size": here["size"] if here else 0,
        "left_out": here["left_out"] if here else 0,
        "unreadable": list(here["unreadable"]) if here else [],
        "unreadable_count": here["unreadable_count"] if here else 0,
        "alike_at": seen.alike_at(name),
        "asks": result.get("asks", 0) if passive else seen.questions.get(name, 0) if role == "active" else 0,
        "of": result.get("of", 0),
        "examples": list(result.get("examples", ())) if passive else [],
        "error": error if passive else "",
        "remedy": remedy if passive else "",
        "aside": result.get("aside", "") if passive else "",
        "last": {
            "ago_s": round(now - result["at"], 1), "seconds": round(result["seconds"], 3), "files": result["files"],
            "size": result["size"], "deleted": result["deleted"], "whole": result["whole"], "host": result["host"],
        } if passive and result.get("at") else None,
    }  # fmt: skip
