"""Programs of the firmware: started without a shell, limited in time, and gone when the process that started them is.

Each is in a session of its own. One that is *tied* dies with the thread that started it (``PR_SET_PDEATHSIG``). All
carry a mark, by which what they have left behind is found, even if this process was killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
from collections.abc import Collection, Mapping, Sequence
from io import FileIO
from pathlib import Path

from ..errors import ClusterError
from ..network.clock import boot_time_s

#: The mark: a variable that says for whom and what a program runs.
MARK = "HSMX_CLUSTER_RUNS_FOR"
#: Characters of a program's last line that are shown.
SAID_MOST = 200
#: Bytes that a program may print while its output is kept; it cannot write more than that.
OUTPUT_MOST = 1024 * 1024
#: util-linux's: what must be set between fork and exec, where threads allow nothing of ours.
_TIED = ("--pdeathsig", "KILL")
_WITHOUT_PRIVILEGES = ("--inh-caps=-all", "--ambient-caps=-all")


class CommandFailed(ClusterError):
    """A program of the firmware failed, or was not done in time."""

    code = "command"


class Program:
    """A program that was started.

    :param argv: program and arguments.
    :param mark: the value of its mark.
    :param captured: its output is kept, to be shown if it fails; else it goes to the agent's log.
    :param privileged: it keeps the agent's capabilities.
    :param environment: more variables for it.
    :param pass_fds: descriptors that it inherits.
    :raises CommandFailed: it cannot be started.
    """

    def __init__(
        self, argv: Sequence[str], mark: str, *, captured: bool = True, tied: bool = True, privileged: bool = True,
        environment: Mapping[str, str] | None = None, pass_fds: Collection[int] = (),
    ) -> None:  # fmt: skip
        self.argv = argv
        self._said = ""
        self._output: FileIO | None = None
        options = [*(_TIED if tied else ()), *(() if privileged else _WITHOUT_PRIVILEGES)]
        try:
            self._output = _bounded_file() if captured else None
            self._process = subprocess.Popen(
                ["setpriv", *options, "--", *argv] if options else argv, stdin=subprocess.DEVNULL,
                stdout=self._output, stderr=self._output, start_new_session=True,
                env={**os.environ, MARK: mark, **(environment or {})}, pass_fds=pass_fds,
            )  # fmt: skip
        except (OSError, ValueError) as error:  # among them a sign that no argument can have
            self._close()
            why = error.strerror if isinstance(error, OSError) else type(error).__name__
            raise CommandFailed(f"{argv[0]} cannot be started: {why}.", "Is it installed?") from None

    def code(self) -> int | None:
        """Return its exit code; None while it runs."""
        return self._process.poll()

    def wait(self, limit_s: float) -> int:
        """Wait for its end and return its exit code.

        :raises CommandFailed: it was not done in time; it has been killed.
        """
        try:
            return self._process.wait(max(0.0, limit_s))
        except subprocess.TimeoutExpired:
            self.send(signal.SIGKILL)
            self._process.wait()
            raise CommandFailed(
                f"{self.argv[0]} was not done within {limit_s:.1f} s, and was ended.", "See what it waits for."
            ) from None
        finally:
            self._close()

    def succeed(self, limit_s: float) -> None:
        """Wait for its end.

        :raises CommandFailed: it was not done in time, or said that it failed.
        """
        code = self.wait(limit_s)
        if code:
            how = f"was ended by signal {-code}" if code < 0 else f"failed with status {code}"
            raise CommandFailed(f"{self.argv[0]} {how}{self._said and ': '}{self._said}.", "Try it by hand.")

    def _close(self) -> None:
        """It has ended: of its output the last line is kept."""
        output, self._output = self._output, None  # of two that wait for it one keeps it
        if output is not None:
            with output:
                output.seek(0)
                text = output.read(OUTPUT_MOST).rstrip(b"\0")[-4 * SAID_MOST :].decode(errors="replace").strip()
            line = text.splitlines()[-1] if text else ""
            self._said = "".join(filter(str.isprintable, line))[-SAID_MOST:].rstrip(".")

    def send(self, number: signal.Signals) -> None:
        """Send a signal to it and all in its session, while it runs itself."""
        if self._process.poll() is None:
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, number)


def _bounded_file() -> FileIO:
    """Return a file in memory that cannot grow, for the output: what a program leaves behind may print for ever."""
    handle = os.memfd_create("output", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(handle, OUTPUT_MOST)
    fcntl.fcntl(handle, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
    return FileIO(handle, "r+")


def end(programs: Sequence[Program], limit_s: float) -> None:
    """End programs: all are asked at the same time, and those that are left after a while are killed."""
    for one in programs:
        one.send(signal.SIGTERM)
    deadline = boot_time_s() + limit_s
    for one in programs:
        with contextlib.suppress(CommandFailed):
            one.wait(deadline - boot_time_s())


def end_left_behind(*marks: str) -> int:
    """Kill every process that carries one of these marks, and return how many there were."""
    wanted = {f"{MARK}={mark}".encode() for mark in marks}
    ended: set[int] = set()
    for _look in range(2):  # one that is just becoming another program shows no environment for a moment
        for directory in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if directory.name.isdigit() and wanted & set((directory / "environ").read_bytes().split(b"\0")):
                    os.kill(int(directory.name), signal.SIGKILL)
                    ended.add(int(directory.name))
    return len(ended)
