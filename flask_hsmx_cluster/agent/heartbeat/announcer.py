"""Announces shared addresses: the few at once, many aliases in small portions between two turns of the loop.

A switch or wireless controller that is flooded drops frames, or disables the port (rule 12), and the loop must not
miss a heartbeat. So the aliases go out a portion at a time, first each one's first form, so that the last of a
thousand is not behind the second form of all others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Protocol

from ...decision.model import NEVER
from .frames import PortFrames

#: Frames of a portion, and the time between two portions, s: after a take-over (a portion takes 2 ms), and for
#: repetitions.
AT_ONCE, AT_ONCE_S = 250, 0.001
AGAIN, AGAIN_S = 20, 0.02
#: A full queue is asked again after this time, s.
FULL_S = 0.005


class Sender(Protocol):
    """Sends frames on ports; False where a port's queue is full."""

    def send(self, port: str, frame: bytes) -> bool: ...

    def close(self) -> None: ...


class Announcer:
    """What is still to be announced. Lives on the loop's thread."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._portion, self._every_s = AT_ONCE, AT_ONCE_S
        self._due = NEVER

    def announce(
        self, frames: Mapping[str, PortFrames], neighbours: Mapping[str, Sequence[bytes]], again: bool, now: float
    ) -> None:
        """Announce virtual IPs and networks now, and aliases from now on.

        :param frames: by port.
        :param neighbours: MACs that are told by unicast, too, by port.
        :param again: a repetition: aliases take their time.
        """
        for port, one in frames.items():
            for built in one.addresses:
                for frame in built.announcements:
                    self._sender.send(port, frame)
                for mac in neighbours.get(port, ()):
                    self._sender.send(port, mac + built.announcements[-1][6:])
        aliases = [(port, built.announcements) for port, one in frames.items() for built in one.aliases]
        if again and self._waiting:
            return  # the first round is not over yet
        forms = max((len(announcements) for _port, announcements in aliases), default=0)
        self._waiting = deque(
            (port, announcements[form])
            for form in range(forms) for port, announcements in aliases if form < len(announcements)
        )
        self._portion, self._every_s = (AGAIN, AGAIN_S) if again else (AT_ONCE, AT_ONCE_S)
        self._due = now if self._waiting else NEVER
        self.step(now)

    def step(self, now: float) -> None:
        """Send the next portion, if it is due."""
        if now < self._due:
            return
        self._due = now + self._every_s
        for _ in range(min(self._portion, len(self._waiting))):
            if not self._sender.send(*self._waiting[0]):
                self._due = now + FULL_S
                return
            self._waiting.popleft()
        if not self._waiting:
            self._due = NEVER

    def stop(self) -> None:
        """Announce nothing any more: the addresses are the other gateway's."""
        self._waiting.clear()
        self._due = NEVER

    def deadline(self) -> float:
        """Return the boot time at which the next portion is due, s."""
        return self._due

    def close(self) -> None:
        self._sender.close()
