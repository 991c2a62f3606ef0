"""The decision core: one gateway's brain, without sockets, clock, threads, disk or randomness.

``handle(event, now)`` and ``wake(now)`` return effects, to be carried out in their order; ``deadline()`` says when
to wake it next. What the two roles do stands in :mod:`.active` and :mod:`.passive`; the tables by which they
decide between two gateways stand in :mod:`.judge`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .active import Active
from .arbiter import Arbiter
from .data import Data
from .events import (
    AddressSeen,
    Announce,
    ArbiterAnswered,
    Carrier,
    ClaimFailed,
    CloneHeard,
    DataKept,
    DataPromoted,
    DataYielded,
    Effect,
    Event,
    FailoverRequested,
    FollowerSeen,
    HealthReport,
    Heard,
    MaintenanceSet,
    NotAsked,
    Note,
    ProbeAddresses,
    Release,
    Renewed,
    RestartRequested,
    ReturnBlocked,
    Send,
    ServicesReady,
    SettingsExpected,
    Severity,
    StrangerSeen,
    SynchronousSet,
    TakeOverRequested,
    TermsReserved,
)
from .evidence import PathEvidence, PortEvidence
from .health import Health, MoveBrake
from .lan import Lan
from .model import (
    JUST_STARTED,
    NEVER,
    NO_TERM,
    Beat,
    CauseKind,
    Kind,
    Motive,
    Phase,
    Plan,
    PortReport,
    Role,
    Start,
    Term,
)
from .passive import Passive
from .preference import Preference
from .restart import Restart, told_lease_s
from .services import Services
from .stalls import Stalls
from .terms import Terms

#: With so many paths and all of them at work, each heartbeat goes over half of them in turn: a third of the
#: agent's processor time less (measured), and still two independent ways for each heartbeat.
SPREAD_PATHS = 4
#: A clone of this gateway keeps it from claiming this long after it was last proven to be alive, s (rule 16).
CLONE_HEARD_S = 5.0
#: A gateway without a counter for another reign says so, and asks again after this time, s.
CLAIM_AGAIN_S = 60.0


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
    why: str = JUST_STARTED
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
        self.served_since = self.began
        self.peer_was_active = False
        self.peer_synchronous: bool | None = None  #: what an active peer said last; None: never
        self.behind = self.plan.data and self.start.behind  #: the data may be older than the other gateway's
        self.data = Data(self)
        self.services = Services(self)
        self.lan = Lan(self)
        self.stalls = Stalls(self)
        self.restart = Restart(self)
        self.preference = Preference(self)
        self.arbiter = Arbiter(self)
        self.active = Active(self)
        self.passive = Passive(self, self.began + self.start.hold_s, self.start.adopt)
        self.terms = Terms(self)
        self._next_beat = self.began
        self.contact_since = -NEVER  #: since when the peer has been heard without a long silence
        self._beats = 0
        self.beats_now = False  #: a heartbeat is sent in this very call of :meth:`wake`
        self._peer_asked_at = self._clone_at = -NEVER
        self._out: list[Effect] = []
        #: revisions of the settings with the same ports and addresses as those in force
        self.alike = {self.plan.revision}
        self.replan(self.plan, self.began)
        if self.start.claim:
            self.claim("this gateway has just created the cluster", ())
        elif self.start.adopt is not None:
            self.passive.begin_burst("the agent was restarted while its addresses are still leased")

    # What the agent calls -------------------------------------------------------------------------------

    def replan(self, plan: Plan, now: float) -> None:
        """Take changed settings; evidence of paths and ports that stay is kept, that of a former peer is not."""
        former, self.plan, self.now = self.plan, plan, now
        self.stalls.settings_are_here()
        if (former.preferred, former.preferred_delay_s) != (plan.preferred, plan.preferred_delay_s):
            self.preference.changed()
        if former.peer != plan.peer:
            self._forget_peer()
        self.paths = {path.name: self.paths.get(path.name) or PathEvidence(path) for path in plan.paths}
        for path in plan.paths:
            self.paths[path.name].path = path
        self.ports = {name: self.ports.get(name) or PortEvidence(name, carrier_since=now) for name in plan.ports}
        if former.ports != plan.ports:  # causes name ports by their index
            self.health.forget((CauseKind.NO_CARRIER, CauseKind.UNSEEN))
        if (former.ports, former.addresses) == (plan.ports, plan.addresses):
            self.alike.add(plan.revision)
        else:
            self.alike = {plan.revision}
            self.count_probes_anew()
            if (burst := self.passive.burst) is not None:  # it has asked for other addresses
                burst.sent, burst.started, burst.next_at = 0, now, now
        self.active.next_renew = min(self.active.next_renew, now + plan.timing.renew_s)
        self._next_beat = min(self._next_beat, now + plan.timing.interval_s)

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Take one event and return what to do about it."""
        if self.restart.over:
            return []
        self._advance(now)
        match event:
            case Heard():
                self._heard(event)
            case AddressSeen():
                self.lan.address_seen(event)
            case StrangerSeen():
                self.lan.stranger(event)
            case CloneHeard():
                self._clone_heard(event)
            case NotAsked():
                if port := self.ports.get(event.port):
                    port.not_asked(now)
            case Carrier():
                self.lan.carrier(event)
            case Renewed():
                self.active.renewed(event)
            case HealthReport():
                self.health.report(event.cause, event.bad, now)
                self.active.move_for_health()
            case ClaimFailed():
                self.active.claim_failed(event)
            case FailoverRequested():
                self.active.failover(event)
            case TakeOverRequested():
                self.passive.take_over(event)
            case ReturnBlocked():
                self.preference.blocked = event.why
            case SettingsExpected():
                self.stalls.expect_settings()
            case RestartRequested():
                self.restart.begin(event)
            case DataKept():
                self.restart.data_kept(event)
            case MaintenanceSet():
                self._maintenance_set(event)
            case DataPromoted():
                self.data.promoted(event)
            case DataYielded():
                self.data.yielded(event)
            case FollowerSeen():
                self.data.follower_seen(event)
            case SynchronousSet():
                self.data.synchronous_set(event.on)
            case ServicesReady():
                self.services.ready(event)
            case ArbiterAnswered():
                self.arbiter.answered(event)
            case TermsReserved():
                self.terms.reserved(event)
        return self._drain()

    def wake(self, now: float) -> list[Effect]:
        """Do what is due. Call it at :meth:`deadline`, and after each batch of events."""
        if self.restart.over:
            return []
        self._advance(now)
        self.beats_now = now >= self._next_beat
        self.arbiter.step()
        if self.beats_now:
            self._next_beat = max(self._next_beat + self.plan.timing.interval_s, now)
            self.lan.watch_health()
            self.active.watch_health()
            self.preference.step()
            self.active.renew_before_beat()
            self._beats += 1
            self.do(Send(Kind.BEAT, self._beat_paths()))
        self.data.step()
        self.services.step()
        self.restart.step()
        if self.active.handover:
            self.active.handover_step(self.active.handover)
        if self.role is Role.ACTIVE:
            self.active.step()
        else:
            self.passive.step()
        return self._drain()

    def deadline(self) -> float:
        """Return the boot time at which :meth:`wake` must be called at the latest, s."""
        role: Active | Passive = self.active if self.role is Role.ACTIVE else self.passive
        handover = self.active.handover
        if self.restart.over:
            return NEVER
        handover_at = handover.next_at if handover else NEVER
        others = (self.data.deadline(), self.services.deadline(), self.restart.deadline(), self.arbiter.deadline())
        return min(self._next_beat, role.deadline(), handover_at, *others)

    def ran_late(self, gap_s: float, now: float) -> list[Effect]:
        """The loop woke much later than it asked for (frozen, starved, suspended): trust no timer, listen again.

        A lease that is still valid is kept (rule 17); one that has lapsed is never renewed (rule 11).
        """
        if self.restart.over:
            return []
        self._advance(now)
        timing = self.plan.timing
        self.passive.burst = self.passive.hold = self.passive.granted = None
        self.active.end_handover(False, "This gateway's agent stood still during the hand-over")
        self.note(
            "late",
            "warning",
            f"This gateway's agent stood still for {gap_s * 1000:.0f} ms",
            ("it trusts none of its timers and listens first",),
        )
        if self.role is Role.ACTIVE:
            if self.renewed_at is None or now - self.renewed_at > timing.lease_s:
                self.step_down("its lease lapsed while its agent stood still", Phase.LISTENING)
                self.passive.listen_until = now + max(3 * timing.interval_s, timing.lease_s / 2)
        else:
            self.phase = Phase.LISTENING
            self.passive.listen_until = max(self.passive.listen_until, now + 3 * timing.interval_s)
        self.passive.peer_passive_since = None
        self._next_beat = self.passive.next_probe = now
        return self._drain()

    def beat(self, kind: Kind, motive: Motive = Motive.REQUEST) -> Beat:
        """Return the content of the next message; MACs and Ethernet are the transport's to fill in."""
        holds = self.role is Role.ACTIVE and self.renewed_at is not None
        left_s = self.restart.told_left_s(kind, self.renewed_at if holds else None)
        return Beat(
            kind=kind,
            role=self.role,
            term=self.term,
            motive=Motive.RESTART if self.restart.agreed else motive,
            listening=self.phase is Phase.LISTENING,
            maintenance=self.maintenance,
            served=self.role is Role.ACTIVE and self.served(),
            synchronous=self.data.confirms(),
            spread=kind is Kind.BEAT and bool(self._beat_paths()),
            lease_left_ms=int(left_s * 1000),
            position=int(not self.behind),
            revision=self.plan.revision,
            arbiter=self.arbiter.use,
            causes=frozenset(self.health.causes),
            ports=tuple(
                PortReport(
                    mac=b"\0" * 6,
                    carrier=port.carrier,
                    holds=holds,
                    strangers=port.strangers(self.now),
                    peer_seen=port.ethernet_at is not None
                    and self.now - port.ethernet_at < self.plan.timing.path_down_s,
                    unseen=self.role is Role.PASSIVE and self.passive.unseen(port),
                )
                for port in self.ports.values()
            ),
        )

    # Events ---------------------------------------------------------------------------------------------

    def _heard(self, event: Heard) -> None:
        beat, path = event.beat, self.paths.get(event.path)
        if path is None:
            return
        if path.silent_s(self.now) > self.plan.timing.path_down_s:
            path.beats.clear()  # an absence is told as such, not as loss
        path.heard(self.now, event.rtt_s, (2 if beat.spread else 1) if beat.kind is Kind.BEAT else 0)
        if path.path.kind == "ethernet":
            self.lan.heard(path.path.port, beat)
        if self.peer_at is not None and self.peer and beat.role is Role.ACTIVE and beat.term == self.peer.term:
            self.stalls.watch(self.now - self.peer_at)
        if self.peer_at is None or self.now - self.peer_at > self.plan.timing.path_down_s / 2:
            self.contact_since = self.now
        self.peer_at = self.now
        self.arbiter.heard(beat.kind, event.echo_at)
        if beat.kind is Kind.PROBE:
            self._peer_asked_at = self.now
            self.do(Send(Kind.ANSWER, (event.path,)))
        if event.stale:
            return
        if beat.kind is Kind.BEAT:
            self._keep_step()
        before, self.peer = self.peer, beat
        if beat.revision not in self.alike:  # it has other addresses, or they are being changed: it may not answer ours
            self.count_probes_anew()
        if self.peer_lost:
            self.peer_lost = False
            self.note("peer_back", "info", f"{self.plan.peer_name} is heard again on {event.path}")
            if self.role is Role.ACTIVE:
                self.do(Announce())  # every regained contact is announced (keepalived #166)
        if self.restart.heard(beat):
            return  # a goodbye, and no sign that it goes on
        self.passive.end_doubt(event.path)
        self.terms.watch(beat.term)
        if beat.role is Role.ACTIVE:
            self.peer_was_active = True
            self.peer_synchronous = beat.synchronous
            if self.role is Role.PASSIVE:
                knew, self.behind = self.behind, self.plan.data and not beat.synchronous
                if self.behind and not knew:
                    self.send(Kind.BEAT)  # the active gateway's commits wait for it to be known
                self.data.degraded_since = None
            self.passive.peer_passive_since = None
            self.passive.peer_lease_until = self.now + told_lease_s(beat)
        elif self.phase is Phase.LISTENING:
            self.passive.peer_passive_since = None  # this one may not go first yet
        elif (
            self.passive.peer_passive_since is None
            or before is None
            or (before.role, before.listening) != (beat.role, beat.listening)
        ):
            self.passive.peer_passive_since = self.now
        if self.role is Role.ACTIVE:
            self.data.go_on_alone()
            self.active.heard(beat)
        else:
            self.passive.heard(beat)

    def _clone_heard(self, event: CloneHeard) -> None:
        first, self._clone_at = not self.clone_near(), self.now
        if first:
            self.note(
                "clone_alive",
                "critical",
                "Another machine with this gateway's identity is alive",
                (
                    f"it answered this gateway's challenge on {event.path}",
                    "this gateway claims nothing while it is heard; an active one goes on",
                ),
            )

    def clone_near(self) -> bool:
        """Return whether a clone has lately been proven to be alive: who claims then may not be alone."""
        return self.now - self._clone_at < CLONE_HEARD_S

    def _maintenance_set(self, event: MaintenanceSet) -> None:
        if self.maintenance != event.on:
            self.maintenance = event.on
            self.note("maintenance", "info", "Maintenance has begun" if event.on else "Maintenance has ended")
            self.send(Kind.BEAT)

    # What the roles do ----------------------------------------------------------------------------------

    def step_down(self, why: str, phase: Phase, evidence: tuple[str, ...] = (), keep_handover: bool = False) -> None:
        self.do(Release())
        self.data.end()
        self.services.end()
        self.arbiter.leave()
        self.role, self.phase, self.why, self.since = Role.PASSIVE, phase, why, self.now
        self.renewed_at = None
        self.active.next_renew = NEVER
        self.active.announce_at = []
        self.active.out_of_hold = False
        self.passive.burst = self.passive.hold = None
        self.passive.wait_told = False
        if not keep_handover:
            self.active.end_handover(False, f"This gateway became passive: {why}")
        self.passive.peer_passive_since = None
        self.passive.next_probe = self.now
        self.count_probes_anew()
        self.note("passive", "warning" if not keep_handover else "info", f"Became passive: {why}", evidence)
        if not keep_handover:
            self.send(Kind.BEAT)

    def count_probes_anew(self) -> None:
        """What was unanswered before says nothing of the peer as it is now."""
        for port in self.ports.values():
            port.unanswered = 0

    def claim(
        self, why: str, evidence: tuple[str, ...], term: Term | None = None, out_of_hold: bool = False,
        released: bool = False, motive: Motive | None = None,
    ) -> None:
        """Become active.

        :param motive: why the other gateway has handed the role over, if it has.
        :param released: the other gateway has passed the role on, after it had ended what belongs to it.
        """
        if term is None:
            if self.terms.used_up():
                self._refuse_claim()
                return
            term = self.terms.take()
        self.role, self.phase, self.term, self.why, self.since = Role.ACTIVE, Phase.LEADING, term, why, self.now
        self.passive.burst = self.passive.hold = self.passive.granted = None
        self.active.end_handover(False, f"This gateway became active again: {why}")
        self.active.out_of_hold = out_of_hold
        # A hold lasts a whole lease: longer than anything outlives its agent.
        self.services.released = released or out_of_hold or not self.plan.peer
        self.served_since = self.now
        self.renewed_at = None
        if term != self.start.adopt:
            self.preference.begin(motive)
        self.data.begin(term)
        self.active.claimed()
        self.send(Kind.BEAT)
        self.note("active", "info", f"Became active in term {term}: {why}", evidence)
        if not self.terms.on_disk(term):
            self.note("term_not_on_disk", "critical", f"Term {term} could not be written to disk beforehand")
        self.terms.watch(term)

    def _refuse_claim(self) -> None:
        """No counter is left for another reign: one that is used twice could undo a later reign."""
        self.note(
            "terms_used_up", "critical", "This gateway cannot become active: the numbers of reigns are used up",
            ("take both gateways out of the cluster and form it anew: the numbers begin anew then",),
        )  # fmt: skip
        self.phase = Phase.WAITING
        self.passive.burst = self.passive.hold = self.passive.granted = None
        self.passive.wait_until = self.passive.yield_until = self.now + CLAIM_AGAIN_S

    def _forget_peer(self) -> None:
        """Drop all that is known of a former peer but its term: terms only grow."""
        if self.peer is not None:
            self.terms.above(self.peer.term.counter)
        self.peer, self.peer_at, self.peer_lost, self.peer_was_active = None, None, False, False
        self.peer_synchronous, self.behind = None, False
        self.data.forget_peer()
        self.restart.peer_until = -NEVER
        self.paths.clear()
        for port in self.ports.values():
            port.forget_peer()
        self.arbiter.forget_peer()
        self.active.end_handover(False, "The other gateway has left the cluster")
        self.passive.forget_peer()

    def _keep_step(self) -> None:
        """Send our heartbeat together with the peer's if it is due soon: one waking up for both.

        An agent's processor time is that of waking up, ten times what it does then (measured). The next one comes a
        little early, so that the two go first in turn: who goes first wakes up twice.
        """
        interval_s = self.plan.timing.interval_s
        if self._next_beat - self.now < interval_s / 2:
            self._next_beat = self.now - interval_s / 100

    def _beat_paths(self) -> tuple[str, ...]:
        """Return the paths of the present heartbeat: half of them in turn while each is heard, else all (empty).

        A peer that asks by probes misses ours: then it gets every heartbeat on every path.
        """
        quiet_s = self.plan.timing.path_down_s
        if (
            len(self.paths) < SPREAD_PATHS
            or self.now - self._peer_asked_at < quiet_s
            or any(path.silent_s(self.now) > quiet_s for path in self.paths.values())
        ):
            return ()
        return tuple(self.paths)[self._beats % 2 :: 2]

    def leading(self) -> bool:
        return self.role is Role.ACTIVE

    def served(self) -> bool:
        return any(
            port.stranger_at is not None and port.stranger_at >= self.served_since for port in self.ports.values()
        )

    def peer_fresh(self) -> bool:
        """Return whether the peer was heard on any path within the time that starts a suspicion."""
        return self.peer_at is not None and self.now - self.peer_at < self.plan.timing.suspect_s

    def peer_mac(self, name: str) -> bytes:
        """Return the other gateway's MAC on a port: as it signed it, or as it was last known; b"" if never."""
        index = self.plan.ports.index(name)
        if index < len(reports := self.peer_ports()):
            return reports[index].mac
        return self.plan.peer_macs[index] if index < len(self.plan.peer_macs) else b""

    def peer_ports(self) -> tuple[PortReport, ...]:
        """Return what the peer last said of the ports, by their index; nothing if it has other ports or addresses."""
        return self.peer.ports if self.peer and self.peer.revision in self.alike else ()

    def probe_addresses(self) -> None:
        for port in self.ports.values():
            if port.carrier:
                port.probed(self.now)
        self.do(ProbeAddresses())

    def silence_words(self) -> str:
        if self.peer_at is None:
            return "it was never heard"
        return f"silent on all paths for {(self.now - self.peer_at) * 1000:.0f} ms"

    def send(self, kind: Kind) -> None:
        self.do(Send(kind))

    def note(self, kind: str, severity: Severity, text: str, evidence: tuple[str, ...] = ()) -> None:
        self.do(Note(kind, severity, text, evidence))

    def do(self, effect: Effect) -> None:
        self._out.append(effect)

    def _drain(self) -> list[Effect]:
        out, self._out = self._out, []
        return out

    def _advance(self, now: float) -> None:
        self.now = max(self.now, now)
