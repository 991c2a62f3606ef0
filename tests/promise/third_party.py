"""What a gateway does that hears nothing, where an arbiter is named: asked of a real core."""

from __future__ import annotations

from dataclasses import replace

from flask_hsmx_cluster.decision import events
from flask_hsmx_cluster.decision.core import Core
from flask_hsmx_cluster.decision.model import ArbiterUse, Role, Word

from .cores import NOW, TIMING, YES_NO, active, beat, passive
from .tables import Column, Table


def doubt(role: Role, word: Word, required: bool) -> str:
    """Return what comes of it within four leases."""
    core = active() if role is Role.ACTIVE else passive()
    use = ArbiterUse.REQUIRED if required else ArbiterUse.ASKED
    core.replan(replace(core.plan, arbiter=use), NOW + 1)
    other = Role.PASSIVE if role is Role.ACTIVE else Role.ACTIVE
    core.handle(events.AddressSeen("lan0", core.peer_mac("lan0"), core.plan.addresses[0]), NOW + 1)
    core.handle(events.Heard("sync", beat(other), echo_at=NOW + 1), NOW + 1)
    steps = round(4 * TIMING.lease_s / 0.01)
    for step in range(1, steps):
        now = NOW + 1 + step * 0.01
        effects = core.wake(now)
        for effect in effects:
            if isinstance(effect, events.AskArbiter) and word is not Word.SILENT:
                core.handle(events.ArbiterAnswered(effect.turn, word, now), now)
            elif isinstance(effect, events.Renew):
                core.handle(events.Renewed(now), now)
        if core.role is not role:
            return words(core, now - NOW - 1)
    return "goes on" if role is Role.ACTIVE else "waits, and asks again"


def words(core: Core, after_s: float) -> str:
    what = "**claims**" if core.role is Role.ACTIVE else "**releases**"
    if after_s < TIMING.lease_s / 2:
        return what
    return f"{what} after {after_s:.1f} s"


ARBITER = Table(
    "An arbiter, where one is named",
    "The [arbiter](arbiter.md) is asked only by a gateway that does not hear the other one, and by a passive one only "
    "where the tables above say *claims*. Times are from the last heartbeat.",
    (
        Column("role", {"active": (Role.ACTIVE,), "passive": (Role.PASSIVE,)}),
        Column("the arbiter says", {
            "yes": (Word.GRANTED,), "no, the other one has its word": (Word.DENIED,), "nothing": (Word.SILENT,)}),
        Column("it is required", YES_NO),
    ),
    doubt,
)  # fmt: skip
