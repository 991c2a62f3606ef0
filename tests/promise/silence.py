"""What a gateway does that hears nothing, or starts: asked of a real core."""

from __future__ import annotations

import itertools

from flask_hsmx_cluster.decision import events
from flask_hsmx_cluster.decision.core import Core
from flask_hsmx_cluster.decision.evidence import PortEvidence, Reading
from flask_hsmx_cluster.decision.model import (
    Cause,
    CauseKind,
    Phase,
    Role,
    Start,
    Term,
)
from flask_hsmx_cluster.decision.passive import Burst, Hold

from .cores import (
    NOW,
    TIMING,
    YES_NO,
    A,
    beat,
    kinds,
    passive,
    plan,
)
from .tables import Column, Table

# What silence on a port is worth -------------------------------------------------------------------------------


def one_port(carrier: bool, answered: bool, asked: bool, proof: str, cold: bool, deaf: bool) -> str:
    port = PortEvidence("lan0", carrier=carrier, carrier_since=NOW)
    if proof != "none":
        setattr(port, f"{proof}_at", NOW + 1)
    if proof == "both_ways":
        port.ethernet_at = NOW + 1
    if answered:
        port.answered_at = NOW + 5
    if not asked:
        port.not_asked_at = NOW + 5
    reading = port.reading(NOW + 4, cold, NOW + (3.5 if deaf else 1))
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
        Column("nobody was heard there any more, while the other gateway still was on a cable", YES_NO),
    ),
    one_port,
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
