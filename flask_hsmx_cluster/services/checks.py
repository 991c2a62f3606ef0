"""Health checks of the host: commands, and callables of its app, carried out now and then on both gateways."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ClusterError
from ..network.clock import boot_time_s
from .commands import Program
from .declare import Check, check_from
from .runner import AppNotLoaded, Runner

#: It is looked this often whether one is due, s.
LOOK_EVERY_S = 0.2


@dataclass
class _Found:
    """What a check found last.

    :param problem: empty if all was well.
    """

    at: float
    problem: str
    remedy: str = ""


class Checks:
    """The participant. It has a thread of its own: a check that takes long is in no step's way."""

    name = "checks"

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._owner = ""
        self._checks: list[Check] = []
        self._found: dict[str, _Found] = {}
        self._due: dict[str, float] = {}
        self._thread: threading.Thread | None = None

    def configure(self, setup: Mapping[str, Any]) -> None:
        self._owner = str(setup.get("owner", ""))
        self._checks = [check_from(one) for one in setup.get("checks", ())]
        called = any(not check.command for check in self._checks)
        self._runner.use(self.name, tuple(setup["runner"]) if called else (), self._owner)
        self._runner.keep()
        self._found, self._due = {}, {}
        if self._checks and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="checks", daemon=True)
            self._thread.start()

    def before_active(self) -> None:
        """Checks go on whatever the role."""

    after_active = before_passive = after_passive = stop_now = before_active

    def tick(self, now_s: float) -> None:
        self._runner.keep()

    def status(self) -> dict[str, Any]:
        now = boot_time_s()
        return {"checks": [self._as_dict(check, now) for check in self._checks], "alarms": [
            {"key": f"check_{check.name}", "severity": "critical" if check.moves_role else "warning",
             "text": f"Check {check.name} fails on this gateway: {found.problem}", "remedy": found.remedy}
            for check in self._checks if (found := self._found.get(check.name)) and found.problem
        ]}  # fmt: skip

    def _as_dict(self, check: Check, now: float) -> dict[str, Any]:
        found = self._found.get(check.name)
        return {
            "name": check.name, "moves_role": check.moves_role, "every_s": check.every_s,
            "state": "unknown" if found is None else "bad" if found.problem else "good",
            "problem": found.problem if found else "", "checked_s": round(now - found.at, 1) if found else None,
        }  # fmt: skip

    def _run(self) -> None:
        while True:
            for check in self._checks:
                if boot_time_s() >= self._due.get(check.name, 0.0):
                    if check.command or self._runner.ready:
                        with contextlib.suppress(AppNotLoaded):  # nothing new is known
                            self._found[check.name] = self._carry_out(check)
                    self._due[check.name] = boot_time_s() + check.every_s
            time.sleep(LOOK_EVERY_S)

    def _carry_out(self, check: Check) -> _Found:
        """Return what it found.

        :raises AppNotLoaded: it was not carried out.
        """
        try:
            if check.command:
                mark = f"{self._owner}:checks"
                Program(check.command, mark, privileged=False).succeed(check.limit_s)
            else:
                self._runner.call(check.number, check.limit_s, None)
        except AppNotLoaded:
            raise
        except ClusterError as error:
            return _Found(boot_time_s(), error.message, error.remedy)
        return _Found(boot_time_s(), "")
