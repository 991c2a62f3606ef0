"""What each kind of fault may cost in the lab: the bounds that the product states, and the machine's share.

*Two*: the longest time for which both gateways have one address. *None*: the longest time for which a client that pings
the virtual IP gets no answer. The fault is at the active gateway; at the passive one it may cost nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from flask_hsmx_cluster.decision.bounds import Fault, Site, relieved_s
from flask_hsmx_cluster.decision.bounds import bound as stated
from flask_hsmx_cluster.decision.model import Timing
from flask_hsmx_cluster.words import promise

from .kinds import KINDS

#: What is added to each outage, ms: the lab's two processors carry two gateways, two databases and all clients, and
#: whatever else the machine does. Measured alone, 20 ms are rare.
MACHINE_MS = 500.0
#: The usual settings, with a shared database; a fault that delays frames makes the usual round trip longer.
SITE = Site(Timing(), data=True, message_s=0.025)
#: After the end of the last fault a pair has this long until it is in order again by itself, s: checks count as good
#: after 5 s, a gateway that boots listens, joins again and copies what it lacks, PostgreSQL recovers.
CONVERGED_WITHIN_S = 60.0

#: Each kind as the product names it; loss of power where nothing has stood still before costs less.
FAULTS: dict[str, Fault] = {
    "power_off": Fault.POWER_OFF_AFTER_STALL,
    "starved": Fault.POWER_OFF_AFTER_STALL,
    "reboot": Fault.REQUEST,
    "stop_agent": Fault.REQUEST,
    "failover": Fault.REQUEST,
    "maintenance": Fault.REQUEST,
    "pull_lan": Fault.LAN_CABLE,
    "cut_lan": Fault.DEAD_LAN,
    "cut_lan_out": Fault.DEAD_LAN,
    "wrong_vlan": Fault.DEAD_LAN,
    "spanning_tree": Fault.DEAD_LAN,
    "cut_lan_in": Fault.DEAF_LAN,
    "kill_agent": Fault.AGENT_THAWED,  # another one may be back just as its lease has lapsed
    "freeze_agent": Fault.AGENT_THAWED,
    "partition": Fault.ISOLATION,
    "pull_sync": Fault.CABLES,
    "pull_backup": Fault.CABLES,
    "cut_sync_out": Fault.CABLES,
    "cut_sync_in": Fault.CABLES,
    "cut_links": Fault.CABLES,
    "kill_replicator": Fault.DATABASE,
    "freeze_replicator": Fault.DATABASE,
    "kill_postmaster": Fault.DATABASE,
    "kill_backend": Fault.DATABASE,
    "stop_database": Fault.DATABASE,
    "immediate_stop": Fault.DATABASE,
    "freeze_database": Fault.DATABASE,
    "disk_full": Fault.DATABASE,
    "store_full": Fault.DATABASE,  # a full disk is ill health, too
    "clock_database": Fault.DATABASE,
}
#: What moves nothing, and why.
HARMLESS: dict[str, str] = {
    "isolated": "the other wires are left",
    "loss": "answers are lost one by one; the role stays",
    "delay": "heartbeats come late and overtake each other; the role stays",
    "hostile_guest": "nothing that it sends is signed, and its MAC is no gateway's",
    "restart_agent": "the other gateway waits for the new agent",
    "kill_services": "the address does not depend on it",
    "kill_files": "the address does not depend on it",
    "kill_web": "the address does not depend on it",
    "freeze_web": "the address does not depend on it",
    "clock_agent": "no deadline is kept by the wall clock",
}


@dataclass(frozen=True)
class Bound:
    """What a fault may cost, ms. Infinite: as long as the fault lasts."""

    two_ms: float
    none_ms: float
    why: str


def _stated(fault: Fault) -> Bound:
    cost = stated(fault, SITE)
    return Bound(cost.two_s * 1000, cost.none_s * 1000, _WHY[fault.value])


_WHY = {one.fault: one.why for one in promise.promises(SITE)}
BOUNDS: dict[str, Bound] = {
    **{kind: _stated(fault) for kind, fault in FAULTS.items()},
    **{kind: Bound(0, 0, why) for kind, why in HARMLESS.items()},
}
#: Any fault at the passive gateway, or a whole pair's that concerns the passive only.
PASSIVE = _stated(Fault.PASSIVE)
#: What is left of two once the last fault is over: they hear each other again.
_HEALED_MS = stated(Fault.HEALED, SITE).two_s * 1000
#: What, whatever else of its kind is under way, costs what the worst of it costs alone.
_APART = frozenset({"kill_services", "kill_files", "kill_web", "freeze_web", "clock_agent", "pull_sync", "pull_backup"})
#: Several at once. While they last both gateways may be down; the outage is counted from the end of the last one.
OVERLAPPING = Bound(
    50, 3000 * SITE.timing.lease_s + BOUNDS["power_off"].none_ms,
    "two that decide within one heartbeat hold it some milliseconds; who has just started listens first",
)
#: An agent is dead or stands still, and the other gateway cannot see that its kernel still answers.
UNATTENDED = Bound(
    relieved_s(SITE.timing) * 1000 + OVERLAPPING.two_ms, OVERLAPPING.none_ms,
    "the kernel of a gateway whose agent is dead ends the lease; on a dead network nobody sees it until then",
)
NOTHING = Bound(0, 0, "nothing was done to the pair")
_DEAD_AGENTS = frozenset({"kill_agent", "freeze_agent"})
#: Without power a gateway has no address, however many cables that severs.
_WITHOUT_POWER = frozenset({"power_off", "reboot"})
_EVERY_CABLE = frozenset({"lan", "sync", "backup"})


def bound(kinds: Iterable[str], at_active: bool = True, stalled: bool = True) -> Bound:
    """Return what one fault, or several that overlap, may cost, the machine's share included.

    :param at_active: one of them struck the gateway that was active, or both.
    :param stalled: one of the gateways remembers, or may remember, that the other one's machine has stood still: then a
        loss of power is believed later. A short cut of every wire looks like that, too.
    """
    kinds = list(kinds)
    if not kinds:
        found = NOTHING
    elif not at_active:
        found = PASSIVE
    elif kinds == ["power_off"] and not stalled:
        found = _stated(Fault.POWER_OFF)
    elif len(kinds) == 1:
        found = BOUNDS[kinds[0]]
    elif apart(kinds):
        each = [BOUNDS[kind] for kind in kinds]
        found = Bound(max(one.two_ms for one in each), max(one.none_ms for one in each), "each of them costs no more")
    else:
        severed: frozenset[str] = frozenset().union(*(KINDS[kind].severs for kind in {*kinds} - _WITHOUT_POWER))
        found = UNATTENDED if "lan" in severed and _DEAD_AGENTS & set(kinds) else OVERLAPPING
        if severed >= _EVERY_CABLE:
            found = Bound(math.inf, found.none_ms, "together they may sever every wire: both serve while they last")
    return with_the_machines_share(found)


def with_the_machines_share(found: Bound) -> Bound:
    """Return a bound as it is for an outage in the lab."""
    return Bound(found.two_ms, found.none_ms + MACHINE_MS, found.why)


def apart(kinds: Iterable[str]) -> bool:
    """Return whether faults that overlap cost no more together than the worst of them alone."""
    return set(kinds) <= _APART


def healed_ms(kinds: Iterable[str]) -> float:
    """Return how long two may have one address after the end of the last fault, ms."""
    return UNATTENDED.two_ms if _DEAD_AGENTS & set(kinds) else _HEALED_MS
