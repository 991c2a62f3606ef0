"""What goes into the decision core (events) and what comes out of it (effects)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .model import Beat, Cause, Kind, Motive, Term, Word

Severity = Literal["info", "warning", "critical"]


# Events ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Heard:
    """An authenticated, fresh message of the other gateway."""

    path: str
    beat: Beat
    #: round trip measured with it, s, or None
    rtt_s: float | None = None
    #: a later message was heard before, on another path: only the path's evidence counts
    stale: bool = False
    #: when the message of ours that it echoes was sent, boot time in s, or None
    echo_at: float | None = None


@dataclass(frozen=True)
class Carrier:
    """A port's carrier, at the start and at each change."""

    port: str
    up: bool


@dataclass(frozen=True)
class AddressSeen:
    """Somebody else used a virtual IP as its own on a port: an ARP or neighbour-discovery frame."""

    port: str
    mac: bytes
    address: str


@dataclass(frozen=True)
class StrangerSeen:
    """A frame of neither gateway was heard on a virtual-IP port."""

    port: str


@dataclass(frozen=True)
class CloneHeard:
    """Another machine with this gateway's own identity is alive: it has just answered our challenge on a path."""

    path: str


@dataclass(frozen=True)
class NotAsked:
    """:class:`ProbeAddresses` could not be sent on a port: its frames are not built yet, or its queue is full."""

    port: str


@dataclass(frozen=True)
class HealthReport:
    """A check's present result. Recomputed each time, never accumulated."""

    cause: Cause
    bad: bool


@dataclass(frozen=True)
class Renewed:
    """The kernel confirmed the lease; ``at`` is the boot time read after its acknowledgement, s.

    ``extended``: it is the long one of a restart.
    """

    at: float
    extended: bool = False


@dataclass(frozen=True)
class ClaimFailed:
    """The kernel refused the addresses."""

    reason: str


@dataclass(frozen=True)
class FailoverRequested:
    """The active is asked to hand over."""

    motive: Motive


@dataclass(frozen=True)
class TakeOverRequested:
    """An operator ends a hold or a wait of the passive gateway: it is to claim, whatever the other one does.

    :param by: who that is, in words.
    """

    by: str


@dataclass(frozen=True)
class RestartRequested:
    """This agent is to be restarted; the addresses stay leased, and the new one has ``within_s`` to come up."""

    within_s: float


@dataclass(frozen=True)
class ReturnBlocked:
    """What keeps the preferred gateway from taking over again, in words; "": nothing that the core does not know."""

    why: str


@dataclass(frozen=True)
class SettingsExpected:
    """The other gateway is about to have other settings in force, perhaps before it can say so."""


@dataclass(frozen=True)
class MaintenanceSet:
    """An operator (or the end of its time) switched maintenance."""

    on: bool


@dataclass(frozen=True)
class TermsReserved:
    """Counters up to and including ``upto`` are on disk."""

    upto: int


@dataclass(frozen=True)
class DataPromoted:
    """The database answers to :class:`PromoteData`."""

    term: Term
    ok: bool
    text: str = ""


@dataclass(frozen=True)
class DataKept:
    """The database answers to :class:`KeepData`."""

    ok: bool


@dataclass(frozen=True)
class DataYielded:
    """The database answers to :class:`YieldData`; not ok: it is unsure whether the other gateway has everything."""

    ok: bool
    text: str = ""


@dataclass(frozen=True)
class FollowerSeen:
    """How the passive gateway's database follows.

    :param streaming: it is connected.
    :param caught_up: it has confirmed what had been written a moment ago.
    """

    streaming: bool
    caught_up: bool


@dataclass(frozen=True)
class SynchronousSet:
    """The database answers to :class:`SetSynchronous`; None: it refused."""

    on: bool | None


@dataclass(frozen=True)
class ServicesReady:
    """What follows the role answers to :class:`PrepareServices`, or (``retired``) to :class:`RetireServices`."""

    term: Term
    retired: bool


@dataclass(frozen=True)
class ArbiterAnswered:
    """The arbiter answers to :class:`AskArbiter`, or does not.

    :param turn: the question's.
    :param at: when it was sent, boot time in s.
    """

    turn: int
    word: Word
    at: float


Event = (
    Heard
    | Carrier
    | AddressSeen
    | StrangerSeen
    | CloneHeard
    | NotAsked
    | HealthReport
    | Renewed
    | ClaimFailed
    | FailoverRequested
    | TakeOverRequested
    | RestartRequested
    | ReturnBlocked
    | SettingsExpected
    | MaintenanceSet
    | TermsReserved
    | DataPromoted
    | DataKept
    | DataYielded
    | FollowerSeen
    | SynchronousSet
    | ServicesReady
    | ArbiterAnswered
)


# Effects, to be carried out in their order ----------------------------------------------------------------


@dataclass(frozen=True)
class Send:
    """Send a message on some paths, or on all (``paths`` empty)."""

    kind: Kind
    paths: tuple[str, ...] = ()
    motive: Motive = Motive.REQUEST


@dataclass(frozen=True)
class ProbeAddresses:
    """Ask on the wire who holds the virtual IPs, on every port; :class:`NotAsked` where that is impossible."""


@dataclass(frozen=True)
class Claim:
    """Take the addresses with a full lease, all in one batch, and announce them.

    :param released: no other gateway can still run what belongs to the active one only.
    """

    term: Term
    released: bool = False


@dataclass(frozen=True)
class Release:
    """Delete the addresses, at once."""


@dataclass(frozen=True)
class Renew:
    """Extend the lease of all addresses; answered by :class:`Renewed`."""


@dataclass(frozen=True)
class Extend:
    """Lease all addresses for ``lease_s``: this agent is about to be restarted; answered by :class:`Renewed`."""

    lease_s: float


@dataclass(frozen=True)
class Announce:
    """Send gratuitous ARP and unsolicited neighbour advertisements for all addresses.

    :param again: a repetition, off the critical path: to known neighbours also by unicast, for networks that
        suppress broadcast ARP (rule 12).
    """

    again: bool = False


@dataclass(frozen=True)
class ReserveTerms:
    """Write to disk that counters up to ``upto`` are this run's; answered by :class:`TermsReserved`."""

    upto: int


@dataclass(frozen=True)
class PromoteData:
    """Make the database writable; answered by :class:`DataPromoted`."""

    term: Term


@dataclass(frozen=True)
class KeepData:
    """Let the database take writes for ``lease_s`` without a renewal; answered by :class:`DataKept`."""

    term: Term
    lease_s: float


@dataclass(frozen=True)
class YieldData:
    """Refuse writes and wait until the other gateway has the last one; answered by :class:`DataYielded`."""


@dataclass(frozen=True)
class DemoteData:
    """Make the database read-only, whatever becomes of transactions that are under way."""


@dataclass(frozen=True)
class SetSynchronous:
    """Let commits wait for the other gateway, or no longer; answered by :class:`SynchronousSet`."""

    on: bool


@dataclass(frozen=True)
class PrepareServices:
    """Do what comes before the addresses; answered by :class:`ServicesReady`."""

    term: Term


@dataclass(frozen=True)
class RetireServices:
    """End what runs on the active gateway only, before a hand-over; answered by :class:`ServicesReady`.

    :param why: what the hand-over is for, in words.
    """

    why: str


@dataclass(frozen=True)
class KeepServices:
    """The hand-over has failed: what runs on the active gateway only goes on here."""


@dataclass(frozen=True)
class AskArbiter:
    """Ask the arbiter whether this gateway may serve; answered by :class:`ArbiterAnswered`."""

    turn: int


@dataclass(frozen=True)
class LeaveArbiter:
    """Give back what the arbiter may have granted."""


@dataclass(frozen=True)
class Note:
    """A decision or an observation, in plain words, with its evidence."""

    kind: str
    severity: Severity
    text: str
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True)
class HandoverEnded:
    """A hand-over that this gateway tried has ended."""

    ok: bool
    text: str
    took_s: float


Effect = (
    Send
    | ProbeAddresses
    | Claim
    | Release
    | Renew
    | Extend
    | Announce
    | ReserveTerms
    | PromoteData
    | KeepData
    | YieldData
    | DemoteData
    | SetSynchronous
    | PrepareServices
    | RetireServices
    | KeepServices
    | AskArbiter
    | LeaveArbiter
    | Note
    | HandoverEnded
)
