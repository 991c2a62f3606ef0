"""The passive role: listen, suspect, confirm by a burst, hold, wait, claim."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import judge
from .active import GRANTED_WORDS, HANDOVER_MOST_S
from .events import HandoverEnded, Release, Send, TakeOverRequested
from .evidence import UNSEEN_PROBES, UNSEEN_PROBES_ALIVE, PortEvidence, Reading
from .health import network_causes
from .judge import Standing, Verdict
from .model import EXPIRY_LATE_S, JUST_STARTED, NEVER, Beat, Cause, CauseKind, Kind, Motive, Phase, Role, Term

if TYPE_CHECKING:
    from .core import Core

#: The passive asks for the virtual IPs this often, always, s (rule 1).
PROBE_EVERY_S = 0.5
#: In hold it asks this often, s: ARP inspection disables a port at 15 packets a second (rule 12). In the one second
#: around the end of a lease it asks up to 18 times, if the kernel is at its latest: 36 frames with two addresses on
#: one port. Slower would be a longer outage; docs/deciding.md says what such a switch needs.
HOLD_PROBE_EVERY_S = 0.5
#: While it waits, its bursts come so seldom that it asks at most this often a second: with two addresses on one port
#: these are 10 frames.
WAIT_PROBES_PER_S = 5
#: While the kernel may be late to end the lease it asks more often, s.
EXPIRY_PROBE_EVERY_S = 0.045
#: An address that answered this shortly before a hold counts as seen in it, s.
SEEN_BEFORE_S = 1.0
#: Until a machine that may only stand still counts as gone it asks this often, s.
STALL_PROBE_EVERY_S = 0.2
#: Bounds of the time that the last probe of a burst is given, s.
TAIL_LEAST_S, TAIL_MOST_S = 0.005, 0.1
#: Without any sign of the peer for this many leases, gates open (rule 7).
GATE_LEASES = 3
#: Of two passives the one that should go first may be unable to (its kernel refuses): the other waits this long, s.
TIE_PATIENCE_S = 2.0
#: Who reads the answers to a burst this late asks once more, s: meanwhile its own port may have come back.
ANSWERS_STALE_S = 0.1
#: Where Ethernet heartbeats worked, ARP alone holds for at most this many leases (rule 3).
ARP_ALONE_LEASES = 2
FORGEABLE = "the address answered for two leases without one authenticated sign of life"
#: Why a gateway that has a clone claims nothing.
CLONE_WORDS = "another machine with this gateway's identity is alive and could claim as well"


@dataclass
class Burst:
    """Direct probes on every path and of every address, a few milliseconds apart."""

    reason: str
    started: float
    sure: bool = False  #: a carrier is gone, or the peer said goodbye: no stall of its machine
    heard: bool = False  #: the peer is heard, and says that it has nothing: its kernel is asked
    anew: bool = False  #: this is the second one: the answers to the first were read late
    sent: int = 0
    next_at: float = 0.0


@dataclass
class Hold:
    """The peer's heartbeats are gone, its kernel still answers."""

    since: float
    expiry: float
    next_probe: float
    probed_at: float = -NEVER


class Passive:
    """What a passive gateway does.

    :param core: the brain whose role this is.
    :param listen_until: end of the boot hold, boot time in s.
    :param adopting: the term to go on with, if this agent was restarted within its lease.
    """

    def __init__(self, core: Core, listen_until: float, adopting: Term | None) -> None:
        self.core = core
        self.listen_until = self.boot_until = listen_until
        self.adopting = adopting
        self.burst: Burst | None = None
        self.hold: Hold | None = None
        self.next_probe = core.began
        self.peer_lease_until = core.began
        #: since when both are passive and past their boot hold, boot time in s
        self.peer_passive_since: float | None = None
        self.granted: Beat | None = None
        self.yield_until = self.ready_until = self.wait_until = -NEVER
        self.ask_listener_at = -NEVER  #: when the kernel of one that listens is asked again, boot time in s
        self.wait_told = False  #: that it waits has been told, in the present doubt

    def deadline(self) -> float:
        """Return when the next probe, the end of a burst step, or a suspicion is due, s."""
        core = self.core
        if self.granted:
            return core.now
        if self.burst:
            return self.burst.next_at
        if self.hold:
            return self.hold.next_probe
        if core.phase is Phase.LISTENING:
            return min(self.next_probe, self.hold_ends())
        if core.plan.peer and core.peer_at is not None and core.phase is Phase.FOLLOWING:
            return min(self.next_probe, core.peer_at + core.plan.timing.suspect_s)
        return self.next_probe

    def hold_ends(self) -> float:
        """Return when this gateway has listened long enough, boot time in s; NEVER if only the other one ends it.

        One that comes up alone after the other one wrote waits longer: its data may be older, and the other one may
        come up, too.
        """
        if self.waits_for_data():
            return max(self.listen_until, self.boot_until + self.core.plan.timing.stale_wait_s)
        return self.listen_until

    def waits_for_data(self) -> bool:
        """Return whether this gateway has just started, alone, and may have older data than the other one."""
        core = self.core
        return (
            core.phase is Phase.LISTENING
            and core.start.followed
            and core.behind
            and bool(core.plan.peer)
            and not core.peer_fresh()
        )

    def heard(self, beat: Beat) -> None:
        core = self.core
        if beat.role is Role.ACTIVE:
            self.granted = None
            if core.active.handover and core.active.handover.granted:
                core.active.end_handover(True, f"{core.plan.peer_name} is active")
            if self.burst and self.burst.heard:
                self.burst = None
            if self.adopting is not None:
                self.adopting = None
                core.do(Release())
                core.data.end()
            if core.phase not in (Phase.LISTENING, Phase.FOLLOWING):
                core.phase = Phase.FOLLOWING
            if core.why == JUST_STARTED:
                core.why = f"{core.plan.peer_name} was active already"
        if beat.kind is Kind.OFFER:
            self._answer_offer(beat)
        elif beat.kind is Kind.GRANT and core.now < self.ready_until and beat.role is Role.PASSIVE:
            self.ready_until = -NEVER
            self.granted = beat  # used once all that has come in is read: it may have been taken back since
        elif beat.kind is Kind.BYE and beat.role is Role.ACTIVE and core.phase is Phase.FOLLOWING:
            self.begin_burst(f"{core.plan.peer_name} said that its agent stops", sure=True)

    def _take(self, grant: Beat) -> None:
        core = self.core
        self.granted = None
        if grant.motive is Motive.HEALTH:
            core.brake.moved(core.now, network_causes(grant.causes))
        elif grant.motive is not Motive.PREFERRED:
            core.brake.release()
        core.claim(
            GRANTED_WORDS[grant.motive],
            (
                f"{core.plan.peer_name} released the addresses and passed term {grant.term}",
                *((f"its health: {judge.in_words(grant.causes, core.plan)}",) if grant.causes else ()),
            ),
            released=True,
            motive=grant.motive,
        )

    def _answer_offer(self, beat: Beat) -> None:
        core = self.core
        if beat.motive is Motive.RESTART:  # it is not asked to take over, but to wait
            core.do(Send(Kind.READY, motive=Motive.RESTART))
            return
        reason = judge.why_not_ready(
            beat.motive,
            frozenset(core.health.causes),
            beat.causes,
            core.phase is Phase.LISTENING,
            core.maintenance,
            core.role,
            any(port.carrier for port in core.ports.values()),
        )
        if core.clone_near():
            reason = "another machine uses its identity"
        elif core.terms.used_up():
            reason = "the numbers of reigns are used up"
        if not reason:
            self.ready_until = core.now + HANDOVER_MOST_S
        core.do(Send(Kind.NOT_READY if reason else Kind.READY, motive=beat.motive))

    def step(self) -> None:
        core = self.core
        if self.granted:
            self._take(self.granted)
            return
        if self.burst:
            self._burst_step(self.burst)
            return
        if self.hold:
            self._hold_step(self.hold)
            return
        if core.now >= self.next_probe - (PROBE_EVERY_S / 4 if core.beats_now else 0):
            self.next_probe = core.now + PROBE_EVERY_S
            if core.phase is not Phase.WAITING:  # there the bursts ask
                core.probe_addresses()
        if core.phase is Phase.LISTENING:
            if core.now < self.hold_ends():
                return
            core.phase = Phase.FOLLOWING
            if not core.peer_fresh():
                self.begin_burst("the boot hold is over and nobody is heard")
                return
        if not core.peer_fresh():
            if core.phase is Phase.WAITING and core.now < self.wait_until:
                return
            self.begin_burst(core.silence_words())
        elif self._tie_is_ripe():
            self._break_tie()

    def _tie_is_ripe(self) -> bool:
        """Two passives that hear each other, this one past its boot hold, with nobody handing over."""
        core = self.core
        return (
            core.peer is not None
            and core.peer.role is Role.PASSIVE
            and self.peer_passive_since is not None
            and core.now - self.peer_passive_since > 2 * core.plan.timing.interval_s
            and core.now >= self.yield_until
            and core.active.handover is None
            and not core.clone_near()
        )

    def _break_tie(self) -> None:
        core = self.core
        assert core.peer is not None
        causes = frozenset(core.health.causes)
        mine = Standing(False, core.term, int(not core.behind), causes, core.plan.node, core.maintenance)
        theirs = Standing.of(core.peer, core.plan.peer)
        if core.peer.listening:
            if core.now >= self.ask_listener_at and judge.goes_before_a_listener(mine, theirs):
                self.begin_burst(f"{core.plan.peer_name} has just started, and listens", sure=True, heard=True)
            return
        winner = judge.both_passive_winner(mine, theirs)
        assert self.peer_passive_since is not None
        waited_s = core.now - self.peer_passive_since
        if winner == core.plan.node or waited_s > TIE_PATIENCE_S + 4 * core.plan.timing.interval_s:
            core.claim(
                "both gateways were passive, and this one goes first"
                if winner == core.plan.node
                else f"both gateways were passive, and {core.plan.peer_name} did not go first within {waited_s:.1f} s",
                (
                    f"health here: {judge.in_words(mine.causes, core.plan)}; there: "
                    f"{judge.in_words(theirs.causes, core.plan)}",
                    f"last terms: {mine.term} here, {theirs.term} there",
                ),
            )

    def begin_burst(self, reason: str, sure: bool = False, heard: bool = False, anew: bool = False) -> None:
        core = self.core
        self.burst = Burst(reason, core.now, sure, heard, anew, next_at=core.now)
        if core.role is Role.PASSIVE and core.phase not in (Phase.LISTENING, Phase.WAITING):
            core.phase = Phase.SUSPECTING
        self._burst_step(self.burst)

    def _burst_step(self, burst: Burst) -> None:
        core = self.core
        if core.now < burst.next_at:
            return
        timing = core.plan.timing
        if burst.sent < timing.burst_probes:
            burst.sent += 1
            core.send(Kind.PROBE)
            core.probe_addresses()
            last = burst.sent == timing.burst_probes
            burst.next_at = core.now + (self._tail_s() if last else timing.burst_spacing_s)
        elif not burst.sure and core.peer_at is not None and core.now < core.peer_at + core.stalls.dead_time_s():
            burst.sent += 1
            core.send(Kind.PROBE)
            core.probe_addresses()
            burst.next_at = min(core.now + STALL_PROBE_EVERY_S, core.peer_at + core.stalls.dead_time_s())
        elif core.now > burst.next_at + ANSWERS_STALE_S and not burst.anew:
            self.begin_burst(burst.reason, burst.sure, burst.heard, anew=True)
        else:
            self.burst = None
            self._judge(burst)

    def _tail_s(self) -> float:
        """The last probe of a burst is given twice the usual round trip of the slowest path, within bounds."""
        slowest = max((path.usual_rtt_s() for path in self.core.paths.values()), default=0.0)
        return min(max(2 * slowest, TAIL_LEAST_S), TAIL_MOST_S)

    def _judge(self, burst: Burst) -> None:
        core, timing = self.core, self.core.plan.timing
        if self.adopting is not None:
            self._adopt(burst)
            return
        if core.phase is Phase.LISTENING:
            return
        cold = not core.peer_was_active
        readings = {name: port.reading(burst.started, cold, core.peer_at) for name, port in core.ports.items()}
        if burst.heard:
            self._judge_listener(burst, readings)
            return
        clone = core.clone_near()
        gated = core.maintenance or Cause(CauseKind.NO_REFERENCE) in core.health.causes
        silent_for = core.now - max(core.peer_at or core.began, core.began)
        no_sign = (
            silent_for > GATE_LEASES * timing.lease_s
            and core.now > core.restart.peer_until + EXPIRY_LATE_S
            and any(port.carrier for port in core.ports.values())
        )
        verdict = judge.judge_silence(readings.values(), gated, clone, no_sign) if core.plan.peer else Verdict.CLAIM
        barred = False
        if verdict in (Verdict.CLAIM, Verdict.DARE):
            consent = core.arbiter.consents()
            if consent is None:  # judged again with its answer
                self.burst, burst.next_at = burst, core.arbiter.deadline()
                return
            barred = not consent
        evidence = (
            *self._path_words(burst),
            *(self._reading_words(name, reading, burst) for name, reading in readings.items()),
            *((CLONE_WORDS,) if clone else ()),
            *core.arbiter.in_words(),
        )
        if verdict is Verdict.DARE and not barred:
            core.claim(
                f"no sign of {core.plan.peer_name} for {silent_for:.1f} s",
                (*evidence, "gates postpone a claim, they do not forbid it"),
            )
        elif verdict is Verdict.CLAIM and not barred:
            core.claim(
                f"{core.plan.peer_name or 'the other gateway'} is gone: {burst.reason}"
                if core.plan.peer
                else "it is the only gateway of its cluster",
                evidence,
            )
        elif verdict is Verdict.HOLD:
            core.note(
                "hold",
                "warning",
                f"{core.plan.peer_name}'s heartbeats are gone, but its address answers: somebody alive holds it",
                evidence,
            )
            self.begin_hold()
        else:
            if not self.wait_told:
                self.wait_told = True
                why = (
                    "a clone of this gateway is heard"
                    if clone
                    else "the arbiter does not let this gateway serve yet"
                    if barred
                    else "silence proves nothing here"
                )
                core.note("wait", "warning", f"{core.plan.peer_name} is not heard, but {why}", evidence)
            core.phase = Phase.WAITING
            self.wait_until = burst.started + max(timing.lease_s / 4, timing.burst_probes / WAIT_PROBES_PER_S)
            if core.now < core.arbiter.not_before() < self.wait_until:
                self.wait_until = core.arbiter.not_before()

    def _judge_listener(self, burst: Burst, readings: dict[str, Reading]) -> None:
        """The other gateway serves nobody, as it says itself, unless its kernel has kept the addresses."""
        core = self.core
        core.phase = Phase.FOLLOWING
        if judge.judge_silence(readings.values(), gated=False, clone=core.clone_near()) is Verdict.CLAIM:
            core.claim(burst.reason, tuple(self._reading_words(name, one, burst) for name, one in readings.items()))
        else:
            self.ask_listener_at = core.now + TIE_PATIENCE_S

    def _adopt(self, burst: Burst) -> None:
        core = self.core
        term, self.adopting = self.adopting, None
        assert term is not None
        if core.now < core.start.adopt_until and core.arbiter.proven() and not (
            core.peer
            and core.peer_at
            and core.peer_at >= burst.started
            and core.peer.role is Role.ACTIVE  # a higher term of a passive is not yielded to (rule 15)
        ):
            core.claim(
                "the agent was restarted and its lease is still valid",
                (f"no other active gateway was heard during a burst of {burst.sent} probes",),
                term,
            )
        else:
            core.do(Release())
            core.data.end()

    def arbiter_answered(self) -> None:
        """What waits for the arbiter's word goes on now."""
        if self.burst and self.burst.sent >= self.core.plan.timing.burst_probes:
            self.burst.next_at = self.core.now
        if self.hold:
            self.hold.next_probe = self.core.now

    def begin_hold(self) -> None:
        core = self.core
        core.phase = Phase.HOLDING
        self.hold = Hold(core.now, max(self.peer_lease_until, core.restart.peer_until, core.now), core.now)

    def _hold_step(self, hold: Hold) -> None:
        core = self.core
        timing = core.plan.timing
        if core.now < hold.next_probe:
            return
        if core.restart.peer_gone():
            self.hold = None
            self.begin_burst("its cables are dead and its address is silent while its agent was being restarted")
            return
        may_claim = not core.clone_near()
        vouched = max(hold.since, core.restart.peer_until)  # until then its own goodbye speaks for it
        alone = core.now - vouched > ARP_ALONE_LEASES * timing.lease_s and self._arp_alone_is_not_enough()
        if alone and may_claim and core.arbiter.consents():
            self.hold = None
            core.claim(
                FORGEABLE,
                ("an ARP answer alone can be forged: it holds for two leases at most", *core.arbiter.in_words()),
            )  # nor may what could be forged undo the claim, or a guest could stop every fail-over
            return
        readable = [port for port in core.ports.values() if port.carrier]
        silent = bool(readable) and all(port.unanswered >= timing.burst_probes for port in readable)
        # Where it was not seen to answer during the hold, its silence does not show when the kernel ends the lease.
        seen = any((port.answered_at or -NEVER) > hold.since - SEEN_BEFORE_S for port in readable)
        expired = core.now >= (hold.expiry if seen else hold.expiry + EXPIRY_LATE_S)
        if expired and silent and may_claim and core.arbiter.consents():
            since = max((port.answered_at or 0.0) for port in readable)
            self.hold = None
            restarted = core.restart.peer_until > hold.since
            ended = "agent did not come back from its restart" if restarted else "lease ended"
            core.claim(
                f"{core.plan.peer_name}'s {ended}, and its address stopped answering",
                (
                    f"heartbeats gone for {core.now - (core.peer_at or core.began):.1f} s",
                    f"{timing.burst_probes} probes unanswered since {(core.now - since) * 1000:.0f} ms ago",
                    *core.arbiter.in_words(),
                ),
                out_of_hold=True,
            )
            return
        doubt = any(0 < port.unanswered < timing.burst_probes for port in readable)
        every_s = timing.burst_spacing_s if doubt else self._hold_pace_s(hold)
        if core.now < hold.probed_at + every_s:
            hold.next_probe = hold.probed_at + every_s
            return
        core.send(Kind.PROBE)
        core.probe_addresses()
        hold.probed_at = core.now
        last = all(port.unanswered >= timing.burst_probes for port in readable)
        hold.next_probe = core.now + (timing.burst_spacing_s if doubt and not last else self._tail_s())
        if core.now < hold.expiry:
            hold.next_probe = min(core.now + HOLD_PROBE_EVERY_S, max(hold.expiry, hold.next_probe))

    def take_over(self, event: TakeOverRequested) -> None:
        """An operator has looked, and knows what no wire tells: claim, though the other gateway may serve."""
        core = self.core
        if core.role is Role.PASSIVE and core.phase in (Phase.HOLDING, Phase.WAITING) and not core.clone_near():
            silent_s = core.now - max(core.peer_at or core.began, core.began)
            core.claim(
                f"{event.by} ended the wait for {core.plan.peer_name}",
                (
                    f"{core.plan.peer_name} has not been heard for {silent_s:.1f} s",
                    *(f"{name}: its address {'answers' if port.unanswered == 0 else 'does not answer'}"
                      for name, port in core.ports.items()),
                    "an operator's word: nothing shows that the other gateway has released the addresses",
                ),
            )  # fmt: skip
            core.do(HandoverEnded(True, "", 0.0))
        elif core.clone_near():
            core.do(HandoverEnded(False, f"This gateway waits because {CLONE_WORDS}", 0.0))
        else:
            core.do(HandoverEnded(False, "This gateway does not wait for the other one", 0.0))

    def _hold_pace_s(self, hold: Hold) -> float:
        late_s = self.core.now - hold.expiry
        return EXPIRY_PROBE_EVERY_S if 0 <= late_s < EXPIRY_LATE_S else HOLD_PROBE_EVERY_S

    def _arp_alone_is_not_enough(self) -> bool:
        """Ethernet heartbeats had worked, or the peer's MAC was never told: an ARP answer can be anybody's."""
        core = self.core
        return any(
            evidence.both_ways_at is not None and evidence.both_ways_at >= evidence.carrier_since
            for evidence in core.ports.values()
        ) or not all(core.peer_mac(name) for name in core.ports)

    def forget_peer(self) -> None:
        """Drop what a former peer has led to; an adoption goes on."""
        core = self.core
        self.hold = self.peer_passive_since = self.granted = None
        self.peer_lease_until = core.now
        self.ready_until = -NEVER
        if self.adopting is None:
            self.burst = None
        if core.role is Role.PASSIVE and core.phase is not Phase.LISTENING:
            core.phase = Phase.FOLLOWING

    def end_doubt(self, path: str) -> None:
        """Any authenticated message ends a suspicion, a hold, and a wait."""
        core = self.core
        if self.burst and self.adopting is None and not self.burst.heard:
            self.burst = None
        if self.hold:
            self.hold = None
            core.note("hold_ended", "info", f"{core.plan.peer_name} is heard again on {path}")
        if core.role is Role.PASSIVE and core.phase in (Phase.SUSPECTING, Phase.HOLDING, Phase.WAITING):
            core.phase = Phase.FOLLOWING
            core.count_probes_anew()
            self.wait_until, self.wait_told = -NEVER, False

    def _path_words(self, burst: Burst) -> list[str]:
        core = self.core
        return [f"{burst.sent} of {burst.sent} probes unanswered on {name}" for name in core.paths]

    def _reading_words(self, name: str, reading: Reading, burst: Burst) -> str:
        core = self.core
        address = next((a for p, a in zip(core.plan.ports, core.plan.addresses, strict=False) if p == name), "")
        return {
            Reading.NO_CARRIER: f"{name} has no carrier",
            Reading.ANSWERED: f"{address} answers on {name}",
            Reading.SILENT: f"{address} silent on {name} for {(core.now - burst.started) * 1000:.0f} ms",
            Reading.BLIND: f"{name} is blind: nothing was seen there that would make silence a proof",
        }[reading]

    def unseen(self, port: PortEvidence) -> bool:
        """Rule 1: the active is heard, says that it holds the address, and yet nobody answers where others are.

        On a lossy network probes fail in a row by chance, but Ethernet heartbeats still come through. Where the active
        hears this port, and this port may be the one that hears nothing, somebody else must have been heard since.
        """
        core = self.core
        index, told = core.plan.ports.index(port.port), core.peer_ports()
        heard_there = index < len(told) and told[index].peer_seen
        alive_here = port.ethernet_at is not None and core.now - port.ethernet_at < core.plan.timing.path_down_s
        return (
            core.role is Role.PASSIVE
            and core.peer is not None
            and core.peer.role is Role.ACTIVE
            and core.peer_fresh()
            and port.carrier
            and port.strangers(core.now)
            and (not heard_there or port.hears_and_asked(core.now))
            and port.unanswered > (UNSEEN_PROBES_ALIVE if alive_here else UNSEEN_PROBES)
        )
