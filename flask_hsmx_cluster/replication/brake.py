"""By how much writers are slowed while the other gateway does not catch up with them.

While commits wait for the other gateway, that holds writers to its pace. While they do not, nothing does: clients that
never pause may write more than it applies, and it would be behind for ever. Then each transaction that writes shared
data is slowed a little (:func:`.guard.brake`), by as much as is needed and no more.

Pure: :mod:`.watch` looks, and carries it out.
"""

from __future__ import annotations

from typing import Final

#: What is left is to shrink to nothing along a straight line within this time, s; after it only the end will do.
CATCH_UP_S: Final = 5.0
#: Each transaction is slowed by this much at most, ms.
MOST_MS: Final = 50
#: Nobody is slowed any more when what is left has not reached a new low for this long, s: the other gateway stands
#: still, or so many clients write that it does not help.
GIVE_UP_S: Final = 30.0


class Brake:
    """Finds the brake, look by look.

    It doubles with each look that finds more left than the line allows, and halves with each other one. What the other
    gateway has applied is told late while it is busy, by up to half of ``wal_sender_timeout``: it is then a little
    higher than need be.
    """

    def __init__(self) -> None:
        self.ms = 0
        self._written: int | None = None
        self._first = self._low = 0
        self._began: float | None = None
        self._low_at = 0.0

    def look(self, at: float, written: int, applied: int | None) -> int:
        """Return by how much each transaction is to be slowed until the next look, ms.

        :param at: monotonic time, s.
        :param written: position of this gateway's log, bytes.
        :param applied: up to where the other one has applied it; None: it is not to be waited for.
        """
        before, self._written = self._written, written
        if applied is None or before is None or applied >= before:  # it has what was written at the last look
            self._began, self.ms = None, 0
            return 0
        left = written - applied
        if self._began is None:
            self._began, self._first, self._low, self._low_at = at, left, left, at
            return 0
        if left < self._low:
            self._low, self._low_at = left, at
        if at - self._low_at > GIVE_UP_S:
            self.ms = 0
        elif left > self._first * (1 - (at - self._began) / CATCH_UP_S):
            self.ms = min(max(1, self.ms * 2), MOST_MS)
        else:
            self.ms //= 2
        return self.ms
