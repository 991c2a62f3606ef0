"""The client that pings: ``python -m tests.chaos.probe NAMESPACE ADDRESS INTERVAL_S``.

Prints ``["gap", from, to, blind_s]`` for each time without an answer that is worth telling, and ``["seen", last]`` now
and then.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from sample_app.lab import Namespace
from sample_app.lab.probe import Ping, watch

#: Shorter gaps are not told; how often it is told that there are answers, s.
WORTH_S, SEEN_EVERY_S = 0.02, 0.25


class Gaps:
    """Tells the gaps between answers, and how much of each the asking program did not ask: it stood still itself.

    :param interval_s: time between two questions, s.
    :param now: when it begins, monotonic seconds, as all times here.
    """

    def __init__(self, interval_s: float, now: float) -> None:
        self._interval_s = interval_s
        self._asked = self._last = self._told = now
        self._blind_s = 0.0

    def asked(self, at: float) -> None:
        """Take note of a question."""
        # A turn or two may be late on any machine; what is longer, this program has slept through.
        if (late_s := at - self._asked - self._interval_s) > 2 * self._interval_s:
            self._blind_s += late_s
        self._asked = at

    def answered(self, at: float) -> list[list[Any]]:
        """Take note of an answer, and return what is to be told."""
        told: list[list[Any]] = []
        if at - self._last > WORTH_S:
            told.append(["gap", self._last, at, round(self._blind_s, 6)])
        if at - self._told > SEEN_EVERY_S:
            told.append(["seen", at])
            self._told = at
        self._last, self._blind_s = at, 0.0
        return told


class GapPing(Ping):
    """Echoes to an address, of which only the gaps are told."""

    def __init__(self, namespace: Namespace, address: str, interval_s: float) -> None:
        super().__init__(namespace, address, interval_s)
        self._gaps = Gaps(interval_s, time.monotonic())

    def turn(self, number: int) -> None:
        self._gaps.asked(time.monotonic())
        super().turn(number)

    def read(self) -> list[list[Any]]:
        return [told for _, _, answered in super().read() for told in self._gaps.answered(answered)]


if __name__ == "__main__":
    print(json.dumps("ready"), flush=True)
    watch(GapPing(Namespace(sys.argv[1]), sys.argv[2], float(sys.argv[3])))
