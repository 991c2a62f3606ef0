"""The guests' network: frames, and guests with ARP caches who want to be served."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from flask_hsmx_cluster.agent.heartbeat.frames import PortFrames
from flask_hsmx_cluster.network.announce import Frames
from flask_hsmx_cluster.network.wire import AddressClaim, Frame, HeartbeatFrame, OtherFrame

if TYPE_CHECKING:
    from .machine import Machine
    from .world import World

BROADCAST = b"\xff" * 6
#: Frames taken from a port in one turn, as in the agent, and frames that a port keeps while nobody reads.
FRAMES_PER_TURN, PORT_HOLDS = 64, 500
#: A frame takes this long, s.
FRAME_S = 0.0005
#: A guest does something this often, and believes in what it knows this long without an answer, s.
GUEST_EVERY_S, GUEST_BELIEVES_S = 1.0, 5.0
#: A guest keeps a neighbour this long without looking again, s.
CACHE_S = 30.0


def frames_of(mac: bytes, address: str) -> PortFrames:
    """Return the frames of a port with one address: here their text says what they are."""
    announcements = tuple(BROADCAST + mac + text + address.encode() for text in (b"A", b"R"))
    built = Frames(announcements, BROADCAST + mac + b"P" + address.encode())
    return PortFrames([built], [built.probe])


class SimulatedPort:
    """A gateway's packet socket on the guests' network, and its sender of announcements."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.path: Any = None  #: the Ethernet path of this port
        self.inbox: deque[Frame] = deque()

    def send(self, *arguments: Any) -> bool:
        """Send a frame; announcements come with the port's name before it."""
        machine, frame = self.machine, arguments[-1]
        if machine.trap is not None:
            machine.trap()
        if not machine.carrier["lan0"]:
            return len(arguments) > 1
        kind, address = frame[12:13], frame[13:].decode()
        lan = machine.world.lan
        lan.asks(machine, address) if kind == b"P" else lan.announces(machine, address, frame[:6])
        return True

    def receive(self) -> list[Frame]:
        found: list[Frame] = [HeartbeatFrame(self.machine.peer.mac, data) for data in self.path.receive()]
        found += [self.inbox.popleft() for _ in range(min(len(self.inbox), FRAMES_PER_TURN))]
        return found

    def fileno(self) -> None:
        return None

    def close(self) -> None:
        self.inbox.clear()


class Guest:
    """Somebody who wants to be served, and writes.

    :param index: its number.
    """

    def __init__(self, world: World, index: int) -> None:
        self.world, self.index = world, index
        self.mac = bytes((0xAA, 0, 0, 0, 0, index))
        self.cache: bytes | None = None
        self.known_at = float("-inf")
        self.served_at = world.now

    def live(self) -> None:
        """Be heard, look for the gateway, write."""
        world = self.world
        world.at(GUEST_EVERY_S, self.live)
        if not world.strangers:
            return
        world.lan.broadcast(OtherFrame(self.mac))
        now = world.now
        if self.cache is None or now - self.known_at > CACHE_S or now - max(self.served_at, self.known_at) > (
            GUEST_BELIEVES_S
        ):  # fmt: skip
            self.cache = None
            answers = [machine for machine in world.machines.values() if machine.answers()]
            if answers:
                self.learn(world.dice.choice(answers).mac)
        machine = next((one for one in world.machines.values() if one.mac == self.cache), None)
        if machine is not None and machine.answers():
            self.served_at = now
            if world.replication is not None:
                world.replication.write(machine, self.index)

    def learn(self, mac: bytes) -> None:
        self.cache, self.known_at = mac, self.world.now


class Lan:
    """The switch and who is at it besides the two gateways.

    :param guests: how many.
    """

    def __init__(self, world: World, guests: int = 2) -> None:
        self.world = world
        self.deaf: set[str] = set()  #: gateways whose port sends, and hears nothing
        self.forged_until = float("-inf")  #: until then a guest answers each question in the other gateway's name
        self.guests = [Guest(world, index) for index in range(guests)]
        for index, guest in enumerate(self.guests):
            world.at(GUEST_EVERY_S * (index + 1) / guests, guest.live)

    def reaches(self, machine: Machine) -> bool:
        """Return whether frames pass between a gateway's port and the guests."""
        return machine.powered and machine.carrier["lan0"] and self.world.lan_up[machine.name]

    def hears(self, machine: Machine) -> bool:
        """Return whether frames arrive at a gateway's port."""
        return self.reaches(machine) and machine.name not in self.deaf

    def carries(self, sender: Machine) -> bool:
        """Return whether frames of a gateway arrive at the other one."""
        return not self.world.isolated and self.reaches(sender) and self.hears(sender.peer)

    def between(self) -> bool:
        """Return whether a question and its answer pass between the two gateways."""
        return all(self.carries(one) for one in self.world.machines.values())

    def broadcast(self, frame: Frame, to: Machine | None = None) -> None:
        """Let a frame of somebody else arrive at the gateways."""
        for machine in self.world.machines.values():
            if to in (None, machine) and self.hears(machine):
                self.world.at(FRAME_S, machine.sees, frame)

    def asks(self, asker: Machine, address: str) -> None:
        """Who has the address? The other gateway's kernel answers if it holds it; that takes two frames."""
        world, holder = self.world, asker.peer
        if (world.now < self.forged_until and self.hears(asker)) or (
            self.between()
            and holder.holds(address)
            and not holder.paused
            and world.dice.random() >= world.loss
            and world.dice.random() >= world.loss
        ):
            world.at(FRAME_S, asker.sees, AddressClaim(holder.mac, address))

    def announces(self, sender: Machine, address: str, to: bytes) -> None:
        """Tell everybody, or one, who has an address."""
        world = self.world
        if not self.reaches(sender):
            return
        for guest in self.guests:
            if to in (BROADCAST, guest.mac) and world.dice.random() >= world.loss:
                guest.learn(sender.mac)
        if to == BROADCAST and self.between() and world.dice.random() >= world.loss:
            world.at(FRAME_S, sender.peer.sees, AddressClaim(sender.mac, address))
