"""How the other gateway's database follows, as the active one sees it, several times a second."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Final

from . import channel, guard, synchrony
from .brake import Brake
from .database import Connection
from .names import FOLLOWS, SUBSCRIPTION
from .setup import Setup

log = logging.getLogger(__name__)

#: A brake that is not renewed within this time ends by itself, s: nobody looks any more.
BRAKE_HOLDS_S: Final = 1.0

_LOOK: Final = b"""
SELECT pg_current_wal_lsn()::text, s.confirmed_flush_lsn <= pg_current_wal_insert_lsn() AND CASE
           WHEN current_setting('synchronous_standby_names') = '' THEN %s::pg_lsn <= r.replay_lsn
               AND EXISTS (SELECT FROM pg_stat_activity WHERE application_name = %s)
           ELSE %s::pg_lsn <= s.confirmed_flush_lsn END,
       (SELECT joined_system FROM hsmx_cluster.node),
       (pg_current_wal_lsn() - '0/0')::bigint,
       CASE current_setting('synchronous_standby_names') WHEN '' THEN (r.replay_lsn - '0/0')::bigint END
FROM pg_replication_slots s LEFT JOIN pg_stat_replication r ON r.pid = s.active_pid
WHERE s.slot_name = %s
"""
_JOINED: Final = b"UPDATE hsmx_cluster.node SET joined_system = %s, fork_lsn = NULL, fork_bulk_lsn = NULL"


class Watch:
    """Looks how the other gateway follows, and slows writers while it does not catch up.

    :param connection: returns the present thread's connection to this gateway's database.
    :param setup: returns the set-up.
    """

    def __init__(self, connection: Callable[[], Connection], setup: Callable[[], Setup]) -> None:
        self._connection, self._setup = connection, setup
        self._seen_lsn = "0/0"
        self._brake = Brake()
        self._braked_ms: int | None = None  #: what the database was told last

    def look(self) -> dict[str, Any]:
        """Return how the other gateway follows; *caught up*: it has what was written at the last look; *filled*: it
        is not being filled for the first time; *brake_ms*: by how much each write is slowed until it has caught up.

        That is: confirmed, while commits wait for it. While they do not, it does not flush every commit (:mod:`.pace`):
        it is enough that it has applied it, and confirms as soon as they wait. Before they begin to, it must have seen
        that this database goes on from what it has; a position ahead of our log tells that it does not.
        """
        connection, setup = self._connection(), self._setup()
        slot = channel.slot_of(SUBSCRIPTION, setup.peer_id)
        found = synchrony.follower(connection, slot)
        row = connection.execute(_LOOK, (self._seen_lsn, FOLLOWS, self._seen_lsn, slot), prepare=True).fetchone()
        seen_lsn, follows, joined, written, applied = row or ("0/0", False, None, 0, None)
        # Only once it is on disk here that the other one has been filled may commits wait for it: else this gateway,
        # lost and back, would be filled anew, and what it alone has would not go to quarantine.
        caught_up = bool(found.streaming and follows and joined)
        system = setup.peer.system if setup.peer is not None else ""
        if found.streaming and row and system and joined != system:
            # Positions of another database's log mean nothing in this one's.
            connection.execute(_JOINED, (system,), prepare=True)
        self._seen_lsn = seen_lsn
        brake_ms = self._slow(connection, written, applied if setup.synchronous else None)
        return {**found.__dict__, "caught_up": caught_up, "filled": bool(row is None or joined), "brake_ms": brake_ms}

    def _slow(self, connection: Connection, written: int, applied: int | None) -> int:
        ms = self._brake.look(time.monotonic(), written, applied)
        if ms or ms != self._braked_ms:
            guard.brake(connection, ms, time.clock_gettime(time.CLOCK_BOOTTIME) + BRAKE_HOLDS_S)
        if bool(ms) != bool(self._braked_ms):
            log.info("Writes are slowed until the other gateway has caught up" if ms else "Writes are not slowed")
        self._braked_ms = ms
        return ms
