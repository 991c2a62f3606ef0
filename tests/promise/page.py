"""``docs/promise.md``, from the decision code, the bounds, and the list of hard cases."""

from __future__ import annotations

import re

from flask_hsmx_cluster.decision.bounds import Bound, Fault, Site, Step, bound
from flask_hsmx_cluster.decision.model import NEVER, Timing
from flask_hsmx_cluster.words import promise as words
from tests.simulation.hard_cases import HARD_CASES

from .questions import TABLES

#: Columns of the bounds: the usual timing, and slower ones with the shortest lease that the settings allow for them.
TIMINGS = {
    "100 ms": Timing(),
    "250 ms": Timing(interval_s=0.25),
    "1 s, lease of 4 s": Timing(interval_s=1.0, lease_s=4.0),
}

SHARED = Site(Timing(), data=True, services=True)

HEAD = """\
<!-- Made by `python -m tests.promise` from the decision code; a test compares it. Do not edit. -->
# What a pair promises

**Never two**: no address is served by two gateways for longer than the bounds below say, and for most faults that is
not at all. **Never none**: while one healthy gateway is left, guests get an answer again within the bounds. Each
decision comes from one of the [tables](#what-each-gateway-does) below; they were made by asking the decision code
itself (`flask_hsmx_cluster/decision/`) for every combination of evidence. What the words mean:
[how it decides](deciding.md).

The bounds for the settings of a cluster are on its page *What this pair promises*, which *Network / Cluster settings*
links to, and in `flask cluster promise`.

![Timeline of a take-over after a power failure, and after the death of an agent](promise.svg)
"""

BOUNDS_TEXT = """\
## Bounds

The worst case with heartbeats of 100 ms and 250 ms (a lease of 2 s), and of 1 s (a lease of 4 s, the shortest one that
the settings allow for it). *None* is how long a guest gets no answer, *two* how long two gateways have one address.
Messages take at most {message} ms in each direction, and machines do what is due at most {late} ms late. Where the
database is shared, an address waits for it for at most 100 ms more; where services follow the role, at most 1 s for
these. What was measured: [README](../README.md#measured).
"""

COUNTS_TEXT = """\
They count on this:
"""

STEPS_TEXT = """\
### What they consist of

In ms, with heartbeats of 100 ms, a lease of 2 s, five ping pongs, and with a shared database and services that follow
the role, both of them as slow as is waited for. The formulas stand in `flask_hsmx_cluster/decision/bounds.py`;
`tests/simulation/test_bounds.py` holds the sums against what the decision code does.
"""

LIMITS_TEXT = """\
## What no pair can promise
"""

FURTHER = """\
Six more limits, all of them small:

- **One direction alone.** If nothing passes from the active gateway to the passive one, over no wire, the passive one
  cannot tell, and claims. The other way still works: the former active one hears that, and releases as soon as the new
  one has heard a guest, after 0.5 s in the simulation. While there is no guest, both keep the address. The other way
  round nothing moves.
- **Two passives whose health changes within the same heartbeat** just when they decide may each take themselves for
  the healthier one. Both have the address until the other one's next message: the bound of *both gateways start*.
- **A renewal in the wrong moment.** An agent that the kernel stops between its look at the clock and the execution of
  the renewal (about 0.1 ms) can bring back an address that had lapsed. It reads the clock after the acknowledgement,
  and if more than a lease has passed it deletes the address at once.
- **A death in the wrong moment.** An agent that dies between a renewal and the heartbeat that tells of it (about 1 ms)
  has a lease that the other gateway does not know of. By its end the other one asks only every 0.5 s, and takes the
  address so much later.
- **A death that nobody hears.** An agent dies, or is restarted, while all heartbeats are lost, and its address alone
  answers still: that can be forged, and counts for two leases. Then both have the address until the dead agent's kernel
  ends its lease: at most a lease and 0.6 s, also if heartbeats would pass again by then.
- **Frames that are lost by chance.** Five questions in a row must be lost, and all heartbeats, to look like silence.
  Where every fifth frame is lost, no fail-over was seen in 60 s, 15 times.

A message that was under way when a direct cable went dead ends the burst; then the bound is that of a power failure
through a switch.
"""

TABLES_TEXT = """\
## What each gateway does

Each combination is in one row of a table, once. A dash: it does not matter. *Claims* means: makes the database
writable, starts what comes first, takes the addresses on a lease, announces them.
"""

HARD_CASES_TEXT = """\
## Hard cases

What breaks clusters of two, the rule that closes it, and the scenarios that prove it: in the simulation, in the lab
with a real kernel, or with a real PostgreSQL. *Chaos*: the kinds of [random faults](chaos.md) that bring it about.
Where the [simulator](simulation.md) or chaos cannot show it, the reason stands there instead.
"""


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def both(one: Bound) -> str:
    """Return a bound as none / two."""
    return f"{words.at_most(one.none_s)} / {words.at_most(one.two_s)}"


def bounds() -> str:
    sites = [Site(timing) for timing in TIMINGS.values()]
    rows = [
        [
            f"{promise.title}. *{promise.why}*",
            *(both(bound(Fault(promise.fault), site)) for site in sites),
        ]
        for promise in words.promises(Site(TIMINGS["100 ms"]))
    ]
    return table(["what happens", *(f"{name}: none / two" for name in TIMINGS)], rows)


def sums() -> str:
    rows = []
    for promise in words.promises(SHARED):
        for what, parts, total in (
            ("none", promise.bound.none, promise.bound.none_s),
            ("two", promise.bound.two, promise.bound.two_s),
        ):
            if parts and total != NEVER:
                steps = " + ".join(f"{step.name} {in_ms(step)}" for step in parts)
                rows.append([promise.title, what, steps, words.at_most(total)])
    return table(["what happens", "", "steps", "sum"], rows)


def steps() -> str:
    formulas: dict[str, str] = {}
    for fault in Fault:
        for step in (*bound(fault, SHARED).none, *bound(fault, SHARED).two):
            if step.seconds != NEVER:
                formulas.setdefault(re.sub(r"^\d+ (\w+)s$", r"\1", step.name), step.formula)
    return table(["step", "at most"], [[name, formula] for name, formula in formulas.items()])


def in_ms(step: Step) -> str:
    return f"{step.seconds * 1000:.0f}"


def hard_cases() -> str:
    rows = []
    for case in HARD_CASES:
        proofs = [f"`{scenario}`" for scenario in case.scenarios]
        if case.chaos:
            proofs.append(f"chaos: {', '.join(f'`{kind}`' for kind in case.chaos)}")
        reasons = (("simulated", case.not_simulated), ("in chaos", case.not_in_chaos))
        proofs += [f"*not {where}: {why}*" for where, why in reasons if why]
        rows.append([case.title, case.rule, "<br>".join(proofs)])
    return table(["what happens", "rule", "proved by (below `tests/`)"], rows)


def page() -> str:
    """Return the whole page."""
    site = Site(Timing())
    text = BOUNDS_TEXT.format(message=f"{site.message_s * 1000:.0f}", late=f"{site.late_s * 1000:.0f}")
    parts = [
        HEAD,
        text,
        bounds(),
        COUNTS_TEXT + "\n" + "\n".join(f"- {each}" for each in words.conditions()),
        STEPS_TEXT,
        sums(),
        steps(),
        LIMITS_TEXT,
        "\n\n".join(words.limits()),
        FURTHER,
        TABLES_TEXT,
    ]
    for one in TABLES:
        parts += [f"### {one.title}", f"{one.text} ({one.states} combinations.)", one.markdown()]
    parts += [HARD_CASES_TEXT, hard_cases()]
    return "\n\n".join(part.strip() for part in parts) + "\n"
