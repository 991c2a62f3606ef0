"""How the apply worker commits: each transaction flushed while somebody waits for it, and none while nobody does.

One worker applies what many sessions have written. If it flushes each commit it is slower than four clients without a
pause (2,600 against 3,000 transactions a second, measured), and a gateway that is behind would never catch up; without
flushing it is six times as fast. So it flushes exactly while the active gateway's commits wait for it. PostgreSQL's
worker takes the change at its next transaction, without a restart.

Before that, each time that the active gateway's server is reached anew: does it go on from what this gateway has? One
that went back in time must not be followed on (rule 6). Only when that was looked at, its commits begin to wait.
"""

from __future__ import annotations

import logging
import select
import threading
import time
from collections.abc import Callable

from psycopg import sql

from ..errors import ClusterError
from . import channel
from .database import Connection, failures, one
from .names import FOLLOWS, SUBSCRIPTION, WAITS
from .rejoin import went_back

log = logging.getLogger(__name__)

#: Between two looks at whether commits wait, s. That they begin to is told, and in force within this time.
LOOK_EVERY_S = 0.05
LOOK_SELDOM_S = 1.0

_FLUSHES = b"""SELECT subsynccommit = 'on' FROM pg_subscription JOIN pg_database d ON d.oid = subdbid
WHERE d.datname = current_database() AND subname = %s AND subenabled"""
_LOOK = b"""SELECT current_setting('synchronous_standby_names') = %s,
    (SELECT count(*) FROM pg_replication_slots WHERE slot_name = ANY(%s) AND wal_status <> 'lost')"""


class Pace:
    """Keeps the subscription's way of committing, on a thread of its own, for as long as it is enabled.

    It also disables the subscriptions when a slot that they read from is lost: their workers would try for ever, and
    only a rejoin helps.

    :param slots: names of those slots.
    :param open_own: opens a connection to this gateway's database.
    :param open_peer: opens one to the active gateway's.
    :param peer_id: returns the active gateway's node id.
    """

    def __init__(
        self, open_own: Callable[[], Connection], open_peer: Callable[[], Connection], slots: Callable[[], list[str]],
        peer_id: Callable[[], str],
    ) -> None:
        self._open_own, self._open_peer, self._slots, self._peer_id = open_own, open_peer, slots, peer_id
        self._thread: threading.Thread | None = None

    def keep(self, anew: bool = False) -> None:
        """Begin, unless it is under way.

        :param anew: the other gateway was away: what is under way may wait for an answer that never comes.
        """
        if anew or self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="pace", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        try:
            with failures("Whether commits wait cannot be seen"), self._open_own() as own, self._open_peer() as peer:
                if self._may_follow(own, peer):
                    self._keep(own, peer)
        except ClusterError as error:
            log.debug("%s", error.message)  # tried again with the next tending

    def _may_follow(self, own: Connection, peer: Connection) -> bool:
        """Look whether the active gateway's data has gone on from what this one has; if not, a rejoin is to compare."""
        streams = channel.streams(own)
        for stream in streams:
            if why := went_back(peer, self._peer_id(), stream.origin_lsn, own):
                log.warning("The active gateway went back in time: %s", why)
                channel.disable(own)
                return False
        peer.execute(sql.SQL("SET application_name = {}").format(sql.Literal(FOLLOWS)))
        return bool(streams)

    def _keep(self, own: Connection, peer: Connection) -> None:
        before, told_at = False, -LOOK_SELDOM_S

        def told(_: object) -> None:
            nonlocal told_at
            told_at = time.monotonic()

        peer.add_notify_handler(told)
        peer.execute(sql.SQL("LISTEN {}").format(sql.Identifier(WAITS)))
        while self._thread is threading.current_thread():
            flushes = one(own, _FLUSHES.decode(), SUBSCRIPTION)
            if flushes is None:
                return
            slots = self._slots()
            waits, kept = peer.execute(_LOOK, (SUBSCRIPTION, slots), prepare=True).fetchone() or (False, len(slots))
            if kept < len(slots):
                log.warning("The other gateway has not kept what this one has still to get")
                channel.disable(own)
                return
            # A gateway that hands over clears the name, and this one is being promoted: it is not to be held up.
            if waits != flushes and (waits or not before):
                flush_each_commit(own, waits)
            before = waits
            if not waits and time.monotonic() - told_at < LOOK_SELDOM_S:
                time.sleep(LOOK_EVERY_S)  # it is in force in a moment
            else:
                select.select([peer], [], [], LOOK_SELDOM_S)


def flush_each_commit(own: Connection, on: bool) -> None:
    """Let the apply worker flush each commit from its next transaction on, or none; flush what it has applied."""
    with own.transaction():
        own.execute(f"SET LOCAL synchronous_commit = {'local' if on else 'off'}".encode())
        own.execute(sql.SQL("ALTER SUBSCRIPTION {} SET (synchronous_commit = {})").format(
            sql.Identifier(SUBSCRIPTION), sql.Literal("on" if on else "off")))
