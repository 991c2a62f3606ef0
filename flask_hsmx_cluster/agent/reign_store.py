"""Terms and reigns in the node store."""

from __future__ import annotations

from sqlalchemy.orm import Session

from .. import models as m
from ..decision.model import MOST_TERM
from .renewal.store import GuideStore
from .store_file import damaged

#: A counter that has come this far begins anew with the next cluster.
MANY_TERMS = MOST_TERM // 2


class ReignStore(GuideStore):
    """The part of the node store that remembers terms, and the present reign."""

    def reserve_term(self, counter: int) -> None:
        """Put on disk that terms up to ``counter`` may have been used. It never goes back."""
        with self._session() as session:
            row = self._reign(session)
            row.reserved_term = max(row.reserved_term, min(counter, MOST_TERM))

    def reserved_term(self) -> int:
        """Return the highest term ever reserved, 0 if none."""
        with self._session() as session:
            row = session.get(m.Reign, 1)
            return self._sound(row.reserved_term) if row else 0

    def remember_reign(self, term: int, boot_id: str, asked: bool = False) -> None:
        """Remember that this gateway is active, so that a restarted agent can go on within its lease.

        :param asked: because an operator asked for it.
        """
        with self._session() as session:
            row = self._reign(session)
            row.last_term, row.last_boot_id = term, boot_id
            if asked:
                session.merge(m.AskedReign(id=1, term=term))

    def reign_asked(self) -> bool:
        """Return whether an operator asked for the reign that has not ended in order."""
        with self._session() as session:
            reign, asked = session.get(m.Reign, 1), session.get(m.AskedReign, 1)
            return reign is not None and asked is not None and reign.last_term == asked.term

    def forget_reign(self) -> None:
        """Forget the reign: it has ended."""
        with self._session() as session:
            self._reign(session).last_term = None

    def last_reign(self) -> tuple[int, str] | None:
        """Return term and boot id of the reign that has not ended in order, or None."""
        with self._session() as session:
            row = session.get(m.Reign, 1)
            if row is None or row.last_term is None or row.last_boot_id is None:
                return None
            return self._sound(row.last_term), row.last_boot_id

    def _sound(self, counter: int) -> int:
        if not 0 <= counter <= MOST_TERM:
            raise damaged(self.path, "the number of the last reign makes no sense")
        return counter

    @staticmethod
    def _reign(session: Session) -> m.Reign:
        row = session.get(m.Reign, 1)
        if row is None:
            row = m.Reign(id=1, reserved_term=0, last_term=None, last_boot_id=None)
            session.add(row)
        return row

    @staticmethod
    def renew_terms(session: Session) -> None:
        """With the cluster its terms end. Only counters that are nearly used up begin anew: the next cluster may be
        the same one, in which they only grow."""
        row = session.get(m.Reign, 1)
        if row is not None and row.reserved_term > MANY_TERMS:
            row.reserved_term = 0
