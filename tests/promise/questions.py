"""What the decision code is asked: each question sets up a real core, gives it the evidence, and sees what it does."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

from flask_hsmx_cluster.decision import events, judge
from flask_hsmx_cluster.decision.core import Core
from flask_hsmx_cluster.decision.evidence import PortEvidence, Reading
from flask_hsmx_cluster.decision.judge import Standing
from flask_hsmx_cluster.decision.model import (
    Beat,
    Cause,
    CauseKind,
    Kind,
    Motive,
    Path,
    Phase,
    Plan,
    PortReport,
    Role,
    Start,
    Term,
    Timing,
)
from flask_hsmx_cluster.decision.passive import Burst, Hold

from .tables import Column, Table

NOW = 1000.0
A, B = "a" * 32, "b" * 32
MAC, STRANGE_MAC = b"\2\0\0\0\0\2", b"\xee" * 6
ADDRESS = "10.0.0.100"
TIMING = Timing()
YES_NO = {"yes": (True,), "no": (False,)}
NO_CARRIER, DATABASE = Cause(CauseKind.NO_CARRIER), Cause(CauseKind.DATABASE)


def plan(peer: bool = True, data: bool = False, ports: int = 1) -> Plan:
    return Plan(
        node=A,
        peer=B if peer else "",
        peer_name="the other one",
        paths=(Path("sync", "sync", "sync0"),),
        ports=tuple(f"lan{number}" for number in range(ports)),
        addresses=(ADDRESS,) * ports,
        timing=TIMING,
        peer_macs=(MAC,) * ports,
        data=data,
    )


def beat(role: Role = Role.ACTIVE, kind: Kind = Kind.BEAT, **changes: Any) -> Beat:
    return Beat(kind=kind, role=role, term=Term(1, B), lease_left_ms=1900, ports=(PortReport(MAC, True),), **changes)


def passive(ports: int = 1, peer: bool = True, data: bool = False) -> Core:
    """Return a passive gateway past its boot hold, with carriers on all ports."""
    core = Core(plan(peer, data, ports), Start(hold_s=0.0), NOW)
    for name in core.plan.ports:
        core.handle(events.Carrier(name, True), NOW)
    core.phase = Phase.FOLLOWING
    return core


def active(hears_passive: bool = True) -> Core:
    """Return an active gateway with its addresses, a second after its claim."""
    core = Core(plan(), Start(hold_s=0.0), NOW)
    core.handle(events.Carrier("lan0", True), NOW)
    core.health.causes.clear()
    core.claim("", ())
    core.handle(events.Renewed(NOW + 1), NOW + 1)
    if hears_passive:
        core.handle(events.Heard("sync", beat(Role.PASSIVE)), NOW + 1)
    core.wake(NOW + 1)
    return core


def kinds(effects: Iterable[events.Effect]) -> set[type]:
    return {type(effect) for effect in effects}


def sent(effects: Iterable[events.Effect]) -> set[Kind]:
    return {effect.kind for effect in effects if isinstance(effect, events.Send)}


# What silence on a port is worth -------------------------------------------------------------------------------


def one_port(carrier: bool, answered: bool, proof: str, asked: bool, cold: bool) -> str:
    port = PortEvidence("lan0", carrier=carrier, carrier_since=NOW)
    if proof != "none":
        setattr(port, f"{proof}_at", NOW + 1)
    if answered:
        port.answered_at = NOW + 5
    if not asked:
        port.not_asked_at = NOW + 5
    reading = port.reading(NOW + 4, cold)
    return {
        Reading.NO_CARRIER: "no carrier",
        Reading.ANSWERED: "**answered**",
        Reading.SILENT: "**silent**: nobody has the address here",
        Reading.BLIND: "**blind**: silence proves nothing",
    }[reading]


PORT = Table(
    "What a port says",
    "Of each port with a virtual IP, when all heartbeats are gone and five questions were asked there. *Since* means "
    "since the port's carrier came up.",
    (
        Column("carrier", YES_NO),
        Column("the other gateway's MAC answered", YES_NO),
        Column("all questions could be sent", YES_NO),
        Column(
            "seen there since",
            {
                "the other gateway: an answer, or Ethernet heartbeats both ways": ("answered", "both_ways"),
                "guests only": ("stranger",),
                "nobody": ("none",),
            },
        ),
        Column("the other one was ever heard as active", {"yes": (False,), "no": (True,)}),
    ),
    lambda carrier, answered, asked, proof, cold: one_port(carrier, answered, proof, asked, cold),
    "the port is",
)


# A passive gateway that hears nothing --------------------------------------------------------------------------


def silence(readings: tuple[Reading, ...], clone: bool, gate: tuple[bool, bool], no_sign: bool, peer: bool) -> str:
    core = passive(ports=2, peer=peer)
    core.health.causes.clear()
    core.peer_was_active, core.peer_at = peer, NOW
    after = NOW + (3 * TIMING.lease_s + 0.1 if no_sign else 0.2)
    for port, reading in zip(core.ports.values(), readings, strict=True):
        port.carrier = reading is not Reading.NO_CARRIER
        port.answered_at = {Reading.ANSWERED: after - 0.01, Reading.SILENT: NOW}.get(reading)
    core.maintenance = gate[0]
    if gate[1]:
        core.health.causes.add(Cause(CauseKind.NO_REFERENCE))
    core._clone_at = after if clone else float("-inf")
    core.now = after
    core.passive._judge(Burst("", after - 0.05, sent=5))
    if core.role is Role.ACTIVE:
        return "**claims** with what works" if "gates postpone" in str(core._drain()) else "**claims**"
    return {Phase.HOLDING: "**holds**", Phase.WAITING: "**waits**, and asks again"}[core.phase]


def on_the_ports() -> dict[str, list[tuple[Reading, ...]]]:
    """Sort what two ports can say by what counts of it."""
    found: dict[str, list[tuple[Reading, ...]]] = {
        "answered on one by the other gateway's MAC": [],
        "silent on one, answered on none": [],
        "blind on one, the rest without a carrier": [],
        "no carrier on any": [],
    }
    answered, silent, blind, none = found.values()
    for pair in itertools.product(Reading, repeat=2):
        kind = next(
            (
                kind
                for reading, kind in ((Reading.ANSWERED, answered), (Reading.SILENT, silent), (Reading.BLIND, blind))
                if reading in pair
            ),
            none,
        )
        kind.append(pair)
    return found


SILENCE = Table(
    "The passive gateway hears nothing any more",
    "No path has brought a heartbeat for 1.25 intervals, and a burst of questions on every path and port was not "
    "answered by any heartbeat.",
    (
        Column("another gateway in the cluster", YES_NO),
        Column("the virtual IP on the ports", dict(on_the_ports())),
        Column("a [clone](deciding.md#clones) is heard", YES_NO),
        Column(
            "maintenance here, or no reference address answers",
            {"yes": ((True, False), (False, True), (True, True)), "no": ((False, False),)},
        ),
        Column("nothing heard for three leases", YES_NO),
    ),
    lambda peer, readings, clone, gate, no_sign: silence(readings, clone, gate, no_sign, peer),
)


def hold(lease_over: bool, answers: str, forgeable: tuple[bool, bool], clone: bool) -> str:
    core = passive()
    long, ethernet = forgeable
    port = core.ports["lan0"]
    port.carrier, port.unanswered = answers != "no carrier", TIMING.burst_probes if answers == "none" else 1
    port.both_ways_at = NOW if ethernet else None
    since = NOW + 10 - (2 * TIMING.lease_s + 0.1 if long else 0.1)
    core.now, core.phase = NOW + 10, Phase.HOLDING
    core._clone_at = core.now if clone else float("-inf")
    core.passive.hold = Hold(since, core.now + (-0.1 if lease_over else 0.1), core.now)
    core.passive._hold_step(core.passive.hold)
    if core.role is Role.PASSIVE:
        return "holds on"
    return "**claims**, and releases if the other one answers after all" if core.active.out_of_hold else "**claims**"


HOLD = Table(
    "It holds",
    "The heartbeats are gone, but the other gateway's MAC answers for the virtual IP: somebody alive has it. Any "
    "heartbeat ends this at once.",
    (
        Column("a clone is heard", YES_NO),
        Column(
            "two leases have passed, and an answer alone may be forged: Ethernet heartbeats had worked",
            {"yes": ((True, True),), "no": ((True, False), (False, True), (False, False))},
        ),
        Column("the lease that the other one told of", {"is over": (True,), "runs": (False,)}),
        Column(
            "answers on the ports",
            {
                "a full burst unanswered on each": ("none",),
                "one lately": ("some",),
                "no port has a carrier": ("no carrier",),
            },
        ),
    ),
    lambda clone, forgeable, lease_over, answers: hold(lease_over, answers, forgeable, clone),
)


# Starting ------------------------------------------------------------------------------------------------------


def starting(heard: str, listened: bool, older: str) -> str:
    stale = older != "no"
    core = Core(plan(data=True), Start(hold_s=3.0, followed=stale, behind=stale), NOW)
    core.handle(events.Carrier("lan0", True), NOW)
    now = NOW + {"no": 3.1, "waits": 3.1, "waited": 63.1}[older] if listened else NOW + 1
    told = {"active": beat(), "listens": beat(Role.PASSIVE, listening=True), "listened": beat(Role.PASSIVE)}
    if heard != "nobody":
        core.handle(events.Heard("sync", told[heard]), now)
    core.wake(now)
    if core.phase is Phase.LISTENING:
        return "listens on"
    if core.passive.burst is not None:
        return "asks by a burst; then as above"
    return "follows" if heard == "active" else "waits until the other one has listened" if heard == "listens" else (
        "compares itself with the other one, see below"
    )


STARTING = Table(
    "A gateway starts",
    "It is passive, and listens for as long as *boot hold* says.",
    (
        Column("boot hold", {"is over": (True,), "runs": (False,)}),
        Column(
            "heard",
            {
                "nobody": ("nobody",),
                "an active gateway": ("active",),
                "one that listens, too": ("listens",),
                "a passive one that has listened": ("listened",),
            },
        ),
        Column(
            "the other one wrote last, as far as this one knows",
            {"no": ("no",), "yes, *wait with older data* runs": ("waits",), "yes, and it has waited": ("waited",)},
        ),
    ),
    lambda listened, heard, older: starting(heard, listened, older),
)


def restarted(heard: str, valid: bool) -> str:
    start = Start(hold_s=1.0, adopt=Term(1, A), adopt_until=NOW + (2.0 if valid else 0.01))
    core = Core(plan(), start, NOW)
    core.handle(events.Carrier("lan0", True), NOW)
    effects: list[events.Effect] = []
    if heard != "nobody":
        effects += core.handle(events.Heard("sync", beat(Role.ACTIVE if heard == "active" else Role.PASSIVE)), NOW)
    for step in range(1, 100):
        effects += core.wake(NOW + step * 0.001)
    return "**goes on** in its term" if core.role is Role.ACTIVE else "releases, and listens" if (
        events.Release in kinds(effects)
    ) else "listens"


RESTARTED = Table(
    "An agent is restarted while its addresses are still leased",
    "On the same boot of its machine. It asks by a burst first.",
    (
        Column(
            "heard during the burst",
            {"an active gateway": ("active",), "a passive one": ("passive",), "nobody": ("nobody",)},
        ),
        Column("its lease after the burst", {"runs": (True,), "is over": (False,)}),
    ),
    restarted,
)


# Two that are alike --------------------------------------------------------------------------------------------

#: (here, there)
HEALTH = {
    "better here": ((frozenset(), frozenset({DATABASE})), (frozenset({DATABASE}), frozenset({NO_CARRIER}))),
    "better there": ((frozenset({DATABASE}), frozenset()),),
    "equal": ((frozenset(), frozenset()), (frozenset({DATABASE}), frozenset({DATABASE}))),
}
TERMS = {"later here": ((2, 1),), "later there": ((1, 2),), "the same": ((1, 1),)}
DATA = {"newer here": ((1, 0),), "newer there": ((0, 1),), "alike": ((1, 1), (0, 0))}
NODES = {"higher here": ((B, A),), "higher there": ((A, B),)}


def two_passive(upkeep: tuple[bool, bool], health: Any, data: Any, terms: Any, nodes: Any) -> str:
    mine, theirs = (
        Standing(False, Term(terms[at], nodes[at]), data[at], health[at], nodes[at], upkeep[at]) for at in (0, 1)
    )
    return "**this one** claims" if judge.both_passive_winner(mine, theirs) == nodes[0] else "the other one claims"


TWO_PASSIVE = Table(
    "Two passive gateways hear each other",
    "Both have listened for two intervals more, and neither is handing over or has a clone. If the one that goes first "
    "has not claimed some 2 s later, because its kernel refuses for example, the other one does.",
    (
        Column(
            "in maintenance",
            {
                "there only": ((False, True),),
                "here only": ((True, False),),
                "neither, or both": ((False, False), (True, True)),
            },
        ),
        Column("health", HEALTH),
        Column("data", DATA),
        Column("term", TERMS),
        Column("node id", NODES),
    ),
    two_passive,
    "then",
)


def two_active(served: Any, terms: Any, data: Any, health: Any, nodes: Any) -> str:
    mine, theirs = (Standing(served[at], Term(terms[at], nodes[at]), data[at], health[at], nodes[at]) for at in (0, 1))
    winner = judge.both_active_winner(mine, theirs)
    return "**this one** stays, and announces itself" if winner == nodes[0] else "this one releases"


TWO_ACTIVE = Table(
    "Two active gateways hear each other",
    "After a time in which nothing passed between them, or after one stood still as a whole.",
    (
        Column(
            "served guests since they lost each other",
            {
                "here only": ((True, False),),
                "there only": ((False, True),),
                "both, or neither": ((True, True), (False, False)),
            },
        ),
        Column("term", TERMS),
        Column("data", DATA),
        Column("health", HEALTH),
        Column("node id", NODES),
    ),
    two_active,
    "then",
)


# Handing over --------------------------------------------------------------------------------------------------


def moves(taken: bool, heard: str, brake: bool, health: Any, under_way: bool) -> str:
    core = active()
    mine, theirs = health
    if not taken:
        core.renewed_at = None
    if under_way:
        core.active.begin_handover(Motive.REQUEST)
    told = {
        "passive": beat(Role.PASSIVE, causes=theirs),
        "listens": beat(Role.PASSIVE, causes=theirs, listening=True),
        "maintenance": beat(Role.PASSIVE, causes=theirs, maintenance=True),
        "active": beat(Role.ACTIVE, causes=theirs),
    }
    core.peer = told.get(heard)
    core.peer_at = core.now - (1.0 if heard == "nobody" else 0.0)
    core.health.causes = set(mine)
    if not brake:
        core.brake.not_before = core.now + 60
    core._drain()
    core.active.move_for_health()
    return "**offers** the role" if Kind.OFFER in sent(core._drain()) else "keeps the role"


MOVES = Table(
    "The active gateway is ill",
    "A cause that both suffer from does not count, nor one for which a move did not help. The other gateway answers "
    "with its present health before anything moves.",
    (
        Column("health", HEALTH),
        Column(
            "heard",
            {
                "a passive gateway": ("passive",),
                "one that has just started, is in maintenance or active; or nobody": (
                    "listens", "maintenance", "active", "nobody",
                ),
            },
        ),
        Column("last move for health", {"long ago": (True,), "within 60 s, doubling": (False,)}),
        Column("its addresses", {"are there": (True,), "still wait for the database or services": (False,)}),
        Column("a hand-over is under way", YES_NO),
    ),
    lambda health, heard, brake, taken, under_way: moves(taken, heard, brake, health, under_way),
)  # fmt: skip


def offered(motive: Motive, role: Role, carrier: bool, upkeep: bool, listening: bool, clone: bool, health: Any) -> str:
    core = active() if role is Role.ACTIVE else passive()
    mine, theirs = health
    core.health.causes = set(mine)
    core.ports["lan0"].carrier = carrier
    core.maintenance = upkeep
    if listening:
        core.phase = Phase.LISTENING
    core._clone_at = core.now if clone else float("-inf")
    core._drain()
    core.passive._answer_offer(beat(Role.ACTIVE, Kind.OFFER, motive=motive, causes=theirs))
    return "**ready**" if Kind.READY in sent(core._drain()) else "not ready"


OFFERED = Table(
    "A gateway is offered the role",
    "What it answers. The active releases only after *ready*, and only then tells the other one to claim.",
    (
        Column("it is passive", {"yes": (Role.PASSIVE,), "no": (Role.ACTIVE,)}),
        Column("a clone is heard", YES_NO),
        Column("a carrier on any port to the guests", YES_NO),
        Column(
            "because",
            {
                "the other one's agent is stopped": (Motive.STOP,),
                "the other one is ill": (Motive.HEALTH,),
                "an operator asked, or maintenance": (Motive.REQUEST, Motive.MAINTENANCE),
            },
        ),
        Column(
            "in maintenance, or has just started",
            {"yes": ((True, False), (False, True), (True, True)), "no": ((False, False),)},
        ),
        Column("health", HEALTH),
    ),
    lambda role, clone, carrier, motive, busy, health: offered(motive, role, carrier, *busy, clone, health),
    "it answers",
)


def last_writes(motive: Motive, ok: bool) -> str:
    core = active()
    core.active.begin_handover(motive)
    core._drain()
    core.active.data_yielded(ok, "")
    return "**releases**, and passes the role on" if events.Release in kinds(core._drain()) else "keeps the role"


LAST_WRITES = Table(
    "The other gateway is ready, and the database is shared",
    "Writes are refused from then on, and the other gateway has 200 ms to confirm the last ones.",
    (
        Column("the last writes are confirmed", YES_NO),
        Column(
            "because",
            {
                "its agent is stopped, or it is ill": (Motive.STOP, Motive.HEALTH),
                "an operator asked, or maintenance": (Motive.REQUEST, Motive.MAINTENANCE),
            },
        ),
    ),
    lambda ok, motive: last_writes(motive, ok),
)


# Holding the addresses -----------------------------------------------------------------------------------------


def lease(found: str, lapsed: bool) -> str:
    core = active()
    now = NOW + 1 + (TIMING.lease_s + 0.1 if lapsed else TIMING.lease_s - 0.1)
    match found:
        case "due":
            effects = core.wake(now)
        case "late":
            effects = core.ran_late(1.5, now)
            if core.role is Role.ACTIVE:
                effects += core.wake(now)
        case _:
            effects = core.handle(events.Renewed(now), now)
    if events.Release in kinds(effects):
        return "**releases**, and listens"
    return "renews" if events.Renew in kinds(effects) else "serves on"


LEASE = Table(
    "The active gateway's own lease",
    "By the clock that goes on while a machine sleeps. The wall clock decides nothing.",
    (
        Column("since the last renewal that the kernel confirmed", {"more than a lease": (True,), "less": (False,)}),
        Column(
            "found out",
            {
                "when a renewal is due": ("due",),
                "when the agent went on after a standstill": ("late",),
                "after the kernel has confirmed a renewal": ("confirmed",),
            },
        ),
    ),
    lambda lapsed, found: lease(found, lapsed),
)


def on_the_wire(mac: bytes, role: str, later: bool) -> str:
    core = passive() if role == "passive" else active(hears_passive=role == "proof")
    core.active.out_of_hold = role == "hold"
    now = core.now + (0.5 if later else 0.0)
    core.since = core.now
    core.ports["lan0"].conflict_announced_at = float("-inf")
    effects = core.handle(events.AddressSeen("lan0", mac, ADDRESS), now)
    if events.Release in kinds(effects):
        return "**releases**, and holds"
    alarm = any(isinstance(effect, events.Note) and effect.severity == "critical" for effect in effects)
    if events.Announce in kinds(effects):
        return "raises an alarm, and announces itself"
    return "raises an alarm, no more" if alarm else (
        "notes that the other one is there" if role == "passive" else "takes it for a leftover"
    )


WIRE = Table(
    "Somebody uses the virtual IP on the wire",
    "In an ARP or neighbour-discovery frame that came in. At most once in 10 s is announced against it.",
    (
        Column(
            "this gateway is",
            {
                "passive": ("passive",),
                "active": ("proof",),
                "active, claimed out of a hold, and has heard nothing of the other one since": ("hold",),
            },
        ),
        Column("its MAC", {"the other gateway's": (MAC,), "nobody's that is known": (STRANGE_MAC,)}),
        Column("since it claimed", {"an interval or more": (True,), "less": (False,)}),
    ),
    lambda role, mac, later: on_the_wire(mac, role, later),
)


# Writes --------------------------------------------------------------------------------------------------------


def commits(heard: bool, follows: str, waited: bool, knows: bool) -> str:
    core = Core(plan(data=True), Start(hold_s=0.0), NOW)
    core.claim("", ())
    core.handle(events.Heard("sync", beat(Role.PASSIVE)), NOW)
    core.handle(events.FollowerSeen(True, True), NOW)
    core.handle(events.SynchronousSet(True), NOW)
    streams, caught_up = {"yes": (True, True), "slow": (True, False), "no": (False, False)}[follows]
    effects: list[events.Effect] = []
    steps = 8 if waited else 3
    for step in range(1, steps):
        at = NOW + step * 0.1
        if heard:
            position = 0 if knows else 1
            effects += core.handle(events.Heard("sync", beat(Role.PASSIVE, position=position)), at)
        effects += core.handle(events.FollowerSeen(streams, caught_up), at)
        effects += core.wake(at)
    alone = any(isinstance(effect, events.SetSynchronous) and not effect.on for effect in effects)
    return "go on alone, with an alarm" if alone else "wait for the other gateway"


COMMITS = Table(
    "A write on the active gateway",
    "Where both gateways are to confirm each one. What is written alone exists on this gateway only, until the other "
    "one has caught up; it is told first, and remembers.",
    (
        Column("the other gateway's database follows", {"yes": ("yes",), "too slowly, or not at all": ("slow", "no")}),
        Column("its heartbeats come", YES_NO),
        Column("since", {"0.4 s and longer": (True,), "a shorter time": (False,)}),
    ),
    lambda follows, heard, waited: commits(heard, follows, waited, knows=True),
    "commits",
)

#: In the order of the page.
TABLES = (
    SILENCE, PORT, HOLD, STARTING, RESTARTED, TWO_PASSIVE, TWO_ACTIVE, MOVES, OFFERED, LAST_WRITES, LEASE, WIRE,
    COMMITS,
)  # fmt: skip
