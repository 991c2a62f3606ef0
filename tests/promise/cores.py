"""Cores in a known state, for the promise's questions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flask_hsmx_cluster.decision import events
from flask_hsmx_cluster.decision.core import Core
from flask_hsmx_cluster.decision.model import (
    Beat,
    Cause,
    CauseKind,
    Kind,
    Path,
    Phase,
    Plan,
    PortReport,
    Role,
    Start,
    Term,
    Timing,
)

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
