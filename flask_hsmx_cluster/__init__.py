"""High availability for Flask-based gateways: virtual IPs, heartbeats and a settings page for two nodes.

The names below are loaded when they are first used, so that the agent, which shares this package,
does not carry Flask in its memory.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .version import __version__

if TYPE_CHECKING:
    from .errors import (
        AgentUnavailable,
        ChecksFailed,
        ClusterError,
        ConfigError,
        DataConflict,
        Finding,
        NetworkError,
        NotAllowed,
        PairingFailed,
        PeerUnavailable,
        RequestRefused,
    )
    from .extension import HSMXCluster
    from .hooks import RoleChange
    from .replication.rules import Local, Shared
    from .signals import failover_requested, joined, left, settings_saved

__all__ = [
    "AgentUnavailable",
    "ChecksFailed",
    "ClusterError",
    "ConfigError",
    "DataConflict",
    "Finding",
    "HSMXCluster",
    "Local",
    "NetworkError",
    "NotAllowed",
    "PairingFailed",
    "PeerUnavailable",
    "RequestRefused",
    "RoleChange",
    "Shared",
    "__version__",
    "failover_requested",
    "joined",
    "left",
    "settings_saved",
]

_HOME = {"HSMXCluster": ".extension", "RoleChange": ".hooks"} | dict.fromkeys(
    ("failover_requested", "joined", "left", "settings_saved"), ".signals"
) | dict.fromkeys(("Local", "Shared"), ".replication.rules")


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME.get(name, ".errors"), __name__), name)
