"""The guests' network, as this gateway's ports with virtual IPs show it: what is seen there, and how ill that makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .events import AddressSeen, Announce, Carrier, StrangerSeen
from .model import Beat, Cause, CauseKind, Kind, Phase, Role

if TYPE_CHECKING:
    from .core import Core

#: A conflict is announced against at most this often per port, s (rule 12).
CONFLICT_ANNOUNCE_S = 10.0


class Lan:
    """Turns what is seen on the ports into evidence (:mod:`.evidence`) and health.

    :param core: the brain.
    """

    def __init__(self, core: Core) -> None:
        self.core = core

    def heard(self, name: str, beat: Beat) -> None:
        """Take an Ethernet heartbeat of the other gateway."""
        core = self.core
        port = core.ports.get(name)
        if port is not None:
            port.ethernet_at = core.now
            port.heard(core.now)
            index = core.plan.ports.index(name)
            if beat.revision in core.alike and index < len(beat.ports) and beat.ports[index].peer_seen:
                port.both_ways_at = core.now

    def carrier(self, event: Carrier) -> None:
        """Take what the kernel says of a port, or of a cable between the two."""
        core = self.core
        core.restart.carrier(event.port, event.up)
        port = core.ports.get(event.port)
        if port is not None:
            was = port.carrier
            port.set_carrier(event.up, core.now)
            index = core.plan.ports.index(event.port)
            if not event.up:
                core.health.report(Cause(CauseKind.NO_CARRIER, index), True, core.now)
                if was:
                    core.send(Kind.BEAT)
                core.active.move_for_health()
            elif not was and core.role is Role.ACTIVE:
                core.do(Announce())
        if not event.up and any(one.path.direct and one.path.port == event.port for one in core.paths.values()):
            core.arbiter.carrier_lost()
            if core.phase is Phase.FOLLOWING and core.passive.burst is None:
                core.passive.begin_burst(f"the carrier of {event.port} is gone", sure=True)

    def address_seen(self, event: AddressSeen) -> None:
        """Somebody has a virtual IP: the other gateway, or a device that is neither."""
        core = self.core
        port = core.ports.get(event.port)
        if port is None:
            return
        if event.mac == (core.peer_mac(event.port) or event.mac) and core.plan.peer:
            port.answered(core.now)
            if core.role is Role.ACTIVE and core.active.handover is None and not core.passive.adopting:
                core.active.peer_holds_too(port)
        else:
            first = not port.conflict(core.now)
            port.conflict_at, port.conflict_mac = core.now, event.mac
            if first:
                core.note(
                    "conflict",
                    "critical",
                    f"Another device ({event.mac.hex(':')}) uses {event.address} on {event.port}",
                    ("its MAC is neither gateway's: it delays nothing, and is announced against",),
                )
            if core.role is Role.ACTIVE and core.now - port.conflict_announced_at >= CONFLICT_ANNOUNCE_S:
                port.conflict_announced_at = core.now
                core.do(Announce())

    def stranger(self, event: StrangerSeen) -> None:
        """Somebody else than the two was heard."""
        port = self.core.ports.get(event.port)
        if port is not None:
            port.stranger_at = self.core.now
            port.heard(self.core.now)

    def watch_health(self) -> None:
        """Recompute what this gateway sees of its ports for itself."""
        core = self.core
        for index, port in enumerate(core.ports.values()):
            no_carrier = Cause(CauseKind.NO_CARRIER, index)
            unproven = no_carrier in core.health.causes and not port.forwards()
            core.health.report(no_carrier, not port.carrier or unproven, core.now)
            port.watch_peer(core.now, core.plan.timing.interval_s)
            told = (
                core.role is Role.ACTIVE
                and core.renewed_at is not None  # the addresses may still wait for data and services
                and core.peer is not None
                and core.peer_fresh()
                and index < len(core.peer_ports())
                and core.peer_ports()[index].unseen
                and not port.peer_was_cut_off(core.now, core.plan.timing.interval_s)
            )
            core.health.report(Cause(CauseKind.UNSEEN, index), told, core.now)

    def peer_dead_ports(self) -> list[str]:
        """Return the ports on which guests could not reach the other gateway, which cannot know it."""
        core = self.core
        down_s = core.plan.timing.path_down_s  # a silence that no loss explains
        return [name for name, port in core.ports.items() if port.others_since_peer(core.now, down_s)]

    def peer_causes(self) -> frozenset[Cause]:
        """Return how ill the other gateway is: as it says, and as is seen from here."""
        core = self.core
        seen = {Cause(CauseKind.UNSEEN, core.plan.ports.index(name)) for name in self.peer_dead_ports()}
        return frozenset(core.peer.causes if core.peer else ()) | seen
