"""Wires between the two gateways: one for each path and direction, with everything that a wire does to datagrams."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .machine import Machine

#: Datagrams that a socket keeps while nobody reads; further ones are lost.
SOCKET_HOLDS = 250
#: Datagrams taken from a path in one turn, as in the agent.
DATAGRAMS_PER_TURN = 32
#: Shortest way of a datagram, and how much longer it may be, s.
DELAY_S, JITTER_S = 0.0003, 0.004


@dataclass
class Wire:
    """One direction of a path. Probabilities are of each datagram.

    :param late_s: what it takes longer than usual.
    :param jitter_s: by how much more it varies.
    :param held_back: overtaken by later ones: it comes 20 to 60 ms later.
    :param damaged: one bit is another one.
    :param tap: somebody who listens: called with each datagram that is sent, lost ones included.
    """

    cut: bool = False
    loss: float = 0.0
    late_s: float = 0.0
    jitter_s: float = 0.0
    twice: float = 0.0
    held_back: float = 0.0
    damaged: float = 0.0
    tap: Callable[[bytes], None] | None = None


@dataclass(eq=False)
class SimulatedPath:
    """The end of a path at one gateway; what the agent's UDP and Ethernet paths are to it."""

    machine: Machine
    name: str
    tag: int
    port: str
    wire: Wire
    quiet: bool = False
    peer_mac: bytes | None = None
    inbox: deque[bytes] = field(default_factory=deque)
    reader: Callable[[], None] | None = None  #: has the agent read it

    def send(self, data: bytes) -> None:
        machine = self.machine
        if machine.trap is not None:
            machine.trap()
        world, wire = machine.world, self.wire
        world.digest.update(data)
        dice = world.dice
        if wire.tap is not None:
            wire.tap(data)
        if wire.cut or not world.passes(self.name, self.port, machine.name):
            return
        if (world.loss and dice.random() < world.loss) or (wire.loss and dice.random() < wire.loss):
            return
        delay = DELAY_S + dice.random() * JITTER_S + wire.late_s
        if wire.jitter_s:
            delay += dice.random() * wire.jitter_s
        if wire.held_back and dice.random() < wire.held_back:
            delay += 0.02 + dice.random() * 0.04
        if wire.damaged and dice.random() < wire.damaged:
            place = dice.randrange(len(data))
            data = data[:place] + bytes((data[place] ^ (1 << dice.randrange(8)),)) + data[place + 1 :]
        receiver = machine.peer
        world.at(delay, receiver.arrives, self.name, data)
        if wire.twice and dice.random() < wire.twice:
            world.at(delay + dice.random() * 0.01, receiver.arrives, self.name, data)

    def send_to_group(self, data: bytes) -> None:
        self.send(data)

    def receive(self) -> list[bytes]:
        inbox = self.inbox
        return [inbox.popleft() for _ in range(min(len(inbox), DATAGRAMS_PER_TURN))]

    def open(self) -> bool:
        return True

    def close(self) -> None:
        self.inbox.clear()

    def fileno(self) -> None:
        return None
