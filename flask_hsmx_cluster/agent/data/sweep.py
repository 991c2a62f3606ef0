"""One thing done to many quarantined rows: batch after batch, so that nobody waits for all of them.

It runs in the agent of the gateway on which they lie. What was done to a row stays done when it is stopped, fails, or
the agent ends; what is left waits, and it can be begun again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from ...decision.events import Severity
from ...errors import ClusterError, RequestRefused

log = logging.getLogger(__name__)

#: What is done, and which state it takes rows from and to.
ACTIONS: Final[dict[str, tuple[str, str]]] = {
    "reapply": ("kept", "reapplied"), "discard": ("kept", "discarded"), "restore": ("discarded", "kept"),
}  # fmt: skip
#: Rows that are marked at once, and rows that the active gateway is asked to make at once.
MARK_ROWS: Final = 2000
MAKE_ROWS: Final = 100
#: Others ask the database, too: the time between two batches, s.
PAUSE_S: Final = 0.02
#: A batch is tried so often, with this time between, s.
TRIES, RETRY_S = 5, 1.0
#: Whoever begins one is told its end, if it comes within this time, s.
PROMPT_S: Final = 1.5
#: The time that is left is not told before this time, s.
LEFT_AFTER_S: Final = 1.0
#: Passes over what did not fit: a row may wait for one that comes after it.
MOST_PASSES: Final = 3
#: Why a row may fit once others have been made.
_MAY_FIT_LATER: Final = frozenset({"reference", "unique", "gone"})

Ask = Callable[..., dict[str, Any]]


@dataclass(frozen=True)
class Hands:
    """What it works with.

    :param ask: asks this gateway's replicator.
    :param make: makes rows again on the active gateway, see :meth:`.replication.keeper.Keeper.make_some`.
    :param ended: is told the last state.
    """

    ask: Ask
    make: Callable[[list[int]], dict[str, Any]]
    ended: Callable[[dict[str, Any]], None]


class Sweep:
    """At most one at a time."""

    def __init__(self, hands: Hands) -> None:
        self._hands = hands
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._began = 0.0
        self._state: dict[str, Any] = {
            "action": "", "table": "", "batch": "", "chosen": 0, "under_way": False, "began_at": "", "ended_at": "",
            "error": "", "remedy": "", "stopped": False, "total": 0, "done": 0, "unfit": 0, "reasons": [],
            "left_s": None,
        }  # fmt: skip

    def state(self) -> dict[str, Any]:
        """Return how far it is, or what came of the last one."""
        return dict(self._state)

    def begin(self, action: str, only: dict[str, Any]) -> dict[str, Any]:
        """Begin, and return how far it is.

        :param only: as :class:`.replication.quarantine.Filter`, without the state.
        :raises RequestRefused: another one is under way, or no such row is there.
        """
        before, _after = ACTIONS[action]
        only = {**only, "state": before}
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                raise RequestRefused("Many changes of this quarantine are being worked on already.",
                                     "Wait for its end, or stop it.")  # fmt: skip
            total = int(self._hands.ask("quarantine_count", **only)["rows"])
            if not total:
                raise RequestRefused("There is no such row in quarantine.", "Look at the list again.")
            self._stopping.clear()
            self._began = time.monotonic()
            self._state = {
                **self._state, "action": action, "table": only["table"], "batch": only["batch"],
                "chosen": len(only["ids"]), "under_way": True, "began_at": _now(), "ended_at": "", "error": "",
                "remedy": "", "stopped": False, "total": total, "done": 0, "unfit": 0, "reasons": [], "left_s": None,
            }  # fmt: skip
            self._thread = threading.Thread(target=self._run, args=(action, only), name="sweep", daemon=True)
            self._thread.start()
        self._thread.join(PROMPT_S)
        return self.state()

    def stop(self) -> dict[str, Any]:
        """Begin no further batch."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(PROMPT_S)
        return self.state()

    def _run(self, action: str, only: dict[str, Any]) -> None:
        outcome: dict[str, Any] = {}
        try:
            if action == "reapply":
                for _turn in range(MOST_PASSES):
                    if not self._pass(only):
                        break
            else:
                self._mark_all(action, only)
            outcome["stopped"] = self._stopping.is_set()
        except ClusterError as error:
            outcome = {"error": error.message, "remedy": error.remedy}
        except Exception as error:
            log.exception("Many quarantined changes could not be worked on")
            outcome = {"error": f"{error}"[:200], "remedy": "See the agent's log."}
        self._state = {**self._state, **outcome, "under_way": False, "left_s": None, "ended_at": _now()}
        self._hands.ended(self.state())

    def _mark_all(self, action: str, only: dict[str, Any]) -> None:
        last = 0
        while ids := self._next(only, last, MARK_ROWS):
            found = self._persist(lambda ids=ids: self._hands.ask(  # type: ignore[misc]
                "mark", ids=ids, before=ACTIONS[action][0], after=ACTIONS[action][1]))
            self._tell(int(found["marked"]))
            last = ids[-1]

    def _pass(self, only: dict[str, Any]) -> bool:
        """Try once to make every row again; return whether a further pass may make more."""
        last, made, unfit = 0, 0, 0
        reasons: dict[str, dict[str, Any]] = {}
        while ids := self._next(only, last, MAKE_ROWS):
            found = self._persist(lambda ids=ids: self._hands.make(ids))  # type: ignore[misc]
            # What was made and not marked, because the answer was lost, is found made when it is tried again.
            if not found["made"] and not found["unfit"]:
                raise RequestRefused("The active gateway has not said what became of the changes.", "Try again.")
            if found["made"]:
                self._persist(lambda found=found: self._hands.ask(  # type: ignore[misc]
                    "mark", ids=found["made"], before="kept", after="reapplied"))
            for each in found["unfit"]:
                seen = reasons.setdefault(each["kind"], {"kind": each["kind"], "rows": 0, "example": each["text"],
                                                         "id": each["id"]})  # fmt: skip
                seen["rows"] += 1
            made, unfit = made + len(found["made"]), unfit + len(found["unfit"])
            last = max([last, *found["made"], *(each["id"] for each in found["unfit"])])
            self._tell(len(found["made"]), unfit=unfit, reasons=list(reasons.values()))
        return bool(made and _MAY_FIT_LATER & set(reasons) and not self._stopping.is_set())

    def _next(self, only: dict[str, Any], after: int, limit: int) -> list[int]:
        if self._stopping.wait(PAUSE_S):
            return []
        found = self._persist(lambda: self._hands.ask("quarantine_ids", after=after, limit=limit, **only))
        return [int(one) for one in found["ids"]]

    def _persist(self, step: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Do a step; again if it fails, because the other gateway may be away for a moment, or the roles change."""
        for tries_left in reversed(range(TRIES)):
            try:
                return step()
            except ClusterError:
                if not tries_left or self._stopping.wait(RETRY_S):
                    raise
        raise AssertionError("unreachable")

    def _tell(self, more: int, **changes: Any) -> None:
        state = {**self._state, **changes, "done": self._state["done"] + more}
        seen, took_s = state["done"] + state["unfit"], time.monotonic() - self._began
        if took_s > LEFT_AFTER_S and seen:
            state["left_s"] = round(took_s * max(0, state["total"] - seen) / seen, 1)
        self._state = state


#: Event, and words for what is done and was done.
_SAID: Final = {
    "reapply": ("reapplied", "Making changes of the quarantine again", "made again on the active gateway"),
    "discard": ("discarded", "Discarding changes in quarantine", "in quarantine discarded"),
    "restore": ("restored", "Taking back what was discarded from quarantine", "taken back: they wait in quarantine"),
}  # fmt: skip


def event(state: dict[str, Any]) -> tuple[str, Severity, str, tuple[str, ...]]:
    """Return the event that a sweep has begun or ended: kind, severity, text, evidence."""
    kind, doing, done = _SAID[state["action"]]
    which = f" of {state['table']}" if state["table"] else ""
    if state["chosen"]:
        which = f" among {state['chosen']:,} chosen ones{which}"
    if state["batch"]:
        which += f", of the rejoin {state['batch'][:8]}"
    if state["under_way"]:
        return kind, "info", f"{doing} has begun: {state['total']:,}{which}", ()
    text = f"{rows(state['done'])}{which} {done}"
    if state["unfit"]:
        text += f"; {rows(state['unfit'])} did not fit and still wait"
    if state["stopped"]:
        text += "; it was stopped"
    evidence = tuple(f"{one['rows']:,} times, such as: {one['example']}" for one in state["reasons"])
    if state["error"]:
        return kind, "warning", f"{text}; then it failed", (state["error"], *evidence)
    return kind, "info", text, evidence


def rows(count: int) -> str:
    """Return a number of changes in words."""
    return "1 change" if count == 1 else f"{count:,} changes"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
