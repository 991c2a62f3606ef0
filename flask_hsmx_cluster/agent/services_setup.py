"""What the participants of :mod:`..services` are told: the one place where their set-ups are plugged in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .cluster import Cluster


@dataclass(frozen=True)
class Part:
    """A participant's part of the set-up.

    :param setup: goes to its ``configure``; must be JSON.
    :param before_active: it has something to do before the addresses come, and these are to wait for it.
    :param before_passive: it has something to do before the addresses go in a hand-over, which is to wait for it.
    """

    setup: Mapping[str, Any]
    before_active: bool = False
    before_passive: bool = False


#: By the participant's name: what it is told while this gateway is in a cluster; None: there is nothing for it to do.
#: Called every two seconds; ``cluster.require_heads().applied.settings`` are the settings in force.
PARTS: Mapping[str, Callable[[Cluster], Part | None]] = {}
