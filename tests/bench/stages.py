"""What benches are made of that keep something from run to run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

Figures = dict[str, float]
#: Does one run; gives one figure for each of its cases.
Run = Callable[[], Figures]


@dataclass(frozen=True)
class Stage:
    """What a group of cases needs.

    :param units: its cases with their units.
    :param ready: makes it; gives the function that does one run of the wanted cases.
    :param takes_long: a run takes about a minute.
    """

    units: dict[str, str]
    ready: Callable[[], AbstractContextManager[Run]]
    takes_long: bool = False
