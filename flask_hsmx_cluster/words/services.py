"""What is said of services, hooks and guests' connections, for page and CLI alike.

Like :mod:`.cluster` it decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..translate import gettext as _
from . import cluster as words
from .traffic import SIGNS, Kind, Row, traffic


@dataclass(frozen=True)
class ServicesWords:
    """All that follows the role, in words.

    :param remedy: what to do; may be empty.
    """

    kind: Kind
    text: str
    remedy: str
    rows: tuple[Row, ...]

    @property
    def sign(self) -> str:
        return SIGNS[self.kind]


def describe(status: dict[str, Any]) -> ServicesWords | None:
    """Return what to say of services and hooks; None where nothing follows the role, or there is no cluster."""
    told = status.get("services")
    if told is None or status["cluster"] is None:
        return None
    stated, of_traffic = (*_services(told), *_hooks(told), *_checks(told)), tuple(traffic(told))
    rows = (*stated, *(row for row, _remedy in of_traffic))
    if not rows and not told["problem"]:
        return None  # what else follows the role has a page of its own
    if told["problem"]:
        return ServicesWords("bad", _("Services do not follow the role: %(why)s", why=told["problem"]), told["remedy"],
                             rows)  # fmt: skip
    if any(row.kind == "bad" for row in stated):
        return ServicesWords("bad", _("A service or a check is not as it should be."),
                             _("It is tried again by itself. Look at its own log on this gateway."), rows)  # fmt: skip
    if any(row.kind == "warn" for row in stated):
        return ServicesWords("warn", _("The services run as they should, but a hook or a check failed."),
                             _("The change of role goes on without it. Look at the log of this gateway's agent."),
                             rows)  # fmt: skip
    for row, remedy in of_traffic:
        if row.kind == "warn":
            return ServicesWords("warn", f"{row.name}: {row.text}", remedy, rows)
    if any(row.kind == "info" for row in stated):
        return ServicesWords("info", _("Services are being started or stopped."), "", rows)
    return ServicesWords("ok", _("Everything that follows the role is as it should be."), "", rows)


def _services(told: dict[str, Any]) -> Iterator[Row]:
    for one in told.get("services", ()):
        name, since = one["name"], words.duration(one["since_s"])
        if one["state"] == "failed":
            text = _("does not run: %(why)s", why=one["problem"]) if one["wanted"] else _(
                "still runs, although this gateway stands by: %(why)s", why=one["problem"])  # fmt: skip
            yield Row("bad", name, text)
        elif one["state"] == "changes":
            yield Row("info", name, _("is being started") if one["wanted"] else _("is being stopped"))
        elif one["runs"]:
            again = _(" Started again %(n)s times: %(why)s", n=one["restarts"], why=one["problem"])
            where = _("on both gateways") if one["runs_on"] == "both" else _("on the active gateway only")
            text = _("runs %(where)s, for %(time)s.", where=where, time=since)
            yield Row("bad" if one["restarts"] > 1 else "ok", name, text + (again if one["restarts"] > 1 else ""))
        else:
            yield Row("plain", name, _("stands by: it runs on the active gateway only"))


def _checks(told: dict[str, Any]) -> Iterator[Row]:
    for one in told.get("checks", ()):
        name = _("Check %(name)s", name=one["name"])
        if one["state"] == "unknown":
            yield Row("plain", name, _("not carried out yet"))
            continue
        ago = words.duration(one["checked_s"])
        if one["state"] == "good":
            yield Row("ok", name, _("was in order %(time)s ago", time=ago))
        else:
            yield Row("bad" if one["moves_role"] else "warn", name,
                      _("failed %(time)s ago: %(why)s", time=ago, why=one["problem"]))  # fmt: skip


def _hooks(told: dict[str, Any]) -> Iterator[Row]:
    steps = {
        "before_active": _("before this gateway becomes active"), "after_active": _("once it is active"),
        "before_passive": _("before it hands over"), "after_passive": _("once it stands by"),
    }  # fmt: skip
    for one in told.get("hooks", ()):
        name = _("Hook %(name)s", name=one["name"])
        step = steps[one["step"]]
        if one["state"] == "failed":
            yield Row("warn", name, _("%(step)s: failed %(time)s ago: %(why)s", step=step,
                                      time=words.duration(one["called_s"]), why=one["problem"]))  # fmt: skip
        elif one["state"] == "done":
            yield Row("ok", name, _("%(step)s: done %(time)s ago, took %(took)s", step=step,
                                    time=words.duration(one["called_s"]), took=words.milliseconds(one["took_ms"])),
                      )  # fmt: skip
        else:
            yield Row("plain", name, _("%(step)s: not called yet", step=step))
