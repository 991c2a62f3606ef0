"""Watches PPPoE at the provider's port of a switch: which gateway was engaged there, and from when to when."""

from __future__ import annotations

import contextlib
import itertools
import select
import socket
import threading
import time
from dataclasses import dataclass
from types import TracebackType

from .concentrator import Concentrator
from .namespace import Namespace

_DISCOVERY, _SESSION = 0x8863, 0x8864
_PADI, _PADT = 0x09, 0xA7
_EVERYTHING = 0x0003
#: IPCP, Configure-Ack.
_ADDRESS_AGREED = b"\x80\x21\x02"


@dataclass
class Engagement:
    """A gateway's time with the provider: from the first frame of its discovery to its PADT, or else its last frame.

    :param mac: the gateway's.
    :param began: time.monotonic(), as all times here.
    :param session_at: when the first frame of a session was seen; None: there was none.
    :param up_at: when the provider agreed to the gateway's address.
    """

    mac: str
    began: float
    last: float
    session_at: float | None = None
    up_at: float | None = None
    ended: bool = False


class PPPoEWatch:
    """Sniffs while it is entered."""

    def __init__(self, switch: Namespace, port: str, provider_mac: str) -> None:
        self.engagements: list[Engagement] = []
        self._provider = provider_mac
        self._socket = switch.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_EVERYTHING))
        self._socket.bind((port, _EVERYTHING))
        self._socket.setblocking(False)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @classmethod
    def at(cls, provider: Concentrator) -> PPPoEWatch:
        """Return a watch at a provider's port of its switch."""
        return cls(provider.switch, f"{provider.lan}-provider", provider.mac())

    def __enter__(self) -> PPPoEWatch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()

    def overlaps(self) -> list[tuple[Engagement, Engagement]]:
        """Return the pairs of engagements of different gateways that were under way at the same time."""
        found = list(self.engagements)
        return [
            (one, other) for one, other in itertools.combinations(found, 2)
            if one.mac != other.mac and one.began <= other.last and other.began <= one.last
        ]

    def _run(self) -> None:
        while not self._stop.is_set():
            if select.select([self._socket], [], [], 0.1)[0]:
                with contextlib.suppress(BlockingIOError):
                    while True:
                        self._take(self._socket.recv(2048), time.monotonic())

    def _take(self, frame: bytes, at: float) -> None:
        if len(frame) < 20 or (kind := int.from_bytes(frame[12:14], "big")) not in (_DISCOVERY, _SESSION):
            return
        to, sender, code = frame[:6].hex(":"), frame[6:12].hex(":"), frame[15]
        mac = to if sender == self._provider else sender
        running = next((one for one in reversed(self.engagements) if one.mac == mac and not one.ended), None)
        if kind == _SESSION and sender == mac and all(one.mac != mac for one in self.engagements):
            self.engagements.append(Engagement(mac, at, at, at))  # it was up before we looked
        elif kind == _DISCOVERY and code == _PADI:
            if running is None or running.session_at is not None:
                self.engagements.append(Engagement(mac, at, at))
            else:
                running.last = at
        elif running is not None:
            if sender == mac:  # what the provider still says to a gateway that is gone does not count
                running.last = at
            if kind == _SESSION and running.session_at is None:
                running.session_at = at
            if sender == self._provider and frame[20:23] == _ADDRESS_AGREED and running.up_at is None:
                running.up_at = at
            running.ended = (kind, code) == (_DISCOVERY, _PADT)
