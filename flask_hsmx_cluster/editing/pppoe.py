"""What a person does to PPPoE connections: add one, change one, remove one; and how they are.

Pure: settings in their dict form, without passwords, go in, changed ones come out. The page and the command line share
it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..settings import pppoe
from ..translate import gettext as _
from .named_rows import Json, NamedRows

_ROWS = NamedRows(
    pppoe.KEY, pppoe.MAX_CONNECTIONS,
    missing=lambda name: _("There is no PPPoE connection %(name)s.", name=name),
    taken=lambda name: _("There is a connection named %(name)s already.", name=name),
)  # fmt: skip
connections, named, position, saved, removed = _ROWS.rows, _ROWS.named, _ROWS.position, _ROWS.saved, _ROWS.removed


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
