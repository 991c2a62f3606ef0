"""The passive gateway begins to follow: a first copy, or a rejoin. It takes its time, and tells how far it is."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import ClusterError
from . import channel, forming, rejoin
from .database import Connection, connect, one
from .promotion import Fork
from .scope import Scope

log = logging.getLogger(__name__)


@dataclass
class Progress:
    """How far it is.

    :param step: what is being done, in words; "" when nothing is.
    :param done: of ``total`` rows; 0 of 0 while that is not known.
    :param error: why it ended, if it did not succeed; ``remedy``: what to do about it, if that is known.
    :param rejoined: how the last rejoin went: see :class:`.rejoin.Rejoined`.
    """

    step: str = ""
    done: int = 0
    total: int = 0
    error: str = ""
    remedy: str = ""
    rejoined: dict[str, Any] | None = None


class Following:
    """Runs one attempt at a time, on a thread of its own.

    :param open_connection: to this gateway's database.
    :param scope: what is shared at present.
    :param require_same: raises where this gateway's tables cannot take what the other one's hold.
    """

    def __init__(
        self,
        open_connection: Callable[[], Connection],
        scope: Callable[[], Scope],
        require_same: Callable[[Connection, Connection], None],
    ) -> None:
        self._open = open_connection
        self._require_same = require_same
        self._scope = scope
        self._thread: threading.Thread | None = None
        self._progress = Progress()

    def state(self) -> dict[str, Any]:
        """Return the progress of what is under way, or how the last attempt ended."""
        return {**asdict(self._progress), "under_way": self.under_way()}

    def under_way(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def begin(
        self, own_id: str, peer_id: str, peer_dsn: str, peer_here: str, fork: dict[str, Any]
    ) -> dict[str, Any]:
        """Begin, unless it is under way.

        :param peer_dsn: how our server reaches the other gateway's database.
        :param peer_here: how this process does.
        :param fork: where the other gateway's data parted from ours, see :meth:`.replicator.Replicator.fork`.
        """
        if not self.under_way():
            self._progress = Progress("begins")
            self._thread = threading.Thread(
                target=self._run, args=(own_id, peer_id, peer_dsn, peer_here, fork), name="following", daemon=True
            )
            self._thread.start()
        return self.state()

    def _run(self, own_id: str, peer_id: str, peer_dsn: str, peer_here: str, fork: dict[str, Any]) -> None:
        progress = self._progress
        try:
            with self._open() as connection:
                self._follow(connection, own_id, peer_id, peer_dsn, peer_here, fork, progress)
            progress.step = ""
        except ClusterError as error:
            progress.error, progress.remedy = error.message, error.remedy
            log.warning("The other gateway cannot be followed yet: %s", error.message)
        except Exception as error:
            progress.error = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            log.exception("The other gateway cannot be followed yet")

    def _follow(
        self,
        connection: Connection,
        own_id: str,
        peer_id: str,
        peer_dsn: str,
        peer_here: str,
        fork: dict[str, Any],
        progress: Progress,
    ) -> None:
        scope = self._scope()
        known = one(connection, "SELECT joined_system FROM hsmx_cluster.node")
        if known != fork["system"]:
            with connect(peer_here, "hsmx_cluster first copy") as peer:
                self._require_same(connection, peer)
                forming.first_copy(connection, peer, scope, own_id, peer_dsn, progress)
            connection.execute("UPDATE hsmx_cluster.node SET joined_system = %s", (fork["system"],))
            return
        with connect(peer_here, "hsmx_cluster rejoin") as peer:
            self._require_same(connection, peer)
            gateways = rejoin.Gateways(
                connection, peer, lambda: connect(peer_here, replication="database"), peer_dsn, own_id, peer_id
            )
            where = Fork(fork["term"], fork["lsn"], fork["bulk_lsn"], fork["own_lsn"])
            done = rejoin.rejoin(gateways, scope, where, progress=lambda step: setattr(progress, "step", step.text))
        channel.advance_slots(connection, scope, peer_id)
        progress.rejoined = {
            "ways": done.ways, "reasons": done.reasons, "kept": done.kept, "replaced": done.replaced,
            "seconds": round(done.seconds, 3),
        }  # fmt: skip
        log.info("This gateway has joined again: %s", progress.rejoined)
