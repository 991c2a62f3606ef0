"""What follows the role beside the data: ready before the addresses come, ended before they go on request.

Nothing of it keeps the addresses away for longer than its limit, whatever it does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .events import Claim, KeepServices, PrepareServices, RetireServices, ServicesReady
from .model import NEVER, Term

if TYPE_CHECKING:
    from .core import Core

#: The addresses wait at most this long for what comes before them, and a hand-over for what ends before it, s; with a
#: short lease half of it: the right to write data, which is granted by then, must last.
SERVICES_MOST_S = 1.0


class Services:
    """What a gateway's brain says about what follows its role.

    :param core: the brain.
    """

    def __init__(self, core: Core) -> None:
        self.core = core
        self.preparing: Term | None = None
        self.retiring = False
        #: no other gateway can still run what belongs to the active one only
        self.released = False
        self._due = NEVER

    def deadline(self) -> float:
        """Return when they are waited for no longer, s."""
        return self._due

    def most_s(self) -> float:
        """Return how long they are waited for at most, s; 0 if there is nothing to wait for."""
        return min(SERVICES_MOST_S, self.core.plan.timing.lease_s / 2) if self.core.plan.services else 0.0

    def begin(self, term: Term) -> None:
        """The data is ready: what comes before the addresses, then these; those that are leased still do not wait."""
        if not self.core.plan.services or term == self.core.start.adopt:
            self._claim(term)
            return
        self.preparing, self._due = term, self.core.now + self.most_s()
        self.core.do(PrepareServices(term))

    def begin_retiring(self, why: str) -> bool:
        """A hand-over: end what runs on the active gateway only. False if there is nothing to end."""
        if not self.core.plan.services:
            return False
        self.retiring, self._due = True, self.core.now + self.most_s()
        self.core.do(RetireServices(why))
        return True

    def ready(self, event: ServicesReady) -> None:
        if event.retired and self.retiring:
            self.retiring, self._due = False, NEVER
            self.core.active.services_retired()
        elif not event.retired and self.preparing is not None and event.term == self.preparing:
            self._claim(self.preparing)

    def step(self) -> None:
        """Wait no longer than was said."""
        if self.core.now < self._due:
            return
        what = "The hand-over" if self.retiring else "The addresses"
        self.core.note("services_late", "warning", f"{what} did not wait any longer for services and hooks",
                       (f"{self.most_s():.1f} s have passed",))  # fmt: skip
        self.ready(ServicesReady(self.preparing or self.core.term, self.retiring))

    def keep(self) -> None:
        """The hand-over has failed after they had been ended: they are wanted again."""
        self.retiring, self._due = False, NEVER
        self.core.do(KeepServices())

    def end(self) -> None:
        """The reign is over, whatever the reason."""
        self.preparing, self.retiring, self._due = None, False, NEVER

    def _claim(self, term: Term) -> None:
        self.preparing, self._due = None, NEVER
        self.core.active.claimed()
        self.core.do(Claim(term, self.released or term == self.core.start.adopt))
