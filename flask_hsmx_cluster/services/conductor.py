"""Leads the participants from stage to stage, in their order, each step limited in time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from ..errors import ClusterError
from ..network.clock import boot_time_s
from .participant import Commanded, Exclusive, Participant, Stage

log = logging.getLogger(__name__)
#: What comes before the addresses come, or go, may take this long for all participants together, s; one alone is waited
#: for half of it: hooks that hang must not have services run on both gateways.
BEFORE_MOST_S, ALONE_MOST_S = 1.0, 0.5
#: One participant is waited for this long in the other stages before the next one goes on, s.
AFTER_MOST_S = 60.0
TICK_EVERY_S = 0.5
#: How long stopping everything at once may take, s.
STOP_MOST_S = 0.4

#: Takes what has failed: participant, step, why.
Failed = Callable[[str, str, ClusterError], None]
#: Takes a stage that has been reached, and the turn in which the agent wanted it.
Reached = Callable[[Stage, int], None]


class _Lane:
    """A participant and its thread: one that hangs delays no other."""

    def __init__(self, participant: Participant) -> None:
        self.participant = participant
        self.setup: Mapping[str, Any] = {}
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=participant.name)
        self._last: Future[None] | None = None

    @property
    def busy(self) -> bool:
        return self._last is not None and not self._last.done()

    def begin(self, work: Callable[[], None]) -> Future[None]:
        self._last = self._pool.submit(work)
        return self._last


class Conductor:
    """Knows the stage that the agent wants and brings every participant there.

    :param participants: in the order in which they become active.
    :param failed: told of each step that failed or was too slow.
    :param reached: told of each stage that was reached, unless another one was wanted meanwhile.
    """

    def __init__(self, participants: Sequence[Participant], failed: Failed, reached: Reached) -> None:
        self._lanes = [_Lane(one) for one in participants]
        self._failed, self._reached = failed, reached
        self._changed = threading.Condition()
        self._wanted = (Stage.PASSIVE, 0)
        self._at: tuple[Stage, int] | None = None
        """Where it is, or on its way to; None: nowhere yet, or everything was stopped at once."""
        self._stopping = threading.RLock()  # a signal may come to the thread that stops everything
        threading.Thread(target=self._run, name="conductor", daemon=True).start()

    def want(self, stage: Stage, turn: int) -> None:
        """Go to a stage; nothing, if it is the one that was wanted last.

        :param turn: another one for each change of the agent's mind.
        """
        with self._changed:
            self._wanted = (stage, turn)
            self._changed.notify_all()

    def configure(self, setups: Mapping[str, Mapping[str, Any]]) -> None:
        """Give each participant its part of the set-up, by name, and wait for it.

        :raises ClusterError: the first refusal; the others have theirs.
        """
        begun = []
        for lane in self._lanes:
            setup = setups.get(lane.participant.name, {})
            if setup != lane.setup:
                begun.append((lane, setup, lane.begin(partial(lane.participant.configure, setup))))
        refused = []
        for lane, setup, future in begun:
            try:
                future.result(AFTER_MOST_S)
                lane.setup = setup
            except Exception as error:
                if not isinstance(error, ClusterError):
                    log.exception("%s could not be set up", lane.participant.name)
                refused.append(_as_error(error))
        if refused:
            raise refused[0]

    def stop_now(self) -> bool:
        """End everything that must run on one gateway only, at once; say whether there could be anything.

        Any thread may call it; a second one waits for the first. The stage is *passive* afterwards.
        """
        with self._stopping:
            with self._changed:
                if {self._wanted[0], self._at[0] if self._at else Stage.PASSIVE} == {Stage.PASSIVE}:
                    return False
                # Whatever is wanted next is a change, even if it is what was wanted last.
                self._wanted, self._at = (Stage.PASSIVE, 0), None
                self._changed.notify_all()
            stopping = [threading.Thread(target=self._stop, args=(lane,), daemon=True) for lane in self._lanes]
            for thread in stopping:
                thread.start()
            deadline = boot_time_s() + STOP_MOST_S
            for thread in stopping:
                thread.join(max(0.0, deadline - boot_time_s()))
            return True

    def settle(self, limit_s: float) -> None:
        """Wait for what is under way, but no longer than a limit, s."""
        deadline = boot_time_s() + limit_s
        while (self._wanted != self._at or any(lane.busy for lane in self._lanes)) and boot_time_s() < deadline:
            time.sleep(0.01)

    def command(self, participant: str, **wish: Any) -> None:
        """Tell a participant what an operator wants of it.

        :raises ClusterError: it cannot be.
        """
        for lane in self._lanes:
            if lane.participant.name == participant and isinstance(lane.participant, Commanded):
                return lane.participant.command(**wish)
        raise ClusterError(f"{participant} takes no commands.")

    def status(self) -> dict[str, Any]:
        """Return the stage and what each participant shows, by its name."""
        shown = {lane.participant.name: lane.participant.status() for lane in self._lanes}
        return {"stage": self._at[0].value if self._at else Stage.PASSIVE.value, "participants": shown}

    # -- the conductor's own thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted != self._at, TICK_EVERY_S)
                before, self._at = self._at, self._wanted
                stage, turn = self._wanted
            if (stage, turn) != before:
                self._go(before, stage, turn)
            else:
                self._tick(stage)

    def _tick(self, stage: Stage) -> None:
        for lane in self._lanes:
            if not lane.busy:
                self._begin(lane, stage, "tick")

    def _go(self, before: tuple[Stage, int] | None, stage: Stage, turn: int) -> None:
        match stage:
            case Stage.BEFORE_ACTIVE:
                self._lead(stage, BEFORE_MOST_S)
            case Stage.ACTIVE:
                if before is None or before[0] is not Stage.BEFORE_ACTIVE:
                    self._lead(Stage.BEFORE_ACTIVE, BEFORE_MOST_S)
                self._lead(stage, AFTER_MOST_S)
            case Stage.BEFORE_PASSIVE:
                self._free_lanes()
                self._lead(stage, BEFORE_MOST_S)
            case Stage.PASSIVE:
                self._free_lanes()
                self._lead(stage, AFTER_MOST_S)
        if self._wanted == self._at == (stage, turn):
            self._reached(stage, turn)

    def _lead(self, stage: Stage, limit_s: float) -> None:
        """Have all participants do a step, one after the other; those for whom no time is left are not waited for.

        What the role has left behind ends at the same time: a hook that hangs must not keep a service running.
        """
        together = stage in (Stage.BEFORE_ACTIVE, Stage.BEFORE_PASSIVE)
        alone_s = ALONE_MOST_S if together else limit_s
        deadline = boot_time_s() + (limit_s if together else float("inf"))
        lanes = self._lanes if stage.upwards else self._downwards()
        begun = {lane: self._begin(lane, stage, stage.value) for lane in lanes if stage is Stage.PASSIVE}
        for lane in lanes:
            future = begun.get(lane) or self._begin(lane, stage, stage.value)
            if not self._wait(future, min(deadline, boot_time_s() + alone_s), None if together else stage):
                why = f"{lane.participant.name}: {stage.value} took more than {alone_s:.1f} s; it was not waited for."
                self._failed(lane.participant.name, stage.value, ClusterError(why))

    def _downwards(self) -> list[_Lane]:
        """Return the lanes in the order in which they become passive."""
        return sorted(reversed(self._lanes), key=lambda lane: not isinstance(lane.participant, Exclusive))

    def _wait(self, future: Future[None], deadline: float, ticking: Stage | None) -> bool:
        """Wait for a step, unless the agent wants something else meanwhile; False: it was too slow.

        :param ticking: the others are looked after meanwhile, at this stage.
        """
        done = threading.Event()

        def wake(_: object) -> None:
            done.set()
            with self._changed:
                self._changed.notify_all()

        def over() -> bool:
            return done.is_set() or self._wanted != self._at

        future.add_done_callback(wake)
        while True:
            left_s = max(0.0, deadline - boot_time_s())
            with self._changed:
                if self._changed.wait_for(over, left_s if ticking is None else min(left_s, TICK_EVERY_S)):
                    return True
            if boot_time_s() >= deadline:
                return False
            if ticking is not None:
                self._tick(ticking)

    def _begin(self, lane: _Lane, stage: Stage, step: str) -> Future[None]:
        participant = lane.participant

        def work() -> None:
            if stage.upwards != self._wanted[0].upwards:
                return  # the participant was busy until the role went another way
            try:
                participant.tick(boot_time_s()) if step == "tick" else getattr(participant, step)()
            except Exception as error:
                if not isinstance(error, ClusterError):
                    log.exception("%s of %s failed", step, participant.name)
                self._failed(participant.name, step, _as_error(error))

        return lane.begin(work)

    def _free_lanes(self) -> None:
        """The role goes: a participant that is still busy with an earlier step ends at once what it has begun."""
        for lane in self._lanes:
            if lane.busy:
                threading.Thread(target=self._stop, args=(lane,), daemon=True).start()

    def _stop(self, lane: _Lane) -> None:
        try:
            lane.participant.stop_now()
        except Exception as error:
            log.exception("%s could not be stopped", lane.participant.name)
            self._failed(lane.participant.name, "stop_now", _as_error(error))


def _as_error(error: Exception) -> ClusterError:
    if isinstance(error, ClusterError):
        return error
    return ClusterError(f"{type(error).__name__}: {error}".splitlines()[0][:300])
