"""Draws a record as a picture that needs nothing else: an SVG with a lane for each thing that changes.

Colour is never the only sign: whatever is drawn has its name in it or its lane's, and patterns tell roles apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from html import escape

from .record import FAULT, HELD, LOST, NO_ANSWER, NO_WRITE, ROLE, TWO_MACS, WORKED, Record, Span, lane
from .verdict import GATEWAYS, judge, named, title

#: Pixels: of the lanes' names, of a row, of the picture beside the names at least and at most.
_LEFT, _ROW, _LEAST, _MOST = 150, 22, 1050, 30_000
#: A second's pixels in the picture of a whole run.
_RUN_SCALE = 8.0
#: Pixels of a character, on average; what is narrower than its text gets none.
_CHARACTER = 6.2

_STYLE = """
text { font: 11px system-ui, sans-serif; fill: #1b1f24; }
.page { fill: #ffffff; } .grid { stroke: #d0d7de; } .title { font-size: 15px; font-weight: 600; }
.broken { font-weight: 600; fill: #a40e26; } .fine { fill: #116329; }
.bar { stroke: #57606a; stroke-width: 0.7; }
.fault { fill: #f6c177; } .active { fill: #79b8ff; } .passive { fill: #e3ebf3; } .other { fill: url(#hatched); }
.held { fill: #8ddb8c; } .gap { fill: #ff9492; } .two { fill: #ff9492; opacity: 0.35; } .healing { fill: #d8c9f5; }
.line { stroke: #57606a; } .back { fill: #f6f8fa; } .of { stroke: #ffffff; stroke-width: 2.5; paint-order: stroke; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; } .page { fill: #0d1117; } .grid { stroke: #30363d; } .back { fill: #161b22; }
  .broken { fill: #ff7b72; } .fine { fill: #56d364; } .bar { stroke: #8b949e; } .line { stroke: #8b949e; }
  .fault { fill: #8a5a14; } .active { fill: #1f5fa8; } .passive { fill: #2d3a48; } .held { fill: #23692f; }
  .gap { fill: #a5302b; } .of { stroke: #0d1117; } .two { fill: #ff7b72; } .healing { fill: #4b3a75; }
}
"""


def draw(record: Record, heading: str = "") -> str:
    """Return the picture of one episode, as SVG.

    :param heading: above it; what the episode was about, if empty.
    """
    verdict = judge(record)
    remarks = [("broken", f"BROKEN {each.invariant}: {each.text}") for each in verdict.violations] or [
        ("fine", "Every invariant held.")
    ]
    measured = f"Two gateways {verdict.two_ms:.1f} ms, none {verdict.none_ms:.0f} ms"
    if verdict.converged_s is not None:
        measured += f", in order {verdict.converged_s:.1f} s after the last fault"
    start = min((span.start for span in record.of(FAULT)), default=min(span.start for span in record.spans)) - 1
    end = max(span.end for span in record.spans)
    return _picture(record, heading or title(record), [*remarks, ("", measured)], start, end)


def draw_run(records: Sequence[Record], heading: str) -> str:
    """Return the picture of a whole run, as SVG, to be scrolled sideways."""
    whole = Record(span for record in records for span in record.spans)
    remarks = [
        ("broken", f"BROKEN {each.invariant} in {title(record)}: {each.text}")
        for record in records for each in judge(record).violations
    ] or [("fine", f"Every invariant held in {len(records)} episodes.")]
    start, end = min(span.start for span in whole.spans), max(span.end for span in whole.spans)
    return _picture(whole, heading, remarks, start, end, _RUN_SCALE)


def _picture(
    record: Record, heading: str, remarks: Sequence[tuple[str, str]], start: float, end: float, scale: float = 0.0
) -> str:
    width = min(max(_LEAST, scale * (end - start)), _MOST)
    scale = width / max(end - start, 0.001)
    top = 30 + 17 * len(remarks)
    rows = list(_rows(record))
    bottom = top + _ROW * len(rows)

    def x(at: float) -> float:
        return _LEFT + (min(max(at, start), end) - start) * scale

    parts = [f'<rect class="page" width="{_LEFT + width + 20:.0f}" height="{bottom + 34}"/>',
             f'<text class="title" x="8" y="20">{escape(heading)}</text>']
    parts += [f'<text class="{kind}" x="8" y="{38 + 17 * number}">{escape(text)}</text>'
              for number, (kind, text) in enumerate(remarks)]
    for number, (name, _, _) in enumerate(rows):
        y = top + _ROW * number
        if number % 2 == 0:
            parts.append(f'<rect class="back" x="0" y="{y}" width="{_LEFT + width + 20:.0f}" height="{_ROW}"/>')
        parts.append(f'<text x="8" y="{y + 15}">{escape(name)}</text>')
    parts += _axis(start, end, width, top, bottom, x)
    for number, (_, kind, spans) in enumerate(rows):
        written = 0.0
        for span in spans:
            if span.end >= start and span.start <= end:
                bar, written = _bar(span, kind, x(span.start), x(span.end), top + _ROW * number, start, written)
                parts.append(bar)
    for two in _both_held(record):
        left, right = x(two.start), x(two.end)
        told = f"two gateways have {escape(two.what)} for {two.ms:.1f} ms"
        parts.append(f'<rect class="two" x="{left:.1f}" y="{top}" width="{max(right - left, 1.5):.1f}" '
                     f'height="{bottom - top}"><title>{told}</title></rect>')
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + width + 20:.0f}" height="{bottom + 34}" role="img" '
        f'aria-label="{escape(heading, quote=True)}">',
        f"<style>{_STYLE}</style>",
        '<defs><pattern id="hatched" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        '<line class="line" x1="0" y1="0" x2="0" y2="6" stroke-width="2"/></pattern></defs>',
        *parts, "</svg>\n",
    ])


def _rows(record: Record) -> Iterator[tuple[str, str, list[Span]]]:
    """Yield name, class and spans of each row that is drawn, from top to bottom."""
    for number, faults in enumerate(_apart(record.of(FAULT))):
        yield ("faults" if number == 0 else ""), "fault", faults
    for gateway in GATEWAYS:
        yield f"role of {gateway}", "role", record.of(lane(ROLE, gateway))
    addresses = sorted({span.what for each in GATEWAYS for span in record.of(lane(HELD, each))}, key=len)
    for address in addresses:
        for gateway in GATEWAYS:
            yield f"{address} on {gateway}", "held", record.of(lane(HELD, gateway), address)
    yield "two MACs answer", "gap", record.of(TWO_MACS)
    yield "no ping answered", "gap", record.of(NO_ANSWER)
    yield "no write accepted", "gap", record.of(NO_WRITE)
    yield "writes lost", "gap", record.of(LOST)
    yield "healing", "healing", record.of(WORKED)


def _apart(spans: Sequence[Span]) -> list[list[Span]]:
    """Return spans in as many rows as it takes to keep them apart."""
    rows: list[list[Span]] = []
    for span in spans:
        free = next((row for row in rows if row[-1].end < span.start), None)
        if free is None:
            rows.append([span])
        else:
            free.append(span)
    return rows or [[]]


def _bar(
    span: Span, kind: str, left: float, right: float, y: int, start: float, written: float
) -> tuple[str, float]:
    """Return a span's bar, and how far to the right its row has text now.

    :param written: how far it had.
    """
    text, css = span.what, kind
    if kind == "role":
        css = span.what if span.what in ("active", "passive") else "other"
        text = f"{span.what} {span.more['term']}" if span.what == "active" else span.what
    elif kind == "fault":
        text = named(span)
    elif kind == "held":
        text = "held"
    elif kind == "gap":
        text = f"{span.ms:.0f} ms"
    more = "".join(f"\n{key}: {value}" for key, value in span.more.items())
    told = f"{text}: {span.start - start:.3f} to {span.end - start:.3f} s, {span.ms:.1f} ms{more}"
    width = max(right - left, 1.5)
    drawn = f'<rect class="bar {css}" x="{left:.1f}" y="{y + 3}" width="{width:.1f}" height="{_ROW - 6}"/>'
    length = len(text) * _CHARACTER
    fits = length < width - 4
    at = left + 4 if fits else right + 3
    # A narrow gap is what the picture is for: its length stands beside it, where there is room.
    if fits or (kind in ("gap", "fault") and at > written):
        drawn += f'<text class="of" x="{at:.1f}" y="{y + 15}">{escape(text)}</text>'
        written = at + length
    return f"<g><title>{escape(told)}</title>{drawn}</g>", written


def _axis(start: float, end: float, width: float, top: int, bottom: int, x: Callable[[float], float]) -> Iterator[str]:
    step = _step((end - start) * 90 / width)
    for number in range(math.floor((end - start) / step) + 1):
        at = x(start + number * step)
        yield f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{top}" y2="{bottom + 4}"/>'
        yield f'<text x="{at + 2:.1f}" y="{bottom + 18}">{number * step:g} s</text>'


def _step(least: float) -> float:
    """Return the next of 0.1, 0.2, 0.5, 1, 2, 5 and so on."""
    power = 10 ** math.floor(math.log10(max(least, 0.1)))
    return next(float(f"{factor * power:g}") for factor in (1, 2, 5, 10) if factor * power >= least - 1e-9)


def _both_held(record: Record) -> Iterator[Span]:
    one, other = (record.of(lane(HELD, gateway)) for gateway in GATEWAYS)
    for here in one:
        for there in other:
            if here.what == there.what and (start := max(here.start, there.start)) < (end := min(here.end, there.end)):
                yield Span("", here.what, start, end)
