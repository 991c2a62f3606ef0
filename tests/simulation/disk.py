"""A gateway's disk: the agent's node store on it, and the clerk who writes it."""

from __future__ import annotations

import contextlib
import copy
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flask_hsmx_cluster.agent.clerk import AGAIN_S
from flask_hsmx_cluster.agent.heartbeat.standing import DataStanding
from flask_hsmx_cluster.errors import ClusterError

if TYPE_CHECKING:
    from .machine import Machine


@dataclass
class NodeStore:
    """What survives. Each method is one write that is on disk when it returns; see ``agent/node_store.py``."""

    reserved: int = 0
    known: DataStanding = field(default_factory=DataStanding)
    macs: dict[str, str] = field(default_factory=dict)
    full: bool = False  #: nothing can be written

    def _write(self) -> None:
        if self.full:
            raise ClusterError("The node store cannot be written: disk full")

    def reserve_term(self, counter: int) -> None:
        self._write()
        self.reserved = max(self.reserved, counter)

    def reserved_term(self) -> int:
        return self.reserved

    def standing(self) -> DataStanding:
        return self.known

    def remember_standing(self, standing: DataStanding) -> None:
        self._write()
        self.known = copy.copy(standing)

    def peer_macs(self) -> dict[str, str]:
        return dict(self.macs)

    def remember_peer_macs(self, macs: Mapping[str, str]) -> None:
        self._write()
        self.macs = dict(macs)

    def record(self, kind: str, severity: str, text: str, evidence: list[str]) -> None:
        self._write()


class SimulatedClerk:
    """Writes later, one job after the other. What waits when the agent ends is lost.

    :param delay_s: what a write takes.
    """

    def __init__(self, machine: Machine, delay_s: float = 0.01) -> None:
        self.machine, self.delay_s = machine, delay_s
        self.ledger = NodeStore()
        self.dropped = self.reserved = 0
        self._kept: dict[str, Callable[[], Any]] = {}
        self._jobs: deque[Callable[[], Any]] = deque()

    def do(self, job: Callable[[], Any]) -> None:
        if self.machine.trap is not None:
            self.machine.trap()
        self._jobs.append(job)
        if len(self._jobs) == 1:
            self.machine.world.at(self.delay_s, self._write, self._jobs)

    def keep(self, name: str, job: Callable[[], Any]) -> None:
        self._kept[name] = job
        self.do(lambda: self._try(name))

    def record(self, kind: str, severity: str, text: str, evidence: tuple[str, ...] = ()) -> None:
        """Events for people are written, too, but nothing depends on them."""
        self.machine.noted(kind, severity, text, evidence)

    def lose(self) -> None:
        """The agent has ended: what waits is not written."""
        self._jobs, self._kept, self.reserved = deque(), {}, 0

    def _try(self, name: str) -> None:
        job = self._kept.pop(name, None)
        if job is None:
            return
        try:
            job()
        except ClusterError:
            self._kept[name] = job
            self.machine.world.at(AGAIN_S, self._again, name, job)

    def _again(self, name: str, job: Callable[[], Any]) -> None:
        if self._kept.get(name) is job:
            self._jobs.append(lambda: self._try(name))
            if len(self._jobs) == 1:
                self.machine.world.at(self.delay_s, self._write, self._jobs)

    def _write(self, jobs: deque[Callable[[], Any]]) -> None:
        if jobs is not self._jobs:
            return
        if self.machine.frozen or self.machine.paused:
            self.machine.world.at(self.delay_s, self._write, jobs)
            return
        with self.machine.clocks, contextlib.suppress(ClusterError):  # as the clerk: the gateway goes on without
            jobs[0]()
        jobs.popleft()
        if jobs:
            self.machine.world.at(self.delay_s, self._write, jobs)
