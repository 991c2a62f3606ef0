"""The guide: in which order both gateways are renewed, and how far that is. Pure.

Only the start is remembered. How far it is follows from what both gateways are now, so that days, restarts and
fail-overs may lie between two steps, and nobody ticks anything off.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from ..errors import Finding
from .certificate import Certificate

Kind = Literal["certificate", "firmware", "extension"]
KINDS: tuple[Kind, ...] = get_args(Kind)
StepKey = Literal["install", "reboot", "seen", "failover"]
State = Literal["done", "now", "next"]
#: Longest text of what a gateway tells of itself.
MOST_TEXT = 128
#: Renewals by which another gateway can be ahead of this one; a number beyond is made up, and could not be counted on.
MOST_AHEAD = 1000


@dataclass(frozen=True)
class Facts:
    """What a gateway is now.

    :param boot: id of its boot: another one after each restart of the machine.
    :param https: it is stated where its own HTTPS port is.
    :param certificate: what that port showed last in this boot, or None.
    :param problem: why nothing was seen; may be empty.
    :param protocol_least: the oldest protocol that it still understands.
    """

    node_id: str
    name: str
    boot: str
    https: bool
    certificate: Certificate | None
    problem: str
    firmware: str
    version: str
    protocol: int
    protocol_least: int

    def as_dict(self) -> dict[str, Any]:
        return {**vars(self), "certificate": self.certificate and self.certificate.as_dict()}

    @classmethod
    def from_dict(cls, data: Any) -> Facts:
        """Return them from their dict form; what a later version adds is left out.

        :raises ValueError: they are malformed.
        """
        try:
            seen = data["certificate"]
            found = cls(
                data["node_id"], data["name"], data["boot"], data["https"] is True,
                None if seen is None else Certificate.from_dict(seen), data["problem"], data["firmware"],
                data["version"], data["protocol"], data["protocol_least"],
            )  # fmt: skip
        except (KeyError, TypeError):
            raise ValueError("no facts") from None
        texts = (found.node_id, found.name, found.boot, found.problem, found.firmware, found.version)
        numbers = (found.protocol, found.protocol_least)
        _demand(all(isinstance(one, str) and len(one) <= MOST_TEXT and one.isprintable() for one in texts))
        _demand(all(type(one) is int and 0 <= one <= 65535 for one in numbers))
        return found


@dataclass(frozen=True)
class Before:
    """What a gateway was at the start.

    :param fingerprint: empty: no certificate was seen then.
    :param not_after: s since 1970; 0 without a certificate.
    """

    node_id: str
    name: str
    boot: str
    fingerprint: str
    names: tuple[str, ...]
    not_after: int
    firmware: str
    version: str

    @classmethod
    def of(cls, facts: Facts) -> Before:
        seen = facts.certificate
        return cls(
            facts.node_id, facts.name, facts.boot, seen.fingerprint if seen else "", seen.names if seen else (),
            seen.not_after if seen else 0, facts.firmware, facts.version,
        )  # fmt: skip


@dataclass(frozen=True)
class Guide:
    """A renewal that was begun.

    :param number: each later one has a higher number.
    :param began_at: wall time, ISO.
    :param by: name of the gateway on which it was begun.
    :param before: both gateways; first the one that was passive then.
    :param ended_at: wall time, ISO; empty: it is under way.
    """

    number: int
    kind: Kind
    began_at: str
    by: str
    before: tuple[Before, Before]
    ended_at: str = ""

    def is_newer_than(self, other: Guide | None) -> bool:
        """Return whether it is to replace another one that a gateway has; of two alike neither does."""
        if self.number - (other.number if other else 0) > MOST_AHEAD:
            return False
        return other is None or self._rank() > other._rank()

    def _rank(self) -> tuple[Any, ...]:
        return self.number, bool(self.ended_at), self.began_at, self.by, self.ended_at

    def ended(self, at: str) -> Guide:
        return replace(self, ended_at=at)

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "before": [{**asdict(one), "names": list(one.names)} for one in self.before]}

    @classmethod
    def from_dict(cls, data: Any) -> Guide:
        """Return it from its dict form.

        :raises ValueError: it is malformed.
        """
        try:
            first, second = (_before(one) for one in data["before"])
            found = cls(data["number"], data["kind"], data["began_at"], data["by"], (first, second), data["ended_at"])
        except (KeyError, TypeError):
            raise ValueError("no guide") from None
        texts = (found.began_at, found.by, found.ended_at)
        _demand(all(isinstance(one, str) and len(one) <= MOST_TEXT and one.isprintable() for one in texts))
        _demand(found.kind in KINDS and type(found.number) is int and 0 < found.number < 2**31)
        _demand(first.node_id != second.node_id)
        return found


def _before(data: Any) -> Before:
    found = Before(
        data["node_id"], data["name"], data["boot"], data["fingerprint"], tuple(data["names"]), data["not_after"],
        data["firmware"], data["version"],
    )  # fmt: skip
    texts = (found.node_id, found.name, found.boot, found.firmware, found.version)
    _demand(all(isinstance(one, str) and len(one) <= MOST_TEXT and one.isprintable() for one in texts))
    if found.fingerprint:
        Certificate.from_dict({**vars(found), "issuer": "", "not_before": 0})
    else:
        _demand(found.fingerprint == "" and found.names == () and found.not_after == 0)
    return found


def _demand(fits: bool) -> None:
    if not fits:
        raise ValueError("malformed")


@dataclass(frozen=True)
class Step:
    """One thing to do.

    :param node_id: on which gateway; for ``failover`` the one that becomes active.
    :param note: why it is not done yet, if that is known: ``same`` (restarted, but nothing is new), ``unseen`` (no
        certificate is shown), ``expired`` or ``not_yet`` (the new one is not good).
    """

    key: StepKey
    node_id: str
    state: State
    note: str = ""


@dataclass(frozen=True)
class Progress:
    """How far a renewal is.

    :param first: id of the gateway that goes first.
    :param renewed: ids of those that are through.
    """

    first: str
    steps: tuple[Step, ...]
    renewed: frozenset[str]

    @property
    def finished(self) -> bool:
        return len(self.renewed) == 2

    @property
    def fails_over_now(self) -> bool:
        return any(step.key == "failover" and step.state == "now" for step in self.steps)


def progress(guide: Guide, facts: Mapping[str, Facts], active: str | None, now: float) -> Progress:
    """Return how far it is.

    The passive gateway is the one to work on, whichever that is: if the role has moved by itself meanwhile, the order
    follows. Once one is renewed, the other one's turn comes when the renewed one is active.

    :param facts: by node id; those of a gateway that is not heard are the last known, or missing.
    :param active: id of the active gateway; None: not known.
    :param now: s since 1970.
    """
    begun = {one.node_id: one for one in guide.before}
    renewed = frozenset(node for node, one in begun.items() if _is_renewed(guide.kind, one, facts.get(node), now))
    first, second = (one.node_id for one in guide.before)
    if (len(renewed) == 1 and second in renewed) or (not renewed and active == first):
        first, second = second, first
    moved = len(renewed) == 2 or (first in renewed and active == first)
    steps = (
        *_on(guide.kind, begun[first], facts.get(first), True, now),
        Step("failover", first, "done" if moved else "now" if first in renewed else "next"),
        *_on(guide.kind, begun[second], facts.get(second), moved, now),
    )
    return Progress(first, steps, renewed)


def _on(kind: Kind, before: Before, facts: Facts | None, turn: bool, now: float) -> Iterator[Step]:
    """Yield the steps on one gateway.

    That something is installed is known only once it is in force, hence after the reboot.

    :param turn: whether it is this one's turn.
    """
    node, waits = before.node_id, _state(turn)
    restarted, new = _has_restarted(kind, before, facts), _has_changed(kind, before, facts)
    done = _is_renewed(kind, before, facts, now)
    note = _note(kind, facts, new, now) if turn and restarted and not done else ""
    through = restarted and note != "same"
    yield Step("install", node, "done" if new else waits, "same" if note == "same" else "")
    if kind != "extension":
        yield Step("reboot", node, "done" if through else waits)
    yield Step("seen", node, "done" if done else _state(turn and through), "" if note == "same" else note)


def _state(now: bool) -> State:
    return "now" if now else "next"


def _note(kind: Kind, facts: Facts | None, new: bool, now: float) -> str:
    """Return why a gateway that was restarted is not renewed yet."""
    if kind == "extension" or facts is None:
        return ""
    if kind == "certificate" and facts.certificate is None:
        return "unseen"
    if not new:
        return "same"
    validity = facts.certificate.validity(now) if facts.certificate else ""
    return "" if validity == "valid" else validity


def _has_restarted(kind: Kind, before: Before, facts: Facts | None) -> bool:
    return facts is not None and (kind == "extension" or facts.boot != before.boot)


def _has_changed(kind: Kind, before: Before, facts: Facts | None) -> bool:
    if facts is None:
        return False
    if kind == "certificate":
        return facts.certificate is not None and facts.certificate.fingerprint != before.fingerprint
    return facts.firmware != before.firmware if kind == "firmware" else facts.version != before.version


def _is_renewed(kind: Kind, before: Before, facts: Facts | None, now: float) -> bool:
    if facts is None or not _has_restarted(kind, before, facts) or not _has_changed(kind, before, facts):
        return False
    return kind != "certificate" or (facts.certificate is not None and facts.certificate.validity(now) == "valid")


def checks(kind: Kind, target: Facts | None, other: Facts, before: Sequence[Before], now: float) -> Iterator[Finding]:
    """Yield what speaks against a fail-over now; what blocks forbids it.

    :param target: the gateway that would become active; None: nothing is known of it.
    :param other: the one that is active.
    :param before: both at the start.
    :param now: s since 1970.
    """
    if target is None:
        yield Finding("renewal_unknown", "Nothing is known of the other gateway at present.",
                      "See whether it runs and can be reached.")  # fmt: skip
    elif kind == "certificate":
        yield from _check_certificate(target, before, now)
    else:
        yield from _check_versions(target, other)


def _check_certificate(target: Facts, before: Sequence[Before], now: float) -> Iterator[Finding]:
    name, seen = target.name, target.certificate
    if not target.https:
        yield Finding("renewal_unstated", f"Which certificate {name} shows is not known: its HTTPS port is not stated.",
                      f"Set HSMX_CLUSTER_HTTPS on {name}.")  # fmt: skip
    elif seen is None:
        yield Finding("renewal_unseen", f"{name} shows no certificate: {target.problem or 'not looked at yet'}.",
                      f"See whether the web server of {name} runs, and whether certificate and key belong together.",
                      )  # fmt: skip
    elif (validity := seen.validity(now)) != "valid":
        word = "has expired" if validity == "expired" else "is not valid yet"
        yield Finding("renewal_invalid", f"The certificate that {name} shows {word}.",
                      f"Install a valid one on {name} and reboot it; see whether its clock is right.")  # fmt: skip
    else:
        former = next((one.names for one in before if one.node_id == target.node_id), ())
        if lost := [one for one in former if one not in seen.names]:
            names = ", ".join(lost)
            yield Finding("renewal_names", f"The certificate that {name} shows now is not for {names} any more.",
                          "Was that meant? Else ask for one with the former names.", blocking=False)  # fmt: skip
        if seen.severity(now) is not None:
            yield Finding("renewal_soon", f"The certificate that {name} shows ends in {seen.days_left(now)} days.",
                          "Is it the new one?", blocking=False)  # fmt: skip


def _check_versions(target: Facts, other: Facts) -> Iterator[Finding]:
    common = min(target.protocol, other.protocol)
    if common < max(target.protocol_least, other.protocol_least):
        yield Finding(
            "renewal_protocol",
            f"The two do not understand each other: {target.name} speaks protocol {target.protocol_least} to "
            f"{target.protocol}, {other.name} {other.protocol_least} to {other.protocol}.",
            "Install a version in between first.")  # fmt: skip
