"""What a fuzz target is, and what every one of them promises of whatever comes in.

*Only typed errors come out*: anything but a refusal is a crash, also an exception that the product caught, logged and
answered with an apology. *What is refused changes nothing.* *Memory is bounded*: each target states what may grow, and
how far. *Time is bounded*: processor time of the thread, so that a busy machine is no finding.
"""

from __future__ import annotations

import json
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

#: No single input of any kind may take longer, s of processor time.
MOST_S = 2.0


class Broken(AssertionError):
    """A promise was not kept."""


class Target(ABC):
    """One way in.

    :cvar name: as in the bench's cases.
    :cvar longest: bytes of an input.
    :cvar words: what a mutated input is likely to need.
    :cvar is_json: inputs are JSON, mutated as a tree too.
    :cvar most_s: one input may take so long, s of processor time.
    """

    name: ClassVar[str]
    longest: ClassVar[int] = 4096
    words: ClassVar[Sequence[bytes]] = ()
    is_json: ClassVar[bool] = False
    most_s: ClassVar[float] = MOST_S

    #: Processor time that the last input took in the product, s, where :meth:`take` does more than hand it in.
    handled_s: float | None = None

    @abstractmethod
    def seeds(self) -> list[bytes]:
        """Return real messages."""

    @abstractmethod
    def take(self, data: bytes) -> bool:
        """Hand in an input; tell whether it was taken. Whatever this raises is a crash."""

    def state(self) -> Hashable:
        """Return what a refused input must leave as it was."""
        return None

    def check_bounds(self) -> None:  # noqa: B027 most have nothing to add
        """Raise :class:`Broken` if anything has grown beyond its bound."""

    def renew(self) -> None:  # noqa: B027
        """Start from the beginning, after an input that was taken and changed something."""

    def close(self) -> None:  # noqa: B027
        """Let go of what it holds."""


class _Apologies(logging.Handler):
    """Finds the exceptions that the product caught where it expected none."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.last: BaseException | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            self.last = record.exc_info[1]


@dataclass
class Runner:
    """Hands inputs to a target and holds it to its promises; counts.

    :ivar longest_s: processor time of the input that took longest, and which it was.
    """

    target: Target
    executions: int = 0
    taken: int = 0
    longest_s: float = 0.0
    longest_input: bytes = b""
    _apologies: _Apologies = field(default_factory=_Apologies)

    def __post_init__(self) -> None:
        self._log = logging.getLogger("flask_hsmx_cluster")
        self._log.addHandler(self._apologies)
        self._propagated, self._log.propagate = self._log.propagate, False
        self._level = self._log.level
        self._log.setLevel(logging.ERROR)  # whatever is shown of it

    def run(self, data: bytes) -> None:
        """Hand in one input.

        :raises Broken: a promise was not kept.
        """
        target, self._apologies.last = self.target, None
        before = target.state()
        began = time.thread_time()
        taken = target.take(data)
        took_s = time.thread_time() - began if target.handled_s is None else target.handled_s
        self.executions += 1
        self.taken += taken
        if took_s > self.longest_s:
            self.longest_s, self.longest_input = took_s, data
        if self._apologies.last is not None:
            raise Broken(f"{target.name}: an untyped error was caught and apologised for") from self._apologies.last
        if took_s > target.most_s:
            raise Broken(f"{target.name}: one input of {len(data)} bytes took {took_s:.2f} s of processor time")
        target.check_bounds()
        if target.state() != before:
            if not taken:
                raise Broken(f"{target.name}: something that was refused has changed something")
            target.renew()

    def close(self) -> None:
        """Let go of the target."""
        self._log.removeHandler(self._apologies)
        self._log.propagate = self._propagated
        self._log.setLevel(self._level)
        self.target.close()


def line(message: Any) -> bytes:
    """Return a message as a seed."""
    return json.dumps(message).encode()
