"""Settings as a caller hands them in, with what it left to the agent."""

from __future__ import annotations

import copy
from typing import Any
from uuid import uuid4

from ..errors import ChecksFailed, Finding
from ..settings import passwords
from ..settings.model import Settings


def filled(data: dict[str, Any], present: Settings | None, node_id: str, name: str) -> dict[str, Any]:
    """Return settings in dict form with ids, this gateway's name and stored passwords filled in.

    :param present: those in force.
    :param node_id: this gateway's id; it is meant by ``self`` and by an empty one.
    :raises ChecksFailed: they are malformed.
    """
    own = {"": node_id, "self": node_id}
    found = passwords.filled(copy.deepcopy(data), present)
    try:
        found["cluster_id"] = found.get("cluster_id") or (present.cluster_id if present else uuid4().hex)
        for node in found["nodes"]:
            node["node_id"] = own.get(node["node_id"], node["node_id"])
            if node["node_id"] == node_id:
                node["name"] = node.get("name") or name
        for link in found["links"]:
            link["ends"] = {own.get(one, one): end for one, end in link["ends"].items()}
        advanced = found.get("advanced", {})
        if (preferred := advanced.get("preferred")) == "self":
            advanced["preferred"] = own[preferred]
        for one in found.get("interfaces", []):
            one["addresses"] = {own.get(node, node): each for node, each in one["addresses"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise ChecksFailed([Finding(
            "malformed", f"The settings cannot be read: {error!r:.100}",
            "Send them in the form in which they are shown.",
        )]) from None  # fmt: skip
    return found
