"""What is said of the preferred gateway."""

from __future__ import annotations

from typing import Any

from ..translate import gettext as _
from .cluster import duration


def describe(status: dict[str, Any]) -> str:
    """Return which gateway is preferred, and when it takes over again; empty if none is, or nothing is to be said."""
    found = status.get("preference")
    if found is None:
        return ""
    if not found["name"]:
        return _("This gateway is the preferred one: when it is well for %(time)s, it takes over again.",
                 time=duration(found["delay_s"])) if status["node"]["role"] == "passive" else ""
    if found["left_s"] is not None:
        return _("%(name)s is the preferred gateway: it takes over again in %(time)s.",
                 name=found["name"], time=duration(found["left_s"]))
    if found["why"]:
        return _("%(name)s is the preferred gateway, but does not take over again for now: %(why)s.",
                 name=found["name"], why=found["why"])
    return ""


def setting(settings: dict[str, Any]) -> str:
    """Return the setting in words."""
    advanced = settings["advanced"]
    names = {node["node_id"]: node["name"] for node in settings["nodes"]}
    if not advanced.get("preferred"):
        return _("none")
    return _("%(name)s, after %(n)s min", name=names.get(advanced["preferred"], "?"), n=advanced["preferred_delay_min"])
