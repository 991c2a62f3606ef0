"""What becomes of the role, the addresses and writes: asked of a real core."""

from __future__ import annotations

from typing import Any

from flask_hsmx_cluster.decision import events, judge
from flask_hsmx_cluster.decision.core import Core
from flask_hsmx_cluster.decision.evidence import Reading
from flask_hsmx_cluster.decision.judge import Standing, Verdict
from flask_hsmx_cluster.decision.model import (
    NO_TERM,
    Kind,
    Motive,
    Phase,
    Role,
    Start,
    Term,
)

from .cores import (
    ADDRESS,
    DATABASE,
    MAC,
    NO_CARRIER,
    NOW,
    STRANGE_MAC,
    TIMING,
    YES_NO,
    A,
    B,
    active,
    beat,
    kinds,
    passive,
    plan,
    sent,
)
from .tables import Column, Table

# Two that are alike --------------------------------------------------------------------------------------------

#: (here, there)
HEALTH = {
    "better here": ((frozenset(), frozenset({DATABASE})), (frozenset({DATABASE}), frozenset({NO_CARRIER}))),
    "better there": ((frozenset({DATABASE}), frozenset()),),
    "equal": ((frozenset(), frozenset()), (frozenset({DATABASE}), frozenset({DATABASE}))),
}
UPKEEP = {
    "there only": ((False, True),), "here only": ((True, False),), "neither, or both": ((False, False), (True, True)),
}  # fmt: skip
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
        Column("in maintenance", UPKEEP),
        Column("health", HEALTH),
        Column("data", DATA),
        Column("term", TERMS),
        Column("node id", NODES),
    ),
    two_passive,
    "then",
)


def beside_a_listener(upkeep: tuple[bool, bool], health: Any, data: Any, reading: Reading) -> str:
    mine, theirs = (Standing(False, NO_TERM, data[at], health[at], (A, B)[at], upkeep[at]) for at in (0, 1))
    if not judge.goes_before_a_listener(mine, theirs):
        return "waits until the other one has listened"
    return "**claims**" if judge.judge_silence([reading], gated=False) is Verdict.CLAIM else "waits, and asks again"


LISTENER = Table(
    "One has listened, and the other one has just started",
    "Who listens claims nothing yet. The one that has listened waits two intervals and asks the other one's kernel.",
    (
        Column("in maintenance", UPKEEP),
        Column("health", HEALTH),
        Column("data", DATA),
        Column(
            "the other one's address",
            {"silent": (Reading.SILENT,), "answers": (Reading.ANSWERED,), "unknown": (Reading.BLIND,)},
        ),
    ),
    beside_a_listener,
    "this one",
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
