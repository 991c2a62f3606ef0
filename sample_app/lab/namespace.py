"""One network namespace: made, entered, used to run programs, and removed."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

_CLONE_NEWNET = 0x40000000
_NETNS_DIR = Path("/run/netns")


class LabError(Exception):
    """The lab could not do what it was asked; the message says what was refused, and by whom."""


def run(argv: Sequence[str], stdin: str = "", timeout_s: float = 30) -> str:
    """Run a command to its end and return its standard output.

    :raises LabError: it failed; the message holds its standard error.
    """
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=timeout_s)
    except FileNotFoundError:
        raise LabError(f"{argv[0]} is not installed (Debian: iproute2, nftables, util-linux)") from None
    if done.returncode:
        raise LabError(f"{' '.join(argv)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


class Namespace:
    """A network namespace by its name in ``/run/netns``."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"Namespace({self.name!r})"

    @property
    def path(self) -> Path:
        return _NETNS_DIR / self.name

    def command(self, *argv: str) -> list[str]:
        """Return the command that runs ``argv`` inside."""
        return ["ip", "netns", "exec", self.name, *argv]

    def run(self, *argv: str, stdin: str = "", timeout_s: float = 30) -> str:
        """Run a command inside to its end and return its standard output."""
        return run(self.command(*argv), stdin, timeout_s)

    def popen(self, *argv: str, output: IO[bytes] | None = None) -> subprocess.Popen[bytes]:
        """Start a command inside; its output goes to a file, or nowhere."""
        sink = subprocess.DEVNULL if output is None else output
        return subprocess.Popen(
            self.command(*argv), stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True
        )

    def ip(self, *lines: str) -> None:
        """Carry out ``ip`` commands inside, in one process (about 3 ms)."""
        run(["ip", "-n", self.name, "-batch", "-"], "".join(f"{line}\n" for line in lines))

    def sysctl(self, settings: Mapping[str, object]) -> None:
        """Write sysctls, for example ``{"net/ipv4/ip_forward": 1}``."""
        with self.entered():
            for key, value in settings.items():
                Path("/proc/sys", key).write_text(f"{value}\n")

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Put the calling thread into the namespace, to open sockets that stay in it."""
        # thread-self: each thread has a namespace of its own, and the others must not follow.
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            inside = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                _setns(inside)
            finally:
                os.close(inside)
            try:
                yield
            finally:
                _setns(home)
        finally:
            os.close(home)

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """Open a socket inside; whoever holds it afterwards talks on this namespace's network."""
        with self.entered():
            return socket.socket(family, kind, protocol)

    def pids(self) -> list[int]:
        """Return the processes that live inside."""
        return [int(pid) for pid in run(["ip", "netns", "pids", self.name]).split()]

    def kill_all(self, within_s: float = 5) -> None:
        """SIGKILL every process inside, and those which they start meanwhile."""
        deadline = time.monotonic() + within_s
        while pids := [pid for pid in self.pids() if pid != os.getpid()]:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > deadline:
                raise LabError(f"processes {pids} in {self.name} do not end")
            time.sleep(0.002)


def _setns(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET):
        raise LabError(f"setns: {os.strerror(ctypes.get_errno())}")
