"""The heartbeat loop's hand on what follows the role: says at which stage this gateway is, hears when it is reached."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import Any

from ...decision import events
from ...decision.events import Severity
from ...decision.model import Term
from ...network.clock import boot_time_s
from ..child import Child

log = logging.getLogger(__name__)
Record = Callable[[str, Severity, str, tuple[str, ...]], None]

#: The stages, as the process of what follows the role knows them.
BEFORE_ACTIVE, ACTIVE, BEFORE_PASSIVE, PASSIVE = "before_active", "after_active", "before_passive", "after_passive"


class ServicesLink(Child):
    """Starts the process of what follows the role (services, hooks) and talks to it."""

    MODULE = "flask_hsmx_cluster.services"
    NAME = WHAT = "The process of services and hooks"
    LOOK = "It is started again by itself; see the agent's log."


class ServicesHand:
    """Never waits.

    :param link: the process; without one nothing follows the role.
    :param record: writes to the event log.
    """

    def __init__(self, link: ServicesLink | None, record: Record) -> None:
        self._link = link
        self._record = record
        self._stage, self._turn, self._reason, self._released = PASSIVE, 0, "", False
        self._term = Term(0, "")
        #: whether anything follows the role
        self.follow = False
        #: names of the host's checks that may move the role
        self.checks: tuple[str, ...] = ()
        #: the stages before addresses come or go for which there is anything to do
        self.awaited: Collection[str] = ()

    def fileno(self) -> int | None:
        return self._link.fileno() if self._link else None

    def go(self, stage: str, reason: str, term: Term, released: bool = False) -> bool:
        """Say that this gateway is at another stage; False if no answer is to be waited for.

        :param reason: why the role changes, in words.
        :param released: no other gateway can still run what belongs to the active one only.
        """
        self._stage, self._turn, self._reason, self._term = stage, self._turn + 1, reason, term
        self._released = released
        return self._tell(boot_time_s()) and stage in self.awaited

    def pet(self, at: float) -> None:
        """Say that the agent is alive, and again at which stage this gateway is.

        :param at: when the addresses' lease was about to be renewed, boot time in s.
        """
        self._tell(at)

    def receive(self) -> list[events.Event] | None:
        """Return what the answers mean for the core; None when the process has gone."""
        messages = self._link.receive() if self._link else None
        if messages is None or self._link is None:
            return None
        try:
            return [event for message in messages for event in self._events(message)]
        except (KeyError, TypeError):  # the loop, which keeps the addresses, must not end with it
            self._link.distrust()
            return None

    def _tell(self, at: float) -> bool:
        return self._link is not None and self._link.send(
            "stage", at, stage=self._stage, turn=self._turn, reason=self._reason, term=self._term.counter,
            released=self._released,
        )

    def _events(self, message: dict[str, Any]) -> list[events.Event]:
        if message["event"] == "failed":
            text, remedy = (str(message["error"][key]) for key in ("message", "remedy"))
            self._record("service_failed", "warning", text, (remedy,) if remedy else ())
        elif message["turn"] == self._turn and message["stage"] in (BEFORE_ACTIVE, BEFORE_PASSIVE):
            return [events.ServicesReady(self._term, message["stage"] == BEFORE_PASSIVE)]
        return []
