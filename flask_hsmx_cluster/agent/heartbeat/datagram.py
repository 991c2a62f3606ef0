"""The heartbeat's bytes: a fixed binary layout, signed with HMAC-SHA-256, safe against replay without a clock.

Every agent start draws a random *incarnation*; messages of one incarnation count up over all paths. A message of an
incarnation that we do not know is believed only once it answers a challenge that we drew ourselves, so a
recording of an earlier run is worth nothing. The same challenge tells a recording of ourselves from a *clone*, a
machine that uses our own node id at this moment. Layout (big endian)::

    "HX" version key_id cluster:8 sender:16 incarnation:8 counter:8 path:1 challenge:8 response:8 echo:8 echo_age_us:4
    kind role motive flags term:8 reign:16 lease_left_ms:4 position:8 revision:4 causes:1 ports:1
    causes x (kind port)   ports x (mac:6 flags:1)   hmac:32
"""

from __future__ import annotations

import hmac
import struct
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache

from ...decision.model import (
    MOST_TERM,
    ArbiterUse,
    Beat,
    Cause,
    CauseKind,
    Kind,
    Motive,
    PortReport,
    Role,
    Term,
)

VERSION = 1
_HEADER = struct.Struct("!2sBB8s16s8sQB8s8sQI")
_BODY = struct.Struct("!BBBBQ16sIQIBB")
_CAUSE = struct.Struct("!BB")
_PORT = struct.Struct("!6sB")
_MAC_SIZE = 32
_LISTENING, _MAINTENANCE, _SERVED, _SPREAD, _SYNCHRONOUS, _ARBITER, _REQUIRED = 1, 2, 4, 8, 16, 32, 64
_CARRIER, _HOLDS, _STRANGERS, _PEER_SEEN, _UNSEEN = 1, 2, 4, 8, 16
MOST_CAUSES = 16
MOST_PORTS = 8
LONGEST = _HEADER.size + _BODY.size + MOST_CAUSES * _CAUSE.size + MOST_PORTS * _PORT.size + _MAC_SIZE
SHORTEST = _HEADER.size + _BODY.size + _MAC_SIZE
#: Send times kept per path to tell round trips.
_RTT_RING = 64
#: What takes longer than this is no round trip but a stall, s.
_RTT_MOST_S = 0.25


class Refusal(Enum):
    """Why a datagram was refused."""

    MALFORMED = "refused_malformed"
    VERSION = "refused_version"
    OTHER_CLUSTER = "refused_other_cluster"
    UNKNOWN_KEY = "refused_unknown_key"
    BAD_SIGNATURE = "refused_bad_signature"
    STRANGER = "refused_stranger"
    CLONE = "refused_clone"
    REPLAY = "refused_replay"
    UNPROVEN = "refused_unproven"  #: a new incarnation that has not answered our challenge yet


@dataclass(frozen=True)
class Received:
    """A datagram that passed every check."""

    beat: Beat
    rtt_s: float | None
    #: when the message of ours that it echoes was sent, boot time in s, as far back as is kept
    echo_at: float | None = None
    #: a later message was heard before, on another path: this one shows that its path works, nothing more
    stale: bool = False


@dataclass(frozen=True)
class Clone:
    """A signed datagram with our own node id and another incarnation.

    :param challenge: what it wants answered as a proof that we are alive.
    :param proven: it answers our own present challenge: another machine is alive, this is no recording.
    """

    challenge: bytes
    proven: bool


@dataclass
class _PathState:
    heard: int = 0
    heard_at: float = 0.0
    #: the challenge heard last; per path, so that a recording played on one does not spoil the proof on another
    response: bytes = bytes(8)
    sent: OrderedDict[int, float] = field(default_factory=OrderedDict)


def path_tag(kind: str, port_index: int = 0) -> int:
    """Return the byte that names a path in a datagram; the same on both gateways."""
    return {"sync": 1, "backup": 2, "service": 3, "ethernet": 16 + port_index}[kind]


class Codec:
    """Signs what goes out, checks what comes in.

    :param cluster: 8 bytes that tell clusters apart, in the clear.
    :param node: own node id, 16 bytes.
    :param peer: the other gateway's, 16 bytes, or b"" while there is none.
    :param keys: key id to 32-byte secret; ``signing`` names the one that signs, all verify.
    :param incarnation: 8 random bytes of this agent start.
    :param challenges: draws 8 random bytes.
    """

    def __init__(
        self,
        cluster: bytes,
        node: bytes,
        peer: bytes,
        keys: dict[int, bytes],
        signing: int,
        incarnation: bytes,
        challenges: Challenges,
    ) -> None:
        self.cluster, self.node, self.peer = cluster, node, peer
        self.keys, self.signing = keys, signing
        self.incarnation = incarnation
        self.counters: Counter[str] = Counter()
        self._challenges = challenges
        self._challenge = challenges.draw()
        self._peer_incarnation: bytes | None = None
        self._paths: dict[int, _PathState] = {}
        self._counter = 0
        self._newest = 0
        self._packed: tuple[Beat | None, bytes] = (None, b"")

    def encode(self, beat: Beat, tag: int, now: float, response: bytes | None = None) -> bytes:
        """Return the datagram for one path.

        :param response: the challenge to answer, if it is not the peer's but a clone's.
        """
        path = self._paths.setdefault(tag, _PathState())
        self._counter += 1
        path.sent[self._counter] = now
        if len(path.sent) > _RTT_RING:
            path.sent.popitem(last=False)
        age_us = min(int((now - path.heard_at) * 1e6), 0xFFFFFFFF) if path.heard else 0
        if beat is not self._packed[0]:
            self._packed = (beat, _pack_body(beat))  # once for all paths of a volley
        data = (
            _HEADER.pack(
                b"HX",
                VERSION,
                self.signing,
                self.cluster,
                self.node,
                self.incarnation,
                self._counter,
                tag,
                self._challenge,
                path.response if response is None else response,
                path.heard,
                age_us,
            )
            + self._packed[1]
        )
        self.counters["sent"] += 1
        return data + hmac.digest(self.keys[self.signing], data, "sha256")

    def decode(self, data: bytes, tag: int, now: float) -> Received | Clone | Refusal:
        """Check a datagram that came in on a path. Whatever is refused changes nothing but a counter."""
        found = self._check(data, tag, now)
        match found:
            case Received():
                self.counters["received"] += 1
            case Clone():
                self.counters[Refusal.CLONE.value] += 1
            case Refusal():
                self.counters[found.value] += 1
        return found

    def _check(self, data: bytes, tag: int, now: float) -> Received | Clone | Refusal:
        if not SHORTEST <= len(data) <= LONGEST or data[:2] != b"HX":
            return Refusal.MALFORMED
        (
            _magic,
            version,
            key_id,
            cluster,
            sender,
            incarnation,
            counter,
            path_tag_,
            challenge,
            response,
            echo,
            echo_age_us,
        ) = _HEADER.unpack_from(data)
        if version != VERSION:
            return Refusal.VERSION
        if cluster != self.cluster:
            return Refusal.OTHER_CLUSTER
        key = self.keys.get(key_id)
        if key is None:
            return Refusal.UNKNOWN_KEY
        signed, signature = data[:-_MAC_SIZE], data[-_MAC_SIZE:]
        if not hmac.compare_digest(hmac.digest(key, signed, "sha256"), signature):
            return Refusal.BAD_SIGNATURE
        if sender == self.node:
            if incarnation == self.incarnation:
                return Refusal.REPLAY
            return self._check_clone(challenge, response, path_tag_ == tag)
        if sender != self.peer or path_tag_ != tag:
            return Refusal.STRANGER
        beat = _parse_body(signed[_HEADER.size :])
        if beat is None:
            return Refusal.MALFORMED
        path = self._paths.setdefault(tag, _PathState())
        if incarnation != self._peer_incarnation:
            path.response = challenge
            if response != self._challenge:
                return Refusal.UNPROVEN
            self._accept(incarnation)
        elif counter <= path.heard:
            return Refusal.REPLAY
        path.response = challenge
        path.heard, path.heard_at = counter, now
        sent = path.sent.get(echo)
        rtt = now - sent - echo_age_us / 1e6 if sent is not None else None
        stale, self._newest = counter < self._newest, max(counter, self._newest)
        return Received(beat, rtt if rtt is not None and 0 <= rtt < _RTT_MOST_S else None, sent, stale)

    def _check_clone(self, challenge: bytes, response: bytes, own_path: bool) -> Clone:
        """A proof is worth something once: after it we draw another challenge, or a recording of it would count."""
        proven = own_path and response == self._challenge
        if proven:
            self._challenge = self._challenges.draw()
        return Clone(challenge, proven)

    def _accept(self, incarnation: bytes) -> None:
        self._peer_incarnation = incarnation
        self._challenge = self._challenges.draw()
        self._newest = 0
        for path in self._paths.values():
            path.heard, path.heard_at = 0, 0.0


class Challenges:
    """Draws the random bytes of challenges; in its own class so that a simulation can hand in its own."""

    def draw(self) -> bytes:
        import secrets

        return secrets.token_bytes(8)


def _node_bytes(node: str) -> bytes:
    return bytes.fromhex(node) if node else bytes(16)


def _pack_body(beat: Beat) -> bytes:
    flags = (
        _LISTENING * beat.listening
        | _MAINTENANCE * beat.maintenance
        | _SERVED * beat.served
        | _SPREAD * beat.spread
        | _SYNCHRONOUS * beat.synchronous
        | _ARBITER * (beat.arbiter is not ArbiterUse.NONE)
        | _REQUIRED * (beat.arbiter is ArbiterUse.REQUIRED)
    )
    causes = sorted(beat.causes)[:MOST_CAUSES]
    parts = [
        _BODY.pack(
            beat.kind,
            beat.role,
            beat.motive,
            flags,
            beat.term.counter,
            _node_bytes(beat.term.node),
            beat.lease_left_ms,
            beat.position,
            beat.revision,
            len(causes),
            len(beat.ports),
        ),
        *(_CAUSE.pack(cause.kind, cause.port) for cause in causes),
        *(
            _PORT.pack(
                port.mac,
                _CARRIER * port.carrier
                | _HOLDS * port.holds
                | _STRANGERS * port.strangers
                | _PEER_SEEN * port.peer_seen
                | _UNSEEN * port.unseen,
            )
            for port in beat.ports
        ),
    ]
    return b"".join(parts)


@lru_cache(maxsize=8)  # a volley brings the same body over every path; only signed bodies get here
def _parse_body(body: bytes) -> Beat | None:
    (kind, role, motive, flags, term, reign, lease_left_ms, position, revision, causes, ports) = _BODY.unpack_from(body)
    start = _BODY.size
    if term > MOST_TERM or causes > MOST_CAUSES or ports > MOST_PORTS:
        return None
    if len(body) != start + causes * _CAUSE.size + ports * _PORT.size:
        return None
    try:
        return Beat(
            kind=Kind(kind),
            role=Role(role),
            motive=Motive(motive),
            term=Term(term, reign.hex() if any(reign) else ""),
            listening=bool(flags & _LISTENING),
            maintenance=bool(flags & _MAINTENANCE),
            served=bool(flags & _SERVED),
            spread=bool(flags & _SPREAD),
            synchronous=bool(flags & _SYNCHRONOUS),
            lease_left_ms=lease_left_ms,
            position=position,
            revision=revision,
            arbiter=ArbiterUse.NONE
            if not flags & _ARBITER
            else ArbiterUse.REQUIRED if flags & _REQUIRED else ArbiterUse.ASKED,
            causes=frozenset(
                Cause(CauseKind(cause), port)
                for cause, port in (_CAUSE.unpack_from(body, start + i * _CAUSE.size) for i in range(causes))
            ),
            ports=tuple(
                PortReport(
                    mac,
                    bool(bits & _CARRIER),
                    bool(bits & _HOLDS),
                    bool(bits & _STRANGERS),
                    bool(bits & _PEER_SEEN),
                    bool(bits & _UNSEEN),
                )
                for mac, bits in (
                    _PORT.unpack_from(body, start + causes * _CAUSE.size + i * _PORT.size) for i in range(ports)
                )
            ),
        )
    except ValueError:  # a kind, role, motive or cause of a later version
        return None
