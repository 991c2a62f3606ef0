"""Router advertisements in plain words, for the page and for the CLI alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..translate import gettext as _
from .cluster import duration

#: What guests of an IPv6 network are told, by the settings' word for it.
KINDS = {
    "": "none are sent",
    "slaac": "guests make their own addresses",
    "stateless-dhcp": "guests make their own addresses, and ask DHCPv6 for the rest",
    "dhcp": "guests ask DHCPv6 for their addresses",
}


def kind(word: str) -> str:
    """Return what guests are told."""
    return _(KINDS[word]) if word in KINDS else word


def state(port: Mapping[str, Any] | None) -> str:
    """Return how it stands with a port's advertisements.

    :param port: of the status, ``router_advertisements``; None: this gateway does not have the port.
    """
    if port is None:
        return _("this gateway does not have the port")
    if port["problem"]:
        return _("not sent: %(why)s", why=port["problem"])
    if port["last_s"] is None:
        return _("sent by the active gateway, which this one is not")
    return _("sent for %(since)s, the last one %(last)s ago",
             since=duration(port["since_s"]), last=duration(port["last_s"]))
