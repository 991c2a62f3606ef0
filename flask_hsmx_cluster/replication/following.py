"""The passive gateway begins to follow: a first copy, or a rejoin. It takes its time, and tells how far it is."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import ClusterError
from . import channel, forming
from .database import Connection, one
from .scope import Scope

log = logging.getLogger(__name__)


@dataclass
class Progress:
    """How far it is.

    :param step: what is being done, in words; "" when nothing is.
    :param done: of ``total`` rows; 0 of 0 while that is not known.
    :param error: why it ended, if it did not succeed.
    """

    step: str = ""
    done: int = 0
    total: int = 0
    error: str = ""


class Following:
    """Runs one attempt at a time, on a thread of its own.

    :param open_connection: to this gateway's database.
    :param scope: what is shared at present.
    """

    def __init__(self, open_connection: Callable[[], Connection], scope: Callable[[], Scope]) -> None:
        self._open = open_connection
        self._scope = scope
        self._thread: threading.Thread | None = None
        self._progress = Progress()

    def state(self) -> dict[str, Any]:
        """Return the progress of what is under way, or how the last attempt ended."""
        return {**asdict(self._progress), "under_way": self.under_way()}

    def under_way(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def begin(self, own_id: str, peer_id: str, peer_dsn: str, fork: dict[str, Any]) -> dict[str, Any]:
        """Begin, unless it is under way.

        :param fork: where the other gateway's data parted from ours, see :meth:`.replicator.Replicator.fork`.
        """
        if not self.under_way():
            self._progress = Progress("begins")
            self._thread = threading.Thread(
                target=self._run, args=(own_id, peer_id, peer_dsn, fork), name="following", daemon=True
            )
            self._thread.start()
        return self.state()

    def _run(self, own_id: str, peer_id: str, peer_dsn: str, fork: dict[str, Any]) -> None:
        progress = self._progress
        try:
            with self._open() as connection:
                self._follow(connection, own_id, peer_id, peer_dsn, fork, progress)
            progress.step = ""
        except ClusterError as error:
            progress.error = error.message
            log.warning("The other gateway cannot be followed yet: %s", error.message)
        except Exception as error:
            progress.error = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            log.exception("The other gateway cannot be followed yet")

    def _follow(
        self, connection: Connection, own_id: str, peer_id: str, peer_dsn: str, fork: dict[str, Any], progress: Progress
    ) -> None:
        scope = self._scope()
        known = one(connection, "SELECT joined_system FROM hsmx_cluster.node")
        if known != fork["system"]:
            forming.first_copy(connection, scope, own_id, peer_dsn, progress)
            connection.execute("UPDATE hsmx_cluster.node SET joined_system = %s", (fork["system"],))
        else:
            progress.step = "rejoins"
            channel.advance_slots(connection, scope, peer_id)
            channel.subscribe(connection, peer_dsn, scope, own_id)
