"""Verify as a task: the shared tables of both gateways are compared while writes go on, and the progress is told."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from ..errors import ClusterError
from .database import Connection
from .scope import Scope
from .verify import Progress, Result, verify

log = logging.getLogger(__name__)
#: Keys shown of each table that differs.
KEYS_SHOWN = 20


class Verifying:
    """Runs one comparison at a time, on a thread of its own."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._state: dict[str, Any] = {"under_way": False, "error": "", "progress": None, "result": None}

    def state(self) -> dict[str, Any]:
        """Return the progress of what is under way, or the last result."""
        return dict(self._state)

    def begin(
        self, active: Callable[[], Connection], passive: Callable[[], Connection], scope: Scope, passive_id: str
    ) -> dict[str, Any]:
        """Begin, unless it is under way."""
        if self._thread is None or not self._thread.is_alive():
            self._state = {"under_way": True, "error": "", "progress": None, "result": None}
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
            self._state = {"under_way": False, "error": "", "progress": None, "result": _plain(found)}
        except ClusterError as error:
            self._state = {"under_way": False, "error": error.message, "progress": None, "result": None}
        except Exception as error:
            log.exception("The data could not be compared")
            self._state = {"under_way": False, "error": f"{error}"[:200], "progress": None, "result": None}

    def _note(self, progress: Progress) -> None:
        self._state = {**self._state, "progress": vars(progress)}


def _plain(result: Result) -> dict[str, Any]:
    tables = [
        {
            "table": one.table,
            "rows": one.rows,
            "equal": one.equal,
            "key_columns": list(one.key_columns),
            "differing": [[str(part) for part in key] for key in one.differing[:KEYS_SHOWN]],
            "unsettled": one.unsettled,
            "incomplete": one.incomplete,
        }
        for one in result.tables
    ]
    return {"equal": result.equal, "seconds": round(result.seconds, 3), "tables": tables}
