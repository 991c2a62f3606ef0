"""The checks of :mod:`.checks` as a task, on a thread of its own: the other gateway may take long to answer."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from ..errors import ClusterError
from . import checks
from .checks import Gateway
from .database import Connection, connect

log = logging.getLogger(__name__)


class Checking:
    """Runs one check at a time.

    :param open_connection: to this gateway's database.
    """

    def __init__(self, open_connection: Callable[[], Connection]) -> None:
        self._open = open_connection
        self._thread: threading.Thread | None = None
        self._number = 0
        self._state: dict[str, Any] = {"number": 0, "findings": [], "done": [], "renew": False, "error": ""}

    def state(self) -> dict[str, Any]:
        """Return the last result; ``number`` counts them. ``error``: why there is none this time."""
        return self._state

    def begin(self, gateway: Gateway, peer_here: str) -> dict[str, Any]:
        """Begin, unless it is under way; return the number that the result will have.

        :param peer_here: how the active gateway's database is reached; "" if that is not to be asked.
        """
        if self._thread is None or not self._thread.is_alive():
            self._number += 1
            self._thread = threading.Thread(target=self._run, args=(gateway, peer_here), name="checks", daemon=True)
            self._thread.start()
        return {"number": self._number}

    def _run(self, gateway: Gateway, peer_here: str) -> None:
        found: dict[str, Any] = {**self._state, "renew": False}
        try:
            peer = self._peer(peer_here)
            try:
                with self._open() as connection:
                    found = {**checks.as_dict(checks.look(connection, gateway, peer)), "error": ""}
                    found["failure"] = checks.last_failure(connection) if peer_here else ""
            finally:
                if peer is not None:
                    peer.close()
        except ClusterError as error:
            found["error"] = error.message
        except Exception as error:
            log.exception("The checks of the database have failed")
            found["error"] = f"{error}"[:200]
        self._state = {**found, "number": self._number}

    @staticmethod
    def _peer(peer_here: str) -> Connection | None:
        try:
            return connect(peer_here, "hsmx_cluster checks") if peer_here else None
        except ClusterError as error:
            log.info("The other gateway's tables are not compared: %s", error.message)
            return None
