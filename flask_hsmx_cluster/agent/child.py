"""The agent's end of a process of its own, such as the replicator.

Two sockets lead there. On the *prompt* one the heartbeat loop sends and never waits; answers come when they come. On
the *patient* one other threads ask and wait. A child that has died is started again, by a job; meanwhile whatever is
asked of it has failed. (The child's end is :mod:`..agent_line`.)
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
from typing import Any, ClassVar

from ..agent_line import DESCRIPTORS, LOG_LEVEL, LONGEST_LINE
from ..control import result_from_dict
from ..errors import ClusterError, RequestRefused
from ..network.clock import boot_time_s

log = logging.getLogger(__name__)
#: What is asked on the patient socket may take this long, s.
ASK_TIMEOUT_S = 20.0


class ChildDown(ClusterError):
    """A process of the agent's own does not run, or did not answer in time."""

    code = "child_down"


class Child:
    """Starts a process of the agent's own and talks to it.

    :param log_level: the child's.
    """

    #: The module that is run, what people call the process, what it stands for, and where to look if that is silent.
    MODULE: ClassVar[str]
    NAME: ClassVar[str]
    WHAT: ClassVar[str]
    LOOK: ClassVar[str]
    #: Raised when it does not run or does not answer.
    Down: ClassVar[type[ChildDown]] = ChildDown

    def __init__(self, log_level: str = "INFO") -> None:
        self._log_level = log_level
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
            LOG_LEVEL: self._log_level,
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", self.MODULE], pass_fds=theirs, env=environment, stdin=subprocess.DEVNULL
        )
        for _ours, far in pairs:
            far.close()
        self._lines = self._answers = b""
        self._patient = pairs[1][0]
        prompt = pairs[0][0]
        prompt.setblocking(False)
        self._prompt = prompt

    def stop(self) -> None:
        """End the process. What it was told to do is done or not."""
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
        """Return the descriptor on which the loop waits for answers; None while the child is down."""
        prompt = self._prompt
        return None if prompt is None else prompt.fileno()

    def send(self, verb: str, at: float | None = None, **arguments: Any) -> bool:
        """Ask for something and go on; False if it cannot even be sent.

        :param at: the boot time to which it refers, s; now, if None.
        """
        prompt = self._prompt
        if prompt is None:
            return False
        at = boot_time_s() if at is None else at
        message = {"id": next(self._numbers), "verb": verb, "at": at, "arguments": arguments}
        try:
            prompt.send(json.dumps(message).encode() + b"\n")
        except OSError:  # it has died, or hangs and its queue is full
            return False
        return True

    def receive(self) -> list[dict[str, Any]] | None:
        """Return the messages that have come in; None when the child has gone."""
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
        try:
            return [_message(line) for line in lines]
        except ValueError:
            self.distrust()
            return None

    def distrust(self) -> None:
        """Hear no more of it, for it has said what cannot be read: as if it had gone. It is started again."""
        log.error("%s says what cannot be read. It is started again.", self.NAME)
        prompt, self._prompt = self._prompt, None
        if prompt is not None:
            prompt.close()

    # -- for other threads ------------------------------------------------------------------------------------

    def ask(self, verb: str, timeout_s: float = ASK_TIMEOUT_S, **arguments: Any) -> dict[str, Any]:
        """Ask for something and return the result.

        :raises ChildDown: it does not run, or did not answer in time.
        :raises RequestRefused: that is too much to ask for.
        :raises ClusterError: what it answered.
        """
        if not self._asking.acquire(timeout=timeout_s):
            raise self.Down(f"{self.WHAT} was busy for {timeout_s:.0f} s.", self.LOOK)
        try:
            patient = self._patient
            if patient is None:
                raise self.Down(f"{self.NAME} does not run.", "It is started again by itself.")
            number = next(self._numbers)
            message = {"id": number, "verb": verb, "at": boot_time_s(), "within_s": timeout_s, "arguments": arguments}
            line = json.dumps(message).encode() + b"\n"
            if len(line) > LONGEST_LINE:
                raise RequestRefused(f"This is too much for one request. {self.NAME} was not asked.", "Ask for less.")
            try:
                patient.settimeout(timeout_s)
                patient.sendall(line)
                return result_from_dict(self._answer(patient, number))
            except ValueError:
                self._patient = None
                patient.close()
                raise self.Down(f"{self.NAME} says what cannot be read.", "It is started again by itself.") from None
            except TimeoutError:
                raise self.Down(f"{self.WHAT} did not answer within {timeout_s:.0f} s.", self.LOOK) from None
            except OSError:
                self._patient = None  # what is left in it is of no use: a new one is needed
                patient.close()
                raise self.Down(f"{self.NAME} has ended.", "It is started again by itself.") from None
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
            found = _message(line)
            if found.get("id") == number:
                return found


def _message(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("no message")
    return found
