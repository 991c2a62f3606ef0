"""The words of the decision core: what a gateway is told, what it knows of the other, what it may hold.

All times are seconds of the boot clock (CLOCK_BOOTTIME), handed in as arguments.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

#: A time that never comes, s.
NEVER = float("inf")
#: Why a gateway is passive until it has heard anything.
JUST_STARTED = "has just started"


class Role(IntEnum):
    """A gateway's role. *Standalone* gateways have no core at all."""

    PASSIVE = 1
    ACTIVE = 2


class Phase(IntEnum):
    """What a gateway is doing within its role; shown on the page, never sent."""

    LISTENING = 1  #: just started: listens before its first claim
    FOLLOWING = 2  #: passive, hears the active
    SUSPECTING = 3  #: all paths silent, a burst of probes is under way
    HOLDING = 4  #: heartbeats are gone, but the peer's kernel still answers on the virtual IP
    WAITING = 5  #: would claim, but a gate (blind port, maintenance, references) postpones it
    LEADING = 6  #: active


class Kind(IntEnum):
    """Kind of a heartbeat message."""

    BEAT = 1  #: the regular heartbeat
    PROBE = 2  #: asks for an answer at once
    ANSWER = 3  #: answers a probe
    OFFER = 4  #: the active asks: may I hand over to you?
    READY = 5  #: the passive's answer: yes
    NOT_READY = 6  #: the passive's answer: no
    GRANT = 7  #: the addresses are released; take them
    BYE = 8  #: this agent is about to stop


class Motive(IntEnum):
    """Why a role is handed over."""

    REQUEST = 1  #: an operator asked for it
    HEALTH = 2  #: the passive is healthier
    STOP = 3  #: the active's agent is about to stop
    MAINTENANCE = 4  #: the active goes into maintenance


class CauseKind(IntEnum):
    """Kinds of ill health. Higher :data:`WEIGHTS` weigh more."""

    NO_CARRIER = 1
    UNSEEN = 2  #: the peer hears strangers on the port, but not our virtual IP
    NO_REFERENCE = 3
    DATABASE = 4
    DISK = 5
    SERVICE = 6  #: a check of the host's, by its number


#: How much a cause weighs when two gateways' health is compared.
WEIGHTS = {
    CauseKind.NO_CARRIER: 100,
    CauseKind.UNSEEN: 100,
    CauseKind.NO_REFERENCE: 20,
    CauseKind.DATABASE: 10,
    CauseKind.SERVICE: 10,
    CauseKind.DISK: 1,
}


@dataclass(frozen=True, order=True)
class Cause:
    """One reason for ill health; ``port`` is the index of the virtual-IP port, or check, concerned, or 0."""

    kind: CauseKind
    port: int = 0


@dataclass(frozen=True, order=True)
class Term:
    """Number of a reign: a counter that only grows, made unique by the node that reigns."""

    counter: int
    node: str

    def __str__(self) -> str:
        return f"{self.counter}"


NO_TERM = Term(0, "")


@dataclass(frozen=True)
class PortReport:
    """What a gateway says of one virtual-IP port in its heartbeats.

    :param mac: the port's MAC, six bytes; an ARP answer speaks for the peer only if it comes from here.
    :param strangers: frames of others than the two gateways were heard here lately, and on a passive gateway after the
        virtual IP had fallen silent.
    :param peer_seen: Ethernet heartbeats of the other gateway are heard here.
    :param unseen: the active's virtual IP does not answer here although strangers are heard.
    """

    mac: bytes
    carrier: bool = False
    holds: bool = False
    strangers: bool = False
    peer_seen: bool = False
    unseen: bool = False


@dataclass(frozen=True)
class Beat:
    """The authenticated content of one heartbeat.

    :param listening: still in its boot hold.
    :param served: demonstrably served clients since it lost sight of the other gateway.
    :param synchronous: what it writes is confirmed by both gateways.
    :param spread: this heartbeat goes over half of the paths, the next one over the others.
    :param lease_left_ms: how long the kernel would keep the addresses from now, ms.
    :param position: 0 if its data may be older than the other gateway's, else 1.
    :param revision: revision of the cluster settings in force.
    """

    kind: Kind
    role: Role
    term: Term = NO_TERM
    motive: Motive = Motive.REQUEST
    listening: bool = False
    maintenance: bool = False
    served: bool = False
    spread: bool = False
    synchronous: bool = False
    lease_left_ms: int = 0
    position: int = 1
    revision: int = 0
    causes: frozenset[Cause] = frozenset()
    ports: tuple[PortReport, ...] = ()


@dataclass(frozen=True)
class Timing:
    """Intervals, in seconds, derived from the advanced settings."""

    interval_s: float = 0.1
    burst_probes: int = 5
    burst_spacing_s: float = 0.006
    lease_s: float = 2.0
    boot_hold_s: float = 3.0
    #: how much longer a gateway that starts alone listens if its data may be older; NEVER: for ever
    stale_wait_s: float = 60.0
    refresh_s: float = 100.0

    @property
    def suspect_s(self) -> float:
        """Silence on all paths that starts a burst: a quarter of an interval past the expected beat.

        A suspicion costs five small packets and any answer ends it, so it may come early.
        """
        return self.interval_s * 1.25 + 0.005

    @property
    def renew_s(self) -> float:
        """Period of lease renewals."""
        return self.lease_s / 4

    @property
    def path_down_s(self) -> float:
        """Silence after which one path is shown as down while others work."""
        return max(10 * self.interval_s, 1.0)

    @property
    def late_s(self) -> float:
        """A loop that woke this much later than it asked for trusts none of its timers."""
        return self.lease_s / 2


@dataclass(frozen=True)
class Path:
    """One pair of addresses (or, for kind ``ethernet``, one port) over which heartbeats go.

    :param port: name of this gateway's port under the path.
    :param direct: losing the port's carrier is itself a sign that the peer may be gone.
    """

    name: str
    kind: str
    port: str
    direct: bool = False


@dataclass(frozen=True)
class Plan:
    """What the core must know of the settings.

    :param peer: node id of the other gateway, or "" in a cluster of one.
    :param ports: names of the virtual-IP ports; their order is the same on both gateways.
    :param addresses: the virtual IPs on each port, as people read them.
    :param peer_macs: the other gateway's MAC on each port as it was last known, or b"".
    :param data: the database is shared, too; ``synchronous``: its commits are to wait for the other gateway.
    :param services: services, hooks or the like follow the role; ``checks``: names of the host's that may move it.
    """

    node: str
    peer: str
    peer_name: str
    paths: tuple[Path, ...]
    ports: tuple[str, ...]
    addresses: tuple[str, ...]
    timing: Timing
    revision: int = 0
    peer_macs: tuple[bytes, ...] = ()
    data: bool = False
    synchronous: bool = True
    services: bool = False
    checks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Start:
    """How this agent comes up.

    :param hold_s: how long to listen before the first claim, s.
    :param next_term: the first counter that was reserved on disk for this run.
    :param reserved_to: the last one.
    :param adopt: the term to go on with: same machine boot, addresses still leased.
    :param adopt_until: boot time at which that lease ends, s.
    :param claim: become active at once (this gateway has just created the cluster).
    :param maintenance: it was in maintenance.
    :param followed: the other gateway was the one that wrote last, as far as this one knows.
    :param behind: this gateway's data may be older than the other one's.
    :param degraded_since: since when this gateway's writes are confirmed by nobody else, boot time in s, or None.
    """

    hold_s: float
    next_term: int = 1
    reserved_to: int = 100
    adopt: Term | None = None
    adopt_until: float = 0.0
    claim: bool = False
    maintenance: bool = False
    followed: bool = False
    behind: bool = False
    degraded_since: float | None = None
