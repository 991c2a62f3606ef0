"""Judges a record: how long two gateways had an address, how long none, and which invariants were broken."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sample_app.lab.measure import Interval, overlap_ms

from .bounds import CONVERGED_WITHIN_S, Bound, apart, bound, healed_ms
from .record import FAULT, HELD, LOST, NO_ANSWER, ROLE, TWO_MACS, WORKED, Record, Span, lane

GATEWAYS = ("a", "b")
#: Watchers are asked one after the other at the end of an episode; that is no outage, s.
WATCHERS_S = 0.02


@dataclass(frozen=True)
class Violation:
    """An invariant that was broken: ``two_holders``, ``none``, ``lost_acknowledged``, ``unconverged``, ``term``,
    ``did_not_stop``.

    :param text: what was measured, and what it ought to have been.
    """

    invariant: str
    text: str


@dataclass(frozen=True)
class Verdict:
    """What an episode gave.

    :param case: the kind of its only fault, or ``overlapping``.
    :param faults: how many were done.
    :param converged_s: from the end of the last fault until the pair was in order; None: it was not.
    """

    case: str
    faults: int
    two_ms: float
    none_ms: float
    lost: int
    converged_s: float | None
    bound: Bound
    violations: tuple[Violation, ...]


def judge(record: Record, reigned: Mapping[str, int] | None = None) -> Verdict:
    """Judge one episode.

    :param reigned: the highest term of each gateway's reigns before it, see :func:`reigns`.
    """
    faults = record.of(FAULT)
    struck = [fault for fault in faults if not _refused(fault).startswith("not done")]
    kinds = [fault.what for fault in struck]
    at_active = any(fault.more.get("on") != "passive" for fault in struck)
    allowed = bound(kinds, at_active, _stalled(record))
    since = max((fault.end for fault in faults), default=record.episode.start)
    two_ms, left_ms = _two_ms(record), _two_ms(record, since)
    counted = not at_active or apart(kinds) or len(kinds) < 2
    none_ms = _none_ms(record, float("-inf") if counted else since)
    lost = sum(int(span.more["count"]) for span in record.of(LOST))
    worked = record.last(WORKED)
    converged_s = worked.ms / 1000 if worked is not None and worked.what == "in order" else None
    violations = [*_term(record, reigned or {})]
    if two_ms > allowed.two_ms:
        violations.append(Violation(
            "two_holders", f"two gateways had an address for {two_ms:.1f} ms, bound {allowed.two_ms:.0f}: {allowed.why}"
        ))
    if left_ms > healed_ms(kinds):
        violations.append(Violation(
            "two_holders", f"two gateways had an address for {left_ms:.1f} ms after the end of the last fault, bound "
            f"{healed_ms(kinds):.0f}: they hear each other again"
        ))
    violations += _deaf_to_signals(faults)
    if none_ms > allowed.none_ms:
        violations.append(Violation(
            "none", f"no gateway answered for {none_ms:.0f} ms, bound {allowed.none_ms:.0f}: {allowed.why}"
        ))
    if lost:
        violations.append(Violation(
            "lost_acknowledged", f"{lost} acknowledged writes are neither on the active gateway nor in quarantine"
        ))
    if converged_s is None or converged_s > CONVERGED_WITHIN_S:
        why = worked.more.get("why", "") if worked is not None else "nobody looked"
        violations.append(Violation(
            "unconverged", f"not in order {CONVERGED_WITHIN_S:.0f} s after the end of the last fault: {why}"
        ))
    case = kinds[0] if len(kinds) == 1 else "overlapping" if kinds else "nothing"
    return Verdict(case, len(struck), two_ms, none_ms, lost, converged_s, allowed, tuple(violations))


def _refused(fault: Span) -> str:
    return str(fault.more.get("refused", ""))


def _stalled(record: Record) -> bool:
    """Return whether a gateway remembered before the first fault that the other one had stood still, or did not say."""
    first = min((fault.start for fault in record.of(FAULT)), default=record.episode.end)
    said = [span.more.get("patience_ms") for gateway in GATEWAYS
            for span in record.of(lane(ROLE, gateway)) if span.start <= first]
    return not said or any(one is None or one > 0 for one in said)


def _deaf_to_signals(faults: list[Span]) -> list[Violation]:
    """An agent that nothing has frozen ends when asked to; else a service manager kills it, without a hand-over."""
    frozen = {fault.more.get("gateway") for fault in faults if fault.what == "freeze_agent"}
    return [
        Violation("did_not_stop", f"{fault.what}: the agent of {fault.more.get('gateway')} did not end when asked")
        for fault in faults
        if _refused(fault).startswith("not done") and "'cluster', 'agent']' timed out" in _refused(fault)
        and fault.more.get("gateway") not in frozen
    ]


def _two_ms(record: Record, since: float = float("-inf")) -> float:
    """Return for how long both kernels had one address, or two MACs answered for it, whichever was longer.

    :param since: only what of it was after this moment.
    """
    here, there = (
        {address: [Interval(max(span.start, since), span.end) for span in record.of(lane(HELD, gateway), address)
                   if span.end > since]
         for address in {span.what for span in record.of(lane(HELD, gateway))}}
        for gateway in GATEWAYS
    )
    held = [overlap_ms(spans, there.get(address, ())) for address, spans in here.items()]
    macs = sum(max(0.0, span.end - max(span.start, since)) * 1000 for span in record.of(TWO_MACS))
    return max([*held, macs])


def _none_ms(record: Record, since: float) -> float:
    """Return the longest outage, or time in which neither kernel had an address, whichever was longer.

    :param since: only what of it was after this moment: the end of the last of several faults.
    """
    outages = [Interval(span.start, span.end) for span in record.of(NO_ANSWER)]
    return max([0.0, *((end - max(start, since)) * 1000 for start, end in (*outages, *_unheld(record)))])


def _unheld(record: Record) -> Iterator[Interval]:
    """Yield when neither kernel had an address that one of them had before, in this episode."""
    held = [span for gateway in GATEWAYS for span in record.of(lane(HELD, gateway))]
    for address in {span.what for span in held}:
        spans = sorted((span.start, span.end) for span in held if span.what == address)
        until = spans[0][1]
        for start, end in [*spans, (record.episode.end, record.episode.end)]:
            if start - until > WATCHERS_S:
                yield Interval(until, start)
            until = max(until, end)


def reigns(record: Record) -> dict[str, int]:
    """Return the highest term of each gateway's reigns in an episode."""
    return {gateway: max((int(span.more["term"]) for span in record.of(lane(ROLE, gateway), "active")), default=0)
            for gateway in GATEWAYS}


def _term(record: Record, reigned: Mapping[str, int]) -> list[Violation]:
    """The term of a gateway's reigns only grows. (Two gateways may use one number: a term is number and gateway.)"""
    found: list[Violation] = []
    for gateway in GATEWAYS:
        last = reigned.get(gateway, 0)
        for span in record.of(lane(ROLE, gateway), "active"):
            if (term := int(span.more["term"])) < last:
                found.append(Violation("term", f"gateway {gateway} reigned in term {term} after {last}"))
            last = max(last, term)
    return found


def title(record: Record) -> str:
    """Return what an episode was about, in a line."""
    faults = ", ".join(named(fault) for fault in record.of(FAULT))
    return f"{record.episode.what}: {faults or 'no fault'}"


def named(fault: Span) -> str:
    """Return a fault with the gateway that it struck, and what was refused."""
    gateway, on = fault.more.get("gateway"), fault.more.get("on")
    refused = fault.more.get("refused", "")
    return f"{fault.what} ({f'{gateway}, {on}' if gateway else 'both'}){' ' if refused else ''}{refused[:80]}"
