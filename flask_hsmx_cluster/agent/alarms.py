"""The alarms of a gateway's membership; those of its parts are raised where they are seen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..errors import ClusterError
from .revisions.model import Heads

#: Key, severity, text, remedy.
Alarm = tuple[str, str, str, str]


def of_membership(
    heads: Heads | None, not_in_force: ClusterError | None, foreign: bool, joining: bool
) -> Iterator[Alarm]:
    """Yield what keeps this gateway from being a whole member of its cluster.

    :param not_in_force: why its settings are not in force, if they are not.
    :param foreign: the node store is another machine's.
    :param joining: it has asked to join, and waits for the last answer.
    """
    if not_in_force is not None:
        yield (
            "settings_not_in_force", "critical",
            f"The cluster settings are not in force on this gateway: {not_in_force.message}",
            f"{not_in_force.remedy} It is tried again every few seconds by itself.".strip(),
        )  # fmt: skip
    if foreign:
        yield (
            "foreign_machine", "critical",
            "The node store was written on another machine: this gateway stays out of the cluster.",
            "A copied disk? Join the cluster anew on the copy; the original is not concerned.",
        )  # fmt: skip
    if heads is not None and heads.conflict is not None:
        yield (
            "settings_conflict", "warning",
            "Both gateways were edited while they could not reach each other.",
            "Choose one of the two settings on the settings page.",
        )  # fmt: skip
    if joining:
        yield (
            "joining", "warning",
            "The other gateway's last answer is missing: it is not sure whether this one has joined.",
            "It is asked again by itself; see whether it can be reached.",
        )  # fmt: skip


def as_dict(alarm: Alarm, since_s: float) -> dict[str, Any]:
    """Return an alarm as the verb ``status`` shows it."""
    return {**dict(zip(("key", "severity", "text", "remedy"), alarm, strict=True)), "since_s": round(since_s, 1)}
