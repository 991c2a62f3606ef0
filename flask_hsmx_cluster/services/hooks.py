"""Hooks of the host: commands, and callables of its app, called in order at a change of role, each limited in time.

A callable needs the app, which neither the agent nor this process has. ``flask cluster hooks`` loads it, once and
without the agent's capabilities, and forks for each call: one that hangs or crashes takes nothing along. It is started
only if there are callables: it takes as much memory as the app.
"""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ClusterError
from ..network.clock import boot_time_s
from .commands import CommandFailed, Program, end, end_left_behind
from .declare import RUNNER_FD, Argv, Hook, stated_hook
from .situation import Situation

log = logging.getLogger(__name__)
#: A runner that has ended is started again at most this often, s.
RUNNER_AGAIN_S = 5.0
#: A failure is shown until the hook has worked again, or for this long, s.
SHOWN_S = 24 * 3600.0
#: The runner ends a call at its limit; its word is waited for this much longer, s.
ANSWER_S = 0.2


class Runner:
    """The process that has the app.

    :param argv: its command.
    """

    def __init__(self, argv: Argv, mark: str) -> None:
        self._argv, self._mark = argv, mark
        self._program: Program | None = None
        self._socket: socket.socket | None = None
        self._number = 0
        self.ready = False  #: the app is loaded
        self._started_at = float("-inf")

    def keep(self) -> None:
        """Start it if it does not run.

        :raises CommandFailed: it cannot be started.
        """
        if self._program is not None and self._program.code() is None:
            self._hear()
            return
        if boot_time_s() - self._started_at < RUNNER_AGAIN_S:
            return
        self.end()
        self._started_at = boot_time_s()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._program = Program(
                self._argv, self._mark, captured=False, privileged=False, pass_fds=(theirs.fileno(),),
                environment={RUNNER_FD: str(theirs.fileno())},
            )  # fmt: skip
        self._socket = ours

    def _hear(self) -> None:
        """Take the word that the app is loaded, and answers that nobody waits for any more."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.setblocking(False)
                while self._socket.recv(65536):
                    self.ready = True

    def call(self, hook: Hook, told: Mapping[str, Any]) -> None:
        """Have a callable called.

        :raises CommandFailed: it failed, or was not done in time.
        """
        deadline = boot_time_s() + hook.limit_s + ANSWER_S
        if self._socket is None:
            raise CommandFailed("the app is not loaded.", "See the agent's log for what `flask cluster hooks` said.")
        self._number += 1
        message = {"id": self._number, "number": hook.number, "limit_s": hook.limit_s, "told": told}
        try:
            self._socket.settimeout(0.1)
            self._socket.send(json.dumps(message).encode())
            while (left_s := deadline - boot_time_s()) > 0:
                self._socket.settimeout(left_s)
                data = self._socket.recv(65536)
                if not data:
                    raise OSError("closed")
                answer, self.ready = json.loads(data), True
                if answer["id"] == self._number:
                    if answer["error"]:
                        raise CommandFailed(f"{answer['error']}.", "See the agent's log.")
                    return
        except TimeoutError:
            pass
        except OSError:
            raise CommandFailed("the process that has the app ended.", "It is started again by itself.") from None
        raise CommandFailed(f"it was not done within {hook.limit_s:.1f} s, and was ended.", "See what it waits for.")

    def end(self) -> None:
        """End it, and what it has begun."""
        self.ready = False
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._program is not None:
            end([self._program], 0.2)
            self._program = None


@dataclass
class _Outcome:
    """How a hook went when it was called last."""

    at: float
    took_s: float
    error: ClusterError | None


class Hooks:
    """The participant."""

    name = "hooks"

    def __init__(self, situation: Situation) -> None:
        self._situation = situation
        self._hooks: list[Hook] = []
        self._runner: Runner | None = None
        self._mark = ""
        self._running: Program | None = None
        self._outcomes: dict[tuple[str, str], _Outcome] = {}

    def configure(self, setup: Mapping[str, Any]) -> None:
        if self._runner is not None:
            self._runner.end()
            self._runner = None
        self._mark = f"{setup.get('owner', '')}:hooks"
        end_left_behind(self._mark)
        self._hooks = sorted((stated_hook(one) for one in setup.get("hooks", ())), key=lambda hook: hook.order)
        if any(not hook.command for hook in self._hooks):
            self._runner = Runner(tuple(setup["runner"]), self._mark)
            self._runner.keep()

    def before_active(self) -> None:
        self._call("before_active", "active")

    def after_active(self) -> None:
        self._call("after_active", "active")

    def before_passive(self) -> None:
        self._call("before_passive", "passive")

    def after_passive(self) -> None:
        self._call("after_passive", "passive")

    def stop_now(self) -> None:
        if (running := self._running) is not None:
            running.send(signal.SIGKILL)

    def tick(self, now_s: float) -> None:
        if self._runner is not None:
            self._runner.keep()

    def status(self) -> dict[str, Any]:
        now = boot_time_s()
        return {
            "ready": self._runner is None or self._runner.ready,
            "hooks": [self._as_dict(hook, now) for hook in list(self._hooks)],
            "alarms": [
                {
                    "key": f"hook_{hook.step}_{hook.name}",
                    "severity": "warning",
                    "text": f"Hook {hook.name} ({hook.step}) failed when the role changed: {outcome.error.message}",
                    "remedy": f"{outcome.error.remedy} Shown until it works, for a day at most.",
                }
                for hook in list(self._hooks)
                if (outcome := self._outcomes.get((hook.step, hook.name))) and outcome.error
                and now - outcome.at < SHOWN_S
            ],
        }  # fmt: skip

    def _as_dict(self, hook: Hook, now: float) -> dict[str, Any]:
        outcome = self._outcomes.get((hook.step, hook.name))
        return {
            "name": hook.name, "step": hook.step, "order": hook.order, "limit_s": hook.limit_s,
            "state": "not_called" if outcome is None else "failed" if outcome.error else "done",
            "called_s": None if outcome is None else round(now - outcome.at, 1),
            "took_ms": None if outcome is None else round(outcome.took_s * 1000, 1),
            "problem": outcome.error.message if outcome and outcome.error else "",
        }  # fmt: skip

    def _call(self, step: str, role: str) -> None:
        """Call the hooks of a step, one after the other.

        :raises CommandFailed: one failed; the others were called all the same.
        """
        told = {"step": step, "role": role, "reason": self._situation.reason, "term": self._situation.term}
        failed = []
        for hook in (one for one in self._hooks if one.step == step):
            began, error = boot_time_s(), None
            try:
                self._call_one(hook, told)
            except ClusterError as problem:
                error = problem
                failed.append(f"Hook {hook.name} ({step}) failed: {error.message}")
            self._outcomes[step, hook.name] = _Outcome(began, boot_time_s() - began, error)
        if failed:
            raise CommandFailed(" ".join(failed), "The change of role went on without it.")

    def _call_one(self, hook: Hook, told: Mapping[str, Any]) -> None:
        if hook.command:
            variables = {f"HSMX_CLUSTER_{key.upper()}": str(value) for key, value in told.items()}
            self._running = Program(hook.command, self._mark, privileged=False, environment=variables)
            try:
                self._running.succeed(hook.limit_s)
            finally:
                self._running = None
        elif self._runner is not None:
            self._runner.call(hook, told)
