"""One turn of the heartbeat loop, in its order. No clock, no waiting: a simulation takes the same turns."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .session import Session


def take_turn(session: Session | None, due: float, now: float, readers: Iterable[Callable[[], None]]) -> None:
    """Distrust all timers after a standstill, hear what has come in, then do what is due.

    Hearing comes before a renewal: what another gateway has said meanwhile must not be overlooked (rule 11).

    :param due: when the turn was to begin, boot time in s.
    :param readers: each takes what has come in on one descriptor.
    """
    if session is not None and now - due > session.core.plan.timing.late_s:
        session.perform(session.core.ran_late(now - due, now))
    for reader in readers:
        reader()
    if session is not None:
        session.turn()
