"""The numbers of reigns: which one is next, and that it is on disk before it is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .events import ReserveTerms, TermsReserved
from .model import MOST_TERM, Term

if TYPE_CHECKING:
    from .core import Core

#: Terms reserved on disk in one go, and how few may be left before more are.
TERM_BLOCK = 10
TERMS_LOW = 5


class Terms:
    """This gateway's stock of counters.

    :param core: the brain.
    """

    def __init__(self, core: Core) -> None:
        self.core = core
        self._next = core.start.next_term
        self._reserved_to = self._reserving = core.start.reserved_to

    def used_up(self) -> bool:
        """Return whether no reign can begin here any more: counters never begin anew within a cluster."""
        return self._after(self._seen()) > MOST_TERM

    def take(self) -> Term:
        """Return the term of a reign that begins; it is used from now on."""
        counter = self._after(self._seen())
        self._next = counter + 1
        return Term(counter, self.core.plan.node)

    def above(self, counter: int) -> None:
        """Use no counter up to this one any more."""
        self._next = self._after(counter)

    def on_disk(self, term: Term) -> bool:
        return term.counter <= self._reserved_to

    def watch(self, term: Term) -> None:
        """Keep a stock of counters on disk, above all that were seen."""
        needed = self._after(term.counter)
        if needed + TERMS_LOW > self._reserving and self._reserving < MOST_TERM:
            self._reserving = min(needed + TERM_BLOCK, MOST_TERM)
            self.core.do(ReserveTerms(self._reserving))

    def reserved(self, event: TermsReserved) -> None:
        self._reserved_to = max(self._reserved_to, event.upto)

    def _seen(self) -> int:
        peer = self.core.peer
        return max(self.core.term.counter, peer.term.counter if peer else 0)

    def _after(self, counter: int) -> int:
        return max(self._next, counter + 1)
