"""What a person does to notification targets: add one, change one, remove one; and how they are.

Pure: settings in their dict form, without passwords, go in, changed ones come out. The page and the command line share
it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..settings import notify
from ..translate import gettext as _
from .named_rows import Json, NamedRows

_ROWS = NamedRows(
    notify.KEY, notify.MAX_TARGETS,
    missing=lambda name: _("There is no notification target %(name)s.", name=name),
    taken=lambda name: _("There is a target named %(name)s already.", name=name),
)  # fmt: skip
targets, named, position, saved, removed = _ROWS.rows, _ROWS.named, _ROWS.position, _ROWS.saved, _ROWS.removed


def fingerprint(text: str) -> str:
    """Return a certificate's fingerprint as it is kept, however it was written: 64 digits without colons."""
    return "".join(sign for sign in text.lower().removeprefix("sha256:") if sign not in ": ")


def recipients(text: str) -> list[str]:
    """Return the addresses in a text in which commas, semicolons, spaces or line ends separate them."""
    return text.replace(",", " ").replace(";", " ").split()


def standing(status: Mapping[str, Any]) -> dict[str, Json]:
    """Return how the targets are on this gateway, by name, of an answer to ``status``."""
    return {row["name"]: row for row in status.get("notify") or []}


def in_words(row: Mapping[str, Any], now: Mapping[str, Any] | None) -> tuple[str, str, str]:
    """Return sign, kind (``ok``, ``warn``, ``bad`` or empty) and words of how a target is.

    :param now: its standing, if one is known.
    """
    if not row["enabled"]:
        return "–", "", _("Switched off.")
    if now is None:
        return "…", "", _("Not known here yet.")
    if now["failures"]:
        return "✕", "bad", _("Not reached %(n)s times in a row: %(why)s", n=now["failures"], why=now["error"])
    if now["waiting"]:
        return "…", "warn", _("%(n)s messages wait to be sent.", n=now["waiting"])
    if not now["speaks"]:
        return "✓", "ok", _("The other gateway tells people: it is the active one.")
    if now["delivered_s"] is None:
        return "✓", "ok", _("Nothing was sent since this gateway's agent was started.")
    return "✓", "ok", _("Everything was delivered.")


def tested(name: str, answer: Mapping[str, Any]) -> str:
    """Return what came of a test."""
    if answer["delivered"]:
        return _("%(name)s, sent by %(gateway)s: delivered. %(answer)s", name=name, gateway=answer["gateway"],
                 answer=answer["answer"])  # fmt: skip
    return _("%(name)s, sent by %(gateway)s: not delivered. %(answer)s", name=name, gateway=answer["gateway"],
             answer=answer["answer"])  # fmt: skip
