"""What can be done to a pair: each kind of fault by its name, where it strikes and how long it lasts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    :param at: what of a gateway it strikes, in words: two faults of one gateway that are under way at once share none.
    :param lasts_s: least and most time until it is undone, s. A service manager or a person who starts again what was
        killed is part of the undoing.
    :param severs: the cables between the two gateways on which frames get lost while it lasts.
    :param moves_for_health: the role moves because of a cause of ill health, after which the next such move waits.
    :param whole: it strikes the pair, not one gateway.
    """

    at: str
    lasts_s: tuple[float, float]
    severs: frozenset[str] = frozenset()
    moves_for_health: bool = False
    whole: bool = False


def _cables(*names: str) -> frozenset[str]:
    return frozenset(names)


_LAN, _LINKS = _cables("lan"), _cables("sync", "backup")

KINDS: dict[str, Kind] = {
    # Power
    "power_off": Kind("power", (1.0, 8.0), severs=_LAN | _LINKS),
    "reboot": Kind("power", (1.0, 3.0), severs=_LAN | _LINKS),
    # Cables
    "pull_lan": Kind("lan", (2.0, 8.0), severs=_LAN, moves_for_health=True),
    "pull_sync": Kind("sync", (1.0, 8.0), severs=_cables("sync")),
    "pull_backup": Kind("backup", (1.0, 8.0), severs=_cables("backup")),
    "cut_lan": Kind("lan", (4.0, 10.0), severs=_LAN, moves_for_health=True),
    "cut_lan_out": Kind("lan", (4.0, 10.0), severs=_LAN, moves_for_health=True),
    "cut_lan_in": Kind("lan", (8.0, 16.0), severs=_LAN, moves_for_health=True),
    "cut_sync_out": Kind("sync", (1.0, 8.0), severs=_cables("sync")),
    "cut_sync_in": Kind("sync", (1.0, 8.0), severs=_cables("sync")),
    "cut_links": Kind("sync backup", (1.0, 8.0), severs=_LINKS),
    "partition": Kind("lan sync backup", (1.0, 5.0), severs=_LAN | _LINKS, whole=True),
    "wrong_vlan": Kind("lan", (4.0, 10.0), severs=_LAN, moves_for_health=True),
    "spanning_tree": Kind("lan", (4.0, 10.0), severs=_LAN, moves_for_health=True),
    "isolated": Kind("lan", (2.0, 8.0), severs=_LAN, whole=True),
    "loss": Kind("loss", (3.0, 12.0), whole=True),
    "delay": Kind("sync", (3.0, 12.0), whole=True),
    "hostile_guest": Kind("guest", (3.0, 10.0), whole=True),
    # The agent and its children
    "kill_agent": Kind("agent", (0.5, 6.0)),
    "freeze_agent": Kind("agent", (0.2, 7.0)),
    "stop_agent": Kind("agent", (0.0, 0.5)),
    "restart_agent": Kind("agent", (0.2, 4.0)),
    "kill_replicator": Kind("replicator", (0.0, 1.0)),
    "freeze_replicator": Kind("replicator", (0.5, 5.0), moves_for_health=True),
    "kill_services": Kind("services", (0.0, 1.0)),
    "kill_files": Kind("files", (0.0, 1.0)),
    # The web app
    "kill_web": Kind("web", (0.5, 5.0)),
    "freeze_web": Kind("web", (0.5, 5.0)),
    # PostgreSQL
    "kill_postmaster": Kind("database", (1.0, 6.0), moves_for_health=True),
    "kill_backend": Kind("database", (0.0, 1.0), moves_for_health=True),
    "stop_database": Kind("database", (1.0, 6.0), moves_for_health=True),
    "immediate_stop": Kind("database", (1.0, 6.0), moves_for_health=True),
    "freeze_database": Kind("database", (0.5, 6.0), moves_for_health=True),
    # Disks, processors, clocks
    "disk_full": Kind("database", (2.0, 6.0), moves_for_health=True),
    "store_full": Kind("store", (2.0, 8.0), moves_for_health=True),
    "starved": Kind("processors", (3.0, 12.0), whole=True),
    "clock_agent": Kind("agent-clock", (1.0, 6.0)),
    "clock_database": Kind("database-clock", (1.0, 6.0)),
    # Operators
    "failover": Kind("operator", (0.5, 1.0), whole=True),
    "maintenance": Kind("operator", (2.0, 5.0)),
}
