"""What happened in an episode, as spans of time in lanes; written as JSON lines, one for each span."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sample_app.lab.measure import Interval

#: Lanes: of the run, of each gateway (followed by its name), and of the clients.
EPISODE, FAULT, WORKED, ROLE, HELD = "episode", "fault", "in order", "role", "held"
NO_ANSWER, TWO_MACS, NO_WRITE, LOST = "no answer", "two answer", "no write", "lost"
#: How the name of an episode with a number begins.
NUMBERED = "episode"


@dataclass(frozen=True)
class Span:
    """Something that was so for a time.

    :param lane: one of this module's constants, with the gateway's name where it has a lane of its own.
    :param what: the kind of a fault, a role, an address and so on.
    :param start: monotonic seconds of the machine on which the lab ran; ``end`` alike.
    :param more: what else is known of it: the term, the fault's gateway, what was found.
    """

    lane: str
    what: str
    start: float
    end: float
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def ms(self) -> float:
        return (self.end - self.start) * 1000


def lane(kind: str, gateway: str) -> str:
    """Return the name of a gateway's own lane."""
    return f"{kind} {gateway}"


def without(spans: Iterable[Interval], cut: Iterable[Interval]) -> list[Interval]:
    """Return what is left of times when other times are cut out of them."""
    left = list(spans)
    for gone in cut:
        before = [Interval(one.start, min(one.end, gone.start)) for one in left]
        after = [Interval(max(one.start, gone.end), one.end) for one in left]
        left = sorted(part for part in (*before, *after) if part.start < part.end)
    return left


def joined(spans: Iterable[Interval], apart_s: float) -> list[Interval]:
    """Return times, in their order, of which those that are no further apart have become one."""
    found: list[Interval] = []
    for span in spans:
        if found and span.start - found[-1].end <= apart_s:
            found[-1] = Interval(found[-1].start, span.end)
        else:
            found.append(span)
    return found


class Record:
    """The spans of one episode."""

    def __init__(self, spans: Iterable[Span] = ()) -> None:
        self.spans = list(spans)

    def add(self, lane: str, what: str, start: float, end: float, **more: Any) -> Span:
        """Add a span and return it."""
        span = Span(lane, what, round(start, 6), round(end, 6), more)
        self.spans.append(span)
        return span

    def begin(self, what: str, start: float, end: float) -> None:
        """Put the span of the whole episode in front; ``what`` is :data:`NUMBERED` and its number, as a rule."""
        self.spans.insert(0, Span(EPISODE, what, round(start, 6), round(end, 6)))

    def of(self, lane: str, what: str = "") -> list[Span]:
        """Return a lane's spans by their start."""
        found = [span for span in self.spans if span.lane == lane and what in ("", span.what)]
        return sorted(found, key=lambda span: span.start)

    def last(self, lane: str) -> Span | None:
        """Return a lane's last span; None if it has none."""
        return next(reversed(self.of(lane)), None)

    @property
    def episode(self) -> Span:
        """The span of the whole episode."""
        return self.of(EPISODE)[0]

    def append_to(self, path: Path) -> None:
        """Append it to a file of JSON lines."""
        with path.open("a") as file:
            file.writelines(json.dumps(asdict(span)) + "\n" for span in self.spans)


def numbered(records: Iterable[Record]) -> list[Record]:
    """Return those of episodes with a number: all but what was found at the end of a run."""
    return [record for record in records if record.episode.what.startswith(NUMBERED)]


def read(path: Path) -> Iterator[Record]:
    """Yield the episodes of a file of JSON lines; none if there is no file. An unfinished last line is left out."""
    spans: list[Span] = []
    for line in path.read_text().splitlines(keepends=True) if path.exists() else ():
        if not line.endswith("\n"):
            break
        span = Span(**json.loads(line))
        if span.lane == EPISODE and spans:
            yield Record(spans)
            spans = []
        spans.append(span)
    if spans:
        yield Record(spans)
