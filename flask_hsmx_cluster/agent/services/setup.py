"""What the participants of :mod:`...services` are told: the one place where their set-ups are plugged in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...services.declare import Statement
from ...settings import pppoe
from ..cluster import Cluster
from .guest_traffic import conntrack_setup, passive_internet_setup

#: The agent may be silent for this part of a lease before what runs on one gateway only ends by itself.
BOUND_LEASES = 0.75


@dataclass(frozen=True)
class Part:
    """A participant's part of the set-up.

    :param setup: goes to its ``configure``; must be JSON.
    :param before_active: it has something to do before the addresses come, and these are to wait for it.
    :param before_passive: it has something to do before the addresses go in a hand-over, which is to wait for it.
    """

    setup: Mapping[str, Any]
    before_active: bool = False
    before_passive: bool = False


def _pppoe(cluster: Cluster) -> Part | None:
    settings = cluster.require_heads().applied.settings
    if not settings.pppoe:
        return None
    setup = {
        "connections": pppoe.to_dict(settings.pppoe)[pppoe.KEY],
        "program": cluster.config.pppd,
        "directory": str(Path(cluster.config.state_dir) / "pppoe"),
        "bound_s": BOUND_LEASES * settings.advanced.lease_s,
        "others": cluster.peer_sessions,
    }
    return Part(setup, before_passive=True)


def _stated(cluster: Cluster) -> Statement:
    text = cluster.config.services
    return Statement.from_json(text) if text else Statement()


def _services(cluster: Cluster) -> Part | None:
    services = _stated(cluster).services
    setup = {"owner": cluster.config.state_dir, "services": [asdict(one) for one in services]}
    active = [one for one in services if one.runs_on == "active"]
    return Part(setup, any(one.when == "before" for one in active), bool(active)) if services else None


def _hooks(cluster: Cluster) -> Part | None:
    stated = _stated(cluster)
    hooks = [asdict(one) for one in stated.hooks]
    setup = {"owner": cluster.config.state_dir, "hooks": hooks, "runner": list(stated.runner)}
    steps = {one.step for one in stated.hooks}
    return Part(setup, "before_active" in steps, "before_passive" in steps) if hooks else None


def _checks(cluster: Cluster) -> Part | None:
    stated = _stated(cluster)
    checks = [asdict(one) for one in stated.checks]
    setup = {"owner": cluster.config.state_dir, "checks": checks, "runner": list(stated.runner)}
    return Part(setup) if checks else None


def checks_that_move(cluster: Cluster) -> tuple[str, ...]:
    """Return the names of the checks that may move the role, in an order that is the same on both gateways."""
    return tuple(one.name for one in _stated(cluster).checks if one.moves_role)


#: By the participant's name: what it is told while this gateway is in a cluster; None: there is nothing for it to do.
#: Called every two seconds; ``cluster.require_heads().applied.settings`` are the settings in force.
PARTS: Mapping[str, Callable[[Cluster], Part | None]] = {
    # Addresses do not wait for a commit; a hand-over waits until the other gateway is told of no more ends.
    "conntrack": lambda cluster: Part(setup, before_passive=True) if (setup := conntrack_setup(cluster)) else None,
    "passive_internet": lambda cluster: Part(setup) if (setup := passive_internet_setup(cluster)) else None,
    "pppoe": _pppoe,
    "services": _services,
    "hooks": _hooks,
    "checks": _checks,
}
