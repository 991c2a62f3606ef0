"""The line between the agent and a process of its own: one line of JSON for each message, on a socket pair.

A child of the agent has two. On the *prompt* one comes what a fail-over waits for, in its order; the *patient* one
carries all else. A closed line says that the other end has gone. (The agent's end is :mod:`.agent.child`.)
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import threading
from typing import Any

from .errors import ClusterError

log = logging.getLogger(__name__)
#: Descriptors of the two sockets and the log level, in a child's environment.
DESCRIPTORS, LOG_LEVEL = "HSMX_AGENT_FDS", "HSMX_AGENT_LOG_LEVEL"
#: Longest line either way, bytes; a child sends none that is longer.
LONGEST_LINE = 4 * 1024 * 1024


class Line:
    """A child's end of one socket to the agent. Any thread may write; one reads."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._file = self._socket.makefile("rb")
        self._lock = threading.Lock()

    def fileno(self) -> int:
        """Return the descriptor, to see whether anything has come that was not read."""
        return self._socket.fileno()

    def read(self) -> dict[str, Any] | None:
        """Return the next message; None when the agent has gone."""
        try:
            line = self._file.readline(LONGEST_LINE)
        except OSError:  # it ended with answers of ours unread
            return None
        return json.loads(line) if line.endswith(b"\n") else None

    def write(self, message: dict[str, Any]) -> None:
        """Send a message; in place of an answer that is too long for the agent, why there is none."""
        line = json.dumps(message, default=str).encode()
        if len(line) >= LONGEST_LINE:
            log.error("The answer to %s is too long: %d bytes", message.get("verb"), len(line))
            why = ClusterError("The answer is too long.", "Ask for less.")
            told = {"id": message.get("id"), "verb": message.get("verb"), "ok": False, "error": why.as_dict()}
            line = json.dumps(told).encode()
        with self._lock:
            self._socket.sendall(line + b"\n")


def lines_to_agent() -> tuple[Line, Line]:
    """Return the prompt and the patient line of this process, and set up its log.

    Ends the process if it was not started by the agent.
    """
    logging.basicConfig(
        level=os.environ.get(LOG_LEVEL, "INFO"), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    given = os.environ.pop(DESCRIPTORS, "").split(",")
    if len(given) != 2 or not all(part.isdigit() for part in given):
        sys.exit("This process is started by the agent.")
    prompt, patient = (Line(int(part)) for part in given)
    return prompt, patient
