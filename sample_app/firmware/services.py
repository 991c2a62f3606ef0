"""What of this firmware follows the cluster's role: its services, and what it does when it becomes active.

The sample has no DHCP and no RADIUS server, and no switch: programs that do nothing stand in for them.
"""

from __future__ import annotations

from typing import Any

_STAND_IN = ["/bin/sleep", "infinity"]

#: RADIUS is there before the first guest can ask; DHCP needs its address.
SERVICES: list[dict[str, Any]] = [
    {"name": "RADIUS", "run": _STAND_IN, "when": "before"},
    {"name": "DHCP", "run": _STAND_IN},
    {"name": "Traffic log", "run": _STAND_IN, "runs_on": "both"},
]

#: A function of the app's would do as well (``HSMXCluster.hook``), but the demo would load the app once more for it.
HOOKS: list[dict[str, Any]] = [
    {"name": "Tell the guests' switch", "step": "after_active", "command": ["/bin/true"], "limit_s": 5},
]
