"""A small world for two gateways: a heap of events, and a clock that jumps from one to the next.

Two shipped sessions and decision cores, with the shipped codec and order of effects, on simulated wires, kernels,
disks and databases. Everything random comes from seeded generators, so that a seed reproduces a run to the byte.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Set
from hashlib import blake2b
from heapq import heappop, heappush
from itertools import count
from typing import Any

from flask_hsmx_cluster.agent.arbiter.hand import ArbiterHand
from flask_hsmx_cluster.agent.heartbeat.datagram import path_tag
from flask_hsmx_cluster.decision import events
from flask_hsmx_cluster.decision.model import Motive, Path, Plan, Role, Term, Timing
from flask_hsmx_cluster.network.wire import AddressClaim

from .database import Replication
from .lan import Lan
from .machine import MACS, Machine
from .wires import SimulatedPath, Wire

ADDRESS = "10.0.0.100"
PATHS = (
    Path("sync", "sync", "sync0", True),
    Path("backup", "backup", "backup0", True),
    Path("service", "service", "lan0"),
    Path("lan0 (Ethernet)", "ethernet", "lan0"),
)
ALL_PATHS = frozenset(path.name for path in PATHS)
DIRECT_PORTS = ("sync0", "backup0")
TIMING = Timing()
#: The kernel tells of a carrier this late, s.
CARRIER_TOLD_S = 0.004
#: Effects and faults kept for the words about a violation.
RECENT = 60


class World:
    """Two gateways, their cables, a LAN with guests.

    :param data: the database is shared; ``replicates``: its streams and clients that write are simulated, too, else
        a test says itself how it follows.
    :param services: something follows the role.
    :param strangers: guests are heard on the LAN.
    """

    def __init__(self, seed: int = 0, timing: Timing = TIMING, strangers: bool = True, data: bool = False,
                 synchronous: bool = True, services: bool = False, replicates: bool = False) -> None:
        self.dice = random.Random(seed)
        self.timing = timing
        self.now = 1000.0
        self.digest = blake2b(digest_size=16)
        self.key = self.draw() * 4
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._numbers = count()
        self.settings = {"a": (0, ADDRESS), "b": (0, ADDRESS)}  #: revision and virtual IP in force on each
        self.cut: Set[str] = set()
        self.lan_up = {"a": True, "b": True}
        self.isolated = False
        self.loss = 0.0
        self.strangers = strangers
        self.data, self.synchronous, self.services = data, synchronous, services
        self.wires = {(path.name, name): Wire() for path in PATHS for name in MACS}
        self.no_wire = Wire(cut=True)
        self.wall_factor = 1.0  #: by this every step of a wall clock is another one
        self.log: list[str] = []
        self.recent: deque[str] = deque(maxlen=RECENT)
        self.effects = 0
        self.observers: list[Callable[[Machine, events.Effect], None]] = []
        self.watchers: list[Callable[[], None]] = []
        self.released: list[bool] = []  #: of each claim whether it knew that the other gateway had released
        self.reigns: list[Term] = []
        self.forget_figures()
        self.machines = {name: Machine(name, self) for name in MACS}
        a, b = self.machines.values()
        a.peer, b.peer = b, a
        for machine in self.machines.values():
            machine.clocks.boot(self.now)
        self.lan = Lan(self)
        self.replication = Replication(self) if replicates else None

    # Time -----------------------------------------------------------------------------------------------

    def at(self, delay: float, act: Callable[..., None], *arguments: Any) -> None:
        """Let something happen later."""
        heappush(self._heap, (self.now + delay, next(self._numbers), act, arguments))

    def run(self, seconds: float) -> None:
        """Let time pass."""
        until = self.now + seconds
        self.watch()
        for machine in self.machines.values():
            machine.arm()
        heap = self._heap
        while heap and heap[0][0] <= until:
            at, _number, act, arguments = heappop(heap)
            if at > self.now:  # an agent that stood still in the midst of a turn has let time pass
                self.now = at
            act(*arguments)
        self.now = max(self.now, until)

    # Set-up ---------------------------------------------------------------------------------------------

    def plan(self, name: str) -> Plan:
        peer = "b" if name == "a" else "a"
        member = self.machines[peer].member
        return Plan(
            node=name * 32,
            peer=peer * 32 if member else "",
            peer_name=f"gw-{peer}" if member else "",
            paths=PATHS if member else (),
            peer_macs=(MACS[peer] if member else b"",),
            ports=("lan0",),
            addresses=(self.settings[name][1],),
            timing=self.timing,
            revision=self.settings[name][0],
            data=self.data,
            synchronous=self.synchronous,
            services=self.services,
            checks=("card",),
        )

    def path(self, machine: Machine, path: Path) -> SimulatedPath:
        return SimulatedPath(
            machine, path.name, path_tag(path.kind), path.port, self.wires[path.name, machine.name]
        )

    def arbiter_hand(self, _machine: Machine) -> ArbiterHand:
        """Return a new agent's hand on the arbiter: there is none."""
        return ArbiterHand(None)

    def draw(self) -> bytes:
        return self.dice.randbytes(8)

    def start(self, name: str, claim: bool = False, machine_boot: bool = True) -> None:
        """Start an agent (after a boot of its machine, or alone)."""
        machine = self.machines[name]
        if machine_boot:
            self.boot(machine)
        machine.start_agent(claim)

    def boot(self, machine: Machine) -> None:
        """The kernel comes up."""
        machine.lease_until = float("-inf")
        machine.reigns.lose()
        machine.powered, machine.paused = True, False
        machine.clocks.boot(machine.clocks.boot_s())
        machine.database.crash()
        for port in DIRECT_PORTS:
            for one in self.machines.values():
                one.carrier[port] = machine.peer.powered

    def form(self) -> None:
        """Bring both up, A active."""
        self.start("a", claim=True)
        self.run(0.2)
        self.start("b")
        for port in DIRECT_PORTS:
            self.set_carrier("a", port, True)
        self.run(self.timing.boot_hold_s + 2.0)

    # Faults ---------------------------------------------------------------------------------------------

    def power_off(self, name: str, switched: bool = False) -> None:
        """Cut the power.

        :param switched: the cables between the two go through a switch: the other one's carriers stay.
        """
        machine = self.machines[name]
        machine.end_agent()
        machine.powered = machine.frozen = machine.paused = False
        machine.database.crash()
        machine.drops()
        for port in DIRECT_PORTS:
            machine.carrier[port] = False
            if not switched:
                self.set_carrier(machine.peer.name, port, False)

    def power_on(self, name: str) -> None:
        self.start(name)
        for port in DIRECT_PORTS:
            self.set_carrier(self.other(name).name, port, True)

    def change(self, name: str, revision: int, address: str) -> None:
        """Put a settings revision with another virtual IP in force on one gateway."""
        self.settings[name] = (revision, address)
        self.replan(name)

    def replan(self, name: str, new_key: bool = False) -> None:
        """Have a running agent take what is in force now, as it does: addresses that stay have no gap."""
        machine = self.machines[name]
        session = machine.session
        assert session is not None
        with machine.clocks:
            session.core.replan(self.plan(name), machine.clocks.boot_s())
            active = session.core.role is Role.ACTIVE and session.core.renewed_at is not None
            if machine.held != self.settings[name][1] and machine.holds():
                machine.drops()
            machine.install(session.core, machine.new_codec() if new_key else session.codec)
        if active:
            machine.perform([events.Renew(), events.Announce()])
        machine.arm()

    def kill(self, name: str) -> None:
        self.machines[name].end_agent()

    def freeze(self, name: str) -> None:
        self.machines[name].frozen = True

    def thaw(self, name: str) -> None:
        self.machines[name].frozen = False
        self.machines[name].turn()

    def pause(self, name: str, seconds: float, clock_too: bool = False) -> None:
        """Let the whole machine stand still; its kernel answers nothing, its clock goes on (or stands, too)."""
        self.machines[name].pause()
        self.run(seconds)
        self.machines[name].resume(seconds if clock_too else 0.0)

    def set_carrier(self, name: str, port: str, up: bool) -> None:
        machine = self.machines[name]
        machine.carrier[port] = up
        self.at(CARRIER_TOLD_S, machine.hears_carrier, port, up)
        self.watch()

    def stranger_claims(self, name: str, mac: bytes = b"\xee" * 6) -> None:
        """Let a gateway see somebody else use the virtual IP."""
        self.at(0.0, self.machines[name].sees, AddressClaim(mac, ADDRESS))

    def fail_over(self, name: str, motive: Motive = Motive.REQUEST) -> None:
        self._tell(self.machines[name], events.FailoverRequested(motive))

    def follow(self, name: str, follows: bool) -> None:
        """Tell a gateway how the other one's database follows, as its agent does several times a second."""
        self._tell(self.machines[name], events.FollowerSeen(follows, follows))

    def other(self, name: str) -> Machine:
        return self.machines[name].peer

    def _tell(self, machine: Machine, event: events.Event) -> None:
        machine.tell(event)

    def _do(self, machine: Machine, effects: list[events.Effect]) -> None:
        machine.perform(effects)

    # What passes ----------------------------------------------------------------------------------------

    def passes(self, path: str, port: str, sender: str) -> bool:
        """Return whether a datagram could pass: cables, switch, power. Loss is the wire's."""
        if self.cut and (path in self.cut or f"{path}:{sender}" in self.cut):
            return False
        a, b = self.machines["a"], self.machines["b"]
        if port == "lan0":
            return self.lan.carries(self.machines[sender])
        return a.carrier[port] and b.carrier[port] and a.powered and b.powered

    # What is watched ------------------------------------------------------------------------------------

    def performed(self, machine: Machine, effects: list[events.Effect]) -> None:
        """Take note of what a brain wants, before it is done."""
        for effect in effects:
            self.effects += 1
            line = f"{self.now:.6f} {machine.name} {_short(effect)}"
            self.digest.update(line.encode())
            if not isinstance(effect, events.Send | events.ProbeAddresses | events.Renew):
                self.recent.append(line)
            if isinstance(effect, events.Note):
                continue
            for observer in self.observers:
                observer(machine, effect)

    def noted(self, machine: Machine, kind: str, text: str, evidence: tuple[str, ...]) -> None:
        self.log.append(f"{self.now:.3f} {machine.name}: {text} {list(evidence)}")

    def holders(self) -> list[str]:
        """Return who holds the address in its kernel and can be reached."""
        return [m.name for m in self.machines.values() if m.holds()]

    def serving(self) -> list[str]:
        """Return who holds the address and answers the clients."""
        return [m.name for m in self.machines.values() if m.answers()]

    def roles(self) -> dict[str, str]:
        return {m.name: m.core.role.name if m.core else "-" for m in self.machines.values()}

    def watch(self) -> None:
        """Keep the figures that count: called whenever somebody's address, power or cable may have changed."""
        now, serving = self.now, len(self.serving())
        if serving != self._serving:
            self.both, self.none_longest = self.both, self.none_longest
            self._serving, self._since = serving, now
        twice = all(machine.followers.on for machine in self.machines.values())
        if twice != (self._twice_since is not None):
            self.services_twice = self.services_twice
            self._twice_since = now if twice else None
        for watcher in self.watchers:
            watcher()

    @property
    def both(self) -> float:
        """Longest time on two gateways, s."""
        return max(self._both, self.now - self._since if self._serving == 2 else 0.0)

    @both.setter
    def both(self, longest: float) -> None:
        self._both = longest

    @property
    def none_longest(self) -> float:
        """Longest time on none, s."""
        return max(self._none, self.now - self._since if self._serving == 0 else 0.0)

    @none_longest.setter
    def none_longest(self, longest: float) -> None:
        self._none = longest

    @property
    def services_twice(self) -> float:
        """Longest time for which what runs on one gateway only ran on both, s."""
        return max(self._twice, self.now - self._twice_since if self._twice_since is not None else 0.0)

    @services_twice.setter
    def services_twice(self, longest: float) -> None:
        self._twice = longest

    def forget_figures(self) -> None:
        self._both = self._none = self._twice = 0.0
        self._serving, self._since = 0, self.now
        self._twice_since: float | None = None


def _short(effect: events.Effect) -> str:
    """Return an effect in a few words, without what is for people only."""
    match effect:
        case events.Send():
            return f"Send {effect.kind.name} {len(effect.paths)}"
        case events.Note():
            return f"Note {effect.kind}"
        case events.HandoverEnded():
            return f"HandoverEnded {effect.ok}"
        case events.Claim() | events.PromoteData() | events.PrepareServices():
            return f"{type(effect).__name__} {effect.term.counter}"
        case events.ReserveTerms():
            return f"ReserveTerms {effect.upto}"
        case events.SetSynchronous():
            return f"SetSynchronous {effect.on}"
        case _:
            return type(effect).__name__


def active(world: World) -> list[str]:
    """Return the names of the gateways whose core is active."""
    return [m.name for m in world.machines.values() if m.core and m.core.role is Role.ACTIVE]
