"""The decision core: one gateway's brain, without sockets, clock, threads, disk or randomness.

``handle(event, now)`` and ``wake(now)`` return effects, to be carried out in their order; ``deadline()`` says when
to wake it next. All that changes a role stands in this file; the tables it follows stand in ``judge``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from . import judge
from .events import (
    AddressSeen,
    Announce,
    Carrier,
    Claim,
    ClaimFailed,
    Effect,
    Event,
    FailoverRequested,
    HandoverEnded,
    HealthReport,
    Heard,
    MaintenanceSet,
    Note,
    ProbeAddresses,
    Release,
    Renew,
    Renewed,
    ReserveTerms,
    Send,
    Severity,
    StrangerSeen,
    TermsReserved,
)
from .evidence import UNSEEN_PROBES, UNSEEN_PROBES_ALIVE, PathEvidence, PortEvidence, Reading
from .health import Health, MoveBrake
from .judge import Standing, Verdict
from .model import NO_TERM, Beat, Cause, CauseKind, Kind, Motive, Phase, Plan, PortReport, Role, Start, Term

#: The passive asks for the virtual IPs this often, always, s (rule 1).
PROBE_EVERY_S = 0.5
#: In hold it asks this often: ARP inspection disables a port at 15 packets a second (rule 12).
HOLD_PROBE_EVERY_S = 0.1
#: Offers and grants are repeated this often, s, for a lossy cable.
HANDOVER_REPEAT_S = 0.02
#: A hand-over that has not succeeded by then has failed, s.
HANDOVER_MOST_S = 0.5
#: A node that has just released the role leaves it to the other this long, s.
YIELD_S = 1.0
#: Announcements are repeated after these delays, s (locktime of neighbours is 1 s), then each refresh.
ANNOUNCE_AGAIN_S = (1.1, 5.0)
#: A conflict is announced against at most this often per port, s (rule 12).
CONFLICT_ANNOUNCE_S = 10.0
#: Terms reserved on disk in one go, and how few may be left before more are.
TERM_BLOCK = 100
TERMS_LOW = 50
#: Without any sign of the peer for this many leases, gates open (rule 7).
GATE_LEASES = 3
#: Where Ethernet heartbeats worked, ARP alone holds for at most this many leases (rule 3).
ARP_ALONE_LEASES = 2
NEVER = float("inf")

_GRANTED_WORDS = {
    Motive.REQUEST: "an operator asked for a fail-over",
    Motive.HEALTH: "the passive gateway was healthier",
    Motive.STOP: "the active gateway's agent was stopped",
    Motive.MAINTENANCE: "the active gateway went into maintenance",
}


def _unseen_only(causes: frozenset[Cause]) -> frozenset[Cause]:
    """The causes that can be the network's fault: a move may not help, and must not be tried to and fro."""
    return frozenset(cause for cause in causes if cause.kind is CauseKind.UNSEEN)


@dataclass
class Burst:
    """Direct probes on every path and of every address, a few milliseconds apart."""

    reason: str
    started: float
    sent: int = 0
    next_at: float = 0.0


@dataclass
class Handover:
    """The active's attempt to hand its role over."""

    motive: Motive
    started: float
    next_at: float
    granted: bool = False


@dataclass
class Hold:
    """The peer's heartbeats are gone, its kernel still answers."""

    since: float
    expiry: float
    next_probe: float


@dataclass
class Core:
    """The brain of one gateway of a formed cluster.

    :param plan: what it must know of the settings.
    :param start: how the agent comes up.
    :param began: boot time now, s.
    """

    plan: Plan
    start: Start
    began: float

    role: Role = Role.PASSIVE
    phase: Phase = Phase.LISTENING
    term: Term = NO_TERM
    since: float = 0.0
    why: str = "has just started"
    maintenance: bool = False
    health: Health = field(default_factory=Health)
    brake: MoveBrake = field(default_factory=MoveBrake)
    paths: dict[str, PathEvidence] = field(default_factory=dict)
    ports: dict[str, PortEvidence] = field(default_factory=dict)
    peer: Beat | None = None
    peer_at: float | None = None
    peer_lost: bool = False
    renewed_at: float | None = None

    def __post_init__(self) -> None:
        self.now = self.began
        self.since = self.began
        self.maintenance = self.start.maintenance
        self._next_term = self.start.next_term
        self._reserved_to = self.start.reserved_to
        self._reserving = self.start.reserved_to
        self._listen_until = self.began + self.start.hold_s
        self.peer_was_active = False
        self._peer_lease_until = self.began
        self._peer_passive_since: float | None = None
        self._yield_until = float("-inf")
        self._ready_until = float("-inf")
        self._wait_until = float("-inf")
        self._both_noted = float("-inf")
        self._out_of_hold = False
        self._served_since = self.began
        self._burst: Burst | None = None
        self._hold: Hold | None = None
        self._handover: Handover | None = None
        self._adopting = self.start.adopt
        self._next_beat = self.began
        self._next_probe = self.began
        self._next_renew = NEVER
        self._announce_at: list[float] = []
        self._out: list[Effect] = []
        self.replan(self.plan, self.began)
        if self.start.claim:
            self._claim("this gateway has just created the cluster", ())
        elif self._adopting is not None:
            self._begin_burst("the agent was restarted while its addresses are still leased")

    # What the agent calls -------------------------------------------------------------------------------

    def replan(self, plan: Plan, now: float) -> None:
        """Take changed settings; evidence of paths and ports that stay is kept."""
        self.plan, self.now = plan, now
        self.paths = {path.name: self._kept_path(path.name) or PathEvidence(path) for path in plan.paths}
        for path in plan.paths:
            self.paths[path.name].path = path
        self.ports = {name: self.ports.get(name) or PortEvidence(name, carrier_since=now) for name in plan.ports}
        self.health.forget({Cause(kind, index) for kind in CauseKind for index in range(max(1, len(plan.ports)))})

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Take one event and return what to do about it."""
        self._advance(now)
        match event:
            case Heard():
                self._heard(event)
            case AddressSeen():
                self._address_seen(event)
            case StrangerSeen():
                self._stranger(event)
            case Carrier():
                self._carrier(event)
            case Renewed():
                self._renewed(event)
            case HealthReport():
                self.health.report(event.cause, event.bad, now)
                self._move_for_health()
            case ClaimFailed():
                self._claim_failed(event)
            case FailoverRequested():
                self._failover(event)
            case MaintenanceSet():
                self._maintenance_set(event)
            case TermsReserved():
                self._reserved_to = max(self._reserved_to, event.upto)
        return self._drain()

    def wake(self, now: float) -> list[Effect]:
        """Do what is due. Call it at :meth:`deadline`, and after each batch of events."""
        self._advance(now)
        if now >= self._next_beat:
            self._next_beat = max(self._next_beat + self.plan.timing.interval_s, now)
            self._watch_health()
            self._send(Kind.BEAT)
        if self.role is Role.ACTIVE:
            self._active_step()
        else:
            self._passive_step()
        return self._drain()

    def deadline(self) -> float:
        """Return the boot time at which :meth:`wake` must be called at the latest, s."""
        due = [self._next_beat]
        if self._burst:
            due.append(self._burst.next_at)
        if self._handover:
            due.append(self._handover.next_at)
        if self.role is Role.ACTIVE:
            due += [self._next_renew, *self._announce_at[:1]]
        elif self._burst is None:
            due.append(self._next_probe)
            if self._hold:
                due.append(self._hold.next_probe)
            elif self.plan.peer and self.peer_at is not None and self.phase is Phase.FOLLOWING:
                due.append(self.peer_at + self.plan.timing.suspect_s)
            elif self.phase is Phase.LISTENING:
                due.append(self._listen_until)
        return min(due)

    def ran_late(self, gap_s: float, now: float) -> list[Effect]:
        """The loop woke much later than it asked for (frozen, starved, suspended): trust no timer, listen again.

        A lease that is still valid is kept (rule 17); one that has lapsed is never renewed (rule 11).
        """
        self._advance(now)
        timing = self.plan.timing
        self._burst = self._hold = self._handover = None
        self._note(
            "late",
            "warning",
            f"This gateway's agent stood still for {gap_s * 1000:.0f} ms",
            ("it trusts none of its timers and listens first",),
        )
        if self.role is Role.ACTIVE:
            if self.renewed_at is None or now - self.renewed_at > timing.lease_s:
                self._step_down("its lease lapsed while its agent stood still", Phase.LISTENING)
                self._listen_until = now + max(3 * timing.interval_s, timing.lease_s / 2)
        else:
            self.phase = Phase.LISTENING
            self._listen_until = max(self._listen_until, now + 3 * timing.interval_s)
        self._peer_passive_since = None
        self._next_beat = self._next_probe = now
        return self._drain()

    def beat(self, kind: Kind, motive: Motive = Motive.REQUEST) -> Beat:
        """Return the content of the next message; MACs and Ethernet are the transport's to fill in."""
        holds = self.role is Role.ACTIVE and self.renewed_at is not None
        left = 0.0
        if holds and self.renewed_at is not None:
            left = max(0.0, self.renewed_at + self.plan.timing.lease_s - self.now)
        return Beat(
            kind=kind,
            role=self.role,
            term=self.term,
            motive=motive,
            listening=self.phase is Phase.LISTENING,
            maintenance=self.maintenance,
            served=self.role is Role.ACTIVE and self._served(),
            lease_left_ms=int(left * 1000),
            revision=self.plan.revision,
            causes=frozenset(self.health.causes),
            ports=tuple(
                PortReport(
                    mac=b"\0" * 6,
                    carrier=port.carrier,
                    holds=holds,
                    strangers=port.strangers(self.now),
                    peer_seen=port.ethernet_at is not None
                    and self.now - port.ethernet_at < self.plan.timing.path_down_s,
                    unseen=self._unseen(port),
                )
                for port in self.ports.values()
            ),
        )

    # Events ---------------------------------------------------------------------------------------------

    def _heard(self, event: Heard) -> None:
        beat, path = event.beat, self.paths.get(event.path)
        if path is None:
            return
        path.heard(self.now, event.rtt_s, beat.kind is Kind.BEAT)
        if path.path.kind == "ethernet":
            self._heard_on_port(path.path.port, beat)
        self.peer_at = self.now
        if beat.kind is Kind.PROBE:
            self._do(Send(Kind.ANSWER, event.path))
        if event.stale:
            return
        before, self.peer = self.peer, beat
        if self.peer_lost:
            self.peer_lost = False
            self._note("peer_back", "info", f"{self.plan.peer_name} is heard again on {event.path}")
            if self.role is Role.ACTIVE:
                self._do(Announce())  # every regained contact is announced (keepalived #166)
        self._end_doubt(event.path)
        self._watch_terms(beat.term)
        if beat.role is Role.ACTIVE:
            self.peer_was_active = True
            self._peer_passive_since = None
            self._peer_lease_until = self.now + beat.lease_left_ms / 1000
        elif self._peer_passive_since is None or (before and before.role is Role.ACTIVE):
            self._peer_passive_since = self.now
        if self.role is Role.ACTIVE:
            self._heard_as_active(beat)
        else:
            self._heard_as_passive(beat)

    def _heard_on_port(self, name: str, beat: Beat) -> None:
        port = self.ports.get(name)
        if port is not None:
            port.ethernet_at = self.now
            index = self.plan.ports.index(name)
            if index < len(beat.ports) and beat.ports[index].peer_seen:
                port.both_ways_at = self.now

    def _heard_as_active(self, beat: Beat) -> None:
        handover = self._handover
        if beat.role is Role.ACTIVE:
            self._both_active(beat)
        elif handover and not handover.granted and beat.kind is Kind.READY:
            self._grant(handover)
        elif handover and not handover.granted and beat.kind is Kind.NOT_READY:
            reason = (
                judge.why_not_ready(
                    handover.motive,
                    beat.causes,
                    frozenset(self.health.causes),
                    beat.listening,
                    beat.maintenance,
                    beat.role,
                    any(port.carrier for port in beat.ports),
                )
                or "it refused"
            )
            self._end_handover(False, f"{self.plan.peer_name} cannot take over: {reason}")
        elif beat.kind is Kind.BYE:
            self.peer_lost = True
            self._served_since = self.now
            self._note("peer_stopped", "warning", f"{self.plan.peer_name}'s agent was stopped")
        else:
            self._move_for_health()

    def _heard_as_passive(self, beat: Beat) -> None:
        if beat.role is Role.ACTIVE:
            if self._handover and self._handover.granted:
                self._end_handover(True, f"{self.plan.peer_name} is active")
            if self._adopting is not None:
                self._adopting = None
                self._do(Release())
            if self.phase not in (Phase.LISTENING, Phase.FOLLOWING):
                self.phase = Phase.FOLLOWING
        if beat.kind is Kind.OFFER:
            self._answer_offer(beat)
        elif beat.kind is Kind.GRANT and self.now < self._ready_until and beat.role is Role.PASSIVE:
            self._ready_until = float("-inf")
            if beat.motive is Motive.HEALTH:
                self.brake.moved(self.now, _unseen_only(beat.causes))
            else:
                self.brake.release()
            self._claim(
                _GRANTED_WORDS[beat.motive],
                (
                    f"{self.plan.peer_name} released the addresses and passed term {beat.term}",
                    *((f"its health: {judge.in_words(beat.causes, self.plan.ports)}",) if beat.causes else ()),
                ),
            )
        elif beat.kind is Kind.BYE and beat.role is Role.ACTIVE and self.phase is Phase.FOLLOWING:
            self._begin_burst(f"{self.plan.peer_name} said that its agent stops")

    def _answer_offer(self, beat: Beat) -> None:
        reason = judge.why_not_ready(
            beat.motive,
            frozenset(self.health.causes),
            beat.causes,
            self.phase is Phase.LISTENING,
            self.maintenance,
            self.role,
            any(port.carrier for port in self.ports.values()),
        )
        if not reason:
            self._ready_until = self.now + HANDOVER_MOST_S
        self._do(Send(Kind.NOT_READY if reason else Kind.READY, motive=beat.motive))

    def _carrier(self, event: Carrier) -> None:
        port = self.ports.get(event.port)
        if port is not None:
            was = port.carrier
            port.set_carrier(event.up, self.now)
            index = self.plan.ports.index(event.port)
            if not event.up:
                self.health.report(Cause(CauseKind.NO_CARRIER, index), True, self.now)
                if was:
                    self._send(Kind.BEAT)
                self._move_for_health()
            elif not was and self.role is Role.ACTIVE:
                self._do(Announce())
        if (
            not event.up
            and self.phase is Phase.FOLLOWING
            and self._burst is None
            and any(path.path.direct and path.path.port == event.port for path in self.paths.values())
        ):
            self._begin_burst(f"the carrier of {event.port} is gone")

    def _address_seen(self, event: AddressSeen) -> None:
        port = self.ports.get(event.port)
        if port is None:
            return
        if event.mac == self.peer_mac(event.port):
            port.answered(self.now)
            if self.role is Role.ACTIVE and self._handover is None and not self._adopting:
                self._peer_holds_too(port)
        else:
            first = not port.conflict(self.now)
            port.conflict_at, port.conflict_mac = self.now, event.mac
            if first:
                self._note(
                    "conflict",
                    "critical",
                    f"Another device ({event.mac.hex(':')}) uses {event.address} on {event.port}",
                    ("its MAC is neither gateway's: it delays nothing, and is announced against",),
                )
            if self.role is Role.ACTIVE and self.now - port.conflict_announced_at >= CONFLICT_ANNOUNCE_S:
                port.conflict_announced_at = self.now
                self._do(Announce())

    def _peer_holds_too(self, port: PortEvidence) -> None:
        """The peer's MAC answers although we are active (rule 4): who claimed out of hold releases."""
        if self._out_of_hold and (self.peer_at is None or self.peer_at < self.since):
            self._step_down(
                f"{self.plan.peer_name} still answers on {port.port}, and this gateway had claimed without proof",
                Phase.HOLDING,
            )
            self._begin_hold()
        elif self.now - self.since > self.plan.timing.interval_s and (
            self.now - port.conflict_announced_at >= CONFLICT_ANNOUNCE_S
        ):
            port.conflict_announced_at = self.now
            self._note("double", "critical", f"{self.plan.peer_name} answers on {port.port} too")
            self._do(Announce())

    def _stranger(self, event: StrangerSeen) -> None:
        port = self.ports.get(event.port)
        if port is not None:
            port.stranger_at = self.now

    def _renewed(self, event: Renewed) -> None:
        if self.role is not Role.ACTIVE:
            return
        if self.renewed_at is not None and event.at - self.renewed_at > self.plan.timing.lease_s:
            # The kernel re-creates an address that had lapsed: take it away at once, and listen (rule 11).
            self._step_down("its lease had lapsed before it was renewed", Phase.LISTENING)
            self._listen_until = self.now + self.plan.timing.lease_s / 2
        else:
            self.renewed_at = event.at

    def _claim_failed(self, event: ClaimFailed) -> None:
        if self.role is Role.ACTIVE:
            self._step_down(f"the kernel refused the addresses: {event.reason}", Phase.WAITING)
            self._yield_until = self._wait_until = self.now + YIELD_S

    def _failover(self, event: FailoverRequested) -> None:
        if self.role is not Role.ACTIVE:
            self._do(HandoverEnded(False, "This gateway is not active", 0.0))
        elif not self.peer_fresh():
            self._do(HandoverEnded(False, f"{self.plan.peer_name or 'The other gateway'} does not answer", 0.0))
        elif self._handover is not None:
            self._do(HandoverEnded(False, "A hand-over is under way already", 0.0))
        else:
            self._begin_handover(event.motive)

    def _maintenance_set(self, event: MaintenanceSet) -> None:
        if self.maintenance != event.on:
            self.maintenance = event.on
            self._note("maintenance", "info", "Maintenance has begun" if event.on else "Maintenance has ended")
            self._send(Kind.BEAT)

    # Active ---------------------------------------------------------------------------------------------

    def _active_step(self) -> None:
        timing = self.plan.timing
        if self.renewed_at is not None and self.now - self.renewed_at > timing.lease_s:
            self._step_down("its lease lapsed", Phase.LISTENING)
            self._listen_until = self.now + timing.lease_s / 2
            return
        if self.now >= self._next_renew:
            self._next_renew = self.now + timing.renew_s
            self._do(Renew())
        if self._announce_at and self.now >= self._announce_at[0]:
            self._announce_at = self._announce_at[1:] or [self.now + timing.refresh_s]
            self._do(Announce())
        if self._handover:
            self._handover_step(self._handover)
        if (
            self.plan.peer
            and not self.peer_lost
            and self.peer_at is not None
            and (self.now - self.peer_at > timing.path_down_s)
        ):
            self.peer_lost = True
            self._served_since = self.now
            self._note("peer_lost", "warning", f"{self.plan.peer_name} is not heard any more", (self._silence_words(),))

    def _begin_handover(self, motive: Motive) -> None:
        self._handover = Handover(motive, self.now, self.now + HANDOVER_REPEAT_S)
        self._do(Send(Kind.OFFER, motive=motive))

    def _handover_step(self, handover: Handover) -> None:
        if self.now < handover.next_at:
            return
        handover.next_at = self.now + HANDOVER_REPEAT_S
        if self.now - handover.started > HANDOVER_MOST_S:
            self._end_handover(False, f"{self.plan.peer_name} did not take over in time")
        else:
            self._do(Send(Kind.GRANT if handover.granted else Kind.OFFER, motive=handover.motive))

    def _grant(self, handover: Handover) -> None:
        """The peer is ready: release first, then say so. Never two on one address."""
        handover.granted = True
        handover.next_at = self.now + HANDOVER_REPEAT_S / 2
        causes = frozenset(self.health.causes)
        if handover.motive is Motive.HEALTH:
            self.brake.moved(self.now, _unseen_only(causes))
        else:
            self.brake.release()
        self._step_down(
            _GRANTED_WORDS[handover.motive],
            Phase.FOLLOWING,
            evidence=(
                f"{self.plan.peer_name} said that it is ready",
                *((judge.in_words(causes, self.plan.ports),) if causes else ()),
            ),
            keep_handover=True,
        )
        self._yield_until = self.now + YIELD_S
        self._do(Send(Kind.GRANT, motive=handover.motive))

    def _end_handover(self, ok: bool, text: str) -> None:
        if self._handover:
            self._do(HandoverEnded(ok, text, self.now - self._handover.started))
            if not ok:
                self._note("handover_failed", "warning", text)
            self._handover = None

    def _move_for_health(self) -> None:
        """A less healthy active hands over at once; equal health never moves the role."""
        if not self.health.causes:
            return
        if (
            self.role is not Role.ACTIVE
            or self._handover
            or not self.peer
            or not self.peer_fresh()
            or self.peer.role is not Role.PASSIVE
            or self.peer.listening
            or self.peer.maintenance
            or not self.brake.allows(self.now)
        ):
            return
        mine = frozenset(self.health.causes) - self.brake.useless
        if judge.healthier(mine, self.peer.causes):
            self._begin_handover(Motive.HEALTH)

    def _both_active(self, beat: Beat) -> None:
        mine = Standing(self._served(), self.term, 0, frozenset(self.health.causes), self.plan.node)
        theirs = Standing.of(beat, self.plan.peer)
        evidence = (
            f"terms: {self.term} here, {beat.term} there",
            f"served clients meanwhile: {'yes' if mine.served else 'no'} here, "
            f"{'yes' if theirs.served else 'no'} there",
        )
        if judge.both_active_winner(mine, theirs) == self.plan.node:
            if self.now - self._both_noted > 1.0:
                self._note("both_active", "critical", "Both gateways were active; this one stays", evidence)
                self._do(Announce())
                self._announce_at = [self.now + delay for delay in ANNOUNCE_AGAIN_S]
            self._both_noted = self.now
            self._send(Kind.BEAT)
        else:
            self._step_down("both gateways were active, and the other one stays", Phase.FOLLOWING, evidence)

    def _step_down(self, why: str, phase: Phase, evidence: tuple[str, ...] = (), keep_handover: bool = False) -> None:
        self._do(Release())
        self.role, self.phase, self.why, self.since = Role.PASSIVE, phase, why, self.now
        self.renewed_at = None
        self._next_renew = NEVER
        self._announce_at = []
        self._out_of_hold = False
        self._burst = self._hold = None
        if not keep_handover:
            self._handover = None
        self._peer_passive_since = None
        self._next_probe = self.now
        self._note("passive", "warning" if not keep_handover else "info", f"Became passive: {why}", evidence)
        if not keep_handover:
            self._send(Kind.BEAT)

    # Passive --------------------------------------------------------------------------------------------

    def _passive_step(self) -> None:
        if self._handover:
            self._handover_step(self._handover)
        if self._burst:
            self._burst_step(self._burst)
            return
        if self._hold:
            self._hold_step(self._hold)
            return
        if self.now >= self._next_probe:
            self._next_probe = self.now + PROBE_EVERY_S
            self._probe_addresses()
        if self.phase is Phase.LISTENING:
            if self.now < self._listen_until:
                return
            self.phase = Phase.FOLLOWING
            if not self.peer_fresh():
                self._begin_burst("the boot hold is over and nobody is heard")
                return
        if not self.peer_fresh():
            if self.phase is Phase.WAITING and self.now < self._wait_until:
                return
            self._begin_burst(self._silence_words())
        elif self._tie_is_ripe():
            self._break_tie()

    def _tie_is_ripe(self) -> bool:
        """Two passives that hear each other, both past their boot hold, with nobody handing over."""
        return (
            self.peer is not None
            and self.peer.role is Role.PASSIVE
            and not self.peer.listening
            and self._peer_passive_since is not None
            and self.now - self._peer_passive_since > 2 * self.plan.timing.interval_s
            and self.now >= self._yield_until
            and self._handover is None
        )

    def _break_tie(self) -> None:
        assert self.peer is not None
        mine = Standing(False, self.term, 0, frozenset(self.health.causes), self.plan.node)
        theirs = Standing.of(self.peer, self.plan.peer)
        if self.maintenance != self.peer.maintenance:
            winner = self.plan.peer if self.maintenance else self.plan.node
        else:
            winner = judge.both_passive_winner(mine, theirs)
        if winner == self.plan.node:
            self._claim(
                "both gateways were passive, and this one goes first",
                (
                    f"health here: {judge.in_words(mine.causes, self.plan.ports)}; there: "
                    f"{judge.in_words(theirs.causes, self.plan.ports)}",
                    f"last terms: {mine.term} here, {theirs.term} there",
                ),
            )

    def _begin_burst(self, reason: str) -> None:
        self._burst = Burst(reason, self.now, next_at=self.now)
        if self.role is Role.PASSIVE and self.phase is not Phase.LISTENING:
            self.phase = Phase.SUSPECTING
        self._burst_step(self._burst)

    def _burst_step(self, burst: Burst) -> None:
        if self.now < burst.next_at:
            return
        timing = self.plan.timing
        if burst.sent < timing.burst_probes:
            burst.sent += 1
            self._send(Kind.PROBE)
            self._probe_addresses()
            last = burst.sent == timing.burst_probes
            burst.next_at = self.now + (self._tail_s() if last else timing.burst_spacing_s)
        else:
            self._burst = None
            self._judge(burst)

    def _tail_s(self) -> float:
        """The burst waits for the worst round trip measured, within bounds."""
        worst = max((path.worst_rtt_s() for path in self.paths.values()), default=0.0)
        return min(max(2 * worst, 0.005), 0.1)

    def _judge(self, burst: Burst) -> None:
        if self._adopting is not None:
            self._adopt(burst)
            return
        if self.phase is Phase.LISTENING:
            return
        cold = not self.peer_was_active
        readings = {name: port.reading(burst.started, cold) for name, port in self.ports.items()}
        gated = self.maintenance or Cause(CauseKind.NO_REFERENCE) in self.health.causes
        verdict = Verdict.CLAIM if not self.plan.peer else judge.judge_silence(list(readings.values()), gated)
        evidence = (
            *self._path_words(burst),
            *(self._reading_words(name, reading, burst) for name, reading in readings.items()),
        )
        silent_for = self.now - max(self.peer_at or self.began, self.began)
        if (
            verdict is Verdict.WAIT
            and silent_for > GATE_LEASES * self.plan.timing.lease_s
            and any(port.carrier for port in self.ports.values())
        ):
            self._claim(
                f"no sign of {self.plan.peer_name} for {silent_for:.1f} s",
                (*evidence, "gates postpone a claim, they do not forbid it"),
            )
        elif verdict is Verdict.CLAIM:
            self._claim(
                f"{self.plan.peer_name or 'the other gateway'} is gone: {burst.reason}"
                if self.plan.peer
                else "it is the only gateway of its cluster",
                evidence,
            )
        elif verdict is Verdict.HOLD:
            self._note(
                "hold",
                "warning",
                f"{self.plan.peer_name}'s heartbeats are gone, but its address answers: somebody alive holds it",
                evidence,
            )
            self._begin_hold()
        else:
            if self.phase is not Phase.WAITING or self._wait_until == float("-inf"):
                self._note(
                    "wait", "warning", f"{self.plan.peer_name} is not heard, but silence proves nothing here", evidence
                )
            self.phase = Phase.WAITING
            self._wait_until = self.now + self.plan.timing.lease_s / 4

    def _adopt(self, burst: Burst) -> None:
        term, self._adopting = self._adopting, None
        assert term is not None
        if self.now < self.start.adopt_until and not (
            self.peer
            and self.peer_at
            and self.peer_at >= burst.started
            and (self.peer.role is Role.ACTIVE or self.peer.term.counter > term.counter)
        ):
            self._claim(
                "the agent was restarted and its lease is still valid",
                (f"no higher term than {term} was heard during a burst of {burst.sent} probes",),
                term,
            )
        else:
            self._do(Release())

    # Hold -----------------------------------------------------------------------------------------------

    def _begin_hold(self) -> None:
        self.phase = Phase.HOLDING
        self._hold = Hold(self.now, max(self._peer_lease_until, self.now), self.now)

    def _hold_step(self, hold: Hold) -> None:
        timing = self.plan.timing
        if self.now < hold.next_probe:
            return
        if self.now - hold.since > ARP_ALONE_LEASES * timing.lease_s and self._ethernet_worked():
            self._hold = None
            self._claim(
                "the address answered for two leases without one authenticated sign of life",
                ("Ethernet heartbeats had worked on that network; an ARP answer alone can be forged",),
                out_of_hold=True,
            )
            return
        readable = [port for port in self.ports.values() if port.carrier]
        silent = bool(readable) and all(port.unanswered >= timing.burst_probes for port in readable)
        if self.now >= hold.expiry and silent:
            since = max((port.answered_at or 0.0) for port in readable)
            self._hold = None
            self._claim(
                f"{self.plan.peer_name}'s lease ended and its address stopped answering",
                (
                    f"heartbeats gone for {self.now - (self.peer_at or self.began):.1f} s",
                    f"{timing.burst_probes} probes unanswered since {(self.now - since) * 1000:.0f} ms ago",
                ),
                out_of_hold=True,
            )
            return
        self._send(Kind.PROBE)
        self._probe_addresses()
        near = 0 <= self.now - hold.expiry < 0.1
        doubt = any(port.unanswered > 1 for port in readable)
        last = all(port.unanswered >= timing.burst_probes for port in readable)
        if self.now < hold.expiry:
            hold.next_probe = min(self.now + HOLD_PROBE_EVERY_S, max(hold.expiry, self.now + 0.01))
        elif last:
            hold.next_probe = self.now + self._tail_s()
        else:
            hold.next_probe = self.now + (timing.burst_spacing_s if near or doubt else HOLD_PROBE_EVERY_S)

    def _ethernet_worked(self) -> bool:
        return any(
            evidence.both_ways_at is not None and evidence.both_ways_at >= evidence.carrier_since
            for evidence in self.ports.values()
        )

    # Shared ---------------------------------------------------------------------------------------------

    def _claim(self, why: str, evidence: tuple[str, ...], term: Term | None = None, out_of_hold: bool = False) -> None:
        seen = max(self.term.counter, self.peer.term.counter if self.peer else 0)
        if term is None:
            self._next_term = max(self._next_term, seen + 1)
            term = Term(self._next_term, self.plan.node)
            self._next_term += 1
        self.role, self.phase, self.term, self.why, self.since = Role.ACTIVE, Phase.LEADING, term, why, self.now
        self._burst = self._hold = self._handover = None
        self._out_of_hold = out_of_hold
        self._served_since = self.now
        self.renewed_at = None
        self._next_renew = self.now + self.plan.timing.renew_s
        self._announce_at = [self.now + delay for delay in ANNOUNCE_AGAIN_S]
        self._do(Claim(term))
        self._send(Kind.BEAT)
        self._note("active", "info", f"Became active in term {term}: {why}", evidence)
        if term.counter > self._reserved_to:
            self._note("term_not_on_disk", "critical", f"Term {term} could not be written to disk beforehand")
        self._watch_terms(term)

    def _watch_terms(self, term: Term) -> None:
        """Keep a stock of counters on disk, above all that were seen."""
        needed = max(self._next_term, term.counter + 1)
        if needed + TERMS_LOW > self._reserving:
            self._reserving = needed + TERM_BLOCK
            self._do(ReserveTerms(self._reserving))

    def _end_doubt(self, path: str) -> None:
        """Any authenticated message ends a suspicion, a hold, and a wait."""
        if self._burst and self._adopting is None:
            self._burst = None
        if self._hold:
            self._hold = None
            self._note("hold_ended", "info", f"{self.plan.peer_name} is heard again on {path}")
        if self.role is Role.PASSIVE and self.phase in (Phase.SUSPECTING, Phase.HOLDING, Phase.WAITING):
            self.phase = Phase.FOLLOWING
            self._wait_until = float("-inf")

    def _watch_health(self) -> None:
        """Recompute what this node sees for itself."""
        for index, port in enumerate(self.ports.values()):
            no_carrier = Cause(CauseKind.NO_CARRIER, index)
            unproven = no_carrier in self.health.causes and not port.forwards()
            self.health.report(no_carrier, not port.carrier or unproven, self.now)
            told = (
                self.role is Role.ACTIVE
                and self.peer is not None
                and self.peer_fresh()
                and index < len(self.peer.ports)
                and self.peer.ports[index].unseen
            )
            self.health.report(Cause(CauseKind.UNSEEN, index), told, self.now)
        gone = self.brake.useless - frozenset(self.health.causes)
        if gone and self.role is Role.ACTIVE and self.now - self.since > 10:
            self.brake.useless -= gone
        self._move_for_health()

    def _unseen(self, port: PortEvidence) -> bool:
        """Rule 1: the active is heard, says that it holds the address, and yet nobody answers where others are.

        On a lossy network probes fail in a row by chance, but Ethernet heartbeats still come through.
        """
        alive_here = port.ethernet_at is not None and self.now - port.ethernet_at < self.plan.timing.path_down_s
        return (
            self.role is Role.PASSIVE
            and self.peer is not None
            and self.peer.role is Role.ACTIVE
            and self.peer_fresh()
            and port.carrier
            and port.strangers(self.now)
            and port.unanswered > (UNSEEN_PROBES_ALIVE if alive_here else UNSEEN_PROBES)
        )

    def _served(self) -> bool:
        return any(
            port.stranger_at is not None and port.stranger_at >= self._served_since for port in self.ports.values()
        )

    def peer_fresh(self) -> bool:
        """Return whether the peer was heard on any path within the time that starts a suspicion."""
        return self.peer_at is not None and self.now - self.peer_at < self.plan.timing.suspect_s

    def peer_mac(self, name: str) -> bytes:
        index = self.plan.ports.index(name)
        if self.peer and index < len(self.peer.ports):
            return self.peer.ports[index].mac
        return b""

    def _probe_addresses(self) -> None:
        for port in self.ports.values():
            if port.carrier:
                port.probed(self.now)
        self._do(ProbeAddresses())

    def _silence_words(self) -> str:
        if self.peer_at is None:
            return "it was never heard"
        return f"silent on all paths for {(self.now - self.peer_at) * 1000:.0f} ms"

    def _path_words(self, burst: Burst) -> list[str]:
        return [f"{burst.sent} of {burst.sent} probes unanswered on {name}" for name in self.paths]

    def _reading_words(self, name: str, reading: Reading, burst: Burst) -> str:
        address = next((a for p, a in zip(self.plan.ports, self.plan.addresses, strict=False) if p == name), "")
        return {
            Reading.NO_CARRIER: f"{name} has no carrier",
            Reading.ANSWERED: f"{address} answers on {name}",
            Reading.SILENT: f"{address} silent on {name} for {(self.now - burst.started) * 1000:.0f} ms",
            Reading.BLIND: f"{name} is blind: nothing was seen there that would make silence a proof",
        }[reading]

    def _kept_path(self, name: str) -> PathEvidence | None:
        return self.paths.get(name)

    def _send(self, kind: Kind) -> None:
        self._do(Send(kind))

    def _note(self, kind: str, severity: Severity, text: str, evidence: tuple[str, ...] = ()) -> None:
        self._do(Note(kind, severity, text, evidence))

    def _do(self, effect: Effect) -> None:
        self._out.append(effect)

    def _drain(self) -> list[Effect]:
        out, self._out = self._out, []
        return out

    def _advance(self, now: float) -> None:
        self.now = max(self.now, now)
