"""What there is to tell: alarms and events of this gateway, and which of them are the other gateway's as well."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ...notify.news import News, clean
from ...notify.policy import Alarm

#: Alarms that both gateways raise for one cause, by the beginning of their keys: they are told once.
SHARED = ("path_", "loss_", "settings_conflict", "scopes_differ", "quarantine_", "conflict_", "joining")
#: Events that are told although their severity is only info.
TOLD = ("active", "joined", "left", "replaced", "maintenance", "copy_done")
#: Events that an alarm tells, or the event *active* of the other gateway.
COVERED = (
    "alarm_", "degraded", "data_stale", "hold", "wait", "conflict", "clone", "peer_lost", "settings_conflict",
    "apply_failed", "foreign_machine", "passive", "quarantined", "follow_failed", "stall", "late", "pairing_attempt",
    "settings_pending", "preflight",
)  # fmt: skip
#: What another gateway may tell at once.
MOST_TOLD = 200
#: A passive gateway that is not ready is an alarm after this time, s.
NOT_READY_S = 60.0


def alarms(rows: Iterable[Mapping[str, Any]], node: str, other: str, gateway: str) -> dict[str, Alarm]:
    """Return alarms of an answer to ``status`` by their identity.

    :param node: id of the gateway that raises them; ``other``: of the other one; empty if there is none.
    :param gateway: name of the one that raises them.
    :raises KeyError, TypeError: a row is malformed.
    """
    found = {}
    for row in list(rows)[:MOST_TOLD]:
        key = clean(row["key"])
        severity = "critical" if row["severity"] == "critical" else "warning"
        ident = identity(key, node, other)
        found[ident] = Alarm(ident, key, gateway, severity, clean(row["text"]), clean(row["remedy"]))
    return found


def identity(key: str, node: str, other: str) -> str:
    """Return which alarm it is, whichever of the two gateways raises it."""
    if key.startswith(SHARED):
        return key
    if key.startswith("peer_"):  # the other gateway has told it
        return f"{key.removeprefix('peer_')}@{other}"
    return f"{key}@{node}"


def events(rows: Iterable[Mapping[str, Any]], gateway: str) -> list[News]:
    """Return what is told of recorded events.

    :param rows: of the verb ``events``.
    """
    return [
        News("event", f"event_{gateway}_{row['id']}", clean(row["kind"]), gateway,
             "warning" if row["kind"] == "active" else row["severity"],
             clean(row["text"]), at=clean(row["at"])).named()
        for row in rows
        if row["kind"] in TOLD or (row["severity"] != "info" and not row["kind"].startswith(COVERED))
    ]  # fmt: skip


def not_ready(status: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the alarm that a fail-over would not work, if it would not and no other alarm says so."""
    told = any(one["severity"] == "critical" for one in status["alarms"]) or status["node"]["maintenance_left_s"]
    if status["node"]["role"] != "active" or status["peer"] is None or status["readiness"]["ready"] or told:
        return None
    if status["peer"].get("maintenance"):
        return None
    return {
        "key": "not_ready",
        "severity": "warning",
        "text": "A fail-over would not work now: " + " ".join(status["readiness"]["reasons"]),
        "remedy": "Look at the page Network / Cluster settings.",
    }
