"""What the loop's thread waits for: descriptors, each with its reader, and work that other threads hand it."""

from __future__ import annotations

import contextlib
import os
import select
from collections import deque
from collections.abc import Callable, Collection
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")
#: Calls from other threads carried out in one turn.
CALLS_PER_TURN = 8


class Poll:
    """One thread waits and carries out; any may call."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._readers: dict[int, Callable[[], None]] = {}
        self._calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK)
        self.register(self._wakeup, self._woken)

    # For other threads ----------------------------------------------------------------------------------

    def call(self, work: Callable[[], T], timeout_s: float = 5.0) -> T:
        """Run ``work`` on the waiting thread and return its result.

        :raises TimeoutError: that thread had no time for it; it will not be carried out.
        """
        future: Future[T] = Future()
        self._calls.append((work, future))
        self.wake()
        try:
            return future.result(timeout_s)
        except TimeoutError:
            future.cancel()  # its caller counts it as failed: it must not be carried out later
            raise

    def wake(self) -> None:
        """End the present wait."""
        os.eventfd_write(self._wakeup, 1)

    # On the thread that waits ---------------------------------------------------------------------------

    def wait(self, timeout_s: float) -> list[Callable[[], None]]:
        """Return who reads what has come in.

        A poll that a stop signal outlasted finds nothing: then it is asked again (rule 11).
        """
        ready = self._epoll.poll(timeout_s) or self._epoll.poll(0)
        return [partial(self._read, descriptor) for descriptor, _mask in ready]

    def carry_out(self) -> None:
        """Do some of the work that waits; the rest ends the next wait at once."""
        for _ in range(min(len(self._calls), CALLS_PER_TURN)):
            work, future = self._calls.popleft()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work())
                except Exception as error:
                    future.set_exception(error)
        if self._calls:
            self.wake()

    def register(self, descriptor: int, reader: Callable[[], None]) -> None:
        """Have a descriptor read from now on."""
        self._readers[descriptor] = reader
        self._epoll.register(descriptor, select.EPOLLIN)

    def register_once(self, descriptor: int | None, reader: Callable[[], None]) -> None:
        """Register a descriptor unless it is, or there is none."""
        if descriptor is not None and descriptor not in self._readers:
            self.register(descriptor, reader)

    def register_anew(self, descriptor: int, reader: Callable[[], None]) -> None:
        """Register what a reader reads from now on.

        A child that was started again may have the descriptor of the one before, which left the poll unnoticed.
        """
        self.forget(reader)
        with contextlib.suppress(FileExistsError):  # it is the same child still
            self.register(descriptor, reader)

    def forget(self, reader: Callable[[], None]) -> None:
        """Forget a reader whose descriptor was closed, and so has left the poll."""
        self._readers = {key: one for key, one in self._readers.items() if one != reader}

    def keep_only(self, kept: Collection[int | None]) -> None:
        """Forget all descriptors but these, and the one that wakes."""
        for descriptor in self._readers.keys() - {*kept, self._wakeup}:
            del self._readers[descriptor]
            with contextlib.suppress(OSError):  # closed sockets unregister themselves
                self._epoll.unregister(descriptor)

    def _woken(self) -> None:
        os.eventfd_read(self._wakeup)

    def _read(self, descriptor: int) -> None:
        if reader := self._readers.get(descriptor):  # what was read before may have ended it
            reader()
