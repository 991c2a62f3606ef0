"""Health: worse counts at once, better only after a while; and the brake on moves for health (rule 8)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from .model import Cause, CauseKind

#: A cause must have been gone this long before it counts as gone, s.
BETTER_AFTER_S = 5.0
#: After a move for health the next one waits this long, s; doubled with each further one up to the limit.
MOVE_WAIT_S = 60.0
MOVE_WAIT_MOST_S = 3600.0


@dataclass
class Health:
    """The causes of ill health of this gateway."""

    causes: set[Cause] = field(default_factory=set)
    _good_since: dict[Cause, float] = field(default_factory=dict)

    def report(self, cause: Cause, bad: bool, now: float) -> None:
        """Take a check's present result."""
        if bad:
            self.causes.add(cause)
            self._good_since.pop(cause, None)
        elif cause in self.causes and self._good_since.setdefault(cause, now) <= now - BETTER_AFTER_S:
            self.causes.discard(cause)
            self._good_since.pop(cause)

    def forget(self, kinds: Collection[CauseKind]) -> None:
        """Drop causes that the present settings give another meaning; what still holds is reported again."""
        for cause in [cause for cause in self.causes if cause.kind in kinds]:
            self.causes.discard(cause)
            self._good_since.pop(cause, None)


@dataclass
class MoveBrake:
    """Keeps two gateways that are both flapping from throwing the role at each other."""

    wait_s: float = 0.0
    not_before: float = float("-inf")
    #: causes for which a move did not help: they move nothing until they have gone
    useless: frozenset[Cause] = frozenset()

    def moved(self, now: float, causes: frozenset[Cause]) -> None:
        """Note a move for health, on the gateway that gave and on the one that took."""
        if now - self.not_before > MOVE_WAIT_MOST_S:
            self.wait_s = 0.0
        self.wait_s = min(max(MOVE_WAIT_S, self.wait_s * 2), MOVE_WAIT_MOST_S)
        self.not_before = now + self.wait_s
        self.useless = causes

    def release(self) -> None:
        """An operator moved the role: a person has looked."""
        self.wait_s, self.not_before, self.useless = 0.0, float("-inf"), frozenset()

    def allows(self, now: float) -> bool:
        return now >= self.not_before


def network_causes(causes: frozenset[Cause]) -> frozenset[Cause]:
    """Return the causes that can be the network's fault: a move may not help, and must not be tried to and fro."""
    return frozenset(cause for cause in causes if cause.kind is CauseKind.UNSEEN)
