"""Which faults come when, from a seed: each kind in turn, in random order, and after every two of them some at once."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from .kinds import KINDS

#: A second and third fault of a mixed episode begin within this time after the one before, s.
LATER_S = 3.0
#: Single faults between two mixed episodes.
SINGLES = 2


@dataclass(frozen=True)
class Planned:
    """One fault of an episode.

    :param on: ``active``, ``passive`` (by the roles when the episode begins) or ``both``.
    :param after_s: from the episode's begin, s.
    :param lasts_s: until it is undone, s.
    :param amount: from 0 to 1: how hard it strikes, for kinds that know degrees.
    """

    kind: str
    on: str
    after_s: float
    lasts_s: float
    amount: float

    @property
    def struck(self) -> frozenset[tuple[str, str]]:
        """What it strikes, by gateway."""
        kind = KINDS[self.kind]
        gateways = ("active", "passive") if kind.whole else (self.on,)
        return frozenset((gateway, thing) for gateway in gateways for thing in kind.at.split())


@dataclass(frozen=True)
class Episode:
    """Faults that overlap, or one; before and after them the pair is in order.

    :param number: from 0 on.
    """

    number: int
    faults: tuple[Planned, ...]

    @property
    def case(self) -> str:
        """What its figures are called: the kind of its only fault, or ``overlapping``."""
        return self.faults[0].kind if len(self.faults) == 1 else "overlapping"


def episodes(seed: int, kinds: Collection[str] = tuple(KINDS)) -> Iterator[Episode]:
    """Yield episodes without end; the same for the same seed and kinds.

    :param kinds: what may be drawn.
    """
    draw = random.Random(seed)
    wanted = [kind for kind in KINDS if kind in kinds]
    number = 0
    while True:
        turn = draw.sample(wanted, len(wanted))
        for position, kind in enumerate(turn, 1):
            yield Episode(number, (_planned(draw, kind, 0.0),))
            number += 1
            if position % SINGLES == 0 and len(wanted) > 1:
                yield Episode(number, _mixed(draw, wanted))
                number += 1


def _planned(draw: random.Random, kind: str, after_s: float) -> Planned:
    found = KINDS[kind]
    on = "both" if found.whole else draw.choice(("active", "active", "passive"))
    return Planned(kind, on, round(after_s, 3), round(draw.uniform(*found.lasts_s), 3), round(draw.random(), 3))


def _mixed(draw: random.Random, kinds: list[str]) -> tuple[Planned, ...]:
    """Return two or three faults of which each begins while the one before is under way, at different things."""
    faults: list[Planned] = []
    after_s = 0.0
    for _ in range(draw.choice((2, 2, 3))):
        for _attempt in range(50):
            new = _planned(draw, draw.choice(kinds), after_s)
            if not any(new.struck & other.struck for other in faults):
                faults.append(new)
                after_s += draw.uniform(0.0, min(LATER_S, new.lasts_s))
                break
    return tuple(faults)
