"""One membership at work: the decision core with its sockets, addresses and frames. Lives on the loop's thread."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field, replace

from ...decision import events
from ...decision.core import Core
from ...decision.model import Beat, Cause, CauseKind, Kind, Motive, Role, Term, Word
from ...errors import NetworkError
from ...network.addresses import AddressLease
from ...network.clock import boot_time_s
from ...network.messages import RTM_DELADDR, RTM_DELLINK, RTM_NEWADDR, RTM_NEWLINK
from ...network.netlink import RequestSocket, attributes, kernel_address
from ...network.ports import carrier_of
from ...network.wire import AddressClaim, HeartbeatFrame, PortSocket
from ..arbiter.hand import ArbiterHand
from ..clerk import Clerk
from ..membership import Membership
from .advertiser import Advertiser
from .announcer import Announcer
from .database_hand import DatabaseHand
from .datagram import Clone, Codec, Received, Refusal
from .frames import PortFrames
from .plan import UdpPlan
from .reign import Reign, ReignMemory
from .services_hand import ACTIVE, BEFORE_ACTIVE, BEFORE_PASSIVE, PASSIVE, ServicesHand
from .transport import EthernetPath, UdpEnds, UdpPath

_LINK = struct.Struct("=BxHiII")
_IFLA_ADDRESS, _IFLA_IFNAME = 1, 3
#: A stranger on a port is told to the core at most this often, s: a busy network must not cost processor time.
STRANGER_EVERY_S = 0.2
#: An unproven incarnation is answered at most this often on a path, s.
PROOF_EVERY_S = 0.002
#: A clone is answered at most this often on a path, s: a recording must not make us flood the network.
CLONE_ANSWER_EVERY_S = 0.2
#: A clone is recorded at most this often, s.
CLONE_NOTED_EVERY_S = 60.0
#: A reference address counts as reached if it was heard within this time, s.
REFERENCE_FRESH_S = 12.0
#: Neighbours remembered per port, and how many are told by unicast at once: ARP inspection counts these too.
NEIGHBOURS_KEPT, UNICAST_MOST = 64, 6
#: Conflicts of addresses are told to the core at most this often per port and MAC, s.
SEEN_EVERY_S = 0.004


@dataclass
class WatchedPort:
    """A port by which the peer is watched: its packet socket and the frames of its addresses.

    :param addresses: those that are asked for, and whose answers are evidence.
    :param shared: all shared ones: whoever else uses one of them is in conflict with it.
    :param virtual_mac: the MAC of its addresses, alike on both gateways, or b"" where they have the port's.
    """

    name: str
    index: int
    mac: bytes
    wire: PortSocket
    addresses: frozenset[str]
    shared: frozenset[str] = frozenset()
    virtual_mac: bytes = b""
    frames: PortFrames = field(default_factory=PortFrames)
    stranger_told: float = float("-inf")
    neighbours: OrderedDict[bytes, None] = field(default_factory=OrderedDict)

    def remember(self, mac: bytes) -> None:
        """Keep the MACs heard last, a few."""
        if mac[0] & 1 == 0:
            self.neighbours[mac] = None
            self.neighbours.move_to_end(mac)
            if len(self.neighbours) > NEIGHBOURS_KEPT:
                self.neighbours.popitem(last=False)


def udp_paths(plans: list[UdpPlan], old: Session | None) -> tuple[dict[str, UdpPath], dict[str, UdpPath]]:
    """Return the UDP paths by name, and those on their former ends where these are being changed.

    What the other gateway is known to have says which these are; after its last word it may still be a moment behind.
    """
    paths, former = {}, {}
    for one in plans:
        paths[one.name] = UdpPath(one.name, one.tag, one.ends)
        before = one.former or (old.ends_before(one.name, one.ends) if old else None)
        if before is not None:
            former[one.name] = UdpPath(one.name, one.tag, before)
    return paths, former


@dataclass
class Session:
    """Everything of one membership that the loop works with.

    :param watched: the ports of the core's plan that this machine has, by name.
    :param link_index: index of every port under a path or an address, by name.
    :param ended: takes the result of a hand-over.
    :param hear_additions: hear from the kernel of added addresses, or not.
    :param missing: ports with networks or aliases that this machine does not have.
    :param former: the paths of links whose ends are being changed, on the ends that they had: the other gateway may
        have these still. Heartbeats go over both until it is heard over the new ones.
    """

    membership: Membership
    core: Core
    codec: Codec
    requests: RequestSocket
    clerk: Clerk
    reigns: ReignMemory
    lease: AddressLease
    udp: dict[str, UdpPath]
    ethernet: dict[str, EthernetPath]
    watched: dict[str, WatchedPort]
    link_index: dict[str, int]
    references: frozenset[str]
    ended: Callable[[events.HandoverEnded], None]
    database: DatabaseHand
    services: ServicesHand
    announcer: Announcer
    hear_additions: Callable[[bool], None]
    missing: tuple[str, ...] = ()
    frames: Mapping[str, PortFrames] = field(default_factory=dict)
    announce_waits: bool = False
    stale: bool = False
    former: Mapping[str, UdpPath] = field(default_factory=dict)
    advertiser: Advertiser = field(default_factory=lambda: Advertiser({}, None))
    arbiter: ArbiterHand = field(default_factory=lambda: ArbiterHand(None))

    def __post_init__(self) -> None:
        self._proof_sent: dict[str, float] = {}
        self._clone_noted = self.clone_at = float("-inf")
        self._clone_answered: dict[str, float] = {}
        self._mend_noted = float("-inf")
        self._reference_at = boot_time_s()  # none has been asked yet: that is no ill health
        self._seen: dict[tuple[str, bytes], float] = {}
        self._kept_macs: dict[str, str] = {}
        self.mended = 0
        self._told_reserved = 0
        self.renewal_slowest_s = 0.0

    def ends_before(self, name: str, ends: UdpEnds) -> UdpEnds | None:
        """Return the ends of a path over which the other gateway is heard, if they are not these."""
        found = self.udp.get(name)
        former = self.former.get(name)
        if former is not None and not former.quiet:
            found = former
        return found.ends if found is not None and found.ends != ends else None

    # Input ----------------------------------------------------------------------------------------------

    def receive_udp(self, path: UdpPath) -> None:
        """Take what has arrived on a UDP path."""
        for data in path.receive():
            if self._message(path.name, path.tag, data) and path.name in self.former:
                self.former[path.name].quiet = path is self.udp[path.name]

    def receive_frames(self, port: WatchedPort) -> None:
        """Take what the wire of a virtual-IP port says."""
        now = boot_time_s()
        peer_mac = self.core.peer_mac(port.name)
        peers = (peer_mac, port.virtual_mac or peer_mac)
        for frame in port.wire.receive():
            if isinstance(frame, HeartbeatFrame):
                path = self.ethernet.get(port.name)
                if path is not None and self._message(path.name, path.tag, frame.payload):
                    # The MAC that the peer signed, never the frame's own: that one anybody can put there.
                    mac = self.core.peer_mac(port.name)
                    path.peer_mac = mac if any(mac) else None
                continue
            if isinstance(frame, AddressClaim):
                if frame.address in self.references:
                    self._reference_at = now
                asked = frame.address in port.addresses
                if asked or (frame.address in port.shared and frame.mac not in peers):
                    last = self._seen.get((port.name, frame.mac), float("-inf"))
                    if now - last >= SEEN_EVERY_S:
                        if len(self._seen) > 256:
                            self._seen.clear()
                        self._seen[port.name, frame.mac] = now
                        # Of the two gateways only the other one is heard here: the virtual MAC is the peer.
                        mac = peer_mac or frame.mac if frame.mac in peers else frame.mac
                        self.tell(events.AddressSeen(port.name, mac, frame.address))
                    continue
            if frame.mac in peers:
                continue
            port.remember(frame.mac)
            if now - port.stranger_told >= STRANGER_EVERY_S:
                port.stranger_told = now
                self.tell(events.StrangerSeen(port.name))

    def _message(self, name: str, tag: int, data: bytes) -> bool:
        now = boot_time_s()
        found = self.codec.decode(data, tag, now)
        if isinstance(found, Received):
            self.tell(events.Heard(name, found.beat, found.rtt_s, found.stale, found.echo_at))
            return True
        if found is Refusal.UNPROVEN and now - self._proof_sent.get(name, 0.0) >= PROOF_EVERY_S:
            self._proof_sent[name] = now
            self._send(Kind.BEAT, only=(name,))
        elif isinstance(found, Clone):
            self._clone(name, found, now)
        return False

    def _clone(self, name: str, found: Clone, now: float) -> None:
        """Our own identity on another machine, or a recording of an earlier run of ours: only a proof tells."""
        path = next((path for path in self.ethernet.values() if path.name == name), None)
        if path is not None and now - self._clone_answered.get(name, float("-inf")) >= CLONE_ANSWER_EVERY_S:
            self._clone_answered[name] = now
            beat = self._beat(Kind.ANSWER, Motive.REQUEST)
            path.send_to_group(self.codec.encode(beat, path.tag, now, response=found.challenge))
        if found.proven and path is not None:
            self.tell(events.CloneHeard(name))
        self.clone_at = now
        if now - self._clone_noted > CLONE_NOTED_EVERY_S:
            self._clone_noted = now
            self.clerk.record(
                "clone",
                "critical",
                "Another machine uses this gateway's identity",
                (
                    f"a signed heartbeat with our own node id came in on {name}",
                    "was this disk copied? Leave the cluster on the copy and join it anew",
                ),
            )

    def netlink(self, messages: list[tuple[int, int, memoryview]]) -> None:
        """Take carrier and address events; mend what is not as it should be."""
        active = self.core.role is Role.ACTIVE and self.core.renewed_at is not None
        wrong = False
        for kind, _sequence, body in messages:
            if kind in (RTM_NEWLINK, RTM_DELLINK):
                self._link_event(kind, body)
            elif kind == (RTM_DELADDR if active else RTM_NEWADDR) and not wrong:
                found = kernel_address(body)
                wrong = found is not None and (found.device, found.address) in self.lease.keys
        if wrong:  # once, however many there are
            self.reconcile()

    def _link_event(self, kind: int, body: memoryview) -> None:
        family, _type, index, flags, _change = _LINK.unpack_from(body)
        if family != socket.AF_UNSPEC:  # a bridge tells of its ports, not of carriers
            return
        for name, known in self.link_index.items():
            if known == index:
                up = kind == RTM_NEWLINK and carrier_of(flags)
                self.tell(events.Carrier(name, up))
                port = self.watched.get(name)
                mac = attributes(body[_LINK.size :]).get(_IFLA_ADDRESS)
                if kind == RTM_DELLINK or (port and mac not in (None, port.mac)):
                    self.stale = True
                return
        if kind == RTM_NEWLINK:
            name = attributes(body[_LINK.size :]).get(_IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="replace")
            if name in self.link_index:
                self.stale = True

    def start_clean(self) -> None:
        """This agent goes on with nothing: neither its predecessor's reign nor its addresses stay."""
        self._forget_reign()
        self.reconcile()

    def reconcile(self) -> None:
        """Compare the shared addresses in the kernel with what the role demands, and mend the difference."""
        if self.core.restart.over:
            return  # this agent ends, and the addresses have their long lease
        try:
            self._reconcile()
        except NetworkError as error:  # the port has just gone: look at everything again
            self.stale = True
            self.clerk.record("mend_failed", "warning", f"A shared address could not be mended: {error.message}")

    def _reconcile(self) -> None:
        renewed_at = self.core.renewed_at
        active = self.core.role is Role.ACTIVE and renewed_at is not None
        there = {(address.device, address.address) for address in self.requests.addresses()}
        wanted = self.lease.keys
        now = boot_time_s()
        if active and renewed_at is not None and now - renewed_at > self.core.plan.timing.lease_s - 0.05:
            return  # lapsed, or about to: the core decides, never the reconciler
        if active and wanted - there:
            self.lease.hold()
            self._announce()
            self._mended("a shared address had been removed from the kernel; it was put back", wanted - there, now)
        elif not active and wanted & there:
            self.lease.release()
            self._mended(
                "a shared address was in the kernel of a gateway that is not active; it was removed",
                wanted & there,
                now,
            )

    def _mended(self, text: str, which: Set[tuple[int, str]], now: float) -> None:
        self.mended += 1
        if now - self._mend_noted > 10:
            self._mend_noted = now
            self.clerk.record(
                "mended",
                "warning",
                text[0].upper() + text[1:],
                tuple(sorted(str(address) for _index, address in which)),
            )

    # Output ---------------------------------------------------------------------------------------------

    def deadline(self) -> float:
        """Return the boot time at which the loop must turn at the latest, s."""
        return min(self.core.deadline(), self.announcer.deadline(), self.advertiser.deadline())

    def turn(self) -> None:
        """Do what is due."""
        self.perform(self.core.wake(boot_time_s()))
        now = boot_time_s()
        self.announcer.step(now)
        self.advertiser.step(now)

    def take_leave(self) -> None:
        """This gateway is about to end: where no other one is there, guests are told that they have no router."""
        core = self.core
        if core.peer_at is None or boot_time_s() - core.peer_at > core.plan.timing.path_down_s:
            self.advertiser.take_leave()

    def tell(self, event: events.Event) -> None:
        """Hand an event to the core and do what it says."""
        self.perform(self.core.handle(event, boot_time_s()))

    def perform(self, effects: list[events.Effect]) -> None:
        """Carry out effects in their order."""
        for effect in effects:
            match effect:
                case events.Send():
                    self._send(effect.kind, effect.motive, effect.paths)
                case events.ProbeAddresses():
                    self._ask()
                case events.Claim():
                    self._claim(effect)
                case events.Release():
                    self._release()
                case events.Renew():
                    self._renew()
                case events.Extend():
                    self._extend(effect.lease_s)
                case events.Announce():
                    self._announce(effect.again)
                case events.ReserveTerms():
                    self._reserve(effect.upto)
                case events.PromoteData():
                    if not self.database.promote(effect.term, self.core.plan.timing.lease_s):
                        self.tell(events.DataPromoted(effect.term, False, "its replicator does not run"))
                case events.KeepData():
                    if not self.database.keep(effect.term, effect.lease_s):
                        self.tell(events.DataKept(False))
                case events.YieldData():
                    if not self.database.give_up():
                        self.tell(events.DataYielded(False, "the replicator does not run"))
                case events.DemoteData():
                    self.database.demote()
                case events.SetSynchronous():
                    if not self.database.set_synchronous(effect.on):
                        self.tell(events.SynchronousSet(None))
                case events.PrepareServices():
                    if not self.services.go(BEFORE_ACTIVE, self.core.why, effect.term):
                        self.tell(events.ServicesReady(effect.term, False))
                case events.RetireServices():
                    if not self.services.go(BEFORE_PASSIVE, effect.why, self.core.term):
                        self.tell(events.ServicesReady(self.core.term, True))
                case events.KeepServices():
                    self.services.go(ACTIVE, self.core.why, self.core.term, released=True)
                case events.AskArbiter():
                    asks = self.membership.settings.cluster_id, self.membership.node_id, self.core.plan.timing
                    if not self.arbiter.ask(effect.turn, *asks):
                        self.tell(events.ArbiterAnswered(effect.turn, Word.SILENT, boot_time_s()))
                case events.LeaveArbiter():
                    self.arbiter.leave()
                case events.Note():
                    self.clerk.record(effect.kind, effect.severity, effect.text, effect.evidence)
                case events.HandoverEnded():
                    self.ended(effect)

    def _send(self, kind: Kind, motive: Motive = Motive.REQUEST, only: tuple[str, ...] = ()) -> None:
        beat = self._beat(kind, motive)
        now = boot_time_s()
        paths: list[UdpPath | EthernetPath] = [*self.udp.values(), *self.former.values(), *self.ethernet.values()]
        for path in paths:
            if not only or path.name in only:
                path.send(self.codec.encode(beat, path.tag, now))

    def _beat(self, kind: Kind, motive: Motive) -> Beat:
        beat = self.core.beat(kind, motive)
        return replace(
            beat,
            ports=tuple(
                replace(report, mac=self.watched[name].mac) if name in self.watched else report
                for name, report in zip(self.core.plan.ports, beat.ports, strict=True)
            ),
        )

    def _claim(self, effect: events.Claim) -> None:
        self.hear_additions(False)
        self.remember_reign(effect.term)
        try:
            self.lease.hold()
        except NetworkError as error:
            with contextlib.suppress(NetworkError):  # the lease ends by itself
                self.lease.release()
            self._forget_reign()
            self.hear_additions(True)
            self.tell(events.ClaimFailed(error.message))
            return
        self._announce()
        self.advertiser.start(boot_time_s())
        self.services.go(ACTIVE, self.core.why, effect.term, effect.released)
        self.perform(self.core.handle(events.Renewed(boot_time_s()), boot_time_s()))

    def _release(self) -> None:
        self.announcer.stop()
        self.advertiser.stop()
        self.hear_additions(True)
        try:
            self.lease.release()
        except NetworkError as error:
            self.clerk.record(
                "release_failed",
                "critical",
                f"The addresses could not be released: {error.message}",
                ("the kernel drops them when their lease ends",),
            )
        self._forget_reign()
        self.services.go(PASSIVE, self.core.why, self.core.term)

    def remember_reign(self, term: Term) -> None:
        """Remember a reign, before the kernel has its addresses: what that holds is never of a later one."""
        try:
            asked = self.core.preference.asked
            self.reigns.remember(Reign(term.counter, term.node, self.membership.settings.cluster_id, asked))
        except OSError as error:
            self.clerk.record(
                "reign_not_remembered",
                "warning",
                f"The present reign could not be remembered: {error.strerror}",
                ("an agent that is started again gives up the addresses first",),
            )

    def _forget_reign(self) -> None:
        try:
            self.reigns.forget()
        except OSError as error:
            self.clerk.record("reign_not_forgotten", "warning", f"A reign could not be forgotten: {error.strerror}")

    def _renew(self) -> None:
        before = boot_time_s()
        try:
            self.lease.renew()
        except NetworkError as error:
            self.clerk.record("renew_failed", "critical", f"The lease could not be renewed: {error.message}")
            return
        after = boot_time_s()
        if self.core.data.renews():
            self.database.renew(self.core.term, self.core.plan.timing.lease_s)
        self.services.pet(before)
        self.renewal_slowest_s = max(self.renewal_slowest_s, after - before)
        self.tell(events.Renewed(after))

    def _extend(self, lease_s: float) -> None:
        """Lease all addresses for longer: this agent ends, and the next one goes on with them."""
        try:
            self.lease.hold_for(int(lease_s))
        except NetworkError as error:
            self.clerk.record("renew_failed", "critical", f"The lease could not be extended: {error.message}")
            return
        self.tell(events.Renewed(boot_time_s(), extended=True))

    def _ask(self) -> None:
        for port in self.watched.values():
            sent = [port.wire.send(probe) for probe in port.frames.probes]
            if len(sent) < len(port.addresses) or not all(sent):
                self.tell(events.NotAsked(port.name))

    def _announce(self, again: bool = False) -> None:
        built = sum(len(frames.addresses) + len(frames.aliases) for frames in self.frames.values())
        self.announce_waits = built < len(self.lease.addresses)
        neighbours = {name: list(port.neighbours)[-UNICAST_MOST:] for name, port in self.watched.items() if again}
        self.announcer.announce(self.frames, neighbours, again, boot_time_s())

    def _reserve(self, upto: int) -> None:
        def write() -> None:
            self.clerk.ledger.reserve_term(upto)
            self.clerk.reserved = upto  # told to the core at the next slow tick, perhaps by a later session

        self.clerk.keep("terms", write)

    def peer_macs(self) -> dict[str, str]:
        """Return the MACs of the other gateway's virtual-IP ports as far as they are known, by port name."""
        macs = {name: self.core.peer_mac(name) for name in self.watched}
        return {name: mac.hex(":") for name, mac in macs.items() if any(mac)}

    def slow_tick(self, now: float) -> None:
        """Once a second: open paths that were closed, ask the references, take over written reservations."""
        if self.core.peer is not None and (macs := self.peer_macs()) != self._kept_macs:
            self._kept_macs = macs
            self.clerk.keep("peer_macs", lambda: self.clerk.ledger.remember_peer_macs(macs))
        if self.core.role is Role.PASSIVE:
            self.services.pet(now)  # an active gateway's is with its renewals
        for path in (*self.udp.values(), *self.former.values()):
            path.open()
        if self.clerk.reserved != self._told_reserved:
            self._told_reserved = self.clerk.reserved
            self.tell(events.TermsReserved(self._told_reserved))
        asked = [port.wire.send(probe) for port in self.watched.values() for probe in port.frames.references]
        bad = bool(asked) and now - self._reference_at > REFERENCE_FRESH_S
        self.tell(events.HealthReport(Cause(CauseKind.NO_REFERENCE), bad))

    def set_frames(self, frames: dict[str, PortFrames]) -> None:
        """Take the frames that were built meanwhile; announce if that was waiting for them."""
        self.frames = frames
        for name, port in self.watched.items():
            port.frames = frames[name]
        if self.announce_waits and self.core.role is Role.ACTIVE:
            self._announce()

    def close(self) -> None:
        """Close every socket. Addresses are not touched."""
        for path in (*self.udp.values(), *self.former.values()):
            path.close()
        for port in self.watched.values():
            port.wire.close()
        self.announcer.close()
        self.advertiser.close()
