"""A preferred gateway: once it has been well for long enough, the other one hands the role back to it.

The active gateway counts, because it knows both: the other one must be heard, healthy, not in maintenance, and have
every write, without a pause, for the delay. Then it is handed the role as on request. A return that fails, or does not
last a day, doubles the delay (rule 19). A reign that an operator has asked for is not ended: the automatic return is
off until the operator asks for the preferred gateway, changes the setting, or the role moves for another reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import judge
from .model import NEVER, Motive, Role

if TYPE_CHECKING:
    from .core import Core

#: A return has succeeded if the preferred gateway keeps the role this long, s.
HELD_S = 24 * 3600.0
#: The delay is not doubled beyond this, s.
DELAY_MOST_S = 24 * 3600.0


class Preference:
    """When the other gateway, if it is the preferred one, gets the role back.

    :param core: the brain.
    """

    def __init__(self, core: Core) -> None:
        self.core = core
        #: this reign is what an operator wanted
        self.asked = core.start.asked
        #: what keeps operators from moving the role at present, in words; "" if nothing does
        self.blocked = ""
        #: returns in a row that did not last
        self.failed = 0
        self._well_since: float | None = None
        self._returned_at = -NEVER

    def counts(self) -> bool:
        """Return whether this gateway is active although the other one is preferred."""
        plan = self.core.plan
        return bool(plan.peer) and plan.preferred == plan.peer and self.core.role is Role.ACTIVE

    def delay_s(self) -> float:
        """Return how long the other gateway must be well now, s."""
        delay_s = self.core.plan.preferred_delay_s
        return max(delay_s, min(delay_s * 2.0**self.failed, DELAY_MOST_S))

    def left_s(self) -> float | None:
        """Return how long until the role is handed back, s; None if that is not in sight."""
        if not self.counts() or self._well_since is None:
            return None
        return max(0.0, self._well_since + self.delay_s() - self.core.now)

    def why_not(self) -> str:
        """Return why the time does not run, in words; "" if it does."""
        core, peer = self.core, self.core.peer
        if self.asked:
            return "an operator asked for this gateway"
        if self.blocked:
            return self.blocked
        if core.maintenance or (peer is not None and peer.maintenance):
            return "a gateway is in maintenance"
        if peer is None or core.peer_lost or not core.peer_fresh():
            return f"{core.plan.peer_name} is not heard"
        if peer.role is not Role.PASSIVE or peer.listening or core.renewed_at is None:
            return "the roles are not settled"
        if peer.causes:
            return f"{core.plan.peer_name} is not healthy: {judge.in_words(peer.causes, core.plan)}"
        if core.plan.data and not (core.data.confirms() if core.plan.synchronous else core.data.caught_up):
            return f"{core.plan.peer_name} does not have every write"
        return ""

    def step(self) -> None:
        """With each heartbeat: count, and hand over when the time is over."""
        core = self.core
        if not self.counts() or self.why_not():
            self._well_since = None
        elif self._well_since is None:
            self._well_since = core.now
        elif self.left_s() == 0 and core.active.handover is None:
            self._well_since = None
            core.active.begin_handover(Motive.PREFERRED)

    def granted(self) -> None:
        """The preferred gateway takes over again."""
        self._returned_at = self.core.now

    def refused(self) -> None:
        """It could not take over again."""
        self.failed += 1

    def begin(self, motive: Motive | None) -> None:
        """A reign begins here.

        :param motive: why the role was handed over; None: it was taken.
        """
        self.asked = motive is Motive.REQUEST
        self._well_since = None
        held_s = self.core.now - self._returned_at
        self._returned_at = -NEVER
        if held_s > HELD_S:
            self.failed = 0
        elif not self.asked:
            self.failed += 1

    def changed(self) -> None:
        """An operator has changed the setting: it begins anew."""
        self.asked, self.failed, self._well_since, self._returned_at = False, 0, None, -NEVER
