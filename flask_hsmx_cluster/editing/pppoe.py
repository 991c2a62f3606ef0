"""What a person does to PPPoE connections: add one, change one, remove one; and how they are.

Pure: settings in their dict form, without passwords, go in, changed ones come out. The page and the command line share
it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import ChecksFailed, Finding, RequestRefused
from ..settings import pppoe
from ..translate import gettext as _

Json = dict[str, Any]


def connections(settings: Mapping[str, Any]) -> list[Json]:
    """Return the connections of settings."""
    found: list[Json] = settings.get(pppoe.KEY, [])
    return found


def named(settings: Mapping[str, Any], name: str) -> Json:
    """Return a connection.

    :raises RequestRefused: there is none of that name.
    """
    for row in connections(settings):
        if row["name"] == name:
            return row
    raise RequestRefused(_("There is no PPPoE connection %(name)s.", name=name[:40]), _("Look at the list again."))


def position(settings: Mapping[str, Any], name: str) -> int:
    """Return where a connection stands in the settings, or would if it were added."""
    names = [row["name"] for row in connections(settings)]
    return names.index(name) if name in names else len(names)


def saved(settings: Json, row: Json, *, new: bool) -> Json:
    """Return settings with a connection added, or changed in its place.

    :param row: all of it; an empty password leaves the stored one.
    :raises ChecksFailed: a new one has the name of another, or there would be too many.
    :raises RequestRefused: the one to change is not there.
    """
    rows = list(connections(settings))
    if not new:
        named(settings, row["name"])
        rows[position(settings, row["name"])] = row
    elif any(one["name"] == row["name"] for one in rows):
        raise ChecksFailed([Finding(
            "duplicate", _("There is a connection named %(name)s already.", name=row["name"]),
            _("Choose another name."), f"{pppoe.KEY}.{len(rows)}.name")])
    elif len(rows) >= pppoe.MAX_CONNECTIONS:
        raise ChecksFailed([Finding(
            "count", _("There can be %(n)s at most.", n=pppoe.MAX_CONNECTIONS), _("Remove one first."))])
    else:
        rows.append(row)
    return {**settings, pppoe.KEY: rows}


def removed(settings: Json, name: str) -> Json:
    """Return settings without a connection.

    :raises RequestRefused: there is none of that name.
    """
    named(settings, name)
    return {**settings, pppoe.KEY: [row for row in connections(settings) if row["name"] != name]}


def standing(status: Mapping[str, Any]) -> dict[str, Json]:
    """Return how the connections are on this gateway, by name, of an answer to ``status``."""
    return {row["name"]: row for row in status.get("pppoe", [])}


def sign(state: str) -> tuple[str, str]:
    """Return sign and kind (``ok``, ``warn``, ``bad`` or empty) of a connection's state."""
    return {
        "up": ("✓", "ok"), "dialling": ("…", "warn"), "waiting": ("…", "warn"), "ending": ("…", "warn"),
        "error": ("✕", "bad"), "held": ("!", "warn"),
    }.get(state, ("–", ""))  # fmt: skip


def capital(text: str) -> str:
    """Return words as the beginning of a sentence."""
    return text[:1].upper() + text[1:]


def unknown() -> str:
    """Return what is said of a connection of which nothing is known yet."""
    return _("is not known here yet")
