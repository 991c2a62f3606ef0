"""What each fault may cost: the one table of bounds, with the reason for each.

*Two*: the longest time for which both gateways have one address. *None*: the longest time for which a client that pings
the virtual IP gets no answer. Both for a pair with heartbeats of 100 ms, a lease of 2 s and a shared database whose
commits both confirm, and with the fault at the active gateway; at the passive one each costs :data:`PASSIVE` at most.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from .kinds import KINDS

#: What is added to each outage, ms: the lab's two processors carry two gateways, two databases and all clients, and
#: whatever else the machine does. Measured alone, 20 ms are rare.
MACHINE_MS = 500.0
#: 1.25 heartbeats and 5 ms; a burst with the longest wait for its last answer; PostgreSQL becoming writable at most.
NOTICE_MS, BURST_MS, PROMOTE_MS = 130.0, 125.0, 100.0
#: A gateway that has stood still before is given up to a lease more (docs/deciding.md, stalls).
LEASE_MS = 2000.0
#: A hand-over: its questions are repeated for so long, and the database is given this to end its clients.
HAND_OVER_MS, YIELD_MS = 500.0, 200.0
#: Probes of the virtual IP until it counts as unseen: 4, or 21 where the other gateway is heard on that port still.
UNSEEN_MS, UNSEEN_ALIVE_MS = 2500.0, 10_500.0
#: After the end of the last fault a pair has this long until it is in order again by itself, s: checks count as good
#: after 5 s, a gateway that boots listens, joins again and copies what it lacks, PostgreSQL recovers.
CONVERGED_WITHIN_S = 60.0


@dataclass(frozen=True)
class Bound:
    """What a fault may cost, ms. Infinite: as long as the fault lasts."""

    two_ms: float
    none_ms: float
    why: str


_TAKE_OVER = NOTICE_MS + LEASE_MS + BURST_MS + PROMOTE_MS
_MOVED = YIELD_MS + HAND_OVER_MS + PROMOTE_MS
_EXPIRED = BURST_MS + LEASE_MS + PROMOTE_MS

_silent = Bound(0, _TAKE_OVER, "silence is noticed, a burst asks; after a stall within the hour, a lease more")
_handed = Bound(0, _MOVED, "a hand-over: released before it is claimed")
_nothing = Bound(0, 0, "moves nothing")
_unseen = Bound(0, UNSEEN_MS + _MOVED, "guests are without an answer until the passive has asked four times in vain")
_expired = Bound(0, _EXPIRED, "served until the kernel ends the lease, then a burst; after a stall a lease more")
_health = Bound(0, _MOVED, "moves nothing, or the role by a hand-over")

BOUNDS: dict[str, Bound] = {
    "power_off": _silent,
    "reboot": _handed,
    "pull_lan": _handed,
    "pull_sync": _nothing,
    "pull_backup": _nothing,
    "cut_lan": _unseen,
    "cut_lan_out": _unseen,
    "cut_lan_in": Bound(0, UNSEEN_ALIVE_MS + _MOVED, "its heartbeats are still heard there: 21 questions in vain"),
    "cut_sync_out": _nothing,
    "cut_sync_in": _nothing,
    "cut_links": _nothing,
    "partition": Bound(math.inf, 0, "nothing passes between the two: both serve while it lasts"),
    "wrong_vlan": _unseen,
    "spanning_tree": _unseen,
    "isolated": _nothing,
    "loss": Bound(0, 0, "answers are lost one by one; the role stays"),
    "delay": Bound(0, 0, "heartbeats come late and overtake each other; the role stays"),
    "kill_agent": _expired,
    "freeze_agent": _expired,
    "restart_agent": _handed,
    "kill_replicator": _health,
    "freeze_replicator": _health,
    "kill_services": _nothing,
    "kill_web": _nothing,
    "freeze_web": _nothing,
    "kill_postmaster": _health,
    "kill_backend": _health,
    "stop_database": _health,
    "immediate_stop": _health,
    "freeze_database": _health,
    "disk_full": _health,
    "store_full": _nothing,
    "starved": Bound(0, _TAKE_OVER, "a gateway that stands still may be taken for dead once; its lease ends first"),
    "clock_agent": _nothing,
    "clock_database": _health,
    "failover": _handed,
    "maintenance": _handed,
}
#: Any fault at the passive gateway, or a whole pair's that concerns the passive only.
PASSIVE = Bound(0, 0, "what happens to the passive gateway moves nothing")
#: Several at once. While they last both gateways may be down; the outage is counted from the end of the last one.
OVERLAPPING = Bound(
    50, 3 * LEASE_MS + _TAKE_OVER,
    "two that decide within one heartbeat hold it some milliseconds; who has just started listens first",
)
_EVERY_CABLE = frozenset({"lan", "sync", "backup"})


def bound(kinds: Iterable[str], at_active: bool = True) -> Bound:
    """Return what one fault, or several that overlap, may cost, the machine's share included.

    :param at_active: the single one struck the gateway that was active, or both.
    """
    kinds = list(kinds)
    if len(kinds) == 1:
        found = BOUNDS[kinds[0]] if at_active else PASSIVE
    else:
        severed: frozenset[str] = frozenset().union(*(KINDS[kind].severs for kind in kinds))
        found = OVERLAPPING
        if severed >= _EVERY_CABLE:
            found = Bound(math.inf, found.none_ms, "together they may sever every wire: both serve while they last")
    return Bound(found.two_ms, found.none_ms + MACHINE_MS, found.why)
