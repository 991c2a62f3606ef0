"""What is said before an operator ends a gateway's wait for the other one."""

from __future__ import annotations

from typing import Any

from ..translate import gettext as _
from .cluster import addresses


def possible(status: dict[str, Any]) -> bool:
    """Return whether this gateway waits for one that is not heard, and an operator may end that."""
    return status["peer"] is not None and status["node"]["phase"] in ("holding", "waiting")


def plan(status: dict[str, Any]) -> list[str]:
    """Return what it will do, and what it may do harm to."""
    peer, shared = status["peer"]["name"], addresses(status)
    answers = any(vip["reading"] == "answered" for vip in status["virtual_ips"])
    return [
        _("%(peer)s is not heard, but its address still answers: most likely it still serves guests.", peer=peer)
        if answers
        else _("%(peer)s is not heard. From here nobody can tell whether it still serves guests.", peer=peer),
        _("This gateway takes %(addresses)s now, and does not wait for %(peer)s.", addresses=shared, peer=peer),
        _("If %(peer)s is alive, both answer on the same address: connections break, and guests are served by one or "
          "the other by chance.", peer=peer),
        _("What is written on both meanwhile does not fit together: when they hear each other again, the changes of "
          "one of them go to quarantine, for you to look at."),
        _("Before you do this, switch %(peer)s off, or pull its cable to the guests. Then nothing of this can happen.",
          peer=peer),
    ]
