"""The timeline of two take-overs as a drawing, from the timing itself."""

from __future__ import annotations

from dataclasses import dataclass, field

from flask_hsmx_cluster.decision.bounds import Site, burst_s, message, relieved_s, silence, tail_s, unanswered
from flask_hsmx_cluster.decision.model import Timing

WIDTH, LEFT, RIGHT = 960, 130, 930
STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328; }
  .title { font-weight: 600; font-size: 15px; }
  .quiet { fill: #59636e; }
  .line { stroke: #59636e; stroke-width: 1; fill: none; }
  .dashed { stroke-dasharray: 3 3; }
  .holds { fill: #2f81f7; }
  .waits { fill: #d29922; }
  .tick { stroke: #1f2328; stroke-width: 2; }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc; }
    .quiet { fill: #9198a1; }
    .line { stroke: #9198a1; }
    .tick { stroke: #f0f6fc; }
  }
"""


@dataclass
class Panel:
    """One time axis with two gateways.

    :param from_s, to_s: what it shows.
    """

    top: int
    title: str
    from_s: float
    to_s: float
    parts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.parts.append(f'<text class="title" x="10" y="{self.top + 16}">{self.title}</text>')
        for lane, name in enumerate(("Gateway A", "Gateway B")):
            self.parts.append(f'<text x="10" y="{self.lane(lane) + 14}">{name}</text>')

    def x(self, at_s: float) -> float:
        return round(LEFT + (at_s - self.from_s) / (self.to_s - self.from_s) * (RIGHT - LEFT), 1)

    def lane(self, number: int) -> int:
        return self.top + 74 + 56 * number

    def bar(self, lane: int, from_s: float, to_s: float, kind: str, text: str, below: bool = False) -> None:
        x, width = self.x(from_s), round(self.x(to_s) - self.x(from_s), 1)
        self.parts.append(f'<rect class="{kind}" x="{x}" y="{self.lane(lane)}" width="{width}" height="18" rx="3"/>')
        y = self.lane(lane) + (33 if below else -6)
        self.parts.append(f'<text class="quiet" x="{x}" y="{y}">{text}</text>')

    def ticks(self, lane: int, times: list[float]) -> None:
        for at_s in times:
            x, y = self.x(at_s), self.lane(lane)
            self.parts.append(f'<line class="tick" x1="{x}" x2="{x}" y1="{y}" y2="{y + 18}"/>')

    def moment(self, at_s: float, text: str, row: int, end: bool = False) -> None:
        """Draw a moment as a dashed line through both lanes, with its time."""
        x, y = self.x(at_s), self.top + 34 + 15 * row
        self.parts.append(f'<line class="line dashed" x1="{x}" x2="{x}" y1="{y + 4}" y2="{self.lane(1) + 40}"/>')
        self.parts.append(f'<text x="{x}" y="{y}" text-anchor="{"end" if end else "start"}">{text}</text>')


def ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def power_off(site: Site, top: int) -> Panel:
    """A is dead right after a heartbeat; B hears nothing, asks, claims."""
    timing = site.timing
    suspects = silence(site).seconds
    claims = suspects + burst_s(site)
    panel = Panel(top, "Power off, through a switch", -0.05, claims + 0.06)
    panel.bar(0, -0.05, 0.0, "holds", "has the address")
    panel.bar(1, suspects, claims, "waits", f"burst: {timing.burst_probes} questions", below=True)
    panel.ticks(1, [suspects + n * timing.burst_spacing_s for n in range(timing.burst_probes)])
    panel.bar(1, claims, claims + 0.06, "holds", "has the address")
    panel.moment(0, "0: last heartbeat, power off", 0)
    panel.moment(timing.interval_s, f"{ms(timing.interval_s)}: the next one is due", 1, end=True)
    panel.moment(suspects, f"{ms(suspects)}: silence", 0, end=True)
    panel.moment(claims, f"{ms(claims)}: claim, announcement", 0)
    return panel


def agent_dead(site: Site, top: int) -> Panel:
    """A's agent dies right after a renewal; its kernel serves on until the lease ends; B holds until then."""
    timing = site.timing
    suspects, lease, late = silence(site).seconds, timing.lease_s, relieved_s(timing)
    claims = late + unanswered(site).seconds + message(site).seconds
    panel = Panel(top, "Agent dead, machine alive", -0.2, claims + 0.35)
    panel.bar(0, -0.2, lease, "holds", "has the address, by its lease")
    panel.bar(0, lease, late, "waits", "the kernel may be late")
    panel.bar(1, suspects + burst_s(site), claims, "waits", "holds: the address still answers", below=True)
    panel.ticks(1, [suspects, *(at * 0.5 for at in range(1, int(lease / 0.5))), lease, late + tail_s(site)])
    panel.bar(1, claims, claims + 0.35, "holds", "has it")
    panel.moment(0, "0: last renewal and heartbeat", 0)
    panel.moment(suspects, f"{ms(suspects)}: silence, burst", 1)
    panel.moment(lease, f"{lease:.1f} s: the lease ends", 1, end=True)
    panel.moment(late, f"{late:.2f} s: gone at the latest", 0, end=True)
    return panel


def drawing(timing: Timing) -> str:
    """Return the drawing as SVG."""
    site = Site(timing)
    panels = (power_off(site, 10), agent_dead(site, 210))
    body = "\n".join(part for panel in panels for part in panel.parts)
    title = "Two take-overs: after a power failure, and after the death of an agent"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} 400" role="img" aria-label="{title}">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n{body}\n</svg>\n"
    )
