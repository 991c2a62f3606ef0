"""Hooks of the host: commands, and callables of its app, called in order at a change of role, each limited in time."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ClusterError
from ..network.clock import boot_time_s
from .commands import CommandFailed, Program, end_left_behind
from .declare import Hook, stated_hook
from .runner import Runner
from .situation import Situation

#: A failure is shown until the hook has worked again, or for this long, s.
SHOWN_S = 24 * 3600.0


@dataclass
class _Outcome:
    """How a hook went when it was called last."""

    at: float
    took_s: float
    error: ClusterError | None


class Hooks:
    """The participant."""

    name = "hooks"

    def __init__(self, situation: Situation, runner: Runner) -> None:
        self._situation = situation
        self._hooks: list[Hook] = []
        self._runner = runner
        self._mark = ""
        self._running: Program | None = None
        self._outcomes: dict[tuple[str, str], _Outcome] = {}

    def configure(self, setup: Mapping[str, Any]) -> None:
        owner = str(setup.get("owner", ""))
        self._mark = f"{owner}:hooks"
        end_left_behind(self._mark)
        self._hooks = sorted((stated_hook(one) for one in setup.get("hooks", ())), key=lambda hook: hook.order)
        called = any(not hook.command for hook in self._hooks)
        self._runner.use(self.name, tuple(setup["runner"]) if called else (), owner)
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
        self._runner.keep()

    def status(self) -> dict[str, Any]:
        now = boot_time_s()
        return {
            "ready": self._runner.ready or not self._runner.needed,
            "hooks": [self._as_dict(hook, now) for hook in list(self._hooks)],
            "alarms": [*self._runner.alarms(), *self._alarms(now)],
        }

    def _alarms(self, now: float) -> Iterator[dict[str, str]]:
        for hook in list(self._hooks):
            outcome = self._outcomes.get((hook.step, hook.name))
            if outcome and outcome.error and now - outcome.at < SHOWN_S:
                yield {
                    "key": f"hook_{hook.step}_{hook.name}",
                    "severity": "warning",
                    "text": f"Hook {hook.name} ({hook.step}) failed when the role changed: {outcome.error.message}",
                    "remedy": f"{outcome.error.remedy} Shown until it works, for a day at most.",
                }

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
        else:
            self._runner.call(hook.number, hook.limit_s, told)
