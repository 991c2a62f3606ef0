"""The process that talks to the arbiter: asks when the agent says so, and else looks now and then whether it answers.

On the prompt line come the questions of the heartbeat loop; answers carry when the question was sent. On the patient
one the agent says where the arbiter is.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from ..agent_line import Line, lines_to_agent
from ..errors import ClusterError, ConfigError
from ..network.clock import boot_time_s
from .declare import Arbiter
from .etcd import Etcd, NoAnswer

#: It is looked at this often while nothing is asked, s.
LOOK_EVERY_S = 5.0


class Process:
    """Serves the agent until it goes."""

    def __init__(self, prompt: Line, patient: Line) -> None:
        self._prompt, self._patient = prompt, patient
        self._messages: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._etcd: Etcd | None = None
        self._told: tuple[bool, str] | None = None  # whether it answered last, as the agent knows

    def run(self) -> None:
        """Serve both lines until the agent has closed one."""
        for line, serve in ((self._prompt, self._take), (self._patient, self._configure)):
            threading.Thread(target=self._read, args=(line, serve), daemon=True).start()
        look_at = boot_time_s()
        while True:
            try:
                message = self._messages.get(timeout=max(0.0, look_at - boot_time_s()))
            except queue.Empty:
                self._try(self._look)
            else:
                waiting = [message, *self._others()]
                if None in waiting:
                    return
                for number, one in enumerate(waiting):
                    later = {other["verb"] for other in waiting[number + 1 :] if other}
                    if one and not (one["verb"] == "ask" and later & {"ask", "leave"}):
                        self._carry_out(one)
            look_at = boot_time_s() + LOOK_EVERY_S

    def _read(self, line: Line, serve: Callable[[dict[str, Any]], None]) -> None:
        while (message := line.read()) is not None:
            serve(message)
        self._messages.put(None)

    def _take(self, message: dict[str, Any]) -> None:
        self._messages.put(message)

    def _configure(self, message: dict[str, Any]) -> None:
        """Take where the arbiter is; files that are of no use are told at once."""
        answer: dict[str, Any] = {"ok": True, "result": {}}
        try:
            etcd = Etcd(Arbiter.from_json(message["arguments"]["stated"]))
            self._etcd = etcd
            etcd.context()
        except OSError as error:
            problem = ConfigError(
                f"The certificates for the arbiter cannot be used ({error.strerror or type(error).__name__}).",
                "See HSMX_CLUSTER_ARBITER_CA, _CERTIFICATE and _KEY; the agent's user must be able to read them.",
            )
            answer = {"ok": False, "error": problem.as_dict()}
        except ClusterError as error:
            answer = {"ok": False, "error": error.as_dict()}
        self._patient.write({"id": message["id"], "verb": message["verb"], **answer})
        self._messages.put({"verb": "look"})

    def _others(self) -> Iterator[dict[str, Any] | None]:
        """Yield what has come meanwhile: a question that it makes useless is not asked."""
        with suppress(queue.Empty):
            while True:
                yield self._messages.get_nowait()

    def _carry_out(self, message: dict[str, Any]) -> None:
        match message["verb"]:
            case "ask":
                told = message["arguments"]
                self._ask(told["turn"], told["key"], told["owner"], told["ttl_s"])
            case "leave":
                self._try(self._leave)
            case "look":
                self._try(self._look)

    def _ask(self, turn: int, key: str, owner: str, ttl_s: int) -> None:
        at, word = boot_time_s(), "silent"

        def hold() -> None:
            nonlocal word
            if self._etcd is None:
                raise NoAnswer("it is not known yet where it is")
            word = "granted" if self._etcd.hold(key, owner, ttl_s) else "denied"

        self._try(hold)
        self._prompt.write({"event": "answer", "turn": turn, "word": word, "at": at})

    def _leave(self) -> None:
        if self._etcd is not None:
            self._etcd.leave()

    def _look(self) -> None:
        if self._etcd is not None:
            self._etcd.look()

    def _try(self, work: Callable[[], None]) -> None:
        """Ask something, and tell the agent if that shows for the first time that it answers, or why it does not."""
        try:
            work()
            now = True, ""
        except NoAnswer as error:
            now = False, error.message[:300]
        if self._etcd is not None and now != self._told:
            self._told = now
            self._prompt.write({"event": "seen", "answers": now[0], "text": now[1]})


def main() -> None:
    process = Process(*lines_to_agent())
    try:
        process.run()
    finally:
        os._exit(0)  # whatever it waits for: nobody is there to hear the answer
