"""Verify as a task: the shared tables of both gateways are compared while writes go on, and the progress is told."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from ..errors import ClusterError
from .database import Connection
from .scope import Scope
from .verify import Progress, Result, verify

log = logging.getLogger(__name__)
#: Keys shown of each table that differs.
KEYS_SHOWN = 20
#: Characters shown of each part of a key, and bytes of JSON of all keys: they travel in each look at the database.
KEY_CHARACTERS = 80
KEYS_BYTES = 100_000
#: The time that is left is not told before this time, s: nothing can be said of it yet.
LEFT_AFTER_S = 1.0


class Verifying:
    """Runs one comparison at a time, on a thread of its own."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._state: dict[str, Any] = {
            "under_way": False, "error": "", "began_at": "", "ended_at": "", "progress": None, "result": None,
        }  # fmt: skip
        self._began = 0.0

    def state(self) -> dict[str, Any]:
        """Return the progress of what is under way, or the last result."""
        return dict(self._state)

    def begin(
        self, active: Callable[[], Connection], passive: Callable[[], Connection], scope: Scope, passive_id: str
    ) -> dict[str, Any]:
        """Begin, unless it is under way."""
        if self._thread is None or not self._thread.is_alive():
            self._began = time.monotonic()
            self._state = {
                "under_way": True, "error": "", "began_at": _now(), "ended_at": "", "progress": None, "result": None,
            }  # fmt: skip
            self._thread = threading.Thread(
                target=self._run, args=(active, passive, scope, passive_id), name="verify", daemon=True
            )
            self._thread.start()
        return self.state()

    def _run(
        self, active: Callable[[], Connection], passive: Callable[[], Connection], scope: Scope, passive_id: str
    ) -> None:
        try:
            with active() as there, passive() as here:
                found = verify(there, here, scope, passive_id, progress=self._note)
            self._end(result=_plain(found))
        except ClusterError as error:
            self._end(error=error.message)
        except Exception as error:
            log.exception("The data could not be compared")
            self._end(error=f"{error}"[:200])

    def _end(self, **outcome: Any) -> None:
        self._state = {**self._state, "under_way": False, "progress": None, "ended_at": _now(), **outcome}

    def _note(self, progress: Progress) -> None:
        took_s = time.monotonic() - self._began
        left_s = None
        if took_s > LEFT_AFTER_S and progress.all_rows:
            left_s = round(took_s * (progress.all_expected - progress.all_rows) / progress.all_rows, 1)
        self._state = {**self._state, "progress": {**vars(progress), "took_s": round(took_s, 1), "left_s": left_s}}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _plain(result: Result) -> dict[str, Any]:
    tables, left = [], KEYS_BYTES
    for one in result.tables:
        keys = [[str(part)[:KEY_CHARACTERS] for part in key] for key in one.differing[:KEYS_SHOWN]]
        while keys and len(json.dumps(keys)) > left:
            keys.pop()
        left -= len(json.dumps(keys)) if keys else 0
        tables.append({
            "table": one.table,
            "rows": one.rows,
            "equal": one.equal,
            "key_columns": list(one.key_columns),
            "differing": keys,
            "differing_rows": len(one.differing),
            "unsettled": one.unsettled,
            "incomplete": one.incomplete,
        })  # fmt: skip
    return {"equal": result.equal, "seconds": round(result.seconds, 3), "tables": tables}
