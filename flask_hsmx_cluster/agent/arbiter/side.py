"""The arbiter as the agent tends it: its process runs, and people are shown whether it answers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

from ...arbiter.declare import Arbiter
from ...errors import ClusterError, Finding
from ...network.clock import boot_time_s
from ..heartbeat.status import Showing
from ..jobs import Periodic
from .hand import ArbiterHand

log = logging.getLogger(__name__)
KEEP_EVERY_S = 2.0
#: At the agent's start addresses may be leased still: they do not wait any longer than this, s.
BEGIN_TIMEOUT_S = 1.0
SET_UP_TIMEOUT_S = 5.0
#: One that does not answer is an alarm after this time, s: a member that is restarted is none.
AWAY_ALARM_S = 15.0
REMEDY = "See whether etcd runs there, and whether this gateway's way to it and its certificates are in order."


class ArbiterSide:
    """Keeps the process running, which also looks whether the arbiter answers while nobody needs it.

    :param hand: the heartbeat loop's.
    :param restarted: called after the process was started, to let the loop listen to it.
    """

    def __init__(self, stated: Arbiter, hand: ArbiterHand, restarted: Callable[[], None] = lambda: None) -> None:
        assert hand.link is not None
        self._stated, self._link, self._hand, self._restarted = stated, hand.link, hand, restarted
        self._in_force = False
        self._problem: ClusterError | None = None

    def periodic_jobs(self) -> Periodic:
        """Return period (s) and work of the job, by name."""
        return {"arbiter": (KEEP_EVERY_S, self.keep)}

    def begin(self) -> None:
        """At the agent's start: be ready before this gateway takes part in its cluster."""
        try:
            self.keep(BEGIN_TIMEOUT_S)
        except (ClusterError, OSError) as error:
            log.warning("The arbiter cannot be asked yet: %s", error)

    def keep(self, within_s: float = SET_UP_TIMEOUT_S) -> str:
        """Start the process if it does not run, and tell it where the arbiter is."""
        if not self._link.alive():
            self._in_force = False
            self._link.start()
            self._restarted()
        if not self._in_force:
            try:
                self._link.ask("configure", within_s, stated=self._stated.to_json())
                self._in_force, self._problem = True, None
            except ClusterError as error:
                self._problem = error
                raise
        return "answers" if self._hand.answers else "does not answer"

    def stop(self) -> None:
        """End the process."""
        self._link.stop()

    def status(self, word: str | None) -> dict[str, Any]:
        """Return what the verb ``status`` shows.

        :param word: what it said last in the present doubt; None: there is none.
        """
        return {
            "required": self._stated.required,
            "answers": self._hand.answers is True,
            "since_s": round(boot_time_s() - self._hand.since, 1),
            "text": self._why_not(),
            "word": word,
        }

    def alarms(self) -> Iterator[dict[str, Any]]:
        """Yield the alarm that it has been away for a while."""
        away_s = boot_time_s() - self._hand.since
        if self._hand.answers is True or away_s < AWAY_ALARM_S:
            return
        harm = (
            "a gateway that then loses the other one stops serving"
            if self._stated.required
            else "if the two gateways lose each other altogether, both serve"
        )
        yield Showing(
            "arbiter", "critical" if self._stated.required else "warning",
            f"The arbiter does not answer ({self._why_not()}): {harm}.", self._remedy(), boot_time_s() - away_s,
        ).as_dict(boot_time_s())  # fmt: skip

    def preflight(self) -> Iterator[Finding]:
        """Does it answer this gateway?"""
        if self._hand.answers is not True:
            yield Finding("arbiter", f"The arbiter does not answer this gateway: {self._why_not()}.", self._remedy(),
                          blocking=False)  # fmt: skip

    def _why_not(self) -> str:
        if self._hand.answers is True:
            return ""
        if self._problem is not None:
            return self._problem.message.rstrip(".")
        return self._hand.text or "it has not been looked at yet"

    def _remedy(self) -> str:
        return (self._problem.remedy if self._problem else "") or REMEDY
