"""The passive gateway begins to follow: a first copy, or a rejoin. It takes its time, and tells how far it is."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from ..errors import ClusterError
from . import forming, rejoin
from .database import Connection, connect, one
from .gateways import Gateways
from .promotion import Fork
from .scope import Scope

log = logging.getLogger(__name__)


@dataclass
class Progress:
    """How far it is.

    :param step: what is being done, in words; "" when nothing is.
    :param copying: it is a first copy: until its end nothing here is whole.
    :param done: of ``total`` rows; 0 of 0 while that is not known. ``done_bytes`` and ``total_bytes``: the same in
        bytes of the other gateway's tables; ``tables_done`` and ``tables``: the same in tables.
    :param left_s: time that is left, s; None while it cannot be said.
    :param error: why it ended, if it did not succeed; ``remedy``: what to do about it, if that is known.
    :param rejoined: how the last rejoin went: see :class:`.rejoin.Rejoined`.
    """

    step: str = ""
    copying: bool = False
    done: int = 0
    total: int = 0
    done_bytes: int = 0
    total_bytes: int = 0
    tables_done: int = 0
    tables: int = 0
    left_s: float | None = None
    error: str = ""
    remedy: str = ""
    rejoined: dict[str, Any] | None = None


@dataclass(frozen=True)
class Other:
    """Whom to follow.

    :param dsn: how our server reaches the other gateway's database.
    :param here: how this process does.
    :param fork: where its data parted from ours, see :meth:`.replicator.Replicator.fork`.
    """

    own_id: str
    peer_id: str
    dsn: str = field(repr=False)
    here: str = field(repr=False)
    fork: dict[str, Any]

    def connect(self, **parameters: Any) -> Connection:
        """Open one more connection of this process."""
        return connect(self.here, "hsmx_cluster follow", **parameters)


class Following:
    """Runs one attempt at a time, on a thread of its own.

    :param open_connection: to this gateway's database.
    :param scope: what is shared at present.
    :param require_same: raises where this gateway's tables cannot take what the other one's hold.
    :param follows: called when the subscriptions stream.
    """

    def __init__(
        self,
        open_connection: Callable[[], Connection],
        scope: Callable[[], Scope],
        require_same: Callable[[Connection, Connection], None],
        follows: Callable[[], None],
    ) -> None:
        self._open = open_connection
        self._require_same = require_same
        self._scope = scope
        self._follows = follows
        self._thread: threading.Thread | None = None
        self._progress = Progress()

    def state(self) -> dict[str, Any]:
        """Return the progress of what is under way, or how the last attempt ended."""
        return {**asdict(self._progress), "under_way": self.under_way()}

    def under_way(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def begin(self, other: Other) -> dict[str, Any]:
        """Begin, unless it is under way."""
        if not self.under_way():
            self._progress = Progress("begins")
            self._thread = threading.Thread(target=self._run, args=(other,), name="following", daemon=True)
            self._thread.start()
        return self.state()

    def _run(self, other: Other) -> None:
        progress = self._progress
        try:
            with self._open() as own, other.connect() as peer:
                gateways = Gateways(own, peer, self._open, other.connect, other.dsn, other.own_id, other.peer_id)
                self._require_same(own, peer)
                if one(own, "SELECT joined_system FROM hsmx_cluster.node") == other.fork["system"]:
                    self._rejoin(gateways, other.fork, progress)
                else:
                    progress.copying = True
                    forming.first_copy(gateways, self._scope(), other.fork["system"], progress)
            self._follows()
            progress.step = ""
        except ClusterError as error:
            progress.error, progress.remedy = error.message, error.remedy
            log.warning("The other gateway cannot be followed yet: %s", error.message)
        except Exception as error:
            progress.error = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            log.exception("The other gateway cannot be followed yet")

    def _rejoin(self, gateways: Gateways, fork: dict[str, Any], progress: Progress) -> None:
        scope = self._scope()
        where = Fork(fork["term"], fork["lsn"], fork["bulk_lsn"], fork["own_lsn"])
        done = rejoin.rejoin(gateways, scope, where, progress=lambda step: setattr(progress, "step", step.text))
        progress.rejoined = {
            "ways": done.ways, "reasons": done.reasons, "kept": done.kept, "replaced": done.replaced,
            "seconds": round(done.seconds, 3),
        }  # fmt: skip
        log.info("This gateway has joined again: %s", progress.rejoined)
