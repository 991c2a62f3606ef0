"""The clerk writes for the heartbeat loop: terms, events. fsync can take 100 ms, the loop must not.

An event that cannot be written is lost. What a later run of the agent decides by is written again until it is on disk:
a full disk gets room again, and what stood there before would be a lie.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ..network.clock import boot_time_s
from .heartbeat.standing import DataStanding

log = logging.getLogger(__name__)
#: Jobs that may wait; more are dropped (events) and counted, never waited for.
MOST_WAITING = 1000
#: What could not be written is tried again this often, s.
AGAIN_S = 5.0


class Ledger(Protocol):
    """What the loop has the clerk write: the node store."""

    def reserve_term(self, counter: int) -> None: ...
    def reserved_term(self) -> int: ...
    def standing(self) -> DataStanding: ...
    def remember_standing(self, standing: DataStanding) -> None: ...
    def peer_macs(self) -> dict[str, str]: ...
    def remember_peer_macs(self, macs: Mapping[str, str]) -> None: ...
    def record(self, kind: str, severity: str, text: str, evidence: list[str]) -> Any: ...


class Clerk:
    """Runs jobs one after the other on a thread of its own."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.dropped = 0
        self.reserved = 0  #: up to here this run's terms are on disk; whichever session asked for it
        self._told: dict[str, Callable[[], Any]] = {}
        self._kept: dict[str, Callable[[], Any]] = {}
        self._jobs: queue.Queue[Callable[[], Any] | None] = queue.Queue(MOST_WAITING)
        self._thread = threading.Thread(target=self._run, name="clerk", daemon=True)
        self._thread.start()

    def do(self, job: Callable[[], Any]) -> None:
        """Queue a job; never blocks."""
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            self.dropped += 1

    def keep(self, name: str, job: Callable[[], Any]) -> None:
        """Queue a job that is done until it succeeds, unless a later one of the same name takes its place."""
        self._kept[name] = job
        self.do(lambda: self._try(name))

    def record(self, kind: str, severity: str, text: str, evidence: tuple[str, ...] = ()) -> None:
        """Queue an event for the log that people read."""
        level = {"info": logging.INFO, "warning": logging.WARNING}.get(severity, logging.ERROR)
        log.log(level, "%s%s", text, f" [{'; '.join(evidence)}]" if evidence else "")
        if kind in self._told:
            self.do(self._told[kind])  # before a disk is waited for
        self.do(lambda: self.ledger.record(kind, severity, text, list(evidence)))

    def when(self, kind: str, call: Callable[[], Any]) -> None:
        """Have somebody told, on the clerk's thread, of each event of a kind that the loop records."""
        self._told[kind] = call

    def close(self, timeout_s: float = 2.0) -> None:
        """Finish what waits, try once more what could not be written, then stop."""
        self._jobs.put(None)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        again_at, going_on = boot_time_s() + AGAIN_S, True
        while going_on:
            if boot_time_s() >= again_at:  # not only where nothing else comes: on a full disk there are many events
                self._try_all()
                again_at = boot_time_s() + AGAIN_S
            try:
                job = self._jobs.get(timeout=max(0.0, again_at - boot_time_s()) if self._kept else None)
            except queue.Empty:
                continue
            going_on = job is not None
            self._write(job or self._try_all)

    def _try_all(self) -> None:
        for name in tuple(self._kept):
            self._try(name)

    def _try(self, name: str) -> None:
        job = self._kept.pop(name, None)
        if job is not None and not self._write(job):
            self._kept.setdefault(name, job)  # a later one has come meanwhile, or this one waits

    @staticmethod
    def _write(job: Callable[[], Any]) -> bool:
        try:
            job()
        except Exception:
            log.exception("The node store could not be written; the gateway goes on without")
            return False
        return True
