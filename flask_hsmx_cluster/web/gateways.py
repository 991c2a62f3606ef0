"""On which of the two gateways data lies, and which rows of it are meant: what the pages about it share."""

from __future__ import annotations

from typing import Any

from ..errors import RequestRefused
from ..translate import gettext as _


def gateways_of(status: dict[str, Any]) -> list[dict[str, Any]]:
    """Return both gateways with what waits there; this one first."""
    data, own = status["data"] or {}, status["node"]["id"]
    found = [dict(one) for one in data.get("quarantine", [])]
    return sorted(found, key=lambda one: one["node"] != own)


def where_to_look(gateways: list[dict[str, Any]]) -> str:
    """Return the gateway on which something waits; else this one."""
    return next((str(one["node"]) for one in gateways if one["waiting"]), gateways[0]["node"] if gateways else "")


def name_of(gateways: list[dict[str, Any]], node: str) -> str:
    """Return what people call a gateway."""
    return next((str(one["name"]) for one in gateways if one["node"] == node), _("this gateway"))


def active_name(status: dict[str, Any]) -> str:
    """Return the name of the active gateway."""
    peer = status["peer"]
    return str(peer["name"] if peer and status["node"]["role"] != "active" else status["node"]["name"])


def row_id(text: str | None) -> int:
    """Return the id of a row.

    :raises RequestRefused: it is none.
    """
    if not (text and text.isascii() and text.isdigit() and len(text) < 19 and int(text)):
        raise RequestRefused(_("There is no such row in quarantine."), _("Look at the list again."))
    return int(text)


def row_ids(texts: list[str]) -> list[int]:
    """Return the ids of the rows that were ticked.

    :raises RequestRefused: there are none, too many, or one is none.
    """
    if not 0 < len(texts) <= 1000:
        raise RequestRefused(_("No row was chosen."), _("Tick the rows, then press the button again."))
    return [row_id(text) for text in texts]
