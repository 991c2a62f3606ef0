"""PostgreSQL's launcher of apply workers, begun anew where it has fallen asleep.

It pauses ``wal_retrieve_retry_interval`` between two starts, and counts that by the wall clock (``ApplyLauncherMain``).
A clock that is set back by an hour between them makes it an hour, in which no worker that ends is replaced. A new
launcher remembers no start. (Since PostgreSQL 16 starts are remembered in shared memory, and outlive it.)
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Final

from .channel import Stream
from .database import Connection, DatabaseFailure

log = logging.getLogger(__name__)

#: An enabled subscription without a worker for this long, while the other gateway's server answers, is not tried, s.
PATIENCE_S: Final = 5.0
#: PostgreSQL starts a launcher that has ended after this time, s.
BACK_AFTER_S: Final = 5.0
#: From this version of PostgreSQL on a new launcher would wait just as long.
STARTS_OUTLIVE_IT: Final = 160000

_END: Final = b"""SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE backend_type = 'logical replication launcher'"""


class Launcher:
    """Finds subscriptions that nobody tries to follow.

    :param open_peer: opens a connection to the other gateway's database; while that fails, so does every worker.
    """

    def __init__(self, open_peer: Callable[[], AbstractContextManager[object]]) -> None:
        self._open_peer = open_peer
        self._idle: set[tuple[str, int]] = set()
        self._since = 0.0

    def look(self, connection: Connection, streams: Sequence[Stream], at: float) -> None:
        """Begin the launcher anew where that may help; to be called about once a second.

        :param at: monotonic time, s.
        """
        if connection.info.server_version >= STARTS_OUTLIVE_IT:
            return
        # One whose worker fails again and again is tried, and has one more error each time.
        idle = {(one.name, one.error_count) for one in streams if one.enabled and one.worker_pid is None}
        if not idle & self._idle:
            self._since = max(self._since, at)
        self._idle = idle
        if at - self._since < PATIENCE_S:
            return
        self._since = at
        try:
            with self._open_peer():
                pass
        except DatabaseFailure:
            return
        connection.execute(_END)
        self._since = at + BACK_AFTER_S
        log.warning("PostgreSQL does not try to follow the other gateway: its launcher begins anew")
