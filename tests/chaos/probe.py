"""The client that pings: ``python -m tests.chaos.probe NAMESPACE ADDRESS CONTROL INTERVAL_S``.

Each time it asks the virtual IP and a *control*, a machine that no fault strikes. Only a question that the control
answered and the virtual IP did not tells of an outage: what nobody answered, the machine that runs the lab has lost.
Prints ``["gap", from, to]`` for each outage that is worth telling, and ``["seen", last]`` now and then.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from sample_app.lab import Namespace
from sample_app.lab.probe import Ping, watch

#: Shorter outages are not told; how often it is told that there are answers, s.
WORTH_S, SEEN_EVERY_S = 0.02, 0.25
#: Of a longer time between two questions only so much counts, s: nobody knows what was in between.
UNASKED_S = 0.1


class Gaps:
    """Tells from the first to the last question in a row that only the control answered.

    :param interval_s: time between two questions, s; an outage is said to last so long beyond its last question.
    """

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._asked: dict[int, float] = {}
        self._controlled: dict[int, float] = {}
        self._answered, self._told = -1, float("-inf")

    def asked(self, number: int, at: float) -> None:
        """Take note of a question to both; numbers count up."""
        self._asked[number] = at

    def control(self, number: int) -> None:
        """Take note of an answer of the control."""
        if (at := self._asked.pop(number, None)) is not None and number > self._answered:
            self._controlled[number] = at

    def answered(self, number: int, at: float) -> list[list[Any]]:
        """Take note of an answer of the virtual IP, and return what is to be told."""
        told: list[list[Any]] = []
        if number <= self._answered:
            return told
        missed = sorted(sent for one, sent in self._controlled.items() if one < number)
        lasted_s = self._interval_s + sum(min(later - one, UNASKED_S) for one, later in pairwise(missed))
        if missed and lasted_s > WORTH_S:
            told.append(["gap", missed[0], missed[0] + lasted_s])
        if at - self._told > SEEN_EVERY_S:
            told.append(["seen", at])
            self._told = at
        self._answered = number
        self._controlled = {one: sent for one, sent in self._controlled.items() if one > number}
        self._asked = {one: sent for one, sent in self._asked.items() if one > number}
        return told


class GapPing:
    """Echoes to an address and to the control, of which only the outages are told."""

    def __init__(self, namespace: Namespace, address: str, control: str, interval_s: float) -> None:
        self.interval_s = interval_s
        self._address, self._control = (Ping(namespace, each, interval_s) for each in (address, control))
        self.sockets: Sequence[Any] = [*self._address.sockets, *self._control.sockets]
        self._gaps = Gaps(interval_s)

    def turn(self, number: int) -> None:
        self._gaps.asked(number, time.monotonic())
        self._control.turn(number)
        self._address.turn(number)

    def read(self) -> list[list[Any]]:
        for number, _, _ in self._control.read():
            self._gaps.control(number)
        return [told for number, _, at in self._address.read() for told in self._gaps.answered(number, at)]


if __name__ == "__main__":
    namespace, address, control, interval_s = sys.argv[1:]
    print(json.dumps("ready"), flush=True)
    watch(GapPing(Namespace(namespace), address, control, float(interval_s)))
