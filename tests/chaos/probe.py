"""The client that pings: ``python -m tests.chaos.probe NAMESPACE ADDRESS CONTROL INTERVAL_S``.

Beside the virtual IP it pings a *control*, a machine that no fault strikes. Prints ``["gap", from, to, blind_s]`` for
each time without an answer that is worth telling, where *blind* is for how long of it this program stood still itself
or the control did not answer either: then it was the machine that runs the lab. And ``["seen", last]`` now and then.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from sample_app.lab import Namespace
from sample_app.lab.measure import Interval
from sample_app.lab.probe import Ping, watch

from .record import without

#: Shorter gaps are not told; how often it is told that there are answers, s.
WORTH_S, SEEN_EVERY_S = 0.02, 0.25


class Gaps:
    """Tells the gaps between answers, and for how long of each nothing could have been seen.

    :param now: when it begins, monotonic seconds, as all times here.
    """

    def __init__(self, now: float) -> None:
        self._asked = self._control = self._last = self._told = now
        self._blind: list[Interval] = []

    def asked(self, at: float) -> None:
        """Take note of a question."""
        self._see(self._asked, at)
        self._asked = at

    def control(self, at: float) -> None:
        """Take note of an answer of the control."""
        self._see(self._control, at)
        self._control = at

    def answered(self, at: float) -> list[list[Any]]:
        """Take note of an answer, and return what is to be told."""
        told: list[list[Any]] = []
        gap = Interval(self._last, at)
        if gap.end - gap.start > WORTH_S:
            left_s = sum(part.end - part.start for part in without([gap], self._blind))
            if left_s > WORTH_S:
                told.append(["gap", *gap, round(gap.end - gap.start - left_s, 6)])
        if at - self._told > SEEN_EVERY_S:
            told.append(["seen", at])
            self._told = at
        self._last, self._blind = at, []
        return told

    def _see(self, before: float, at: float) -> None:
        if at - before > WORTH_S:
            self._blind.append(Interval(before, at))


class GapPing:
    """Echoes to an address and to the control, of which only the gaps are told."""

    def __init__(self, namespace: Namespace, address: str, control: str, interval_s: float) -> None:
        self.interval_s = interval_s
        self._address, self._control = (Ping(namespace, each, interval_s) for each in (address, control))
        self.sockets: Sequence[Any] = [*self._address.sockets, *self._control.sockets]
        self._gaps = Gaps(time.monotonic())

    def turn(self, number: int) -> None:
        self._gaps.asked(time.monotonic())
        self._control.turn(number)
        self._address.turn(number)

    def read(self) -> list[list[Any]]:
        for _, _, at in self._control.read():
            self._gaps.control(at)
        return [told for _, _, at in self._address.read() for told in self._gaps.answered(at)]


if __name__ == "__main__":
    namespace, address, control, interval_s = sys.argv[1:]
    print(json.dumps("ready"), flush=True)
    watch(GapPing(Namespace(namespace), address, control, float(interval_s)))
