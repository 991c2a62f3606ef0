"""The active role: renew, announce, hand over, and yield to a better claim."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import judge
from .data import YIELD_MOST_S
from .events import Announce, ClaimFailed, FailoverRequested, HandoverEnded, Renew, Renewed, Send
from .evidence import PortEvidence
from .health import network_causes
from .judge import Standing
from .model import NEVER, Beat, Kind, Motive, Phase, Role

if TYPE_CHECKING:
    from .core import Core

#: Offers and grants are repeated this often, s, for a lossy cable.
HANDOVER_REPEAT_S = 0.02
#: A hand-over that has not succeeded by then has failed, s.
HANDOVER_MOST_S = 0.5
#: A move for health that fails is told at most this often, s.
FAILURE_NOTED_EVERY_S = 60.0
#: A node that has just released the role leaves it to the other this long, s.
YIELD_S = 1.0
#: Announcements are repeated after these delays, s (locktime of neighbours is 1 s), then each refresh.
ANNOUNCE_AGAIN_S = (1.1, 5.0)
#: A peer that answers too is announced against at most this often per port, s (rule 12).
DOUBLE_ANNOUNCE_S = 10.0

GRANTED_WORDS = {
    Motive.REQUEST: "an operator asked for a fail-over",
    Motive.HEALTH: "the passive gateway was healthier",
    Motive.STOP: "the active gateway's agent was stopped",
    Motive.MAINTENANCE: "the active gateway went into maintenance",
    Motive.PREFERRED: "the preferred gateway has been well for long enough",
    Motive.RESTART: "the active gateway's agent was restarted",
}


@dataclass
class Handover:
    """The active's attempt to hand its role over."""

    motive: Motive
    started: float
    next_at: float
    granted: bool = False
    retired: bool = False  #: what runs on the active gateway only has been told to end


class Active:
    """What an active gateway does.

    :param core: the brain whose role this is.
    """

    def __init__(self, core: Core) -> None:
        self.core = core
        self.handover: Handover | None = None
        self.next_renew = NEVER
        self.announce_at: list[float] = []
        self.out_of_hold = False
        self._both_noted = self._failure_noted = -NEVER

    def deadline(self) -> float:
        """Return when the next renewal or announcement is due, s."""
        return min(self.next_renew, *self.announce_at[:1], NEVER)

    def heard(self, beat: Beat) -> None:
        core = self.core
        handover = self.handover
        if beat.role is Role.ACTIVE:
            self._both_active(beat)
        elif handover and beat.kind in (Kind.READY, Kind.NOT_READY) and beat.motive is not handover.motive:
            pass  # it answers an earlier question
        elif handover and handover.motive is Motive.RESTART and beat.kind is Kind.READY:
            core.restart.confirmed()
        elif handover and not handover.granted and not core.data.yielding and beat.kind is Kind.READY:
            if not handover.retired:
                handover.retired = core.services.begin_retiring(GRANTED_WORDS[handover.motive])
            if not core.services.retiring:
                self._yield_data(handover)
        elif handover and not handover.granted and beat.kind is Kind.NOT_READY:
            reason = (
                judge.why_not_ready(
                    handover.motive,
                    beat.causes,
                    frozenset(core.health.causes),
                    beat.listening,
                    beat.maintenance,
                    beat.role,
                    any(port.carrier for port in beat.ports),
                )
                or "it refused"
            )
            self.end_handover(False, f"{core.plan.peer_name} cannot take over: {reason}")
        elif beat.kind is Kind.BYE:
            core.peer_lost = True
            core.served_since = core.now
            if beat.motive is Motive.RESTART:
                core.note("peer_restarts", "info", f"{core.plan.peer_name}'s agent is being restarted")
            else:
                core.note("peer_stopped", "warning", f"{core.plan.peer_name}'s agent was stopped")
        else:
            self.move_for_health()

    def step(self) -> None:
        core = self.core
        timing = core.plan.timing
        if self._lapsed():
            core.step_down("its lease lapsed", Phase.LISTENING)
            core.passive.listen_until = core.now + timing.lease_s / 2
            return
        if core.now >= self.next_renew:
            self._renew()
            core.send(Kind.BEAT)
        if self.announce_at and core.now >= self.announce_at[0]:
            self.announce_at = self.announce_at[1:] or [core.now + timing.refresh_s]
            core.do(Announce(again=True))
        if (
            core.plan.peer
            and not core.peer_lost
            and core.peer_at is not None
            and (core.now - core.peer_at > timing.path_down_s)
        ):
            core.peer_lost = True
            core.served_since = core.now
            core.note("peer_lost", "warning", f"{core.plan.peer_name} is not heard any more",
                      (core.silence_words(), *core.arbiter.in_words()))

    def renew_before_beat(self) -> None:
        """Renew with the regular heartbeat, so that the peer always knows when the lease ends.

        It waits for that moment if the heartbeats stop; one that it had not been told of came 0.5 s later, and an
        outage of 280 ms instead of 60 (measured).
        """
        core, timing = self.core, self.core.plan.timing
        soon = core.now >= self.next_renew - min(timing.interval_s, timing.renew_s) / 2
        if core.role is Role.ACTIVE and soon and not self._lapsed():
            self._renew()

    def _lapsed(self) -> bool:
        renewed_at = self.core.renewed_at
        return renewed_at is not None and self.core.now - renewed_at > self.core.plan.timing.lease_s

    def _renew(self) -> None:
        self.next_renew = self.core.now + self.core.plan.timing.renew_s
        if self.core.arbiter.proven():
            self.core.do(Renew())

    def claimed(self) -> None:
        """The addresses are taken now, or as soon as what comes first is ready: the database, services."""
        core = self.core
        waits = core.data.claiming is not None or core.services.preparing is not None
        self.next_renew = NEVER if waits else core.now + core.plan.timing.renew_s
        self.announce_at = [] if waits else [core.now + delay for delay in ANNOUNCE_AGAIN_S]

    def begin_handover(self, motive: Motive) -> None:
        core = self.core
        self.handover = Handover(motive, core.now, core.now + HANDOVER_REPEAT_S)
        core.do(Send(Kind.OFFER, motive=motive))

    def handover_step(self, handover: Handover) -> None:
        core = self.core
        if core.now < handover.next_at:
            return
        handover.next_at = core.now + HANDOVER_REPEAT_S
        if core.data.yielding:
            return  # it has a bound of its own
        most_s = HANDOVER_MOST_S + (YIELD_MOST_S if core.plan.data else 0) + core.services.most_s()
        if core.now - handover.started > most_s:
            asked = "say that it waits" if handover.motive is Motive.RESTART else "take over"
            self.end_handover(False, f"{core.plan.peer_name} did not {asked} in time")
        elif not core.restart.agreed:
            core.do(Send(Kind.GRANT if handover.granted else Kind.OFFER, motive=handover.motive))

    def services_retired(self) -> None:
        """What runs on the active gateway only has ended for the hand-over, or was waited for long enough."""
        if self.handover is not None and not self.handover.granted:
            self._yield_data(self.handover)

    def _yield_data(self, handover: Handover) -> None:
        if not self.core.data.begin_yield():
            self._grant(handover)

    def data_yielded(self, ok: bool, text: str) -> None:
        """The data has been given up for the hand-over. If the peer may lack something, a request is not worth it."""
        handover = self.handover
        if handover is None or handover.granted:
            return
        if ok or handover.motive in (Motive.STOP, Motive.HEALTH):
            self._grant(handover)
        else:
            self.end_handover(False, f"{self.core.plan.peer_name} has not confirmed the last writes: {text}")

    def _grant(self, handover: Handover) -> None:
        """The peer is ready: release first, then say so. Never two on one address."""
        core = self.core
        handover.granted = True
        handover.next_at = core.now + HANDOVER_REPEAT_S / 2
        causes = frozenset(core.health.causes)
        if handover.motive is Motive.HEALTH:
            core.brake.moved(core.now, network_causes(causes))
        elif handover.motive is Motive.PREFERRED:
            core.preference.granted()
        else:
            core.brake.release()
        core.step_down(
            GRANTED_WORDS[handover.motive],
            Phase.FOLLOWING,
            evidence=(
                f"{core.plan.peer_name} said that it is ready",
                *((judge.in_words(causes, core.plan),) if causes else ()),
            ),
            keep_handover=True,
        )
        core.passive.yield_until = core.now + YIELD_S
        core.do(Send(Kind.GRANT, motive=handover.motive))

    def end_handover(self, ok: bool, text: str) -> None:
        core = self.core
        if self.handover:
            core.do(HandoverEnded(ok, text, core.now - self.handover.started))
            asked = self.handover.motive is not Motive.HEALTH  # of itself it tries again and again
            if not ok and (asked or core.now - self._failure_noted > FAILURE_NOTED_EVERY_S):
                self._failure_noted = core.now
                core.note("handover_failed", "warning", text)
            before, self.handover = self.handover, None
            core.restart.end()
            if before.motive is Motive.PREFERRED and not ok and not before.granted:
                core.preference.refused()
            if core.role is Role.ACTIVE and not ok and before.retired and not before.granted:
                core.services.keep()
            if core.role is Role.ACTIVE and not ok and core.plan.data and not core.data.writable:
                core.data.regain()

    def watch_health(self) -> None:
        """Move if another one is healthier; causes for which a move was of no use, and that are gone, count again."""
        core = self.core
        gone = core.brake.useless - frozenset(core.health.causes)
        if gone and core.role is Role.ACTIVE and core.now - core.since > 10:
            core.brake.useless -= gone
        self.move_for_health()

    def move_for_health(self) -> None:
        """A less healthy active hands over at once; equal health never moves the role."""
        core = self.core
        if not core.health.causes:
            return
        if (
            core.role is not Role.ACTIVE
            or core.renewed_at is None  # the addresses still wait for data and services
            or self.handover
            or not core.peer
            or not core.peer_fresh()
            or core.peer.role is not Role.PASSIVE
            or core.peer.listening
            or core.peer.maintenance
            or not core.brake.allows(core.now)
        ):
            return
        mine = frozenset(core.health.causes) - core.brake.useless
        if judge.healthier(mine, core.lan.peer_causes()):
            self.begin_handover(Motive.HEALTH)

    def _both_active(self, beat: Beat) -> None:
        core = self.core
        mine = Standing(core.served(), core.term, int(not core.behind), frozenset(core.health.causes), core.plan.node)
        theirs = Standing.of(beat, core.plan.peer)
        evidence = (
            f"terms: {core.term} here, {beat.term} there",
            f"served clients meanwhile: {'yes' if mine.served else 'no'} here, "
            f"{'yes' if theirs.served else 'no'} there",
        )
        if judge.both_active_winner(mine, theirs) == core.plan.node:
            if core.now - self._both_noted > 1.0:
                core.note("both_active", "critical", "Both gateways were active; this one stays", evidence)
                core.do(Announce())
                self.announce_at = [core.now + delay for delay in ANNOUNCE_AGAIN_S]
            self._both_noted = core.now
            core.send(Kind.BEAT)
        else:
            core.step_down("both gateways were active, and the other one stays", Phase.FOLLOWING, evidence)

    def peer_holds_too(self, port: PortEvidence) -> None:
        """The peer's MAC answers although we are active (rule 4): who claimed out of hold releases."""
        core = self.core
        if self.out_of_hold and (core.peer_at is None or core.peer_at < core.since):
            core.step_down(
                f"{core.plan.peer_name} still answers on {port.port}, and this gateway had claimed without proof",
                Phase.HOLDING,
            )
            core.passive.begin_hold()
        elif core.now - core.since > core.plan.timing.interval_s and (
            core.now - port.conflict_announced_at >= DOUBLE_ANNOUNCE_S
        ):
            port.conflict_announced_at = core.now
            core.note("double", "critical", f"{core.plan.peer_name} answers on {port.port} too")
            core.do(Announce())

    def failover(self, event: FailoverRequested) -> None:
        core = self.core
        if core.role is not Role.ACTIVE:
            core.do(HandoverEnded(False, "This gateway is not active", 0.0))
        elif not core.peer_fresh():
            core.do(HandoverEnded(False, f"{core.plan.peer_name or 'The other gateway'} does not answer", 0.0))
        elif self.handover is not None:
            core.do(HandoverEnded(False, "A hand-over is under way already", 0.0))
        elif core.renewed_at is None:
            core.do(HandoverEnded(False, "This gateway has just become active, and is taking the addresses", 0.0))
        elif (
            event.motive is not Motive.STOP
            and (dead := core.lan.peer_dead_ports())
            and judge.healthier(core.lan.peer_causes(), frozenset(core.health.causes))
        ):
            why = f"others are heard on {', '.join(dead)}, and it is not: guests could not reach it there"
            core.do(HandoverEnded(False, f"{core.plan.peer_name} cannot take over: {why}", 0.0))
        else:
            self.begin_handover(event.motive)

    def renewed(self, event: Renewed) -> None:
        core = self.core
        if core.role is not Role.ACTIVE:
            return
        if core.renewed_at is not None and event.at - core.renewed_at > core.plan.timing.lease_s:
            # The kernel re-creates an address that had lapsed: take it away at once, and listen (rule 11).
            core.step_down("its lease had lapsed before it was renewed", Phase.LISTENING)
            core.passive.listen_until = core.now + core.plan.timing.lease_s / 2
        else:
            core.renewed_at = event.at
            if event.extended:
                core.restart.extended()

    def claim_failed(self, event: ClaimFailed) -> None:
        core = self.core
        if core.role is Role.ACTIVE:
            core.step_down(f"the kernel refused the addresses: {event.reason}", Phase.WAITING)
            core.passive.yield_until = core.passive.wait_until = core.now + YIELD_S
