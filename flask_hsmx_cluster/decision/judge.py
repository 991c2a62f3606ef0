"""The decision tables. Everything that decides between two gateways stands here, as pure functions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum

from .evidence import Reading
from .model import WEIGHTS, Beat, Cause, CauseKind, Motive, Plan, Role, Term, Word


class Verdict(Enum):
    """What an unanswered burst means."""

    CLAIM = "claim"
    HOLD = "hold"
    WAIT = "wait"
    DARE = "dare"  #: claim with what works: gates postpone, they do not forbid


#: All heartbeats are gone, a full burst was unanswered; each case fits one row. None: it does not matter.
#: (an answer from the peer on some port, a clone of this gateway is heard, silence on a readable port, a gate is
#: closed, no sign of the peer for three leases) -> verdict
SILENCE_TABLE: tuple[tuple[tuple[bool | None, bool | None, bool | None, bool | None, bool | None], Verdict], ...] = (
    ((True, None, None, None, None), Verdict.HOLD),  # somebody alive renews the address: only our links are broken
    ((False, True, None, None, None), Verdict.WAIT),  # the clone could claim as well
    ((False, False, True, False, None), Verdict.CLAIM),  # dead, or off that network
    ((False, False, True, True, False), Verdict.WAIT),
    ((False, False, True, True, True), Verdict.DARE),
    ((False, False, False, None, False), Verdict.WAIT),  # blind everywhere: silence proves nothing
    ((False, False, False, None, True), Verdict.DARE),
)


def judge_silence(
    readings: Collection[Reading], gated: bool, clone: bool = False, no_sign: bool = False,
) -> Verdict:
    """Return what to do when all heartbeats are gone and a full burst stayed unanswered.

    :param readings: what each virtual-IP port says; evidence is per port, the role is per node.
    :param gated: maintenance, or none of the reference addresses can be reached.
    :param clone: another machine with this gateway's identity is alive.
    :param no_sign: nothing was heard of the peer for so long that gates open.
    """
    facts = (Reading.ANSWERED in readings, clone, Reading.SILENT in readings, gated, no_sign)
    for pattern, verdict in SILENCE_TABLE:
        if all(want is None or want == fact for want, fact in zip(pattern, facts, strict=True)):
            return verdict
    raise AssertionError("the table covers every case")  # pragma: no cover - a test proves it


#: Where an arbiter is used, a gateway that does not hear the other one asks it: may an active one go on, and may a
#: passive one whose verdict is "claim" do so? (its word, it is required) -> whether it may
ALONE_TABLE: tuple[tuple[tuple[Word, bool | None], bool], ...] = (
    ((Word.GRANTED, None), True),
    ((Word.DENIED, None), False),  # the other one is alive: it serves, or is about to
    ((Word.SILENT, False), True),  # as without an arbiter
    ((Word.SILENT, True), False),
)


def may_serve_alone(word: Word, required: bool) -> bool:
    """Return whether a gateway that does not hear the other one may serve.

    :param word: what the arbiter says to it.
    :param required: rather none than two.
    """
    for (said, want), may in ALONE_TABLE:
        if said is word and want in (None, required):
            return may
    raise AssertionError("the table covers every case")  # pragma: no cover - a test proves it


WORD_WORDS: Mapping[Word, str] = {
    Word.GRANTED: "the arbiter has granted it to this gateway",
    Word.DENIED: "the arbiter has denied it: {peer} has its word",
    Word.SILENT: "the arbiter does not answer",
}


def weight(causes: Collection[Cause]) -> int:
    """Return how ill these causes make a gateway; 0 is healthy."""
    return sum(WEIGHTS[cause.kind] for cause in causes)


def healthier(mine: frozenset[Cause], theirs: frozenset[Cause]) -> bool:
    """Return whether "theirs" is clearly better. A cause that both suffer from moves nothing."""
    return weight(theirs - mine) < weight(mine - theirs)


@dataclass(frozen=True)
class Standing:
    """What counts when both are active, or both passive."""

    served: bool
    term: Term
    position: int
    causes: frozenset[Cause]
    node: str
    maintenance: bool = False

    @classmethod
    def of(cls, beat: Beat, node: str) -> Standing:
        return cls(beat.served, beat.term, beat.position, beat.causes, node, beat.maintenance)


def both_active_winner(mine: Standing, theirs: Standing) -> str:
    """Return the node that stays: who demonstrably served, then the term, data position, health, node id."""

    def rank(one: Standing) -> tuple[bool, int, int, int, str]:
        return (one.served, one.term.counter, one.position, -weight(one.causes), one.node)

    return max(mine, theirs, key=rank).node


def both_passive_winner(mine: Standing, theirs: Standing) -> str:
    """Return the node that claims when two passives hear each other.

    Who is not in maintenance, then health, data position, term, node id.
    """

    def rank(one: Standing) -> tuple[tuple[bool, int, int], int, str]:
        return (_fitness(one), one.term.counter, one.node)

    return max(mine, theirs, key=rank).node


def goes_before_a_listener(mine: Standing, theirs: Standing) -> bool:
    """Return whether a passive gateway claims although the other one, which has just started, listens still.

    It can claim nothing yet, so who waits for it causes an outage. It is waited for where it is the better one.
    """
    return _fitness(mine) >= _fitness(theirs)


def _fitness(one: Standing) -> tuple[bool, int, int]:
    return (not one.maintenance, -weight(one.causes), one.position)


def why_not_ready(
    motive: Motive,
    mine: frozenset[Cause],
    theirs: frozenset[Cause],
    listening: bool,
    maintenance: bool,
    role: Role,
    any_carrier: bool,
) -> str:
    """Return why this gateway must not be handed the role, in words; empty if it may.

    A gateway that is about to stop hands over to anybody who can hold the address at all.
    """
    if role is not Role.PASSIVE:
        return "it is not passive"
    if not any_carrier:
        return "none of its ports to the clients has a carrier"
    if motive is Motive.STOP:
        return ""
    if maintenance:
        return "it is in maintenance"
    if listening:
        return "it has just started and still listens"
    if motive is Motive.HEALTH:
        return "" if healthier(theirs, mine) else "it is not healthier"
    return "it is less healthy: " + in_words(mine - theirs) if healthier(mine, theirs) else ""


CAUSE_WORDS: Mapping[CauseKind, str] = {
    CauseKind.NO_CARRIER: "no cable or carrier on {port}",
    CauseKind.UNSEEN: "its virtual IP is not seen on {port} although others are",
    CauseKind.NO_REFERENCE: "no reference address answers",
    CauseKind.DATABASE: "the database does not answer",
    CauseKind.DISK: "the disk is nearly full",
    CauseKind.SERVICE: "the check {port} fails",
}


def in_words(causes: Collection[Cause], plan: Plan | None = None) -> str:
    """Return causes as a person reads them.

    :param plan: has the names of ports and checks.
    """

    def one(cause: Cause) -> str:
        checked = cause.kind is CauseKind.SERVICE
        names = () if plan is None else plan.checks if checked else plan.ports
        number = f"{cause.port + 1}" if checked else f"port {cause.port + 1}"
        port = names[cause.port] if cause.port < len(names) else number
        return CAUSE_WORDS[cause.kind].format(port=port)

    return ", ".join(one(cause) for cause in sorted(causes)) or "nothing"
