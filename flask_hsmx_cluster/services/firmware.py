"""The services of the firmware: those of the active gateway run there only, those of both run always."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..errors import ClusterError
from ..network.clock import boot_time_s
from .commands import CommandFailed, Program, end, end_left_behind
from .declare import Argv, Service, service_from

log = logging.getLogger(__name__)
#: A service's own word for whether it runs is asked for this often, s.
STATUS_EVERY_S = 3.0
#: One that has died is started again after this time, s; doubled with each further time up to the limit.
AGAIN_AFTER_S, AGAIN_MOST_S = 1.0, 60.0
#: One that has run for so long has not failed before, s.
STEADY_S = 30.0
#: A program in the foreground is given this long to end in a hand-over, and when the agent is silent, s.
END_S, END_NOW_S = 0.4, 0.2

UNKNOWN = float("-inf")
SYSTEMCTL = "/usr/bin/systemctl"


class Managed:
    """One service at run time."""

    def __init__(self, service: Service, owner: str) -> None:
        self.service = service
        self.mark = f"{owner}:{service.name}"
        self.program: Program | None = None  #: of one that stays in the foreground
        self.runs = False
        self.problem: ClusterError | None = None
        self.since = boot_time_s()
        self.failures = 0
        self.again_at = float("-inf")
        self.asked_at = UNKNOWN  #: when it was last known whether it runs

    def commands(self) -> tuple[Argv, Argv, Argv]:
        """Return what starts it, stops it, and tells whether it runs."""
        unit = self.service.unit
        if unit:
            return (
                (SYSTEMCTL, "start", unit), (SYSTEMCTL, "stop", unit), (SYSTEMCTL, "is-active", "--quiet", unit),
            )  # fmt: skip
        return self.service.start, self.service.stop, self.service.status

    def turned(self, runs: bool) -> None:
        """Note that it runs now, or not."""
        if runs is not self.runs:
            self.runs, self.since = runs, boot_time_s()

    def failed(self, error: ClusterError, now_s: float | None = None) -> None:
        """Note that it could not be started or stopped, or has died: it is tried again, ever later."""
        self.problem = error
        now_s = boot_time_s() if now_s is None else now_s
        self.again_at = now_s + min(AGAIN_AFTER_S * 2**self.failures, AGAIN_MOST_S)
        self.failures = min(self.failures + 1, 10)

    def look(self, now: float) -> None:
        """See whether it runs.

        :param now: boot time, s.
        """
        if self.service.run:
            code = self.program.code() if self.program else None
            if self.program is not None and code is not None:
                self.program = None
                end_left_behind(self.mark)  # one that goes to the background would be there once more each time
                why = f"it has ended with status {code}."
                self.failed(CommandFailed(why, "See the agent's log for what it said."), now)
            self.turned(self.program is not None)
        elif now - self.asked_at >= STATUS_EVERY_S:
            self.asked_at = now
            ran = self.runs
            self.turned(Program(self.commands()[2], self.mark).wait(self.service.limit_s) == 0)
            if ran and not self.runs:
                self.failed(CommandFailed("it has ended.", "See its own log."), now)
        if self.runs and now - self.since > STEADY_S:
            self.failures, self.problem = 0, None

    def as_dict(self, wanted: bool) -> dict[str, Any]:
        one = self.service
        state = "runs" if self.runs else "stopped"
        if self.runs is not wanted:
            state = "failed" if self.problem is not None else "changes"
        return {
            "name": one.name, "runs_on": one.runs_on, "when": one.when, "wanted": wanted, "runs": self.runs,
            "state": state, "since_s": round(boot_time_s() - self.since, 1), "restarts": self.failures,
            "problem": self.problem.message if self.problem else "",
        }  # fmt: skip


class FirmwareServices:
    """The participant."""

    name = "services"

    def __init__(self) -> None:
        self._all: list[Managed] = []
        self._owner = ""
        self._allowed: frozenset[str] = frozenset()  #: which of the active gateway's may run: ``before``, ``after``
        self._loose: list[Program] = []  #: that nobody waits for
        self._lock = threading.Lock()  # what may run, and starting it

    # -- steps ------------------------------------------------------------------------------------------------

    def configure(self, setup: Mapping[str, Any]) -> None:
        self._owner = setup.get("owner", self._owner)
        stated = [service_from(one) for one in setup.get("services", ())]
        kept = {one.service.name: one for one in self._all if one.service in stated}
        gone = [one for one in self._all if one.service.name not in kept]
        end_left_behind(*(f"{self._owner}:{one.name}" for one in stated if one.run and one.name not in kept))
        self._all = [kept.get(service.name) or Managed(service, self._owner) for service in stated]
        self._stop(gone)

    def before_active(self) -> None:
        self._allow({"before"})
        self._start()

    def after_active(self) -> None:
        self._allow({"before", "after"})
        self._start()

    def before_passive(self) -> None:
        self._allow(())
        self._stop(self._active_only())

    def after_passive(self) -> None:
        self.before_passive()

    def stop_now(self) -> None:
        self._allow(())
        for one in self._active_only():
            if not one.service.run:  # goes on after the end of this process, if need be
                one.asked_at = UNKNOWN
                self._let_go(one.commands()[1], one.mark)
                if one.service.unit:  # its own patience with stopping may be long
                    self._let_go((SYSTEMCTL, "kill", "--signal=KILL", one.service.unit), one.mark)
        end([program for one in self._active_only() if (program := one.program)], END_NOW_S)
        end_left_behind(*(one.mark for one in self._active_only() if one.service.run))

    def tick(self, now_s: float) -> None:
        for one in self._all:
            try:
                one.look(now_s)
                wanted = self._wanted(one)
                if one.runs is not wanted and now_s >= one.again_at:
                    if wanted:
                        self._start_one(one)
                    elif one.service.runs_on == "active":
                        self._stop([one])
            except ClusterError as error:
                one.failed(error, now_s)

    def status(self) -> dict[str, Any]:
        shown = [one.as_dict(self._wanted(one)) for one in list(self._all)]
        return {"services": shown, "alarms": [alarm for one in list(self._all) for alarm in self._alarms(one)]}

    # -- helpers ----------------------------------------------------------------------------------------------

    def _let_go(self, argv: Argv, mark: str) -> None:
        """Start a program that nobody waits for."""
        self._loose = [one for one in self._loose if one.code() is None]
        try:
            self._loose.append(Program(argv, mark, captured=False, tied=False))
        except CommandFailed as error:  # the others are to be stopped all the same
            log.warning("%s", error.message)

    def _allow(self, which: Iterable[str]) -> None:
        with self._lock:
            self._allowed = frozenset(which)

    def _wanted(self, one: Managed) -> bool:
        return one.service.runs_on == "both" or one.service.when in self._allowed

    def _active_only(self) -> list[Managed]:
        return [one for one in reversed(self._all) if one.service.runs_on == "active"]

    def _start(self) -> None:
        """Start in their order what may run and does not.

        :raises CommandFailed: one could not be started; the others are.
        """
        failed = []
        for one in self._all:
            if self._wanted(one) and not one.runs:
                try:
                    self._start_one(one)
                except ClusterError as error:
                    one.failed(error)
                    failed.append(f"{one.service.name} could not be started: {error.message}")
        if failed:
            raise CommandFailed(" ".join(failed), "It is tried again by itself.")

    def _start_one(self, one: Managed) -> None:
        with self._lock:  # once it may not run any more, nothing starts it
            if not self._wanted(one):
                return
            if one.service.run:
                one.program = Program(one.service.run, one.mark, captured=False)
                one.turned(True)
                return
            starting = one.program = Program(one.commands()[0], one.mark)
        try:
            starting.succeed(one.service.limit_s)
        finally:
            one.program = None
        one.problem = None
        one.turned(True)
        one.asked_at = boot_time_s()

    def _stop(self, which: Sequence[Managed]) -> None:
        """Stop services, all at the same time.

        :raises CommandFailed: one could not be stopped; the others are.
        """
        foreground = [one for one in which if one.service.run and one.program]
        stopping: list[tuple[Managed, Program]] = []
        failed: list[str] = []

        def refused(one: Managed, error: ClusterError) -> None:
            one.failed(error)
            failed.append(f"{one.service.name} could not be stopped: {error.message}")

        for one in which:
            if not one.service.run and (one.runs or one.asked_at == UNKNOWN):
                try:
                    stopping.append((one, Program(one.commands()[1], one.mark)))
                except CommandFailed as error:
                    refused(one, error)
        end([one.program for one in foreground if one.program], END_S)
        end_left_behind(*(one.mark for one in foreground))
        for one in foreground:
            one.program = None
            one.problem, one.failures = None, 0
            one.turned(False)
        for one, program in stopping:
            try:
                program.succeed(one.service.limit_s)
                one.problem, one.failures, one.asked_at = None, 0, boot_time_s()
                one.turned(False)
            except ClusterError as error:
                refused(one, error)
        if failed:
            raise CommandFailed(" ".join(failed), "It is tried again by itself.")

    def _alarms(self, one: Managed) -> list[dict[str, str]]:
        wanted, name, problem = self._wanted(one), one.service.name, one.problem
        if problem is None or (one.runs is wanted and one.failures < 2):
            return []
        if one.runs and wanted:
            text = f"Service {name} was started again {one.failures} times: {problem.message}"
        elif wanted:
            text = f"Service {name} does not run: {problem.message}"
        else:
            text = f"Service {name} still runs on the passive gateway: {problem.message}"
        severity = "warning" if one.runs and wanted else "critical"
        remedy = f"{problem.remedy} It is tried again by itself.".strip()
        return [{"key": f"service_{name}", "severity": severity, "text": text, "remedy": remedy}]
