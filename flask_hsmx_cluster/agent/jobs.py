"""The agent's jobs, under one APScheduler: the heartbeat without a trigger, periodic ones that re-arm themselves.

An interval trigger follows the wall clock: a step of -5 s gave 5.1 s of silence, one of +10 days kept it busy
for more than 10 s (measured with APScheduler 3.11). So a periodic job asks for its next run when it ends, and all
are armed anew after a step of the clock.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.date import DateTrigger

from ..network.clock import boot_time_s

log = logging.getLogger(__name__)
#: Threads for jobs: the heartbeat has one for itself.
THREADS = 4
#: Threads for what must not wait for the others: they may all be waiting for a database that stands still.
THREADS_APART = 2
HEARTBEAT = "heartbeat"


#: What a job does; it returns its result in words.
Work = Callable[[], str | None]
#: Between the end of a run and the next, s; a function where that depends on whether there is anything to do.
Period = float | Callable[[], float]
#: By name.
Periodic = dict[str, tuple[Period, Work]]


@dataclass
class JobState:
    """What the status page shows of a job; times are boot time in s."""

    name: str
    period_s: Period
    work: Work
    last_run: float | None = None
    next_run: float | None = None
    took_s: float | None = None
    result: str = "has not run yet"
    executor: str = "default"
    again: bool = False


class Jobs:
    """Runs the agent's jobs and knows when each ran, runs next, and how it went."""

    def __init__(self) -> None:
        self._scheduler = BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(THREADS), "apart": ThreadPoolExecutor(THREADS_APART)},
            timezone=UTC,
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
        )
        self._states: dict[str, JobState] = {}
        self._stopping = threading.Event()
        self._scheduler.start()

    def start_heartbeat(self, run: Callable[[], None], failed: Callable[[], None]) -> None:
        """Start the one job that paces itself; ``failed`` is called if it ends by an error."""
        state = self._states[HEARTBEAT] = JobState(HEARTBEAT, 0.0, lambda: None, result="running")
        state.last_run = boot_time_s()

        def keep() -> None:
            try:
                run()
                state.result = "stopped"
            except BaseException:
                log.exception("The heartbeat has failed; the kernel drops the addresses when their lease ends")
                state.result = "failed"
                failed()

        self._scheduler.add_job(keep, id=HEARTBEAT, name=HEARTBEAT)

    def every(self, name: str, period_s: Period, work: Work, apart: bool = False) -> None:
        """Run ``work`` now and then each ``period_s`` after it has ended; it returns its result in words.

        :param apart: it does not wait for a thread that other jobs use.
        """
        self._states[name] = JobState(name, period_s, work, executor="apart" if apart else "default")
        self._arm(name, 0.0)

    def soon(self, name: str) -> None:
        """Run a periodic job now rather than at its time; once more if it is running."""
        state = self._states.get(name)
        if state is not None:
            state.again = True
            if state.next_run is not None:
                self._arm(name, 0.0)

    def rearm(self) -> None:
        """Arm every periodic job anew: the wall clock, by which the scheduler waits, was set."""
        for name in list(self._states):
            if name != HEARTBEAT:
                self._arm(name, _seconds(self._states[name].period_s))

    def as_dicts(self) -> list[dict[str, Any]]:
        """Return the jobs as the control verb ``status`` shows them."""
        now = boot_time_s()
        return [
            {
                "name": state.name,
                "result": state.result,
                "last_run_s": None if state.last_run is None else round(now - state.last_run, 1),
                "took_ms": None if state.took_s is None else round(state.took_s * 1000, 1),
                "next_run_s": None if state.next_run is None else round(max(0.0, state.next_run - now), 1),
            }
            for state in list(self._states.values())
        ]

    def stop(self) -> None:
        """Stop arming jobs and end the scheduler; running ones are not waited for."""
        self._stopping.set()
        # A scheduler that is shut down amid its round does not find the job any more that it has just begun. Paused it
        # begins no other round, and the question waits for the end of this one.
        self._scheduler.pause()
        self._scheduler.get_jobs()
        self._scheduler.shutdown(wait=False)

    def _arm(self, name: str, delay_s: float) -> None:
        if self._stopping.is_set():
            return
        self._states[name].next_run = boot_time_s() + delay_s
        at = datetime.now(UTC) + timedelta(seconds=delay_s)
        self._scheduler.add_job(
            self._run, DateTrigger(at), args=(name,), id=name, name=name, replace_existing=True,
            executor=self._states[name].executor,
        )  # fmt: skip

    def _run(self, name: str) -> None:
        state = self._states[name]
        state.last_run, state.next_run, state.again = boot_time_s(), None, False
        try:
            state.result = state.work() or "done"
        except Exception as error:
            log.warning("Job %s failed: %s", name, error)
            state.result = f"failed: {error}"
        finally:
            state.took_s = boot_time_s() - state.last_run
            try:
                self._arm(name, 0.0 if state.again else _seconds(state.period_s))
            except RuntimeError:  # the scheduler has just been shut down
                log.debug("Job %s ended after the scheduler", name)


def _seconds(period: Period) -> float:
    return period() if callable(period) else period
