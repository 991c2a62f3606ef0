"""Terms in the node store."""

from __future__ import annotations

from sqlalchemy.orm import Session

from .. import models as m
from ..decision.model import MOST_TERM
from .renewal.store import GuideStore
from .store_file import damaged

#: A counter that has come this far begins anew with the next cluster.
MANY_TERMS = MOST_TERM // 2


class TermStore(GuideStore):
    """The part of the node store that remembers terms."""

    def reserve_term(self, counter: int) -> None:
        """Put on disk that terms up to ``counter`` may have been used. It never goes back."""
        with self._session() as session:
            row = session.get(m.ReservedTerm, 1) or m.ReservedTerm(id=1, reserved_term=0)
            row.reserved_term = max(row.reserved_term, min(counter, MOST_TERM))
            session.add(row)

    def reserved_term(self) -> int:
        """Return the highest term ever reserved, 0 if none."""
        with self._session() as session:
            row = session.get(m.ReservedTerm, 1)
            counter = row.reserved_term if row else 0
        if not 0 <= counter <= MOST_TERM:
            raise damaged(self.path, "the highest number of a reign makes no sense")
        return counter

    @staticmethod
    def renew_terms(session: Session) -> None:
        """With the cluster its terms end. Only counters that are nearly used up begin anew: the next cluster may be
        the same one, in which they only grow."""
        row = session.get(m.ReservedTerm, 1)
        if row is not None and row.reserved_term > MANY_TERMS:
            row.reserved_term = 0
