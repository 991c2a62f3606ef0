"""When the agent is to end: a thread of it says so, or a signal."""

from __future__ import annotations

import os
import signal
from contextlib import suppress


class Ending:
    """What the main thread waits for.

    The kernel may hand a signal to any thread, and Python's own handlers run in the main thread alone: one that waits
    for a lock sleeps on. So it waits for a pipe instead, into which the signal is written wherever it has arrived.
    """

    def __init__(self) -> None:
        self._set = False
        self._read, self._written = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._written, False)
        signal.set_wakeup_fd(self._written, warn_on_full_buffer=False)

    def set(self) -> None:
        """End the waiting; to be called from any thread, and from handlers of signals."""
        self._set = True
        with suppress(BlockingIOError):  # there is enough to be read
            os.write(self._written, b"\0")

    def wait(self) -> None:
        """Return when it is to end. Of the main thread alone."""
        while not self._set:
            os.read(self._read, 4096)
