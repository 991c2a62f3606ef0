"""What the client sees, live and in bounded memory: answers from the virtual IP, outages, and who holds it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..lab import Lab

#: The client asks this often, s.
ASK_EVERY_S = 0.005
#: A column of the chart lasts this long, s, and the chart has this many.
COLUMN_S = 0.05
COLUMNS = 600
#: The probe reports with this delay at most; younger columns are not drawn, s.
LATE_S = 0.15
#: A silence this long is worth an entry of its own, s.
NOTABLE_S = 0.06

_REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass
class Outage:
    """The longest silence around one thing that happened.

    :param at: when it happened, monotonic seconds.
    :param longest_s: longest time between two answers since.
    :param until: when to stop looking; None while it goes on.
    """

    at: float
    longest_s: float = 0.0
    until: float | None = None


class LiveClient:
    """Runs two of the lab's probes and keeps the last half minute of what they say."""

    def __init__(self, lab: Lab) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[int] = Counter()
        self._last_answer: float | None = None
        self._watched: deque[Outage] = deque(maxlen=20)
        self._silences: deque[Outage] = deque(maxlen=20)
        self._held: dict[str, set[str]] = {gateway.namespace.name: set() for gateway in lab.gateways}
        self._first_answer: float | None = None
        names = [gateway.namespace.name for gateway in lab.gateways]
        self._probes = [
            self._follow(self._answer, "ping", lab.client.name, lab.virtual_ip, str(ASK_EVERY_S)),
            self._follow(self._address, "addresses", *names),
        ]

    def close(self) -> None:
        """End the probes."""
        for process, thread in self._probes:
            assert process.stdin
            process.stdin.close()
            process.wait(5)
            thread.join(5)

    def watch(self) -> Outage:
        """Start to look for the longest silence from now on; ends the previous look."""
        now = time.monotonic()
        with self._lock:
            for outage in self._watched:
                outage.until = outage.until or now
            self._watched.append(Outage(now))
            return self._watched[-1]

    def holds(self, namespace: str, address: str) -> bool:
        """Tell whether a kernel has an address."""
        return address in self._held[namespace]

    def silences(self, since: float) -> list[Outage]:
        """Return the notable silences that ended after a time."""
        with self._lock:
            return [silence for silence in self._silences if silence.until and silence.until > since]

    def snapshot(self) -> dict[str, Any]:
        """Return what the chart needs: a digit per column, oldest first.

        0 to 9 stand for none to all answered, a dash for the time before the first answer ever.
        """
        now = time.monotonic()
        newest = int((now - LATE_S) / COLUMN_S)
        most = COLUMN_S / ASK_EVERY_S
        with self._lock:
            started = int((self._first_answer or now) / COLUMN_S)
            columns = "".join(
                "-" if column < started else str(min(9, round(9 * self._counts[column] / most)))
                for column in range(newest - COLUMNS + 1, newest + 1)
            )
            silent_s = now - LATE_S - (self._last_answer or now)
            if silent_s > NOTABLE_S:
                self._stretch(now - LATE_S)
        return {
            "columns": columns,
            "newest": newest,
            "column_ms": COLUMN_S * 1000,
            "ever": self._last_answer is not None,
            "silent_ms": max(0, round(silent_s * 1000)) if silent_s > NOTABLE_S else 0,
        }

    def _stretch(self, now: float) -> None:
        """Count a silence that still goes on."""
        assert self._last_answer is not None
        for outage in self._watched:
            if outage.until is None:
                outage.longest_s = max(outage.longest_s, now - self._last_answer)

    def _answer(self, record: list[Any]) -> None:
        at = float(record[2])
        with self._lock:
            if self._last_answer is not None:
                gap = at - self._last_answer
                for outage in self._watched:
                    if outage.until is None and at > outage.at:
                        outage.longest_s = max(outage.longest_s, gap)
                if gap > NOTABLE_S:
                    self._silences.append(Outage(self._last_answer, gap, at))
            self._first_answer = self._first_answer or at
            self._last_answer = at
            column = int(at / COLUMN_S)
            self._counts[column] += 1
            if len(self._counts) > 2 * COLUMNS:
                for old in [each for each in self._counts if each < column - COLUMNS - 20]:
                    del self._counts[old]

    def _address(self, record: list[Any]) -> None:
        name, _at, present, address = record
        held = self._held[name]
        (held.add if present else held.discard)(address)

    def _follow(self, take: Any, *arguments: str) -> tuple[subprocess.Popen[bytes], threading.Thread]:
        process = subprocess.Popen(
            [sys.executable, "-m", "sample_app.lab.probe", *arguments],
            cwd=_REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )

        def read() -> None:
            assert process.stdout
            with process.stdout as lines:
                for line in lines:
                    record = json.loads(line)
                    if isinstance(record, list):
                        take(record)

        thread = threading.Thread(target=read, name=f"probe {arguments[0]}", daemon=True)
        thread.start()
        return process, thread
