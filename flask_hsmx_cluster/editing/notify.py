"""What a person does to notification targets: add one, change one, remove one; and how they are.

Pure: settings in their dict form, without passwords, go in, changed ones come out. The page and the command line share
it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import ChecksFailed, Finding, RequestRefused
from ..settings import notify
from ..translate import gettext as _

Json = dict[str, Any]


def targets(settings: Mapping[str, Any]) -> list[Json]:
    """Return the targets of settings."""
    found: list[Json] = settings.get(notify.KEY, [])
    return found


def named(settings: Mapping[str, Any], name: str) -> Json:
    """Return a target.

    :raises RequestRefused: there is none of that name.
    """
    for row in targets(settings):
        if row["name"] == name:
            return row
    raise RequestRefused(_("There is no notification target %(name)s.", name=name[:40]), _("Look at the list again."))


def position(settings: Mapping[str, Any], name: str) -> int:
    """Return where a target stands in the settings, or would if it were added."""
    names = [row["name"] for row in targets(settings)]
    return names.index(name) if name in names else len(names)


def saved(settings: Json, row: Json, *, new: bool) -> Json:
    """Return settings with a target added, or changed in its place.

    :param row: all of it; an empty password leaves the stored one.
    :raises ChecksFailed: a new one has the name of another, or there would be too many.
    :raises RequestRefused: the one to change is not there.
    """
    rows = list(targets(settings))
    if not new:
        named(settings, row["name"])
        rows[position(settings, row["name"])] = row
    elif any(one["name"] == row["name"] for one in rows):
        raise ChecksFailed([Finding(
            "duplicate", _("There is a target named %(name)s already.", name=row["name"]),
            _("Choose another name."), f"{notify.KEY}.{len(rows)}.name")])
    elif len(rows) >= notify.MAX_TARGETS:
        raise ChecksFailed([Finding(
            "count", _("There can be %(n)s at most.", n=notify.MAX_TARGETS), _("Remove one first."))])
    else:
        rows.append(row)
    return {**settings, notify.KEY: rows}


def removed(settings: Json, name: str) -> Json:
    """Return settings without a target.

    :raises RequestRefused: there is none of that name.
    """
    named(settings, name)
    return {**settings, notify.KEY: [row for row in targets(settings) if row["name"] != name]}


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
