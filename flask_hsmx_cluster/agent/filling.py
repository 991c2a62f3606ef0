"""Settings as a caller gives them, with what it left to the agent filled in."""

from __future__ import annotations

import copy
from typing import Any
from uuid import uuid4

from ..errors import ChecksFailed, Finding
from ..settings import pppoe
from ..settings.model import Settings


def filled(data: dict[str, Any], present: Settings | None, node_id: str, name: str) -> dict[str, Any]:
    """Return settings with ids, passwords that are kept, and this gateway's name in place.

    :param present: those in force, if there are any.
    :param node_id: this gateway, which a caller may call ``self`` or nothing; ``name``: what people call it.
    :raises ChecksFailed: they are malformed.
    """
    own = {"": node_id, "self": node_id}
    found = pppoe.filled(copy.deepcopy(data), present.pppoe if present else ())
    try:
        found["cluster_id"] = found.get("cluster_id") or (present.cluster_id if present else uuid4().hex)
        for node in found["nodes"]:
            node["node_id"] = own.get(node["node_id"], node["node_id"])
            if node["node_id"] == node_id:
                node["name"] = node.get("name") or name
        for link in found["links"]:
            link["ends"] = {own.get(each, each): end for each, end in link["ends"].items()}
        for one in found.get("interfaces", []):
            one["addresses"] = {own.get(each, each): addresses for each, addresses in one["addresses"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise ChecksFailed([Finding("malformed", f"The settings cannot be read: {error!r:.100}")]) from None
    return found
