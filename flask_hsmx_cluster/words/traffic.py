"""What is said of guests' connections, and of the passive gateway's way out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from ..translate import gettext as _
from . import cluster as words

Kind = Literal["ok", "warn", "bad", "info", "plain"]
#: By kind of news the sign beside the text, so that colour is never the only one.
SIGNS: dict[Kind, str] = {"ok": "✓", "warn": "!", "bad": "✕", "info": "i", "plain": "○"}


@dataclass(frozen=True)
class Row:
    """One thing that follows the role, in words."""

    kind: Kind
    name: str
    text: str

    @property
    def sign(self) -> str:
        return SIGNS[self.kind]


def traffic(told: dict[str, Any]) -> Iterator[tuple[Row, str]]:
    """Yield what to say, each with what to do about it.

    :param told: ``services`` of the status.
    """
    if (tracking := told.get("conntrack") or {}).get("state", "off") != "off":
        yield _connections(tracking)
    if (way := told.get("passive_internet") or {}).get("state", "off") != "off":
        yield _way_out(way)


def _connections(shown: dict[str, Any]) -> tuple[Row, str]:
    name = _("Guests' connections")
    if shown["state"] == "absent":
        return (
            Row("warn", name, _("conntrackd is not installed: they break at a fail-over.")),
            _("Install the package (Debian: conntrackd). It is used as soon as it is there."),
        )
    if shown["state"] == "down":
        if not shown["problem"]:
            return Row("info", name, _("conntrackd is being started.")), ""
        return (
            Row("warn", name, _("conntrackd does not run (%(why)s): they break at a fail-over.", why=shown["problem"])),
            _("It is started again by itself. Look at the log of this gateway's agent."),
        )
    if shown["problem"]:
        return (
            Row("warn", name, _("conntrackd runs, but a step failed: %(why)s", why=shown["problem"])),
            _("Look at the log of this gateway's agent."),
        )
    if shown["active"]:
        text = _("the other gateway is told of each; %(n)s now.", n=shown["entries"].get("own", 0))
    else:
        text = _("those of the active gateway are known here; %(n)s now.", n=shown["entries"].get("peer", 0))
    if (commit := shown["last_commit"]) is not None:
        text += " " + _("Taken over within %(took)s when this gateway last became active.",
                        took=words.milliseconds(commit["took_ms"]))  # fmt: skip
    return Row("ok", name, text), ""


def _way_out(shown: dict[str, Any]) -> tuple[Row, str]:
    name = _("Way to the outside")
    where = _("%(host)s port %(port)s", host=shown["host"], port=shown["port"])
    if shown["state"] == "lending":
        return Row("ok", name, _("the passive gateway reaches the outside through this one.")), ""
    if shown["state"] == "reachable":
        took = words.milliseconds(shown["took_ms"])
        if shown["through_peer"]:
            text = _("%(where)s is reached through the active gateway, within %(took)s.", where=where, took=took)
        else:
            text = _("%(where)s is reached by this gateway's own way, within %(took)s.", where=where, took=took)
        return Row("ok", name, text), ""
    if shown["state"] == "unreachable":
        return (
            Row("warn", name, _("%(where)s cannot be reached: %(why)s.", where=where, why=shown["problem"])),
            _("See whether the active gateway has internet, whether its firewall and net.ipv4.ip_forward let packets "
              "from the sync link pass, and whether this gateway has a name server."),
        )  # fmt: skip
    return Row("info", name, _("whether %(where)s can be reached is not known yet.", where=where)), ""
