"""One gateway: the shipped session and decision core on a simulated kernel, and all that can happen to it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from flask_hsmx_cluster.agent.arbiter.hand import ArbiterHand
from flask_hsmx_cluster.agent.heartbeat.announcer import Announcer
from flask_hsmx_cluster.agent.heartbeat.database_hand import DatabaseHand
from flask_hsmx_cluster.agent.heartbeat.datagram import Codec
from flask_hsmx_cluster.agent.heartbeat.reign import Reign
from flask_hsmx_cluster.agent.heartbeat.services_hand import BEFORE_ACTIVE, BEFORE_PASSIVE, ServicesHand
from flask_hsmx_cluster.agent.heartbeat.session import Session, WatchedPort
from flask_hsmx_cluster.agent.heartbeat.standing import StandingKeeper
from flask_hsmx_cluster.agent.heartbeat.start import start_of, stock_terms
from flask_hsmx_cluster.agent.heartbeat.status import degraded_since
from flask_hsmx_cluster.agent.heartbeat.turn import take_turn
from flask_hsmx_cluster.decision import events
from flask_hsmx_cluster.decision.core import Core
from flask_hsmx_cluster.decision.model import Role, Term
from flask_hsmx_cluster.errors import NetworkError
from flask_hsmx_cluster.network.netlink import KernelAddress
from flask_hsmx_cluster.network.wire import Frame

from .clocks import Clocks
from .database import Database
from .disk import SimulatedClerk
from .lan import PORT_HOLDS, SimulatedPort, frames_of
from .services import Followers
from .wires import SOCKET_HOLDS, SimulatedPath

if TYPE_CHECKING:
    from .world import World

CLUSTER = "simulated"
MACS = {"a": b"\2\0\0\0\0\1", "b": b"\2\0\0\0\0\2"}
#: How late the kernel ends a lease, s: it rounds the time, and its timer wheel rounds it again (measured).
EXPIRES_LATE_S = (0.01, 0.1, 0.25, 0.52)
SLOW_TICK_S, SLOW_EARLY_S, LONGEST_SLEEP_S = 1.0, 0.2, 0.5
#: What has not been read in one turn is read in the next, after this time, s.
AGAIN_S = 0.00005
#: A timer comes a little late, never early.
WAKES_LATE_S = 0.00002
DEVICE = 1


class Crash(BaseException):
    """The agent ends here and now, between two effects. No ``except Exception`` stops it."""


class SimulatedLease:
    """The kernel's leased address, as the agent's hand on it sees it."""

    def __init__(self, machine: Machine, address: str) -> None:
        self.machine, self.address = machine, address
        self.keys = frozenset({(DEVICE, address)})
        self.addresses = [address]
        self._held = False

    def hold(self) -> None:
        self._extend()
        self._held = True

    def renew(self) -> None:
        self._extend() if self._held else self.hold()

    def hold_for(self, lease_s: int) -> None:
        self._extend(float(lease_s))

    def release(self) -> None:
        self._held = False
        machine = self.machine
        if machine.trap is not None:
            machine.trap()
        machine.drops()

    def _extend(self, lease_s: float | None = None) -> None:
        machine = self.machine
        if machine.trap is not None:
            machine.trap()
        if machine.refuses:
            raise NetworkError("Permission denied")
        machine.leases(self.address, lease_s or machine.world.timing.lease_s)


class SimulatedSession(Session):
    """The shipped session, with an ear at its effects."""

    machine: Machine

    def perform(self, effects: list[events.Effect]) -> None:
        if effects:
            self.machine.world.performed(self.machine, effects)
            super().perform(effects)

    def _claim(self, effect: events.Claim) -> None:
        self.machine.world.released.append(effect.released)
        super()._claim(effect)

    def _ask(self) -> None:
        self.machine.asked.append(self.machine.world.now)
        super()._ask()


class SimulatedReignMemory:
    """What outlives the agent, but not the machine; see ``agent/heartbeat/reign.py``."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._reign: Reign | None = None

    def remember(self, reign: Reign | None) -> None:
        if self._machine.trap is not None:
            self._machine.trap()
        self._reign = reign

    def forget(self) -> None:
        self.remember(None)

    def recall(self, node: str, cluster: str) -> Reign | None:
        reign = self._reign
        return reign if reign is not None and (reign.node, reign.cluster) == (node, cluster) else None

    def lose(self) -> None:
        """The machine has lost its power."""
        self._reign = None


class Machine:
    """One gateway of a :class:`~.world.World`, which knows it by its name ``a`` or ``b``."""

    peer: Machine

    def __init__(self, name: str, world: World) -> None:
        self.name, self.world, self.mac = name, world, MACS[name]
        self.powered = True
        self.frozen = False  #: its agent stands still
        self.paused = False  #: the hypervisor holds the whole machine, kernel and all
        self.refuses = False  #: its kernel takes no address
        self.member = True
        self.carrier = {"lan0": True, "sync0": True, "backup0": True}
        self.clocks = Clocks(world)
        self.held, self.leased_at, self.leased_for_s, self.lease_until = "", 0.0, 0.0, float("-inf")
        self.clerk = SimulatedClerk(self)
        self.reigns = SimulatedReignMemory(self)
        self.keeper = StandingKeeper(self.clerk)  # type: ignore[arg-type]
        self.database = Database(self)
        self.followers = Followers(self)
        self.session: SimulatedSession | None = None
        self.trap: Callable[[], None] | None = None  #: called at each effect: crash or stand still here
        self.standing_still = False  #: in the midst of a turn
        self.terms: list[Term] = []
        self.notes: list[events.Note] = []
        self.handovers: list[events.HandoverEnded] = []
        self.asked: list[float] = []  #: when it asked for the addresses
        self.maintenance = False
        self.ends_maintenance_at = 0.0
        self.stopping = False  #: its agent was asked to end
        self._ready: dict[Callable[[], None], None] = {}
        self._due = self._slow_at = float("inf")
        self._timer_at = self._expiry_at = float("inf")
        self.paths: dict[str, SimulatedPath] = {}
        self.wire = SimulatedPort(self)

    @property
    def core(self) -> Core | None:
        return self.session.core if self.session else None

    # The agent --------------------------------------------------------------------------------------------

    def start_agent(self, claim: bool = False) -> None:
        """Start an agent as the shipped one starts: from its disk, its memory and what the kernel still holds."""
        self.end_agent()
        with self.clocks:
            world, now = self.world, self.clocks.boot_s()
            plan = world.plan(self.name)
            terms = stock_terms(self.clerk, world.dice.randrange)  # type: ignore[arg-type]
            left_s = self.valid_s() if self.holds(plan.addresses[0]) else 0
            start = start_of(
                plan.node, terms, self.reigns.recall(plan.node, CLUSTER), left_s, world.timing.boot_hold_s,
                self.keeper.load(), now, claim, self.maintenance,
            )  # fmt: skip
            self.frozen = False
            self.install(Core(plan, start, now), self.new_codec())
            if start.adopt is None and not claim:
                self._guarded(lambda session: session.start_clean())
            self._slow_at = self._due = now
        self.turn()

    def install(self, core: Core, codec: Codec) -> None:
        """Put a core to work with sockets and hands of its own, as the agent does when settings change."""
        world, plan = self.world, core.plan
        names = {path.name for path in plan.paths}
        self.paths = {path.name: world.path(self, path) for path in plan.paths}
        udp = {name: path for name, path in self.paths.items() if path.tag < 16}
        ethernet = {path.port: path for path in self.paths.values() if path.tag >= 16}
        self.wire = SimulatedPort(self)
        self.wire.path = next(iter(ethernet.values()), SimulatedPath(self, "", 16, "lan0", world.no_wire))
        link = self.followers if world.services else None
        services: Any = ServicesHand(link, lambda *_words: None)  # type: ignore[arg-type]
        services.follow, services.awaited = world.services, (BEFORE_ACTIVE, BEFORE_PASSIVE)
        self.database.shared = world.data
        address = plan.addresses[0]
        kept = bool(self.session) and self.session is not None and self.session.lease._held
        lease = SimulatedLease(self, address)
        lease._held = kept
        anything: dict[str, Any] = {
            "membership": self._membership(), "requests": self, "clerk": self.clerk, "reigns": self.reigns,
            "lease": lease, "udp": udp, "ethernet": ethernet,
            "watched": {"lan0": WatchedPort("lan0", DEVICE, self.mac, self.wire, frozenset({address}),  # type: ignore[arg-type]
                                            frozenset({address}))},
            "database": DatabaseHand(self.database, world.synchronous),  # type: ignore[arg-type]
            "announcer": Announcer(self.wire),
        }  # fmt: skip
        self.session = SimulatedSession(
            core=core, codec=codec, link_index={}, references=frozenset(), ended=self.handovers.append,
            services=services, hear_additions=lambda _on: None,
            arbiter=self.session.arbiter if self.session else world.arbiter_hand(self), **anything,
        )  # fmt: skip
        self.session.machine = self
        for path in udp.values():
            path.reader = _Reader(self.session.receive_udp, path)
        self._port_reader = self.wire.path.reader = _Reader(self.session.receive_frames, self.session.watched["lan0"])
        self._ready.clear()
        self.session.set_frames({"lan0": frames_of(self.mac, address)})
        for port in sorted({"lan0"} | {path.port for path in plan.paths if path.name in names}):
            self._guarded(lambda session, port=port: session.tell(events.Carrier(port, self.carrier[port])))  # type: ignore[misc]

    def end_agent(self) -> None:
        """The agent's processes are gone, at once; what they had not yet written is lost."""
        self.session, self.trap = None, None
        self.standing_still = False
        self._ready.clear()
        self.clerk.lose()
        self.followers.end()
        self.database.inbox.clear()
        self.world.watch()

    def turn(self) -> None:
        """Let the agent take a turn, if it can."""
        session = self.session
        if session is None or self.frozen or self.paused or self.standing_still or not self.powered:
            return
        clocks = self.clocks
        clocks.__enter__()
        try:
            now = clocks.reading_s
            ready, self._ready = self._ready, {}
            take_turn(session, self._due, now, ready)
            for reader in ready:
                self._look_again(reader)
            if self.session is session and now >= self._slow_at - (SLOW_EARLY_S if ready else 0):
                self._slow_at = now + SLOW_TICK_S
                session.slow_tick(now)
                self.keeper.tick(session.core, degraded_since(session.core), now)
        except Crash:
            if self.session is session:
                self.end_agent()
        finally:
            clocks.__exit__()
        self.arm()

    def tell(self, event: events.Event) -> None:
        self._within(lambda session: session.tell(event))

    def perform(self, effects: list[events.Effect]) -> None:
        self._within(lambda session: session.perform(effects))

    def arm(self) -> None:
        """Have the next turn come when it is due."""
        session = self.session
        if session is None:
            return
        if self.frozen or self.paused or self.standing_still:
            return  # what was due stays due
        if session.core.restart.over:  # all is said, and the process ends
            self.end_agent()
            return
        self._due = min(session.deadline(), self._slow_at)
        now = self.world.now
        at = max(self.clocks.true_s(min(self._due, self.clocks.boot_s() + LONGEST_SLEEP_S)), now) + WAKES_LATE_S
        if at < self._timer_at:
            self._timer_at = at
            self.world.at(at - now, self._timer, at)

    def stand_still(self, seconds: float) -> None:
        """In the midst of a turn: time passes for everybody else."""
        session, self.standing_still = self.session, True
        self.world.run(seconds)
        if self.session is not session:
            raise Crash
        self.standing_still = False
        self.clocks.read()
        self.world.at(0.0, self.turn)

    def at_effect(self, count: int, what: Callable[[], None]) -> None:
        """Do something before the agent's ``count``-th effect on the world outside from now on."""
        left = count

        def spring() -> None:
            nonlocal left
            left -= 1
            if left <= 0:
                self.trap = None
                what()

        self.trap = spring

    def crash_at_effect(self, count: int) -> None:
        def crash() -> None:
            raise Crash

        self.at_effect(count, crash)

    # What arrives -----------------------------------------------------------------------------------------

    def arrives(self, path: str, data: bytes) -> None:
        found = self.paths.get(path)
        if found is None or self.session is None or not self.powered or len(found.inbox) >= SOCKET_HOLDS:
            return
        found.inbox.append(data)
        assert found.reader is not None
        self._wake(found.reader)

    def sees(self, frame: Frame) -> None:
        if self.session is not None and self.powered and len(self.wire.inbox) < PORT_HOLDS:
            self.wire.inbox.append(frame)
            self._wake(self._port_reader)

    def reads_database(self) -> None:
        self._wake(self._read_database)

    def reads_services(self) -> None:
        self._wake(self._read_services)

    def reads_arbiter(self) -> None:
        self._wake(self._read_arbiter)

    def hears_carrier(self, port: str, up: bool) -> None:
        self._wake(partial(self._carrier, port, up))

    # The kernel -------------------------------------------------------------------------------------------

    def holds(self, address: str = "") -> bool:
        """Return whether the kernel holds a shared address: this one, or any."""
        return self.powered and self.lease_until > self.world.now and address in ("", self.held)

    def answers(self) -> bool:
        """Return whether guests who know this gateway's MAC reach the address."""
        return self.holds() and not self.paused and self.world.lan.hears(self)

    def addresses(self) -> list[KernelAddress]:
        return [KernelAddress(DEVICE, self.held, 32, self.valid_s())] if self.holds() else []

    def valid_s(self) -> int:
        """Return the remaining lifetime as the kernel tells it: whole seconds, begun ones included."""
        return max(0, int(self.leased_for_s) - int(self.world.now - self.leased_at))

    def leases(self, address: str, lease_s: float) -> None:
        """Hold an address for a lease; the kernel also takes it where it had lapsed."""
        world, fresh = self.world, not self.holds(address)
        core = self.core
        if core is not None and core.role is Role.ACTIVE and core.term not in self.terms[-1:]:
            self.terms.append(core.term)  # else an agent that goes on after a restart
            world.reigns.append(core.term)
        self.held, self.leased_at, self.leased_for_s = address, world.now, lease_s
        self.lease_until = world.now + lease_s / self.clocks.rate + world.dice.choice(EXPIRES_LATE_S)
        if fresh:
            world.watch()
            if core is None or core.role is not Role.ACTIVE:  # others' additions are told then
                self._wake(self._kernel_told)
        if self._expiry_at > self.lease_until or self._expiry_at < world.now:
            self._expiry_at = self.lease_until
            world.at(self.lease_until - world.now, self._expires)

    def pause(self) -> None:
        """The hypervisor holds the whole machine."""
        self.paused = True
        self.world.watch()

    def resume(self, stood_s: float = 0.0) -> None:
        """It lets go.

        :param stood_s: for how long its clock stood still, too.
        """
        self.paused = False
        if stood_s:
            self.clocks.stood(stood_s)
            self.lease_until += stood_s
            self.leased_at += stood_s
        self.world.watch()
        if self.lease_until > float("-inf"):
            self._expiry_at = max(self.lease_until, self.world.now)
            self.world.at(self._expiry_at - self.world.now, self._expires)
        self.turn()

    def drops(self) -> None:
        self.lease_until = float("-inf")
        self.world.watch()

    def _expires(self) -> None:
        world = self.world
        if self.paused:  # the kernel's timers stand still, too
            self._expiry_at = float("inf")
            return
        if self.lease_until > world.now:
            self._expiry_at = self.lease_until
            world.at(self.lease_until - world.now, self._expires)
            return
        self._expiry_at = float("inf")
        world.watch()
        if self.lease_until > float("-inf"):
            self.lease_until = float("-inf")
            self._wake(self._kernel_told)

    # Within -----------------------------------------------------------------------------------------------

    def noted(self, kind: str, severity: Any, text: str, evidence: tuple[str, ...]) -> None:
        self.notes.append(events.Note(kind, severity, text, evidence))
        self.world.noted(self, kind, text, evidence)

    def _membership(self) -> SimpleNamespace:
        """Return what the session reads of it."""
        return SimpleNamespace(settings=SimpleNamespace(cluster_id=CLUSTER), node_id=self.name * 32)

    def new_codec(self) -> Codec:
        world, name = self.world, self.name
        draw = world.draw
        return Codec(
            b"simulate", bytes.fromhex(name * 32), bytes.fromhex(self.peer.name * 32), {1: world.key}, 1, draw(),
            SimpleNamespace(draw=draw),  # type: ignore[arg-type]
        )  # fmt: skip

    def _look_again(self, reader: Callable[[], None]) -> None:
        if isinstance(reader, _Reader) and reader.waits():
            self._ready[reader] = None
            self.world.at(AGAIN_S, self.turn)

    def _wake(self, reader: Callable[[], None]) -> None:
        self._ready[reader] = None
        self.turn()

    def _timer(self, at: float) -> None:
        if at != self._timer_at:
            return
        self._timer_at = float("inf")
        if self.session is None or self.frozen or self.paused or self.standing_still:
            return  # whoever lets it go on has it take a turn
        if self.clocks.boot_s() >= self._due:
            self.turn()
        else:
            self.arm()

    def _guarded(self, work: Callable[[SimulatedSession], None]) -> None:
        session = self.session
        if session is None:
            return
        try:
            work(session)
        except Crash:
            if self.session is session:
                self.end_agent()

    def _within(self, work: Callable[[SimulatedSession], None]) -> None:
        """What other threads ask for is done at once, or in the next turn of an agent that stands still."""
        if self.frozen or self.paused or self.standing_still:
            self._ready[partial(self._guarded, work)] = None
            return
        with self.clocks:
            self._guarded(work)
        self.arm()

    def _read_database(self) -> None:
        self._take(self.session.database if self.session else None)

    def _read_services(self) -> None:
        self._take(self.session.services if self.session else None)

    def _read_arbiter(self) -> None:
        self._take(self.session.arbiter if self.session else None)

    def _take(self, hand: DatabaseHand | ServicesHand | ArbiterHand | None) -> None:
        for event in (hand.receive() or ()) if hand else ():
            if self.session:
                self.session.tell(event)

    def _carrier(self, port: str, up: bool) -> None:
        if self.session:
            self.session.tell(events.Carrier(port, up))

    def _kernel_told(self) -> None:
        if self.session:
            self.session.reconcile()


class _Reader:
    """Reads one socket."""

    __slots__ = ("read", "what")

    def __init__(self, read: Callable[[Any], None], what: Any) -> None:
        self.read, self.what = read, what

    def __call__(self) -> None:
        self.read(self.what)

    def waits(self) -> bool:
        what = self.what
        return bool(what.inbox) if isinstance(what, SimulatedPath) else bool(what.wire.inbox or what.wire.path.inbox)

