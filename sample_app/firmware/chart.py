"""The dashboard's curve: guests online over a day, as an SVG path made on the server."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

#: Share of the daily maximum at each hour; hotels are busy in the morning and in the evening.
_HOURS = (34, 28, 25, 24, 24, 28, 46, 72, 84, 66, 48, 42, 44, 46, 43, 45, 55, 68, 82, 94, 100, 96, 74, 50)


@dataclass(frozen=True)
class Curve:
    """A curve in a box of ``width`` by ``height`` units.

    :param line: path of the curve. :param area: the same, closed at the bottom.
    """

    line: str
    area: str
    width: int
    height: int
    top: int


def day_curve(most: int, width: int = 480, height: int = 120) -> Curve:
    """Return the curve of a day whose busiest hour has ``most`` guests."""
    step = width / (len(_HOURS) - 1)
    points = [(index * step, height - 8 - share / 100 * (height - 20)) for index, share in enumerate(_HOURS)]
    parts = [f"M{points[0][0]:.1f} {points[0][1]:.1f}"]
    for (x0, y0), (x1, y1) in pairwise(points):
        middle = (x0 + x1) / 2
        parts.append(f"C{middle:.1f} {y0:.1f} {middle:.1f} {y1:.1f} {x1:.1f} {y1:.1f}")
    line = " ".join(parts)
    return Curve(line, f"{line} L{width} {height} L0 {height} Z", width, height, most)
