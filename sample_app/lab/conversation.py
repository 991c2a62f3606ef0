"""A guest's TCP connection through the gateway: both ends send all the time, and notice what comes."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from functools import partial
from types import TracebackType
from typing import Self

from .measure import longest_gap_ms
from .topology import Lab

_PORT = 8443
#: Between two messages of one end, s.
_EVERY_S = 0.005
_MESSAGE = b"still here\n"


class Conversation:
    """Between the lab's client and the host outside, through the gateways' address translation; a context manager.

    :param silent: nobody sends before :meth:`speak_from_outside`.
    """

    def __init__(self, lab: Lab, silent: bool = False) -> None:
        self._lab = lab
        self._may_speak = (threading.Event(), threading.Event())
        if not silent:
            for speaker in self._may_speak:
                speaker.set()
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        #: When something came, monotonic seconds: to the client, and to the host outside.
        self.heard: tuple[list[float], list[float]] = ([], [])
        #: Why an end was closed, if it was.
        self.broken = ""
        #: Where the connection comes from, as the host outside sees it.
        self.seen_from = ""

    def __enter__(self) -> Self:
        with self._lab.router.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self._lab.outside, _PORT))
            listener.listen()
            listener.settimeout(5)
            client = self._lab.client.socket(socket.AF_INET, socket.SOCK_STREAM)
            self._sockets.append(client)
            client.settimeout(5)
            client.connect((self._lab.outside, _PORT))
            server, (self.seen_from, _) = listener.accept()
            self._sockets.append(server)
        for end, times, may in zip(self._sockets, self.heard, self._may_speak, strict=True):
            end.settimeout(0.1)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for work in (partial(self._send, end, may), partial(self._hear, end, times)):
                self._threads.append(threading.Thread(target=work, daemon=True))
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(5)
        for end in self._sockets:
            end.close()

    def speak_from_outside(self) -> None:
        """Let the host outside speak first, and the client once it has heard something."""
        _, outside = self._may_speak
        outside.set()

    def survived(self, at: float, timeout_s: float = 15) -> bool:
        """Wait until both ends have heard something after a time; False: the connection broke, or nothing came."""
        deadline = time.monotonic() + timeout_s
        while not self.broken and time.monotonic() < deadline:
            if all(times and times[-1] > at for times in self.heard):
                return True
            time.sleep(0.02)
        return False

    def stall_ms(self, at: float, within_s: float) -> float:
        """Return the longest time in which one end heard nothing, ms (see :func:`.measure.longest_gap_ms`)."""
        return max(longest_gap_ms(list(times), at, at + within_s) for times in self.heard)

    def _send(self, end: socket.socket, may: threading.Event) -> None:
        while not self._ended.wait(_EVERY_S) and not self.broken:
            if not may.is_set():
                continue
            try:
                with contextlib.suppress(TimeoutError):  # what it could not send yet fills its queue
                    end.send(_MESSAGE)
            except OSError as error:
                self._break(error)

    def _hear(self, end: socket.socket, times: list[float]) -> None:
        while not self._ended.is_set() and not self.broken:
            try:
                if not end.recv(65536):
                    raise ConnectionError("closed")
                times.append(time.monotonic())
                for speaker in self._may_speak:
                    speaker.set()
            except TimeoutError:
                continue
            except OSError as error:
                self._break(error)

    def _break(self, error: OSError) -> None:
        self.broken = self.broken or str(error)
