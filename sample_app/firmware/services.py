"""What of this firmware follows the cluster's role: its services, and what it does when it becomes active.

The sample has no DHCP and no RADIUS server: programs that only sleep stand in for them.
"""

from __future__ import annotations

import logging
from typing import Any

from flask_hsmx_cluster import HSMXCluster, RoleChange

log = logging.getLogger(__name__)

_STAND_IN = ["/bin/sleep", "infinity"]

#: RADIUS is there before the first guest can ask; DHCP needs its address.
SERVICES: list[dict[str, Any]] = [
    {"name": "RADIUS", "run": _STAND_IN, "when": "before"},
    {"name": "DHCP", "run": _STAND_IN},
    {"name": "Traffic log", "run": _STAND_IN, "runs_on": "both"},
]


def register_hooks(cluster: HSMXCluster) -> None:
    """Register what is called at a change of role."""

    @cluster.hook("after_active", limit_s=5)
    def tell_the_log(change: RoleChange) -> None:
        log.warning("This gateway serves the guests now, in term %d: %s", change.term, change.reason)
