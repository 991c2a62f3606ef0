"""The alarms about a gateway's place in its cluster."""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import ClusterError
from .revisions.model import Heads


def of_membership(
    heads: Heads | None, not_in_force: ClusterError | None, foreign: bool, joining: bool
) -> Iterator[tuple[str, str, str, str]]:
    """Yield key, severity, text and remedy of each.

    :param not_in_force: why the settings are not in force; None: they are.
    :param foreign: the node store was written on another machine.
    :param joining: a join's last answer is missing.
    """
    if not_in_force is not None:
        what = f"The cluster settings are not in force on this gateway: {not_in_force.message}"
        remedy = f"{not_in_force.remedy} It is tried again every few seconds by itself.".strip()
        yield "settings_not_in_force", "critical", what, remedy
    if foreign:
        what = "The node store was written on another machine: this gateway stays out of the cluster."
        remedy = "A copied disk? Join the cluster anew on the copy; the original is not concerned."
        yield "foreign_machine", "critical", what, remedy
    if heads is not None and heads.conflict is not None:
        what = "Both gateways were edited while they could not reach each other."
        yield "settings_conflict", "warning", what, "Choose one of the two settings on the settings page."
    if joining:
        what = "The other gateway's last answer is missing: it is not sure whether this one has joined."
        yield "joining", "warning", what, "It is asked again by itself; see whether it can be reached."
