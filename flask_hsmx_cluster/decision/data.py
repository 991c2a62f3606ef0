"""The data of a reign: writable before its addresses come, read-only before they go, and confirmed by both or not.

Guests come first: what the database does not do in time keeps no address away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .events import DataPromoted, DataYielded, DemoteData, FollowerSeen, PromoteData, SetSynchronous, YieldData
from .model import NEVER, Kind, Term

if TYPE_CHECKING:
    from .core import Core

#: The addresses wait at most this long for the database, s. It takes some 15 ms (measured).
PROMOTE_MOST_S = 0.1
#: A hand-over waits at most this long for the last writes to be confirmed, s; meanwhile writes are refused.
YIELD_MOST_S = 0.2
#: Commits wait for a passive gateway that does not stream, or is not heard, at most this long, s; where heartbeats are
#: slower, for one that is not heard so much longer than two of them: one may be lost.
DEGRADE_AFTER_S = 0.4
LOST_AFTER_S = 0.2
#: A passive gateway that is heard, but does not follow, is given this long to know of it before commits go on without
#: it, s: else it could take over after them, and say nothing of what it lacks.
CONSENT_MOST_S = 0.2
#: A wish that the database has not answered by then was lost with the process that it was told to, s.
ANSWER_MOST_S = 2.0


class Data:
    """What a gateway's brain says about its database.

    :param core: the brain.
    """

    def __init__(self, core: Core) -> None:
        self.core = core
        self.claiming: Term | None = None
        self.yielding = False
        #: what the database said last: commits wait for the other gateway
        self.synchronous = False
        #: since when they do not although there is a cluster of two, boot time in s; None if they do
        self.degraded_since = core.start.degraded_since
        self.writable = False
        self._due = NEVER
        self._lost_since: float | None = None
        self._asked: bool | None = None
        self._asked_at = NEVER
        self._refused = self._released = False
        self._consent_until = NEVER

    def deadline(self) -> float:
        """Return when the database's answer is waited for no longer, or its followers are due, s."""
        if self.synchronous and self._asked is not False and self.core.peer_at is not None:
            return min(self._due, self.core.peer_at + self._lost_after_s(), self._consent_until)
        return self._due

    def _lost_after_s(self) -> float:
        return max(DEGRADE_AFTER_S, 2 * self.core.plan.timing.interval_s + LOST_AFTER_S)

    # A reign begins ---------------------------------------------------------------------------------------

    def begin(self, term: Term) -> None:
        """A claim: the data first, then what else comes before the addresses, then these."""
        if not self.core.plan.data:
            self.core.services.begin(term)
            return
        self.claiming, self._due = term, self.core.now + PROMOTE_MOST_S
        self.core.do(PromoteData(term))

    def promoted(self, event: DataPromoted) -> None:
        core = self.core
        if event.ok:
            self.writable = core.term == event.term and core.leading()
            if self.writable and core.behind:
                core.note("data_stale", "critical" if core.plan.synchronous else "warning",
                          f"The data may be older than that of {core.plan.peer_name}",
                          (f"{core.plan.peer_name} may have gone on without waiting for this gateway",))
        else:
            core.note("data_not_writable", "critical", f"The database could not be made writable: {event.text}")
        if self.claiming is not None and event.term == self.claiming:
            self._claim()

    def _claim(self) -> None:
        assert self.claiming is not None
        term, self.claiming, self._due = self.claiming, None, NEVER
        self.core.services.begin(term)

    # It goes on ---------------------------------------------------------------------------------------------

    def step(self) -> None:
        """Do what is due."""
        core = self.core
        if core.now >= self._due:
            if self.claiming is not None:
                core.note("data_late", "warning", "The addresses did not wait any longer for the database",
                          (f"{PROMOTE_MOST_S * 1000:.0f} ms have passed",))
                self._claim()
            elif self.yielding:
                self.yielded(DataYielded(False, f"not within {YIELD_MOST_S * 1000:.0f} ms"))
        if self.synchronous and core.peer_at is not None and core.now - core.peer_at >= self._lost_after_s():
            self._degrade(core.silence_words())
        self.go_on_alone()

    def follower_seen(self, event: FollowerSeen) -> None:
        """The other gateway streams, or does not. Commits wait for it only while it does."""
        core = self.core
        if not core.leading() or not core.plan.peer:
            return
        lost = self._asked is not None and core.now - self._asked_at > ANSWER_MOST_S
        if self._refused or lost:  # not asked again at once: a full disk refuses for a while
            self._asked, self._refused = None, False
        if not core.plan.synchronous:
            core.behind = core.behind and not event.caught_up
            if self.synchronous or not self._released:  # an earlier agent's wish may be in force
                self._set(False)
            return
        if event.caught_up:
            core.behind = False  # what the other one alone had is in its quarantine
            self._lost_since, self._consent_until = None, NEVER
            if not self.confirms() and core.peer_fresh():
                self._set(True)
        else:
            if self._lost_since is None:
                self._lost_since = core.now
            if self.synchronous and core.now - self._lost_since >= DEGRADE_AFTER_S:
                self._degrade("its database is too slow" if event.streaming else "its database does not follow")

    def confirms(self) -> bool:
        """Return whether commits wait for the other gateway, and are to go on doing so."""
        return self.synchronous and self.degraded_since is None

    def synchronous_set(self, on: bool | None) -> None:
        """The database has done as it was told; None: it refused."""
        core = self.core
        if on is None:
            self._refused = True
            return
        self._asked, self._released = None, not on
        if on == self.synchronous and self.confirms() == on:
            return
        self.synchronous = on
        if on:
            since, self.degraded_since = self.degraded_since, None
            core.note("synchronous", "info", "Every write is confirmed by both gateways",
                      () if since is None else (f"it was not for {core.now - since:.0f} s",))

    def _degrade(self, why: str) -> None:
        core = self.core
        if self._asked is False:
            return
        if self.degraded_since is None:
            self.degraded_since = core.now
            core.note("degraded", "critical", f"Writes are no longer confirmed by {core.plan.peer_name}: {why}",
                      (f"term {core.term}", "what is written from now on exists on this gateway alone"))
            core.send(Kind.BEAT)
        if self._consent_until == NEVER:
            self._consent_until = core.now + CONSENT_MOST_S
        self.go_on_alone()

    def go_on_alone(self) -> None:
        """Let commits go on once the other gateway knows that it will lack them, or cannot be told (rule 10)."""
        core = self.core
        if self._consent_until == NEVER:
            return
        knows = core.peer is not None and core.peer.position == 0
        if knows or not core.peer_fresh() or core.now >= self._consent_until:
            self._consent_until = NEVER
            self._set(False)

    def _set(self, on: bool) -> None:
        if self._asked is not on:
            self._asked, self._asked_at = on, self.core.now
            self.core.do(SetSynchronous(on))

    def forget_peer(self) -> None:
        """The other gateway has left the cluster: nobody is waited for any more."""
        self._lost_since, self.degraded_since, self._consent_until = None, None, NEVER
        if self.synchronous:
            self._set(False)

    # It ends ------------------------------------------------------------------------------------------------

    def begin_yield(self) -> bool:
        """A hand-over: refuse writes, let the other gateway confirm the last one. False if there is nothing to do."""
        if not self.writable:
            return False
        self.yielding, self._due = True, self.core.now + YIELD_MOST_S
        self.writable = False
        self.core.do(YieldData())
        return True

    def yielded(self, event: DataYielded) -> None:
        if self.yielding:
            self.yielding, self._due = False, NEVER
            self.synchronous = False
            self.core.active.data_yielded(event.ok, event.text)

    def renews(self) -> bool:
        """Return whether the right to write is renewed with the addresses: not once it is being given up."""
        return self.core.plan.data and not self.yielding

    def regain(self) -> None:
        """The hand-over has failed after the data had been given up: it is this gateway's again."""
        self.yielding, self._due = False, NEVER  # no answer of before says anything any more
        self.core.do(PromoteData(self.core.term))

    def end(self) -> None:
        """The reign is over, whatever the reason."""
        self.claiming, self._due, self.yielding = None, NEVER, False
        self.writable = self.synchronous = False
        self.degraded_since = self._lost_since = self._asked = None
        self._consent_until = NEVER
        self._refused = self._released = False
        if self.core.plan.data:
            self.core.do(DemoteData())
