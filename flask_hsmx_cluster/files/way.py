"""How files travel between two gateways: over ssh from firmware 5.2.03 on, to an rsync daemon before it."""

from __future__ import annotations

import re
from typing import Literal

Way = Literal["ssh", "rsync"]
#: The first firmware whose gateways open 22/tcp to each other instead of 873/tcp.
FIRST_WITH_SSH = (5, 2, 3)


def way(here: str, there: str) -> Way:
    """Return what both understand: a later firmware knows both ways, an earlier one the daemon alone.

    :param here: this gateway's firmware version; ``there``: the other one's. One that cannot be read counts as late.
    """
    return "ssh" if all((numbers(one) or FIRST_WITH_SSH) >= FIRST_WITH_SSH for one in (here, there)) else "rsync"


def numbers(firmware: str) -> tuple[int, ...]:
    """Return the numbers that a version begins with, ``(5, 2, 3)`` for ``v5.2.03-beta``; empty where there are none."""
    found = re.match(r"\s*[vV]?([0-9]{1,9}(?:\.[0-9]{1,9})*)", firmware, re.ASCII)
    return tuple(map(int, found[1].split("."))) if found else ()
