"""What the drawing of both gateways shows, worked out from the agent's status."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..translate import gettext as _
from ..translate import ngettext
from ..words import cluster as words

#: Longest name that fits into a box, characters.
_NAME_MAX = 15

#: The sign drawn for each state, so that colour is never the only one.
SIGNS = {"up": "✓", "down": "✕", "unknown": "?"}


def diagram(status: dict[str, Any]) -> dict[str, Any]:
    """Return boxes, cables and the service network for the template ``parts/diagram.html``."""
    here, peer, paths = status["node"], status["peer"], status["paths"]
    mine, theirs = _holders(status)
    network = [path for path in paths if path["kind"] in ("service", "ethernet")]
    across = _together(network) if network else _seen(status["virtual_ips"])
    # A gateway that is off says nothing about the network: the shared addresses tell whether guests have it.
    silent = across == "down" and peer is not None and peer["role"] == "unknown"
    return {
        "here": _box(here["name"], here["role"], here["health"], here["maintenance_left_s"] is not None, mine),
        "peer": None if peer is None else _box(
            peer["name"], peer["role"], peer["health"], peer["maintenance"], theirs),
        "cables": [_cable(kind, [path for path in paths if path["kind"] == kind]) for kind in ("sync", "backup")],
        "network": {
            "state": _seen(status["virtual_ips"]) if silent else across,
            "peer_state": across,
            "ports": ", ".join(sorted({vip["port"] for vip in status["virtual_ips"]})),
        },
        "signs": SIGNS,
    }


def describe(status: dict[str, Any]) -> str:
    """Return the drawing in words, for those who cannot see it."""
    drawn = diagram(status)
    parts = [words.headline(status), words.other(status)]
    parts += [f"{cable['name']}: {words.path_state(cable['state'])}." for cable in drawn["cables"] if cable["present"]]
    return " ".join(part for part in parts if part)


def _holders(status: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Return the shared addresses that this gateway has, and those that the other one has."""
    mine = [words.bare(vip["address"]) for vip in status["virtual_ips"] if vip["held"]]
    theirs = [words.bare(vip["address"]) for vip in status["virtual_ips"]
              if not vip["held"] and vip["reading"] == "answered"]
    return mine, theirs


def _box(name: str, role: str, health: Sequence[Any], maintenance: bool, addresses: list[str]) -> dict[str, Any]:
    if maintenance:
        condition, text = "unknown", _("maintenance")
    elif role == "unknown":
        condition, text = "unknown", _("not heard")
    elif role == "standalone":
        condition, text = "unknown", _("not in force")
    elif health:
        condition, text = "down", ngettext("1 problem", "%(n)s problems", len(health))
    else:
        condition, text = "up", _("healthy")
    return {
        "name": name if len(name) <= _NAME_MAX else name[: _NAME_MAX - 1] + "…",
        "full_name": name, "role": role, "role_text": words.role(role),
        "condition": condition, "condition_text": text, "addresses": addresses,
    }


def _cable(kind: str, paths: Sequence[dict[str, Any]]) -> dict[str, Any]:
    name = {"sync": _("Sync cable"), "backup": _("Backup cable")}[kind]
    state = _together(paths)
    if not paths:
        note = _("not configured")
    elif state == "up":
        rtt = paths[0]["rtt_ms"]
        note = _("works") if rtt is None else words.milliseconds(rtt)
    else:
        note = words.path_state(state)
    return {"kind": kind, "name": name, "state": state, "present": bool(paths), "note": note}


def _together(paths: Sequence[dict[str, Any]]) -> str:
    """Return the state that stands for several paths: cut only if all are, working if one is."""
    states = {path["state"] for path in paths}
    if "up" in states:
        return "up"
    return "down" if states == {"down"} else "unknown"


def _seen(virtual_ips: Sequence[dict[str, Any]]) -> str:
    """Return the service network's state where no heartbeats cross it: what the shared addresses tell."""
    readings = {vip["reading"] for vip in virtual_ips}
    if readings & {"held", "answered"}:
        return "up"
    return "down" if readings and readings <= {"no_carrier", "silent"} else "unknown"
