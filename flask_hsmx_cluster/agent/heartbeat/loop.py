"""The heartbeat: one loop, paced by the boot clock, that owns the sockets, the addresses and the decision core.

It runs as one APScheduler job without a trigger, because an interval job follows the wall clock. Nothing in it
waits for a disk, a database or another thread; others hand it work through :meth:`HeartbeatLoop.call`.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from ...decision import events
from ...decision.core import Core
from ...decision.model import Cause, Kind, Motive, Role, Start, Term
from ...errors import ClusterError, NetworkError, RequestRefused
from ...network.addresses import AddressLease
from ...network.clock import boot_time_s
from ...network.netlink import MonitorSocket, RequestSocket
from ...network.ports import Port, ignore_routers, prepare_port
from ...network.virtual_mac import is_virtual
from ...network.wire import FrameSender, PortSocket
from ..arbiter.hand import ArbiterHand
from ..clerk import Clerk
from ..data.replicator import ReplicatorLink
from ..membership import Membership
from . import plan
from .advertiser import advertiser_of
from .announcer import Announcer
from .database_hand import DatabaseHand
from .devices import lease_of, look_for, look_for_one, mac_of, ports_now, remove_virtual_devices, virtual_devices
from .frames import FrameBook, PortFrames
from .poll import Poll
from .reign import ReignMemory
from .services_hand import ServicesHand, ServicesLink
from .session import Session, WatchedPort, udp_paths
from .standing import StandingKeeper
from .start import start_of, stock_terms
from .status import Showing, alarms, degraded_since, snapshot
from .transport import EthernetPath
from .turn import take_turn
from .watchdog import Watchdog

log = logging.getLogger(__name__)
T = TypeVar("T")
#: The loop wakes at least this often, s.
LONGEST_SLEEP_S = 0.5
SLOW_TICK_S = 1.0
#: It may come this much earlier if the loop is awake anyway, s: each waking up costs more than what it is for.
SLOW_EARLY_S = 0.2
#: A wall-clock step larger than this is reported to whoever arms jobs by it, s.
CLOCK_STEP_S = 0.5


class HeartbeatLoop:
    """The agent's fast half (see :class:`~flask_hsmx_cluster.agent.hot.HotSide`).

    :param clerk: writes what must be kept.
    :param reigns: remembers the present reign.
    :param udp_port: UDP port of heartbeats.
    :param clock_stepped: called (on the loop's thread) after a step of the wall clock.
    :param link: the replicator; None where the database is not shared.
    :param synchronous: its commits are to wait for the other gateway.
    :param services: the process of services and hooks.
    :param arbiter: the hand on the process that talks to an arbiter.
    """

    def __init__(
        self,
        clerk: Clerk,
        reigns: ReignMemory,
        udp_port: int,
        clock_stepped: Callable[[], None] = lambda: None,
        link: ReplicatorLink | None = None,
        synchronous: bool = True,
        services: ServicesLink | None = None,
        arbiter: ArbiterHand | None = None,
    ) -> None:
        self.clerk, self._reigns = clerk, reigns
        self._database = DatabaseHand(link, synchronous)
        self.services = ServicesHand(services, clerk.record)
        self._arbiter = arbiter or ArbiterHand(None)
        self._standing = StandingKeeper(clerk)
        self._udp_port = udp_port
        self._clock_stepped = clock_stepped
        self._session: Session | None = None
        self._poll = Poll()
        self._stopping = threading.Event()
        self._applying = threading.Lock()
        self._book = FrameBook()
        self._handover: Future[events.HandoverEnded] | None = None
        self._maintenance_until: float | None = None
        self._showing: dict[str, Showing] = {}
        self._terms = (1, 0)
        self._peer_macs: dict[str, str] = {}
        self._start_adopts: Term | None = None
        self._reapply_failed = ""
        self.turns = 0
        self.slowest_turn_s = 0.0

    # For other threads ----------------------------------------------------------------------------------

    def call(self, work: Callable[[], T], timeout_s: float = 5.0) -> T:
        """Run ``work`` on the loop's thread and return its result."""
        return self._poll.call(work, timeout_s)

    def snapshot(self) -> dict[str, Any]:
        def look() -> dict[str, Any]:
            left_s, known = self._maintenance_left(), self._standing.known
            return snapshot(self._session, self._showing, left_s, self.clerk.dropped, known)

        return self.call(look)

    def ports(self) -> list[dict[str, Any]]:
        shared = self.call(self._shared)
        return [port.as_dict(shared) for port in ports_now() if not is_virtual(port)]

    def peer_macs(self) -> dict[str, str]:
        def read() -> dict[str, str]:
            return self._session.peer_macs() if self._session else {}

        return self.call(read)

    def probe_address(self, port: str, address: str, timeout_s: float) -> list[str]:
        """Return the MACs that answer for an address; uses a socket of its own, not the loop's."""
        return look_for_one(self._book, port, address, timeout_s)

    def probe_addresses(self, wanted: Mapping[str, Sequence[str]]) -> dict[tuple[str, str], list[str]]:
        """Return the MACs that answer for many addresses, over sockets of its own, not the loop's."""
        return look_for(self._book, wanted)

    def apply(self, membership: Membership | None) -> None:
        """Take over a membership: release what is no longer shared, keep what stays, without a gap.

        :raises NetworkError: a port is missing or the kernel refused; nothing of the new settings is in force.
        """
        with self._applying:
            if membership is not None:
                self._apply(membership)
            else:
                self.call(self._leave)
                remove_virtual_devices(keep=set())

    def _apply(self, membership: Membership) -> None:
        found = {port.name: port for port in ports_now()}
        virtual = {vip.port for vip in membership.settings.virtual_ips}
        missing = sorted(virtual - found.keys())  # networks and aliases of a port that is missing can wait for it
        if missing:
            raise NetworkError(
                f"There is no port {', '.join(missing)} on this gateway.",
                "Choose a port that exists, or plug it in.",
            )
        for name in plan.shared_by_port(membership.settings):
            if name in found:
                prepare_port(name)
        for name in plan.advertised_of(membership.settings).keys() & found.keys():
            ignore_routers(name)
        first = self.call(lambda: self._session is None)
        if first:
            self._terms = stock_terms(self.clerk)
        self._peer_macs = self.clerk.ledger.peer_macs()
        devices = virtual_devices(membership, found)
        lease = lease_of(membership, self._requests, found, devices)
        if first and not membership.claim:
            self.call(lambda: self._install(membership, found, devices, lease))  # frames may come a little later
            frames = self._book.build(membership, found)
        else:
            frames = self._book.build(membership, found)
            self.call(lambda: self._install(membership, found, devices, lease))
        self.call(lambda: self._hand_frames(membership, frames))
        remove_virtual_devices(keep={device.name for device in devices.values()})

    def request(self, action: str, **arguments: Any) -> dict[str, Any]:
        if action == "failover":
            return self._hand_over(Motive.REQUEST)
        if action == "restart":
            return self._leave_for_restart(float(arguments["within_s"]))
        if action == "take_over":
            self._ask_core(events.TakeOverRequested(str(arguments["by"])))
            return {}
        if action == "maintenance":
            return self._maintain(bool(arguments["on"]), int(arguments.get("duration_s", 3600)))
        raise RequestRefused(f"There is no action {action!r}.")

    def report_health(self, cause: Cause, bad: bool) -> None:
        """Take the result of a health check."""
        self.call(lambda: self._session.tell(events.HealthReport(cause, bad)) if self._session else None)

    def block_return(self, why: str) -> None:
        """Say what keeps the preferred gateway from taking over again; "": nothing."""
        self.call(lambda: self._session.tell(events.ReturnBlocked(why)) if self._session else None)

    def expect_settings(self) -> None:
        """The other gateway is about to put other settings in force."""
        self.call(lambda: self._session.tell(events.SettingsExpected()) if self._session else None)

    def restore_maintenance(self, left_s: float) -> None:
        """Go on with a maintenance that a restart interrupted."""
        self._maintenance_until = boot_time_s() + left_s

    def listen_to_children(self) -> None:
        """Listen to a process of the agent's own that was started just now."""
        self.call(self._listen_to_children)

    def stop(self) -> None:
        """Hand over if this gateway is active, say goodbye, and end the loop."""
        try:
            if self.call(lambda: self._session is not None and self._session.core.role is Role.ACTIVE):
                self._hand_over(Motive.STOP)
        except (ClusterError, TimeoutError) as error:
            log.warning("Stopping without a hand-over: %s", error)
        try:
            self.call(self._goodbye)
        finally:
            self.end()

    def end(self) -> None:
        """End the loop and touch nothing: the addresses stay as they are leased."""
        self._stopping.set()
        self._poll.wake()

    # The loop -------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run until :meth:`stop`. One thread only."""
        self._requests = RequestSocket()
        self._monitor = MonitorSocket()
        self._poll.register(self._monitor.fileno(), self._on_netlink)
        notify = Watchdog()
        slow_at = boot_time_s()
        wall_offset = time.time() - boot_time_s()
        while not self._stopping.is_set():
            session = self._session
            due = min(session.deadline(), slow_at) if session else slow_at
            before = boot_time_s()
            ready = self._poll.wait(max(0.0, min(due - before, LONGEST_SLEEP_S)))
            now = boot_time_s()
            take_turn(self._session, due, now, ready)
            self._poll.carry_out()
            if now >= slow_at - (SLOW_EARLY_S if ready else 0):
                slow_at = now + SLOW_TICK_S
                notify.ping()
                offset = time.time() - boot_time_s()
                if abs(offset - wall_offset) > CLOCK_STEP_S:
                    self.clerk.record("clock_step", "info", f"The clock was set by {offset - wall_offset:+.1f} s")
                    self._clock_stepped()
                wall_offset = offset
                self._slow_tick(now)
            self.turns += 1
            self.slowest_turn_s = max(self.slowest_turn_s, boot_time_s() - now)
        if self._session:
            self._session.close()
        self._monitor.close()
        self._requests.close()

    def _slow_tick(self, now: float) -> None:
        session = self._session
        if session is None:
            return
        session.slow_tick(now)
        self._standing.tick(session.core, degraded_since(session.core), now)
        self._register_session(session)
        if self._maintenance_until is not None and now >= self._maintenance_until:
            self._maintenance_until = None
            session.tell(events.MaintenanceSet(False))
        if session.stale:
            session.stale = False
            threading.Thread(target=self._reapply, args=(session.membership,), name="reapply", daemon=True).start()
        for showing in alarms(session, self._showing, now, self._standing.known):
            self.clerk.record(f"alarm_{showing.key}", showing.severity, showing.text)

    def _on_netlink(self) -> None:
        messages = self._monitor.receive()
        if self._session:
            self._session.netlink(messages)
            if self._monitor.overrun:
                self._monitor.overrun = False
                self._session.stale = True
                self._session.reconcile()

    def _listen_to_children(self) -> None:
        for hand, reader in (
            (self._database, self._on_replicator), (self.services, self._on_services),
            (self._arbiter, self._on_arbiter),
        ):  # fmt: skip
            if (descriptor := hand.fileno()) is not None:
                self._poll.register_anew(descriptor, reader)

    def _on_replicator(self) -> None:
        self._take(self._database.receive(), self._on_replicator)

    def _on_services(self) -> None:
        self._take(self.services.receive(), self._on_services)

    def _on_arbiter(self) -> None:
        self._take(self._arbiter.receive(), self._on_arbiter)

    def _take(self, found: list[events.Event] | None, own: Callable[[], None]) -> None:
        if found is None:  # the child has gone: its descriptor is closed, and so out of the poll
            self._poll.forget(own)
            return
        for event in found:
            if self._session:
                self._session.tell(event)

    # On the loop's thread -------------------------------------------------------------------------------

    def _install(
        self, membership: Membership, found: dict[str, Port], devices: dict[str, Port], lease: AddressLease
    ) -> None:
        old = self._session
        core_plan = plan.core_plan(
            membership, self._udp_port, self._peer_macs, self._database.shared, self._database.synchronous,
            self.services.follow, self.services.checks, self._arbiter.use,
        )  # fmt: skip
        by_port = plan.shared_by_port(membership.settings)
        watched = {
            name: _watch(found[name], shared, by_port[name], devices.get(name))
            for name, shared in plan.watched_of(membership.settings).items()
            if name in found
        }
        udp, former = udp_paths(plan.udp_paths(membership, self._udp_port), old)
        ethernet: dict[str, EthernetPath] = {}
        for one in (path for path in plan.ethernet_paths(membership) if path.port in watched):
            ethernet[one.port] = EthernetPath(one.name, one.tag, one.port)
            ethernet[one.port].wire = watched[one.port].wire
        names = {*by_port, *(path.ends.device for path in udp.values())}
        codec = plan.codec_for(membership, secrets.token_bytes(8))  # a codec counts from 0: never twice as the same
        advertiser = advertiser_of(membership.settings, found, devices)
        if old is not None:
            advertiser.succeed(old.advertiser, boot_time_s())
            same_peer = old.core.plan.peer == core_plan.peer and old.codec.keys == codec.keys
            codec = old.codec if same_peer else codec
            core = old.core
            self._forget_sockets(old)
            core.replan(core_plan, boot_time_s())
        else:
            core = Core(core_plan, self._start(membership, lease), boot_time_s())
        session = self._session = Session(
            membership,
            core,
            codec,
            self._requests,
            self.clerk,
            self._reigns,
            lease,
            udp,
            ethernet,
            watched,
            {name: found[name].index if name in found else 0 for name in names},
            frozenset(str(address) for address in membership.settings.advanced.references),
            self._handover_ended,
            self._database,
            self.services,
            Announcer(FrameSender()),
            self._monitor.hear_additions,
            tuple(sorted(by_port.keys() - found.keys())),
            former=former,
            advertiser=advertiser,
            arbiter=self._arbiter,
        )
        self._monitor.hear_additions(core.role is not Role.ACTIVE)
        for name in names:
            session.tell(events.Carrier(name, name in found and found[name].carrier))
        if old is not None:
            self._carry_over(old, session)
        elif core.role is Role.PASSIVE and self._start_adopts is None:
            session.start_clean()
        session.slow_tick(boot_time_s())
        self._register_session(session)

    def _carry_over(self, old: Session, new: Session) -> None:
        """Addresses that are shared no more go, those that stay are renewed, new ones come: without a gap."""
        kept, routes = set(new.lease.addresses), set(new.lease.routes)
        gone = [address for address in old.lease.addresses if address not in kept]
        gone_routes = [route for route in old.lease.routes if route not in routes]
        if gone or gone_routes:
            AddressLease(self._requests, gone, 2, gone_routes).release()
        if new.core.role is Role.ACTIVE and new.core.renewed_at is not None:  # else they still wait for data, services
            new.remember_reign(new.core.term)  # an operator may have changed what was asked for
            new.perform([events.Renew(), events.Announce()])

    def _start(self, membership: Membership, lease: AddressLease) -> Start:
        start = start_of(
            membership.node_id,
            self._terms,
            self._reigns.recall(membership.node_id, membership.settings.cluster_id),
            self._leased_for(lease),
            float(membership.settings.advanced.boot_hold_s),
            self._standing.load(),
            boot_time_s(),
            membership.claim,
            self._maintenance_until is not None,
        )
        self._start_adopts = start.adopt
        return start

    def _leased_for(self, lease: AddressLease) -> float:
        """Return how long the kernel keeps virtual IPs and networks still, s; 0 if one is missing or not leased."""
        held = {(address.device, address.address): address.valid_s for address in self._requests.addresses()}
        few = [address for address in lease.addresses if not address.alias]  # the others are renewed less often
        left = [held.get((address.index, str(address.interface.ip))) for address in few]
        return float(min((one or 0 for one in left), default=0))

    def _hand_frames(self, membership: Membership, frames: dict[str, PortFrames]) -> None:
        if self._session is not None and self._session.membership is membership:
            self._session.set_frames(frames)

    def _leave(self) -> None:
        if self._session is None:
            with contextlib.suppress(OSError):  # it says of which cluster it is
                self._reigns.forget()
            return
        self._session.take_leave()
        self._session.perform([events.Release()])
        self._forget_sockets(self._session)
        self._session = None
        self._showing.clear()

    def _goodbye(self) -> None:
        if self._session:
            self._session.perform([events.Send(Kind.BYE)])
            self._session.take_leave()

    def _forget_sockets(self, session: Session) -> None:
        children = (self._database, self.services, self._arbiter)
        self._poll.keep_only((self._monitor.fileno(), *(child.fileno() for child in children)))
        session.close()

    def _register_session(self, session: Session) -> None:
        for path in (*session.udp.values(), *session.former.values()):
            self._poll.register_once(path.fileno(), partial(session.receive_udp, path))
        for port in session.watched.values():
            self._poll.register_once(port.wire.fileno(), partial(session.receive_frames, port))
        self._poll.register_once(session.advertiser.fileno(), lambda: session.advertiser.receive(boot_time_s()))

    def _handover_ended(self, result: events.HandoverEnded) -> None:
        if self._handover and not self._handover.done():
            self._handover.set_result(result)

    def _shared(self) -> frozenset[str]:
        if self._session is None:
            return frozenset()
        return frozenset(str(address.interface.ip) for address in self._session.lease.addresses)

    def _maintenance_left(self) -> int | None:
        if self._maintenance_until is None:
            return None
        return max(0, int(self._maintenance_until - boot_time_s()))

    # Helpers of the verbs -------------------------------------------------------------------------------

    def _leave_for_restart(self, within_s: float) -> dict[str, Any]:
        """Lease the addresses for that long, and fall silent: this process must end now."""
        if self.call(lambda: self._session is None):
            return {"within_s": within_s}
        self._ask_core(events.RestartRequested(within_s))
        return {"within_s": within_s}

    def _hand_over(self, motive: Motive) -> dict[str, Any]:
        result = self._ask_core(events.FailoverRequested(motive))
        return {"took_ms": round(result.took_s * 1000, 2), "to": self._peer_name()}

    def _ask_core(self, event: events.Event) -> events.HandoverEnded:
        """Tell the core what is wanted of the role, and wait for the end of it.

        :raises RequestRefused: it was not possible.
        """

        def begin() -> Future[events.HandoverEnded] | None:
            if self._session is None:
                return None
            if self._session.core.active.handover is not None:
                raise RequestRefused("A hand-over is under way already", "Wait a second and look at the status.")
            future = self._handover = Future()
            self._session.tell(event)
            return future

        future = self.call(begin)
        if future is None:
            raise RequestRefused("This gateway is not in a cluster.", "Create or join one first.")
        result = future.result(5.0)
        if not result.ok:
            raise RequestRefused(result.text, "Nothing was changed. Look at the other gateway's state, then repeat.")
        return result

    def _peer_name(self) -> str:
        return self.call(lambda: self._session.core.plan.peer_name if self._session else "")

    def _maintain(self, on: bool, duration_s: int) -> dict[str, Any]:
        def look() -> tuple[bool, bool]:
            if self._session is None:
                raise RequestRefused("This gateway is not in a cluster.", "Create or join one first.")
            peer = self._session.core.peer
            return self._session.core.role is Role.ACTIVE, bool(peer and peer.maintenance)

        active, peer_maintained = self.call(look)
        if on and peer_maintained:
            raise RequestRefused("The other gateway is in maintenance.", "End its maintenance first.")
        if on and active:
            self._hand_over(Motive.MAINTENANCE)

        def switch() -> None:
            self._maintenance_until = boot_time_s() + duration_s if on else None
            if self._session:
                self._session.tell(events.MaintenanceSet(on))

        self.call(switch)
        return {"on": on, "left_s": duration_s if on else 0}

    def _reapply(self, membership: Membership) -> None:
        """Apply the settings in force anew, unless they have been replaced, or left, meanwhile."""
        text = ""
        with self._applying:
            if self._session is None or self._session.membership is not membership:
                return
            try:
                self._apply(membership)
            except ClusterError as error:
                text = f"The network changed, and: {error.message}"
            except (OSError, TimeoutError) as error:
                text = f"The network changed, and: {error}"
        if text:
            self.call(self._mark_stale)
            if text != self._reapply_failed:
                self.clerk.record("apply_failed", "critical", text)
        self._reapply_failed = text

    def _mark_stale(self) -> None:
        if self._session:
            self._session.stale = True


def _watch(port: Port, watched: list[plan.Shared], shared: list[plan.Shared], device: Port | None) -> WatchedPort:
    wire = PortSocket(port.name, port.index, mac_of(port))
    asked, all_of_it = (frozenset(str(one.address.ip) for one in some) for some in (watched, shared))
    virtual_mac = mac_of(device) if device else b""
    return WatchedPort(port.name, port.index, mac_of(port), wire, asked, all_of_it, virtual_mac)
