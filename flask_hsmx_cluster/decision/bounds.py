"""The bounds: for how long a fault can leave two gateways on one address, or none, computed from the timing.

Each bound is a sum of named steps, the ones that the code takes. It holds for a *settled pair*: one gateway active,
the other one passive and past its boot hold, not in maintenance, with the virtual IP seen on its ports, nothing else
broken, no frame lost by chance, and machines that do what is due within :attr:`Site.late_s`. All times are seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from .active import HANDOVER_MOST_S, HANDOVER_REPEAT_S
from .data import PROMOTE_MOST_S, YIELD_MOST_S
from .evidence import UNSEEN_PROBES, UNSEEN_PROBES_ALIVE
from .model import NEVER, Timing
from .passive import (
    EXPIRY_PROBE_EVERY_S,
    GATE_LEASES,
    PROBE_EVERY_S,
    TAIL_LEAST_S,
    TAIL_MOST_S,
    WAIT_PROBES_PER_S,
)
from .services import SERVICES_MOST_S

#: The kernel ends a lease at most so much late, s; the reasons stand at :data:`.passive.EXPIRY_LATE_S`.
KERNEL_LATE_S = 0.52


class Fault(Enum):
    """What can happen to a settled pair, to the active gateway where nothing else is said."""

    POWER_OFF = "power_off"
    POWER_OFF_DIRECT = "power_off_direct"  #: and the passive sees the carrier of a cable go
    POWER_BLINK = "power_blink"  #: its machine is back before its silence was noticed
    POWER_OFF_AFTER_STALL = "power_off_after_stall"  #: its whole machine had stood still within the hour
    AGENT_DEAD = "agent_dead"  #: killed or frozen; its kernel goes on
    AGENT_THAWED = "agent_thawed"  #: frozen, and it goes on just when its lease has lapsed
    PAUSE = "pause"  #: the whole machine stands still, and goes on later
    LAN_CABLE = "lan_cable"
    DEAD_LAN = "dead_lan"  #: the carrier is up, nothing goes out, or nothing at all passes
    DEAF_LAN = "deaf_lan"  #: the carrier is up, what it sends arrives, nothing comes in
    REQUEST = "request"  #: an operator's fail-over, maintenance, a stop or a reboot in good order
    DATABASE = "database"  #: its PostgreSQL does not answer any more
    CABLES = "cables"  #: the sync and the backup cable, or one direction of them
    PASSIVE = "passive"  #: any of these at the passive gateway
    BOOT_TOGETHER = "boot_together"  #: counted from when the agent of the later one starts
    BOOT_ALONE = "boot_alone"  #: the same, and the other gateway is gone
    SILENCED = "silenced"  #: every heartbeat is lost, guests and the wire's answers are not
    ISOLATION = "isolation"  #: nothing at all passes between the two, both reach guests
    HEALED = "healed"  #: the end of the last two


@dataclass(frozen=True)
class Site:
    """What of a cluster and its network the bounds depend on.

    :param data: the database is shared; ``services``: services or hooks follow the role.
    :param message_s: the longest time that a message is on its way, in one direction.
    :param late_s: how late a machine does what is due.
    :param carrier_s: how late a kernel tells that a carrier is gone.
    """

    timing: Timing
    data: bool = False
    services: bool = False
    message_s: float = 0.005
    late_s: float = 0.002
    carrier_s: float = 0.005

    @property
    def services_s(self) -> float:
        """The longest wait for services and hooks, each time that they are waited for."""
        return min(SERVICES_MOST_S, self.timing.lease_s / 2) if self.services else 0.0


@dataclass(frozen=True)
class Step:
    """A part of a bound.

    :param name: what is waited for.
    :param formula: how long, from the settings and the code's constants.
    """

    name: str
    formula: str
    seconds: float


@dataclass(frozen=True)
class Bound:
    """The longest time with two gateways on one address, and the longest outage, as the steps that they consist of."""

    fault: Fault
    two: tuple[Step, ...]
    none: tuple[Step, ...]

    @property
    def two_s(self) -> float:
        return sum(step.seconds for step in self.two)

    @property
    def none_s(self) -> float:
        return sum(step.seconds for step in self.none)


# Steps ------------------------------------------------------------------------------------------------------


def message(site: Site, times: int = 1) -> Step:
    one_s = site.message_s + site.late_s
    return Step("message" if times == 1 else f"{times} messages", "each: its way, and the machine that acts on it",
                times * one_s)  # fmt: skip


def said_again(offered: bool) -> Step:
    """A message that a later one overtakes on another path counts for nothing: what was to be answered is repeated.

    :param offered: the outage has begun before the offer; else the grant alone can cost something.
    """
    grant_s = HANDOVER_REPEAT_S / 2
    formula = "20 ms for an offer, 10 ms for a grant that was overtaken by a later message"
    return Step("said again", formula, HANDOVER_REPEAT_S + grant_s if offered else grant_s)


def silence(site: Site) -> Step:
    return Step("silence", "1.25 × heartbeat + 5 ms", site.timing.suspect_s)


def carrier(site: Site) -> Step:
    return Step("carrier", "the kernel tells that it is gone", site.carrier_s)


def tail_s(site: Site) -> float:
    """The wait for the last answer of a burst: twice the usual round trip, within bounds."""
    return min(max(4 * site.message_s, TAIL_LEAST_S), TAIL_MOST_S)


def burst_s(site: Site) -> float:
    """A whole burst, the wait for its last answer included."""
    timing = site.timing
    return (timing.burst_probes - 1) * (timing.burst_spacing_s + site.late_s) + tail_s(site) + site.late_s


def burst(site: Site) -> Step:
    return Step("burst", "(ping pongs − 1) × 6 ms + twice the usual round trip (5 to 100 ms)", burst_s(site))


def ready(site: Site) -> tuple[Step, ...]:
    """What the addresses wait for at most before they are taken."""
    data = Step("database", "at most 100 ms until it is writable", PROMOTE_MOST_S)
    services = Step("services that come first", "at most 1 s, or half a lease", site.services_s)
    return (*((data,) if site.data else ()), *((services,) if site.services else ()))


def given_up(site: Site) -> tuple[Step, ...]:
    """What a hand-over waits for at most before the addresses are released."""
    services = Step("services that end first", "at most 1 s, or half a lease", site.services_s)
    data = Step("last writes", "at most 200 ms until they are confirmed", YIELD_MOST_S)
    return (*((services,) if site.services else ()), *((data,) if site.data else ()))


def unanswered(site: Site) -> Step:
    """From the end of the lease in the kernel to a full burst without an answer."""
    timing = site.timing
    seconds = (
        EXPIRY_PROBE_EVERY_S
        + max(timing.burst_probes - 2, 0) * (timing.burst_spacing_s + site.late_s)
        + 2 * (tail_s(site) + site.late_s)
    )
    formula = "45 ms + (ping pongs − 2) × 6 ms + 4 usual round trips (10 to 200 ms)"
    return Step("questions after the lease", formula, seconds)


def unseen(site: Site) -> Step:
    seconds = max((UNSEEN_PROBES + 1) * PROBE_EVERY_S, site.timing.path_down_s)
    return Step("questions in vain", "4 × 0.5 s, or 10 heartbeats if that is longer", seconds)


def unseen_alive(site: Site) -> Step:
    seconds = (UNSEEN_PROBES_ALIVE + 1) * PROBE_EVERY_S
    return Step("questions in vain, while heartbeats come", "21 × 0.5 s", seconds)


def heartbeats(site: Site, times: int, why: str) -> Step:
    return Step(why, f"{times} × heartbeat" if times > 1 else "heartbeat", times * site.timing.interval_s)


def as_long_as_it_lasts(why: str) -> Step:
    return Step(why, "while it lasts", NEVER)


# Bounds -----------------------------------------------------------------------------------------------------


def _power_off(site: Site) -> Bound:
    return Bound(Fault.POWER_OFF, (), (message(site), silence(site), burst(site), *ready(site)))


def _power_off_direct(site: Site) -> Bound:
    return Bound(Fault.POWER_OFF_DIRECT, (), (carrier(site), burst(site), *ready(site)))


def _power_blink(site: Site) -> Bound:
    """It listens as it starts, and the other one, which hears it again, asks its kernel and goes first."""
    none = (
        message(site),
        silence(site),
        burst(site),
        heartbeats(site, 4, "learning of each other"),
        burst(site),
        *ready(site),
    )
    return Bound(Fault.POWER_BLINK, (), none)


def _power_off_after_stall(site: Site) -> Bound:
    patience_s = max(site.timing.lease_s, silence(site).seconds + burst_s(site))
    patience = Step("patience", "1.25 × the stall that was seen, at most the lease", patience_s)
    return Bound(Fault.POWER_OFF_AFTER_STALL, (), (message(site), patience, *ready(site)))


def _agent_dead(site: Site) -> Bound:
    return Bound(Fault.AGENT_DEAD, (), (message(site), unanswered(site), *ready(site)))


def _agent_thawed(site: Site) -> Bound:
    """It releases and listens, and the other one, which hears it again, gives it that time."""
    timing = site.timing
    none = (
        unanswered(site),
        Step("listening again", "the longer of half a lease and 3 heartbeats",
             max(timing.lease_s / 2, 3 * timing.interval_s)),
        heartbeats(site, 4, "learning of each other"),
        message(site, 2),
        *ready(site),
    )  # fmt: skip
    return Bound(Fault.AGENT_THAWED, (), none)


def _pause(site: Site) -> Bound:
    return Bound(Fault.PAUSE, _both_notice(site), (message(site), silence(site), burst(site), *ready(site)))


def _both_notice(site: Site) -> tuple[Step, ...]:
    """Two that are active and hear each other: one steps down at the other one's next message."""
    return (heartbeats(site, 1, "until one says something"), message(site, 2))


def _handed_over(site: Site) -> tuple[Step, ...]:
    """A hand-over whose outage begins with the fault: offer, answer, grant."""
    return (message(site, 3), said_again(True), *given_up(site), *ready(site))


def _lan_cable(site: Site) -> Bound:
    return Bound(Fault.LAN_CABLE, (), (carrier(site), *_handed_over(site)))


def _dead_lan(site: Site) -> Bound:
    told = heartbeats(site, 2, "told and acted on")
    return Bound(Fault.DEAD_LAN, (), (message(site, 2), unseen(site), told, *_handed_over(site)))


def _deaf_lan(site: Site) -> Bound:
    told = heartbeats(site, 2, "told and acted on")
    return Bound(Fault.DEAF_LAN, (), (message(site, 2), unseen_alive(site), told, *_handed_over(site)))


def _request(site: Site) -> Bound:
    return Bound(Fault.REQUEST, (), (message(site), said_again(False), *ready(site)))


def _database(site: Site) -> Bound:
    return Bound(Fault.DATABASE, (), (message(site), said_again(False), *ready(site)))


def _nothing(fault: Fault) -> Callable[[Site], Bound]:
    return lambda site: Bound(fault, (), ())


def _boot_together(site: Site) -> Bound:
    none = (
        Step("listening", "boot hold", site.timing.boot_hold_s),
        heartbeats(site, 4, "learning of each other"),
        message(site, 2),
        *ready(site),
    )
    return Bound(Fault.BOOT_TOGETHER, (message(site, 2),), none)


def _boot_alone(site: Site) -> Bound:
    timing = site.timing
    listen_s = max(timing.boot_hold_s, GATE_LEASES * timing.lease_s)
    again_s = max(timing.lease_s / 4, timing.burst_probes / WAIT_PROBES_PER_S) + min(timing.interval_s, PROBE_EVERY_S)
    none = (
        Step("listening alone", "boot hold, or 3 leases if that is longer and no guest is heard", listen_s),
        Step("the next try", "the longer of a quarter of the lease and ping pongs ÷ 5 s, and a heartbeat", again_s),
        burst(site),
        *ready(site),
    )
    return Bound(Fault.BOOT_ALONE, (), none)


def _silenced(site: Site) -> Bound:
    return Bound(Fault.SILENCED, (as_long_as_it_lasts("two leases after the last heartbeat, both serve"),), ())


def _isolation(site: Site) -> Bound:
    return Bound(Fault.ISOLATION, (as_long_as_it_lasts("each is alone for all that it can tell: both serve"),), ())


def _healed(site: Site) -> Bound:
    return Bound(Fault.HEALED, _both_notice(site), ())


BOUNDS: Mapping[Fault, Callable[[Site], Bound]] = {
    Fault.POWER_OFF: _power_off,
    Fault.POWER_OFF_DIRECT: _power_off_direct,
    Fault.POWER_BLINK: _power_blink,
    Fault.POWER_OFF_AFTER_STALL: _power_off_after_stall,
    Fault.AGENT_DEAD: _agent_dead,
    Fault.AGENT_THAWED: _agent_thawed,
    Fault.PAUSE: _pause,
    Fault.LAN_CABLE: _lan_cable,
    Fault.DEAD_LAN: _dead_lan,
    Fault.DEAF_LAN: _deaf_lan,
    Fault.REQUEST: _request,
    Fault.DATABASE: _database,
    Fault.CABLES: _nothing(Fault.CABLES),
    Fault.PASSIVE: _nothing(Fault.PASSIVE),
    Fault.BOOT_TOGETHER: _boot_together,
    Fault.BOOT_ALONE: _boot_alone,
    Fault.SILENCED: _silenced,
    Fault.ISOLATION: _isolation,
    Fault.HEALED: _healed,
}


def bound(fault: Fault, site: Site) -> Bound:
    """Return what a fault may cost."""
    return BOUNDS[fault](site)


def relieved_s(timing: Timing) -> float:
    """Return when the kernel of a gateway whose agent is dead has dropped its addresses at the latest, s."""
    return timing.lease_s + KERNEL_LATE_S


def handover_gives_up_s(site: Site) -> float:
    """Return when a hand-over that does not succeed is given up, s; the active gateway serves on."""
    return HANDOVER_MOST_S + (YIELD_MOST_S if site.data else 0.0) + site.services_s
