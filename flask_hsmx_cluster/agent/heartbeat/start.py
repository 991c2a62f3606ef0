"""How an agent comes up: its first terms, and what it goes on with."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from ...decision.model import MOST_TERM, Start, Term
from ...decision.terms import TERM_BLOCK
from ...errors import ClusterError
from ..clerk import Clerk
from .reign import Reign
from .standing import DataStanding, seconds_ago

#: Range from which a gateway whose disk is full draws its first term.
UNWRITTEN_TERMS = 1_000_000
#: After an agent restart without a machine boot the boot hold is this long, s: the peer is soon heard.
RESTART_HOLD_S = 1.0


def stock_terms(clerk: Clerk, draw: Callable[[int], int] = secrets.randbelow) -> tuple[int, int]:
    """Reserve this run's first terms on disk, before any could be needed; a restart burns what was left.

    :param draw: returns a random number below its argument.
    :return: the first and the last one on disk.
    """
    before = clerk.ledger.reserved_term()
    try:
        upto = min(before + TERM_BLOCK, MOST_TERM)
        clerk.ledger.reserve_term(upto)
        return before + 1, upto
    except ClusterError as error:
        # A full disk must not keep a gateway out of its cluster (rule 7). Numbers that no other run of this
        # gateway is likely to have used keep the terms unique; the core tells that they are not on disk.
        first = before + 1 + draw(UNWRITTEN_TERMS)
        clerk.record("terms_not_reserved", "critical", f"No terms could be reserved: {error.message}")
        return first, first - 1


def start_of(
    node: str, terms: tuple[int, int], reign: Reign | None, valid_s: float, hold_s: float, standing: DataStanding,
    now: float, claim: bool = False, maintenance: bool = False,
) -> Start:  # fmt: skip
    """Tell the core how this agent comes up: a machine boot, an agent restart, or the birth of a cluster.

    :param terms: as :func:`stock_terms` returned them.
    :param reign: in which this gateway was active when its agent ended, since the machine started.
    :param valid_s: how long the kernel keeps the addresses still, s.
    :param hold_s: how long to listen after a boot of the machine, s.
    """
    adopted = reign if valid_s > 0 else None
    return Start(
        hold_s=min(hold_s, RESTART_HOLD_S) if reign else hold_s,
        next_term=max(terms[0], reign.term + 1 if reign else 0),
        reserved_to=terms[1],
        adopt=Term(adopted.term, node) if adopted else None,
        adopt_until=now + valid_s,
        asked=adopted is not None and adopted.asked,
        claim=claim,
        maintenance=maintenance,
        followed=standing.followed,
        behind=standing.followed or standing.behind,
        degraded_since=seconds_ago(standing.degraded_at, now),
    )
