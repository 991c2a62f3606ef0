"""The agent's end of the replicator, the process that has its hands on PostgreSQL.

Two sockets lead there. On the *prompt* one the heartbeat loop sends and never waits; answers come when they come. On
the *patient* one other threads ask and wait. A replicator that has died is started again, by a job; meanwhile whatever
is asked of it has failed.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import socket
import subprocess
import sys
import threading
from typing import Any

from ..control import result_from_dict
from ..errors import ClusterError, RequestRefused
from ..network.clock import boot_time_s

log = logging.getLogger(__name__)

MODULE = "flask_hsmx_cluster.replication"
DESCRIPTORS = "HSMX_REPLICATOR_FDS"
#: Longest line either way, bytes; the replicator sends none that is longer.
LONGEST_LINE = 4 * 1024 * 1024
#: What is asked on the patient socket may take this long, s.
ASK_TIMEOUT_S = 20.0


class ReplicatorDown(ClusterError):
    """The replicator does not run, or did not answer in time."""

    code = "replicator"


class ReplicatorLink:
    """Starts the replicator and talks to it.

    :param log_level: the replicator's.
    :param shared: whether the database is shared; it may be prepared later, and is noticed then.
    """

    def __init__(self, log_level: str = "INFO", shared: bool = True) -> None:
        self._log_level = log_level
        self.shared = shared
        self._process: subprocess.Popen[bytes] | None = None
        self._prompt: socket.socket | None = None
        self._patient: socket.socket | None = None
        self._lines = b""
        self._answers = b""
        self._numbers = itertools.count(1)
        self._asking = threading.Lock()

    # -- the process ------------------------------------------------------------------------------------------

    def alive(self) -> bool:
        """Return whether the process runs and its sockets are open."""
        return self._process is not None and self._process.poll() is None and None not in (self._prompt, self._patient)

    def start(self) -> None:
        """Start the process, in place of one that has ended."""
        self.stop()
        pairs = [socket.socketpair() for _ in range(2)]
        theirs = [pair[1].fileno() for pair in pairs]
        environment = {
            **os.environ,
            DESCRIPTORS: ",".join(map(str, theirs)),
            "HSMX_REPLICATOR_LOG_LEVEL": self._log_level,
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", MODULE], pass_fds=theirs, env=environment, stdin=subprocess.DEVNULL
        )
        for _ours, far in pairs:
            far.close()
        self._lines = self._answers = b""
        self._patient = pairs[1][0]
        prompt = pairs[0][0]
        prompt.setblocking(False)
        self._prompt = prompt

    def stop(self) -> None:
        """End the process. What it was told to do is done or not; a lease that it had granted ends by itself."""
        for one in (self._prompt, self._patient):
            if one is not None:
                one.close()
        self._prompt = self._patient = None
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(2)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    # -- for the heartbeat loop -------------------------------------------------------------------------------

    def fileno(self) -> int | None:
        """Return the descriptor on which the loop waits for answers; None while the replicator is down."""
        prompt = self._prompt
        return None if prompt is None else prompt.fileno()

    def send(self, verb: str, **arguments: Any) -> bool:
        """Ask for something and go on; False if it cannot even be sent."""
        prompt = self._prompt
        if prompt is None:
            return False
        message = {"id": next(self._numbers), "verb": verb, "at": boot_time_s(), "arguments": arguments}
        try:
            prompt.send(json.dumps(message).encode() + b"\n")
        except OSError:  # it has died, or hangs and its queue is full
            return False
        return True

    def receive(self) -> list[dict[str, Any]] | None:
        """Return the messages that have come in; None when the replicator has gone."""
        prompt = self._prompt
        if prompt is None:
            return None
        try:
            data = prompt.recv(65536)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data or len(self._lines) > LONGEST_LINE:
            self._prompt = None
            prompt.close()
            return None
        *lines, self._lines = (self._lines + data).split(b"\n")
        return [json.loads(line) for line in lines]

    # -- for other threads ------------------------------------------------------------------------------------

    def ask(self, verb: str, timeout_s: float = ASK_TIMEOUT_S, **arguments: Any) -> dict[str, Any]:
        """Ask for something and return the result.

        :raises ReplicatorDown: it does not run, or did not answer in time.
        :raises RequestRefused: that is too much to ask for.
        :raises ClusterError: what it answered.
        """
        if not self._asking.acquire(timeout=timeout_s):
            raise ReplicatorDown(f"The database was busy for {timeout_s:.0f} s.", "See whether PostgreSQL runs.")
        try:
            patient = self._patient
            if patient is None:
                raise ReplicatorDown("The replicator does not run.", "It is started again by itself.")
            number = next(self._numbers)
            message = {"id": number, "verb": verb, "at": boot_time_s(), "within_s": timeout_s, "arguments": arguments}
            line = json.dumps(message).encode() + b"\n"
            if len(line) > LONGEST_LINE:
                raise RequestRefused("This is too much for one request to the database.", "Ask for less.")
            try:
                patient.settimeout(timeout_s)
                patient.sendall(line)
                return result_from_dict(self._answer(patient, number))
            except TimeoutError:
                raise ReplicatorDown(
                    f"The database did not answer within {timeout_s:.0f} s.", "See whether PostgreSQL runs."
                ) from None
            except OSError:
                self._patient = None  # what is left in it is of no use: a new one is needed
                patient.close()
                raise ReplicatorDown("The replicator has ended.", "It is started again by itself.") from None
        finally:
            self._asking.release()

    def _answer(self, patient: socket.socket, number: int) -> dict[str, Any]:
        """Read until the answer to a question; earlier ones came too late for whoever asked."""
        while True:
            while b"\n" not in self._answers:
                data = patient.recv(65536)
                if not data or len(self._answers) > LONGEST_LINE:
                    raise OSError("closed")
                self._answers += data
            line, _, self._answers = self._answers.partition(b"\n")
            found: dict[str, Any] = json.loads(line)
            if found.get("id") == number:
                return found
