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
    return "ssh" if min(_number(here), _number(there)) >= FIRST_WITH_SSH else "rsync"


def _number(version: str) -> tuple[int, ...]:
    found = re.match(r"[vV]?([0-9]{1,6}(?:\.[0-9]{1,6}){0,3})", version.strip(), re.ASCII)
    numbers = tuple(map(int, found[1].split("."))) if found else FIRST_WITH_SSH
    return (*numbers, 0, 0, 0)[:3]
