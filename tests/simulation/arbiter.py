"""The simulated world with an arbiter in it: a key that ends by itself, and each gateway's way there."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from flask_hsmx_cluster.agent.arbiter.hand import WORDS, ArbiterHand
from flask_hsmx_cluster.decision.model import ArbiterUse, Plan, Timing, Word

from .machine import Machine
from .world import ALL_PATHS, TIMING, World


@dataclass
class Link:
    """The process that talks to the arbiter, as the agent's hand on it sees it."""

    world: ArbiterWorld
    machine: Machine
    inbox: list[dict[str, Any]] = field(default_factory=list)

    def fileno(self) -> None:
        return None

    def send(self, verb: str, **arguments: Any) -> bool:
        if self.machine.trap is not None:
            self.machine.trap()
        if verb == "ask":
            self._ask(**arguments)
        elif self.world.reaches[self.machine.name] and self.world.owner == self.machine.name:
            self.world.owner = ""
        return True

    def receive(self) -> list[dict[str, Any]]:
        found, self.inbox = self.inbox, []
        return found

    def _ask(self, turn: int, ttl_s: int, **_names: str) -> None:
        """Ask for the key; where nobody has it, it is this gateway's. An arbiter out of reach does not answer."""
        world, name = self.world, self.machine.name
        world.questions += 1
        if not world.reaches[name]:
            return
        if world.owner == name or world.now >= world.until:
            world.owner = ""
        if not world.owner:
            world.owner, world.until = name, world.now + ttl_s
        word = "granted" if world.owner == name else "denied"
        world.asked.append((name, WORDS[word]))
        message = {"event": "answer", "turn": turn, "word": word, "at": self.machine.clocks.boot_s()}
        world.at(world.delay_s, self._answer, message)

    def _answer(self, message: dict[str, Any]) -> None:
        self.inbox.append(message)
        self.machine.reads_arbiter()


class ArbiterWorld(World):
    """Two gateways that may ask an arbiter.

    :param use: how each gateway uses it.
    """

    def __init__(
        self, use: ArbiterUse = ArbiterUse.ASKED, seed: int = 0, timing: Timing = TIMING, data: bool = False
    ) -> None:
        super().__init__(seed, timing, data=data)
        self.use = {"a": use, "b": use}
        self.reaches = {"a": True, "b": True}
        self.delay_s = 0.004  #: round trip to the arbiter
        self.questions = 0
        self.asked: list[tuple[str, Word]] = []  #: who asked, and what it was told
        self.owner, self.until = "", 0.0

    def plan(self, name: str) -> Plan:
        return replace(super().plan(name), arbiter=self.use[name])

    def arbiter_hand(self, machine: Machine) -> ArbiterHand:
        use = self.use[machine.name]
        link: Any = Link(self, machine) if use is not ArbiterUse.NONE else None
        return ArbiterHand(link, use is ArbiterUse.REQUIRED)

    def isolate(self, carriers: bool = True) -> None:
        """Cut everything between the two gateways: cables and LAN.

        :param carriers: the cables were direct ones: both see the carriers go.
        """
        self.cut, self.isolated = ALL_PATHS, True
        for name in ("a", "b") if carriers else ():
            for port in ("sync0", "backup0"):
                self.set_carrier(name, port, False)

    def heal(self) -> None:
        self.cut, self.isolated = frozenset(), False
        for name in ("a", "b"):
            for port in ("sync0", "backup0"):
                self.set_carrier(name, port, True)
