"""What a client and the kernels saw: outages, holders of an address, answers to ARP. Times are monotonic seconds."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import groupby, pairwise
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Self

from .namespace import LabError, Namespace
from .privileges import REPOSITORY


class Interval(NamedTuple):
    """From ``start`` to ``end``, monotonic seconds."""

    start: float
    end: float


class Reply(NamedTuple):
    """An answered probe: its number, and when it was sent and answered, monotonic seconds."""

    number: int
    sent: float
    answered: float


class Sale(NamedTuple):
    """An accepted sale: its voucher's note, and when it was sent and answered, monotonic seconds."""

    name: str
    sent: float
    answered: float


class Answer(NamedTuple):
    """An answer to one of our ARP questions."""

    number: int
    at: float
    mac: str


def longest_gap_ms(times: Sequence[float], at: float, until: float) -> float:
    """Return the longest time without a reply, ms, of the gaps that end after ``at`` and begin before ``until``.

    With a fault at ``at`` that is the time from the last reply before it to the first after it. Where replies stop
    a little later than the fault (a hand-over, a lease that runs out) it is the gap that a client sees, all the same.
    Infinite if no reply came after the last gap began.
    """
    gaps = [(after - before) * 1000 for before, after in pairwise(times) if after > at and before < until]
    silent_at_the_end = not times or times[-1] < min(until, time.monotonic()) - 0.5
    return float("inf") if silent_at_the_end else max(gaps, default=0.0)


def overlap_ms(first: Sequence[Interval], second: Sequence[Interval]) -> float:
    """Return how long an interval of the first and one of the second were under way at once, ms."""
    return 1000 * sum(
        max(0.0, min(one.end, other.end) - max(one.start, other.start)) for one in first for other in second
    )


class Watcher:
    """A running probe (see :mod:`sample_app.lab.probe`) and what it has printed so far; a context manager."""

    #: The program.
    PROGRAM = "sample_app.lab.probe"

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None
        self._file: IO[str]
        self._records: list[Any] = []
        self._rest = ""

    def __enter__(self) -> Self:
        with tempfile.NamedTemporaryFile() as output:
            self._file = Path(output.name).open()  # A position of its own, independent of the writer's.
            self._process = subprocess.Popen(
                [sys.executable, "-m", self.PROGRAM, *self._arguments],
                cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=output,
            )
        deadline = time.monotonic() + 10
        while not self._read():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__(None, None, None)
                raise LabError(f"probe {' '.join(self._arguments)} did not start")
            time.sleep(0.005)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._file.close()

    def stop(self) -> None:
        """End the probe; what it saw can still be read until the ``with`` block ends."""
        if self._process is not None:
            assert self._process.stdin
            self._process.stdin.close()
            self._process.wait(5)
            self._process = None

    def records(self) -> list[Any]:
        """Return all that was seen until 50 ms ago."""
        return self._read()[1:]

    def take(self) -> list[Any]:
        """Return the same, and forget it: for one who watches for hours."""
        found = self.records()
        del self._records[1:]
        return found

    def _read(self) -> list[Any]:
        *lines, self._rest = (self._rest + self._file.read()).split("\n")
        self._records += [json.loads(line) for line in lines]
        return self._records


class Pinger(Watcher):
    """A client that sends ICMP echoes to an address, IPv4 or IPv6, all the time.

    :param interval_s: time between two echoes, s.
    """

    def __init__(self, client: Namespace, address: str, interval_s: float = 0.002) -> None:
        super().__init__("ping", client.name, address, str(interval_s))

    def replies(self) -> list[Reply]:
        """Return the answered echoes in the order of their answers."""
        return [Reply(*record) for record in self.records()]

    def outage_ms(self, at: float, within_s: float = 3600) -> float:
        """Return the outage that a fault at ``at`` caused, ms, looking no further than ``within_s``.

        See :func:`longest_gap_ms`.
        """
        return longest_gap_ms([reply.answered for reply in self.replies()], at, at + within_s)

    def wait_for_reply(self, after: float, timeout_s: float = 10) -> float:
        """Wait until an echo sent after ``after`` is answered, and return when that was.

        :raises LabError: none was.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            found = [reply.answered for reply in self.replies()[-2000:] if reply.sent > after]
            if found:
                return found[0]
            if time.monotonic() > deadline:
                raise LabError(f"no answer from {self._arguments[2]} for {timeout_s:.0f} s")
            time.sleep(0.05)


class Seller(Watcher):
    """A client that sells vouchers at an address over HTTP, all the time, in one login.

    :param prefix: with which the names of its sales begin.
    """

    def __init__(self, client: Namespace, address: str, prefix: str) -> None:
        super().__init__("sell", client.name, address, prefix)

    def sales(self) -> list[Sale]:
        """Return the accepted sales in the order of their answers."""
        return [Sale(*record) for record in self.records()]


class Sweeper(Watcher):
    """A client that sends ICMP echoes to many addresses in turn.

    :param interval_s: time between two echoes to one address, s.
    """

    def __init__(self, client: Namespace, addresses: Sequence[str], interval_s: float = 0.004) -> None:
        self.addresses = list(addresses)
        super().__init__("sweep", client.name, ",".join(addresses), str(interval_s))

    def outages_ms(self, at: float, within_s: float = 3600) -> dict[str, float]:
        """Return the outage of each address that a fault at ``at`` caused, ms (see :func:`longest_gap_ms`)."""
        answered: list[list[float]] = [[] for _ in self.addresses]
        for _number, which, _sent, when in self.records():
            answered[which].append(when)
        return {
            address: longest_gap_ms(times, at, at + within_s)
            for address, times in zip(self.addresses, answered, strict=True)
        }

    def wait_for_replies(self, after: float, timeout_s: float = 15) -> None:
        """Wait until each address has answered an echo sent after ``after``.

        :raises LabError: one did not.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            found = {which for _number, which, sent, _answered in self.records()[-200 * len(self.addresses) :]
                     if sent > after}
            if len(found) == len(self.addresses):
                return
            if time.monotonic() > deadline:
                lacking = [one for which, one in enumerate(self.addresses) if which not in found]
                raise LabError(f"no answer from {', '.join(lacking[:5])} for {timeout_s:.0f} s")
            time.sleep(0.05)


class AddressWatch(Watcher):
    """Which kernel held which address when, from the kernels' own events, on one clock."""

    def __init__(self, *namespaces: Namespace) -> None:
        super().__init__("addresses", *(namespace.name for namespace in namespaces))

    def held(self, namespace: Namespace, address: str) -> list[Interval]:
        """Return when a kernel held an address (without prefix length); the last interval may end now."""
        intervals: list[Interval] = []
        since: float | None = None
        for name, at, present, event_address in self.records():
            if name != namespace.name or event_address != address:
                continue
            if present and since is None:  # A renewal is reported like a new address.
                since = at
            elif not present and since is not None:
                intervals.append(Interval(since, at))
                since = None
        return intervals if since is None else [*intervals, Interval(since, time.monotonic())]

    def overlap_ms(self, first: Namespace, second: Namespace, address: str, since: float = 0.0) -> float:
        """Return how long two kernels held the address at once after ``since``, ms."""
        after = [Interval(since, time.monotonic())]
        one, other = (_intersection(self.held(each, address), after) for each in (first, second))
        return overlap_ms(one, other)

    def moves(self, address: str, since: float, *namespaces: Namespace) -> int:
        """Return how often one of the kernels got the address after ``since``."""
        return sum(held.start > since for each in namespaces for held in self.held(each, address))


class ArpWatch(Watcher):
    """Who answers ARP for an IPv4 address, asked with a MAC that is nobody's: the client's kernel learns nothing.

    :param interval_s: time between two questions, s.
    """

    def __init__(self, client: Namespace, address: str, interval_s: float = 0.01) -> None:
        self.interval_s = interval_s
        super().__init__("arp", client.name, address, str(interval_s))

    def answers(self) -> list[Answer]:
        return [Answer(*record) for record in self.records()]

    def two_macs_ms(self, since: float = 0.0) -> float:
        """Return for how long more than one MAC answered after ``since``, ms (questions asked times interval)."""
        answers = (answer for answer in self.answers() if answer.at > since)
        questions = groupby(answers, key=lambda answer: answer.number)
        return 1000 * self.interval_s * sum(len({each.mac for each in group}) > 1 for _, group in questions)


def neighbour(client: Namespace, address: str, port: str = "lan0") -> str:
    """Return the MAC that the client's kernel has in its neighbour cache for an address; empty if none."""
    entries = json.loads(client.run("ip", "-j", "neigh", "show", "to", address, "dev", port) or "[]")
    return next((entry["lladdr"] for entry in entries if "lladdr" in entry), "")


def _intersection(intervals: Sequence[Interval], others: Sequence[Interval]) -> list[Interval]:
    both = [Interval(max(one.start, other.start), min(one.end, other.end)) for one in intervals for other in others]
    return [each for each in both if each.start < each.end]
