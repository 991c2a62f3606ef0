"""``flask cluster ...``: everything that the pages can do, for scripts and for a shell at night.

Each command prints text, or with ``--json`` the agent's answer as it is. An error is a sentence and its remedy on
the error output, or with ``--json`` also ``{"error": {...}}`` on the output; the exit code is then 1.
"""

from . import (
    agent,
    data,
    everyday,
    files,
    firewall,
    hooks,
    network,
    notify,
    pppoe,
    promise,
    quarantine,
    renewal,
    services,
    settings,
    sweep,
)
from .base import cluster

__all__ = [
    "agent", "cluster", "data", "everyday", "files", "firewall", "hooks", "network", "notify", "pppoe", "promise",
    "quarantine", "renewal", "services", "settings", "sweep",
]  # fmt: skip
