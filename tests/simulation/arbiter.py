"""The simulated world with an arbiter in it: a key that ends by itself, and each gateway's way there."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace

from flask_hsmx_cluster.decision import events
from flask_hsmx_cluster.decision.model import ArbiterUse, Beat, Plan, Timing, Word

from .world import ALL_PATHS, TIMING, Machine, World


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
        self._crossing: dict[tuple[str, str], deque[tuple[float, float]]] = {}

    def plan(self, name: str) -> Plan:
        return replace(super().plan(name), arbiter=self.use[name])

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

    def _do(self, machine: Machine, effects: list[events.Effect]) -> None:
        for effect in effects:
            match effect:
                case events.AskArbiter():
                    self._ask(machine, effect)
                case events.LeaveArbiter():
                    if self.reaches[machine.name] and self.owner == machine.name:
                        self.owner = ""
                case _ if machine.core is not None:
                    super()._do(machine, [effect])

    def _ask(self, machine: Machine, effect: events.AskArbiter) -> None:
        self.questions += 1
        if not self.reaches[machine.name]:
            return
        if self.owner == machine.name or self.now >= self.until:
            self.owner = ""
        if not self.owner:
            self.owner, self.until = machine.name, self.now + math.ceil(self.timing.give_up_s + 2)
        word = Word.GRANTED if self.owner == machine.name else Word.DENIED
        self.asked.append((machine.name, word))
        machine.inbox.append((self.now + self.delay_s, events.ArbiterAnswered(effect.turn, word, self.now), 0))

    def _arrive(self, receiver: Machine, path: str, beat: Beat, number: int) -> None:
        """Deliver a message with the echo of what its sender had heard on the path by then."""
        if not receiver.powered or receiver.core is None:
            return
        echo_at, heard = None, self._crossing.setdefault((self.other(receiver.name).name, path), deque())
        while heard and heard[0][0] <= self.now:
            echo_at = heard[0][1]
            if len(heard) == 1 or heard[1][0] > self.now:
                break
            heard.popleft()
        delay = 0.0003 + self.dice.random() * 0.004
        self._crossing.setdefault((receiver.name, path), deque()).append((self.now + delay, self.now))
        receiver.inbox.append((self.now + delay, events.Heard(path, beat, 2 * delay, echo_at=echo_at), number))
