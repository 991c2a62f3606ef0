"""The heartbeat loop's hand on the database: sends verbs to the replicator, turns its answers into events."""

from __future__ import annotations

import logging
from typing import Any

from ...decision import events
from ...decision.data import YIELD_MOST_S
from ...decision.model import Term
from ...network.clock import boot_time_s
from ..data.replicator import ReplicatorLink

log = logging.getLogger(__name__)
#: The right to write ends this much before the lease of the addresses, s (rule 14).
ENDS_EARLIER_S = 0.1
#: Open transactions get this long to end in a hand-over, s.
PATIENCE_S = 0.1


class DatabaseHand:
    """Never waits.

    :param link: the replicator; without one, or while it shares nothing, the database is not shared.
    :param synchronous: commits are to wait for the other gateway.
    """

    def __init__(self, link: ReplicatorLink | None, synchronous: bool = True) -> None:
        self._link = link
        self.synchronous = synchronous
        self._term = Term(0, "")  #: of the reign for which the right to write was asked last
        self._granted = Term(0, "")  #: of the reign of which the core was told that it may write
        #: how the other gateway's database follows, as it was told last
        self.follower: dict[str, Any] = {}

    @property
    def shared(self) -> bool:
        return self._link is not None and self._link.shared

    def fileno(self) -> int | None:
        return self._link.fileno() if self._link else None

    def promote(self, term: Term, lease_s: float) -> bool:
        """Ask for the right to write; False if nobody can be asked."""
        self._term = term
        return self._send("promote", term=term.counter, until_s=boot_time_s() + lease_s - ENDS_EARLIER_S)

    def renew(self, term: Term, lease_s: float) -> bool:
        """Extend the right to write, together with the addresses' lease; where there is none, it is asked for."""
        self._term = term
        return self._send("renew", term=term.counter, until_s=boot_time_s() + lease_s - ENDS_EARLIER_S)

    def keep(self, term: Term, lease_s: float) -> bool:
        """Extend the right to write over a restart of this agent; it is not asked for where there is none."""
        return self._send("keep", term=term.counter, until_s=boot_time_s() + lease_s - ENDS_EARLIER_S)

    def give_up(self) -> bool:
        """Ask to refuse writes and to wait until the other gateway has the last one."""
        self._granted = Term(0, "")
        return self._send("yield", patience_s=PATIENCE_S, within_s=YIELD_MOST_S)

    def demote(self) -> bool:
        """Ask to make the database read-only."""
        self.follower, self._granted = {}, Term(0, "")
        return self._send("demote")

    def set_synchronous(self, on: bool) -> bool:
        """Ask to let commits wait for the other gateway, or no longer."""
        return self._send("set_synchronous", on=on)

    def receive(self) -> list[events.Event] | None:
        """Return what the answers mean for the core; None when the replicator has gone."""
        messages = self._link.receive() if self._link else None
        if messages is None or self._link is None:
            return None
        try:
            return [event for message in messages for event in self._events(message)]
        except (KeyError, TypeError, AttributeError):  # the loop, which keeps the addresses, must not end with it
            self._link.distrust()
            return None

    def _send(self, verb: str, **arguments: Any) -> bool:
        return self._link is not None and self._link.send(verb, **arguments)

    def _events(self, message: dict[str, Any]) -> list[events.Event]:
        if message.get("event") == "follower":
            self.follower = message
            return [events.FollowerSeen(bool(message["streaming"]), bool(message["caught_up"]))]
        ok, result = bool(message["ok"]), message.get("result") or {}
        text = "" if ok else str(message["error"]["message"])
        if not ok:
            log.warning("The database refused %s: %s", message["verb"], text)
        match message["verb"]:
            case "promote" | "renew" if message["term"] != self._term.counter:
                return []  # of an earlier reign: it says nothing of this one
            case "promote":
                self._granted = self._term if ok else self._granted
                return [events.DataPromoted(self._term, ok, text), *_synchronous(result)]
            case "renew" if ok and (not result["renewed"] or self._granted != self._term):
                self._granted = self._term  # a right that an agent kept over its restart is one, too
                return [events.DataPromoted(self._term, True), *_synchronous(result)]
            case "keep":
                return [events.DataKept(ok and bool(result["kept"]))]
            case "yield":
                confirmed = ok and bool(result["confirmed"])
                return [events.DataYielded(confirmed, text or ("" if confirmed else "not within its time"))]
            case "set_synchronous":
                return [events.SynchronousSet(bool(result["on"]) if ok else None)]
        return []


def _synchronous(result: dict[str, Any]) -> list[events.Event]:
    return [events.SynchronousSet(bool(result["synchronous"]))] if "synchronous" in result else []
