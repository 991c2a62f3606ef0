"""All that the decision code is asked: a real core gets the evidence, and what it does is put into a table."""

from __future__ import annotations

from .roles import COMMITS, LAST_WRITES, LEASE, LISTENER, MOVES, OFFERED, TWO_ACTIVE, TWO_PASSIVE, WIRE
from .silence import HOLD, PORT, RESTARTED, SILENCE, STARTING
from .third_party import ARBITER

#: In the order of the page.
TABLES = (
    SILENCE, PORT, HOLD, ARBITER, STARTING, RESTARTED, TWO_PASSIVE, LISTENER, TWO_ACTIVE, MOVES, OFFERED, LAST_WRITES,
    LEASE, WIRE, COMMITS,
)  # fmt: skip
