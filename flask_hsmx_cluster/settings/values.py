"""Values from outside, taken only in the form in which they are expected."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")

#: No number of the settings is larger than this, sensible or not: the rules calculate with floats.
MOST = 2**31


def text(value: object, most: int = 128) -> str:
    """Return a short text that can be shown.

    :raises ValueError: it is none.
    """
    if not isinstance(value, str) or len(value) > most or not value.isprintable():
        raise ValueError(f"not a short text: {value!r:.60}")
    return value


def whole(value: object, lowest: int = -MOST, highest: int = MOST) -> int:
    """Return a whole number within its bounds.

    :raises ValueError: it is none.
    """
    if type(value) is not int or not lowest <= value <= highest:
        raise ValueError(f"not a whole number from {lowest} to {highest}: {value!r:.60}")
    return value


def flag(value: object) -> bool:
    """Return true or false.

    :raises ValueError: it is neither.
    """
    if not isinstance(value, bool):
        raise ValueError(f"not true or false: {value!r:.60}")
    return value


def few(items: Iterable[T], most: int) -> list[T]:
    """Return a few items.

    :raises ValueError: there are more.
    """
    found = list(items)
    if len(found) > most:
        raise ValueError(f"more than {most} entries")
    return found
