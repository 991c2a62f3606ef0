"""What follows the role on one gateway: services and hooks, as slow as a test wants them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flask_hsmx_cluster.agent.heartbeat.services_hand import ACTIVE, BEFORE_ACTIVE, BEFORE_PASSIVE

if TYPE_CHECKING:
    from .machine import Machine

#: What runs on one gateway only ends with its agent, and when that is silent for this part of a lease.
SILENT_LEASES = 0.75


@dataclass(eq=False)
class Followers:
    """The process of services and hooks, as the agent's hand on it sees it."""

    machine: Machine
    delay_s: float = 0.03
    hang: bool = False  #: they never answer
    on: bool = False  #: what runs on the active gateway only runs, or is about to
    log: list[str] = field(default_factory=list)
    inbox: list[dict[str, Any]] = field(default_factory=list)
    _stage: str = ""
    _turn: int = 0
    _heard_at: float = float("-inf")
    _watched: bool = False

    def fileno(self) -> None:
        return None

    def send(self, _verb: str, at: float, stage: str, turn: int, **_more: Any) -> bool:
        """Take the stage that the agent says, which is also a sign of its life."""
        machine = self.machine
        if machine.trap is not None:
            machine.trap()
        self._heard_at = max(self._heard_at, machine.clocks.true_s(at))
        if turn != self._turn:
            before, self._stage, self._turn = self._stage, stage, turn
            if stage == BEFORE_ACTIVE:
                self.log.append("PrepareServices")
            elif stage == BEFORE_PASSIVE:
                self.log.append("RetireServices")
            elif stage == ACTIVE and before == BEFORE_PASSIVE:
                self.log.append("KeepServices")
            if stage in (BEFORE_ACTIVE, BEFORE_PASSIVE) and not self.hang:
                machine.world.at(self.delay_s, self._answer, {"event": "reached", "stage": stage, "turn": turn})
        self._switch(stage in (BEFORE_ACTIVE, ACTIVE))
        return True

    def receive(self) -> list[dict[str, Any]]:
        found, self.inbox = self.inbox, []
        return found

    def end(self) -> None:
        """The process ends with its agent."""
        self._turn, self._stage, self.inbox = 0, "", []
        self._switch(False)

    def _answer(self, message: dict[str, Any]) -> None:
        self.inbox.append(message)
        self.machine.reads_services()

    def _switch(self, on: bool) -> None:
        world = self.machine.world
        if on != self.on:
            self.on = on
            world.watch()
        if on and not self._watched:
            self._watched = True
            self._watch()

    def _watch(self) -> None:
        world = self.machine.world
        left = self._heard_at + SILENT_LEASES * world.timing.lease_s - world.now
        if not self.on:
            self._watched = False
        elif left > 1e-9:
            world.at(left, self._watch)
        else:
            self._watched = False
            self._switch(False)
