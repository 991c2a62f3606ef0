"""What a gateway must remember of its data in case it starts alone: whether it, or the other one, wrote last."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ...decision.model import NO_TERM, Role

if TYPE_CHECKING:
    from ...decision.core import Core
    from ..clerk import Clerk

#: While this gateway has all that the other one has, that is put on disk again this often, s.
IN_STEP_EVERY_S = 60.0


@dataclass(frozen=True)
class DataStanding:
    """This gateway's data beside the other one's.

    :param followed: the other gateway was the one that wrote last, as far as this one knows.
    :param behind: this gateway serves although the other one's data may be newer.
    :param in_step_at: wall time, ISO, at which this gateway last had all that the other one had; "" if not known.
    :param degraded_at: wall time, ISO, since when this gateway, active, confirms its writes alone; "" if it does not.
    """

    followed: bool = False
    behind: bool = False
    in_step_at: str = ""
    degraded_at: str = ""


class StandingKeeper:
    """Looks at the core once a second, and has the clerk write what is new."""

    def __init__(self, clerk: Clerk) -> None:
        self._clerk = clerk
        self._written_at = 0.0
        self.known = DataStanding()

    def load(self) -> DataStanding:
        """Return what was known when the agent stopped."""
        self.known = self._clerk.ledger.standing()
        return self.known

    def tick(self, core: Core, degraded_since: float | None, now: float) -> None:
        """Note what is new.

        :param degraded_since: since when an active gateway confirms its writes alone, boot time in s, or None.
        """
        found = standing(self.known, core, degraded_since, now, datetime.now(UTC))
        news = replace(found, in_step_at="") != replace(self.known, in_step_at="")
        if news or (found != self.known and now - self._written_at >= IN_STEP_EVERY_S):
            self.known, self._written_at = found, now
            self._clerk.keep("standing", lambda: self._clerk.ledger.remember_standing(found))


def standing(
    known: DataStanding, core: Core, degraded_since: float | None, now: float, wall: datetime
) -> DataStanding:
    """Return the present standing.

    :param known: the former one.
    """
    if not core.plan.data or not core.plan.peer:
        return DataStanding()
    present = wall.isoformat(timespec="seconds")
    if core.role is Role.ACTIVE:
        degraded_at = "" if degraded_since is None else (
            known.degraded_at or (wall - timedelta(seconds=now - degraded_since)).isoformat(timespec="seconds")
        )  # fmt: skip
        return DataStanding(False, core.behind, known.in_step_at if core.behind else "", degraded_at)
    if not core.peer_was_active or core.peer_synchronous is None:
        return known
    # A gateway that has just given up its reign had everything until this moment.
    in_step = not core.behind or (not known.followed and core.term != NO_TERM)
    in_step_at = present if in_step else known.in_step_at
    return DataStanding(followed=True, behind=core.behind, in_step_at=in_step_at)


def seconds_ago(wall: str, now: float) -> float | None:
    """Return the boot time, s, of a moment of the wall clock; None if there is none. For display only."""
    if not wall:
        return None
    try:
        return now - max(0.0, (datetime.now(UTC) - datetime.fromisoformat(wall)).total_seconds())
    except (ValueError, TypeError):
        return None
