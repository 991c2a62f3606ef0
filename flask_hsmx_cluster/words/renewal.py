"""What is said of certificates and of the guide through a renewal, for page and CLI. Like :mod:`.cluster` it decides
nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ..translate import gettext as _
from . import cluster as words
from .traffic import SIGNS, Kind

Json = dict[str, Any]
#: By state of a step its sign, so that colour is never the only one.
STEP_SIGNS = {"done": "✓", "now": "▶", "next": "○"}
#: What can be renewed, in the order of the page.
KINDS = ("certificate", "firmware", "extension")


@dataclass(frozen=True)
class StepWords:
    """A step of the guide.

    :param state: ``done``, ``now`` or ``next``; ``state_text``: the same in words.
    :param text: what to do; empty unless its turn has come.
    :param note: what stands in its way; may be empty.
    """

    key: str
    state: str
    state_text: str
    title: str
    text: str
    note: str

    @property
    def sign(self) -> str:
        return STEP_SIGNS[self.state]


@dataclass(frozen=True)
class Cell:
    """What stands in a row for one gateway.

    :param kind: ``plain`` has no sign.
    """

    text: str
    kind: Kind = "plain"
    code: bool = False

    @property
    def sign(self) -> str:
        return "" if self.kind == "plain" else SIGNS[self.kind]


@dataclass(frozen=True)
class Line:
    """A row of the table that shows both gateways side by side."""

    label: str
    cells: tuple[Cell, ...]


def title(kind: str) -> str:
    """Return what is done."""
    return {
        "certificate": _("Renew the certificates"),
        "firmware": _("Upgrade the firmware"),
        "extension": _("Upgrade the cluster software"),
    }[kind]


def purpose(kind: str) -> str:
    """Return when to choose it."""
    return {
        "certificate": _("Each gateway has an SSL certificate of its own. Nothing sends it to the other one."),
        "firmware": _("Each gateway is upgraded by itself, and rebooted."),
        "extension": _("The same for this cluster software alone, where the firmware lets it be upgraded by itself."),
    }[kind]


def headline(told: Json) -> tuple[Kind, str]:
    """Return how the renewal that is under way stands, in one sentence."""
    names = [one["name"] for one in told["gateways"]]
    if told["finished"]:
        return "ok", {
            "certificate": _("Done: both gateways show their new certificates."),
            "firmware": _("Done: both gateways run the new firmware."),
            "extension": _("Done: both gateways run the new cluster software."),
        }[told["kind"]]
    done = [one["name"] for one in told["gateways"] if one["renewed"]]
    if not done:
        return "info", _("It begins with %(name)s, which is passive.", name=told["first"])
    left = next((name for name in names if name not in done), "")
    return "info", _("%(done)s is done, %(left)s is left. You may go on another day.", done=done[0], left=left)


def begun(told: Json) -> str:
    """Return when it was begun."""
    return _("Begun on %(name)s at %(time)s UTC.", name=told["by"], time=_time(told["began_at"]))


def steps(told: Json) -> list[StepWords]:
    """Return the steps."""
    return [_step(told, step) for step in told["steps"]]


def _step(told: Json, step: Json) -> StepWords:
    kind, name, key, state = told["kind"], step["name"], step["key"], step["state"]
    other = next((one["name"] for one in told["gateways"] if one["node"] != step["node"]), "")
    head, text = _tasks(kind, key, name, other)
    state_text = {"done": _("done"), "now": _("now"), "next": _("later")}[state]
    return StepWords(key, state, state_text, head, text if state == "now" else "", _note(told, step))


def _tasks(kind: str, key: str, name: str, other: str) -> tuple[str, str]:
    """Return title and text of a step."""
    if key == "reboot":
        return _("Reboot %(name)s", name=name), _(
            "%(other)s serves the guests meanwhile. If it fails while %(name)s restarts, guests are offline: "
            "do it at a quiet hour.", other=other, name=name)  # fmt: skip
    if key == "failover":
        return _("Make %(name)s active", name=name), _(
            "%(other)s hands the virtual IPs over and becomes the passive one. Guests notice a pause of a few "
            "milliseconds, if anything.", other=other)  # fmt: skip
    install = {
        "certificate": (
            _("Install the new certificate on %(name)s", name=name),
            _("On the certificate page of %(name)s. %(other)s has another page, and its turn comes later.",
              name=name, other=other),
        ),
        "firmware": (
            _("Install the new firmware on %(name)s", name=name),
            _("On %(name)s alone. If it brings a change of the database, make that on both gateways as its notes say, "
              "on %(name)s first.", name=name),
        ),
        "extension": (
            _("Install the new cluster software on %(name)s", name=name),
            _("On %(name)s alone; then restart its agent and its web app.", name=name),
        ),
    }  # fmt: skip
    seen = {
        "certificate": (
            _("%(name)s shows the new certificate", name=name),
            _("It is read from the HTTPS port of %(name)s, every few seconds. Wait until this is ticked.", name=name),
        ),
        "firmware": (_("%(name)s runs the new firmware", name=name), _("Wait until this is ticked.")),
        "extension": (_("%(name)s runs the new version", name=name), _("Wait until this is ticked.")),
    }
    return (install if key == "install" else seen)[kind]


def _note(told: Json, step: Json) -> str:
    name, note = step["name"], step["note"]
    if note == "same":
        if told["kind"] == "certificate":
            return _("%(name)s was restarted, but shows the certificate that it had at the start. Install the new one, "
                     "then reboot.", name=name)  # fmt: skip
        return _("%(name)s was restarted, but runs the version that it had at the start. Install the new one, then "
                 "reboot.", name=name)  # fmt: skip
    if note == "unseen":
        why = next((one.get("problem", "") for one in told["gateways"] if one["node"] == step["node"]), "")
        return _("%(name)s shows no certificate: %(why)s. Look at its web server; do certificate and key belong "
                 "together?", name=name, why=why)  # fmt: skip
    return {
        "": "",
        "expired": _("%(name)s shows a certificate that has expired. Install a valid one, then reboot.", name=name),
        "not_yet": _("%(name)s shows a certificate that is not valid yet. See whether its clock is right, or install "
                     "another one, then reboot.", name=name),
    }[note]  # fmt: skip


def lines(told: Json) -> Iterator[Line]:
    """Yield both gateways side by side."""
    both, begun = told["gateways"], told["kind"] is not None

    def row(label: str, cell: Any) -> Line:
        return Line(label, tuple(cell(one) if one["known"] else Cell(_("not known")) for one in both))

    yield row(_("Role"), lambda one: Cell(words.role(one["role"]) if one["role"] != "unknown" else "–"))
    if told["kind"] in (None, "certificate"):
        yield row(_("Certificate"), _standing)
        yield row(_("Valid until"), lambda one: Cell(
            _day(one["certificate"]["not_after"]) if one["certificate"] else "–"))
        yield row(_("For"), lambda one: Cell(", ".join(one["certificate"]["names"]) if one["certificate"] else "–"))
        yield row(_("Issued by"), lambda one: Cell(one["certificate"]["issuer"] if one["certificate"] else "–"))
        yield row(_("Fingerprint (SHA-256)"), lambda one: Cell(
            grouped(one["certificate"]["fingerprint"]) if one["certificate"] else "–", code=bool(one["certificate"])))
        if begun:
            yield Line(_("Fingerprint at the start"), tuple(
                Cell(grouped(one["before"]["fingerprint"]) or "–", code=bool(one["before"]["fingerprint"]))
                for one in both))  # fmt: skip
    if told["kind"] != "certificate":
        yield row(_("Firmware"), lambda one: _version(one, "firmware"))
        yield row(_("Cluster software"), lambda one: _version(one, "version"))
        yield row(_("Protocol"), lambda one: Cell(str(one["protocol"])))


def _version(one: Json, key: str) -> Cell:
    before = one["before"][key] if one["before"] else one[key]
    if before == one[key]:
        return Cell(one[key])
    return Cell(_("%(now)s (at the start %(before)s)", now=one[key], before=before), "ok")


def _standing(one: Json) -> Cell:
    seen = one["certificate"]
    if not one["https"]:
        return Cell(_("not looked at: HSMX_CLUSTER_HTTPS is not set on this gateway"), "warn")
    if seen is None:
        return Cell(one["problem"] or _("not looked at yet"), "warn" if one["problem"] else "info")
    if seen["validity"] == "expired":
        return Cell(_("has expired"), "bad")
    if seen["validity"] == "not_yet":
        return Cell(_("not valid yet"), "bad")
    left = _("%(n)s days left", n=seen["days_left"])
    return Cell(left, {"critical": "bad", "warning": "warn", None: "ok"}[seen["severity"]])  # type: ignore[arg-type]


def grouped(fingerprint: str) -> str:
    """Return a fingerprint as browsers show it."""
    return ":".join(fingerprint[at : at + 2] for at in range(0, len(fingerprint), 2)).upper()


def protocols(told: Json) -> str:
    """Return which protocol the two speak during an upgrade; empty if both have the same, or one is not known."""
    known = [one["protocol"] for one in told["gateways"] if one["known"]]
    if told["kind"] == "certificate" or len(set(known)) < 2:
        return ""
    return _("The two speak protocol %(n)s meanwhile; what is new in %(m)s waits until both have it.",
             n=min(known), m=max(known))  # fmt: skip


def summary(told: Json) -> str:
    """Return one line for pages that are about something else; empty if no renewal is under way."""
    if told["kind"] is None:
        return ""
    now = next((step.title for step in steps(told) if step.state == "now"), headline(told)[1])
    return f"{title(told['kind'])}: {now}"


def _day(seconds: int) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
    except (OverflowError, ValueError, OSError):
        return "–"


def _time(iso: str) -> str:
    return iso.replace("T", " ")[:16]
