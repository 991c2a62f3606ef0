"""What the participants *conntrack* and *passive_internet* are told (see :mod:`.setup`)."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ..cluster import Cluster

#: Where Debian has its daemons, which are not in everybody's path.
_PATH = "/usr/sbin:/sbin:/usr/local/sbin:/usr/bin"
#: The cables between the gateways, in the order in which they are used.
_CABLES = ("sync", "backup")


def links(cluster: Cluster) -> list[dict[str, str]]:
    """Return both ends of each cable between the gateways; empty while there is no other gateway."""
    settings = cluster.require_heads().applied.settings
    peer = settings.peer_of(cluster.node_id)
    found = []
    for kind in _CABLES:
        link = settings.link(kind)  # type: ignore[arg-type]
        if link is not None and peer is not None and {cluster.node_id, peer.node_id} <= link.ends.keys():
            own, far = link.ends[cluster.node_id], link.ends[peer.node_id]
            found.append({"port": own.port, "own": str(own.address.ip), "peer": str(far.address.ip)})
    return found


def conntrack_is_absent(cluster: Cluster) -> bool:
    """Return whether connections should move along, and conntrackd is not installed."""
    return bool(cluster.config.conntrack) and not _conntrackd(cluster) and bool(links(cluster))


def tracks_connections(cluster: Cluster) -> bool:
    """Return whether guests' connections move along where there are two gateways."""
    return bool(_conntrackd(cluster))


def _conntrackd(cluster: Cluster) -> str:
    wanted = cluster.config.conntrack
    return (shutil.which(wanted, path=_PATH) or "") if wanted else ""


def conntrack_setup(cluster: Cluster) -> dict[str, Any] | None:
    """Return the set-up of *conntrack*; None: it is switched off or not installed, or there is no other gateway."""
    program, cables = _conntrackd(cluster), links(cluster)
    if not program or not cables:
        return None
    settings = cluster.require_heads().applied.settings
    return {
        "program": program,
        "directory": str(Path(cluster.config.state_dir, "conntrackd")),
        "links": cables,
        "lease_s": settings.advanced.lease_s,
        "shared": sorted(
            {str(one.address.ip) for one in settings.virtual_ips} | {str(one.address.ip) for one in settings.networks}
        ),
    }


def passive_internet_setup(cluster: Cluster) -> dict[str, Any] | None:
    """Return the set-up of *passive_internet*; None: it is switched off, and nothing of it is left."""
    marker = Path(cluster.config.state_dir, "passive-internet")
    cables = links(cluster)
    if cluster.config.passive_internet and cables:
        return {"marker": str(marker), "target": cluster.config.passive_internet, "link": cables[0]}
    return {"marker": str(marker)} if marker.exists() else None
