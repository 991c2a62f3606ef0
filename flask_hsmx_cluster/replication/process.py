"""The replicator's process: takes the agent's verbs from two sockets, answers on them, and ends with the agent.

The *prompt* socket carries what a fail-over waits for, one verb after the other; on it the state of the follower is
told several times a second, too. The *patient* socket carries all else.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import Any

from ..agent_line import Line, lines_to_agent
from ..errors import ClusterError, RequestRefused
from .database import failures
from .replicator import Replicator, verbs

log = logging.getLogger(__name__)
#: The follower is looked at this often, s.
WATCH_EVERY_S = 0.2
#: What was asked for longer ago than this is not done any more, s: the database stood still, the agent went on.
STALE_S = 2.0
#: ... but these always are.
ALWAYS = frozenset({"demote", "forget", "configure"})


class Process:
    """Serves the agent until it goes."""

    def __init__(self, prompt: Line, patient: Line) -> None:
        self._replicator = Replicator()
        self._verbs = verbs(self._replicator)
        self._prompt, self._patient = prompt, patient
        self._watching = threading.Event()

    def run(self) -> None:
        """Serve both sockets. Ends the process when the agent has closed one of them."""
        threading.Thread(target=self._serve, args=(self._patient,), name="patient", daemon=True).start()
        threading.Thread(target=self._watch, name="watch", daemon=True).start()
        self._serve(self._prompt)

    def _serve(self, line: Line) -> None:
        while (message := line.read()) is not None:
            answer = self._carry_out(message)
            asked = {"id": message["id"], "verb": message["verb"], "term": message["arguments"].get("term")}
            line.write(asked | answer)
        os._exit(0)

    def _carry_out(self, message: dict[str, Any]) -> dict[str, Any]:
        verb = message["verb"]
        try:
            age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - message["at"]
            if age_s > message.get("within_s", STALE_S) and verb not in ALWAYS:
                raise RequestRefused(f"The database stood still for {age_s:.1f} s: what was asked for is out of date.")
            with failures("PostgreSQL failed"):
                result = self._verbs[verb](**message["arguments"])
        except ClusterError as error:
            return {"ok": False, "error": error.as_dict()}
        except Exception as error:
            log.exception("Verb %s failed", verb)
            return {"ok": False, "error": ClusterError(f"{verb}: {error}".splitlines()[0][:300]).as_dict()}
        if verb in ("promote", "renew"):
            self._watching.set()
        elif verb in ("yield", "demote", "forget"):
            self._watching.clear()
        return {"ok": True, "result": result}

    def _watch(self) -> None:
        """While this gateway is active: tell how the other one's database follows."""
        while self._watching.wait():
            time.sleep(WATCH_EVERY_S)
            try:
                found = self._replicator.watch.look()
            except Exception as error:
                log.debug("The follower cannot be looked at: %s", error)
                found = {"streaming": False, "caught_up": False, "filled": True, "lag_bytes": 0, "kept_bytes": 0,
                         "wal_status": "", "brake_ms": 0}  # fmt: skip
            if self._watching.is_set():
                self._prompt.write({"event": "follower", **found})


def main() -> None:
    Process(*lines_to_agent()).run()
