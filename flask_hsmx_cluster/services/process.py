"""The process of what follows the role: takes stages from the agent, and ends what must run on one gateway only as soon
as the agent is dead or silent.

On the prompt line the agent says at which stage it is, at each change and with each renewal of its addresses' lease.
If it says nothing for ``bound_s``, which is shorter than the lease, the other gateway may soon be active.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import threading
import time
from collections.abc import Mapping
from typing import Any

from ..agent_line import Line, lines_to_agent
from ..errors import ClusterError
from ..network.clock import boot_time_s
from .conductor import Conductor
from .participant import Stage
from .participants import participants
from .situation import Situation

log = logging.getLogger(__name__)
#: Without a set-up the agent may be silent this long, s.
BOUND_S = 1.5
#: What is under way when the agent ends as a passive gateway has this long, s; less than the agent's patience.
SETTLE_S = 1.0
#: What fails between changes of the role is told this often at most, s: a program's words may differ each time.
SAY_EVERY_S = 600.0


class Process:
    """Serves the agent until it goes."""

    def __init__(self, prompt: Line, patient: Line) -> None:
        self._prompt, self._patient = prompt, patient
        self._situation = Situation()
        self._conductor = Conductor(participants(self._situation), self._failed, self._reached)
        self._bound_s = BOUND_S
        self._heard_at = boot_time_s()
        self._said: dict[str, tuple[str, float]] = {}  # by participant: what failed last, and when that was told
        self._bound_changed = threading.Event()
        self._ending = threading.RLock()

    def run(self) -> None:
        """Serve both lines until the agent has closed the prompt one; :meth:`end` is due then."""
        threading.Thread(target=self._serve_patient, name="patient", daemon=True).start()
        threading.Thread(target=self._watch, name="watch", daemon=True).start()
        while (message := self._prompt.read()) is not None:
            # When the agent sent it counts, not when this process came to read it.
            self._heard_at = max(self._heard_at, message["at"])
            if boot_time_s() - self._heard_at < self._bound_s:
                told = message["arguments"]
                self._situation.reason, self._situation.term = told["reason"], told["term"]
                self._situation.released = told["released"]
                self._conductor.want(Stage(told["stage"]), told["turn"])

    def _watch(self) -> None:
        """End what must run on one gateway only when the agent has been silent for too long."""
        sure = False
        while True:
            silent_s = boot_time_s() - self._heard_at
            if silent_s < self._bound_s:
                sure = False
                self._bound_changed.wait(self._bound_s - silent_s + 0.001)
                self._bound_changed.clear()
            elif not sure or select.select([self._prompt], [], [], 0)[0]:
                sure = True  # unless this process was late, and not the agent
                time.sleep(0.005)
            else:
                if self._conductor.stop_now():
                    log.warning("The agent is silent: what runs on one gateway only was ended after %.1f s", silent_s)
                time.sleep(0.1)

    def end(self) -> None:
        """End what must run on one gateway only, and this process."""
        with self._ending:  # both lines end, and each has its thread
            if not self._conductor.stop_now():
                self._conductor.settle(SETTLE_S)  # the agent was asked to stop: what comes last is under way still
            os._exit(0)

    def _serve_patient(self) -> None:
        while (message := self._patient.read()) is not None:
            self._patient.write({"id": message["id"], "verb": message["verb"], **self._carry_out(message)})
        self.end()

    def _carry_out(self, message: Mapping[str, Any]) -> dict[str, Any]:
        try:
            match message["verb"]:
                case "configure":
                    setup = message["arguments"]["setup"]
                    self._bound_s = float(setup["bound_s"])
                    self._bound_changed.set()
                    self._conductor.configure(setup["participants"])
                    return {"ok": True, "result": {}}
                case "look":
                    return {"ok": True, "result": self._conductor.status()}
                case "command":
                    self._conductor.command(**message["arguments"])
                    return {"ok": True, "result": {}}
                case verb:
                    raise ClusterError(f"There is no verb {verb}.")
        except ClusterError as error:
            return {"ok": False, "error": error.as_dict()}
        except Exception as error:
            log.exception("%s failed", message["verb"])
            return {"ok": False, "error": ClusterError(f"{message['verb']}: {error}"[:300]).as_dict()}

    def _failed(self, name: str, step: str, error: ClusterError) -> None:
        said, at = self._said.get(name, ("", float("-inf")))
        now = boot_time_s()
        if step == "tick" and (said == error.message or now - at < SAY_EVERY_S):
            return  # again, perhaps in other words
        self._said[name] = error.message, now
        log.warning("%s, %s: %s", name, step, error.message)
        self._tell(event="failed", participant=name, step=step, error=error.as_dict())

    def _reached(self, stage: Stage, turn: int) -> None:
        self._tell(event="reached", stage=stage.value, turn=turn)

    def _tell(self, **message: Any) -> None:
        with contextlib.suppress(OSError):  # the agent has gone: whoever reads notices
            self._prompt.write(message)


def main() -> None:
    process = Process(*lines_to_agent())
    # The agent ends this process by SIGTERM: nothing is left that runs on one gateway only.
    signal.signal(signal.SIGTERM, lambda *_: process.end())
    try:
        process.run()
    finally:  # whatever happened: nothing outlives it that runs on one gateway only
        process.end()
