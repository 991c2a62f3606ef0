"""The client that pings: ``python -m tests.chaos.probe NAMESPACE ADDRESS INTERVAL_S``.

Prints ``["gap", from, to, blind_s]`` for each time without an answer that is worth telling, where *blind* is how much
of it this program did not ask, because it stood still itself; and ``["seen", last]`` now and then.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from sample_app.lab import Namespace
from sample_app.lab.probe import Ping, watch

#: Shorter ones are not told, s.
WORTH_S = 0.02
_SEEN_EVERY_S = 0.25


class Gaps(Ping):
    """Echoes to an address, of which the gaps between answers are told."""

    def __init__(self, namespace: Namespace, address: str, interval_s: float) -> None:
        super().__init__(namespace, address, interval_s)
        self._turned = self._last = self._told = time.monotonic()
        self._blind_s = 0.0

    def turn(self, number: int) -> None:
        now = time.monotonic()
        # A turn or two may be late on any machine; what is longer, this program has slept through.
        if (late_s := now - self._turned - self.interval_s) > 2 * self.interval_s:
            self._blind_s += late_s
        self._turned = now
        super().turn(number)

    def read(self) -> list[list[Any]]:
        records: list[list[Any]] = []
        for _, _, answered in super().read():
            if answered - self._last > WORTH_S:
                records.append(["gap", self._last, answered, round(self._blind_s, 6)])
            if answered - self._told > _SEEN_EVERY_S:
                records.append(["seen", answered])
                self._told = answered
            self._last, self._blind_s = answered, 0.0
        return records


if __name__ == "__main__":
    print(json.dumps("ready"), flush=True)
    watch(Gaps(Namespace(sys.argv[1]), sys.argv[2], float(sys.argv[3])))
