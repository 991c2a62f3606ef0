"""Evidence: what was heard, per path and per port, and what silence there is worth."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum

from .model import Path

#: Strangers heard within this time make a port "one where I hear others", s. ARP caches refresh each 30-60 s.
STRANGER_FRESH_S = 60.0
#: Heartbeats kept per path to tell its loss.
LOSS_WINDOW = 50
#: A conflicting MAC is shown this long after it was last seen, s.
CONFLICT_SHOWN_S = 30.0
#: Who hears others on a port this long after the peer, and lately, is not the one that is cut off, s.
ALONE_AFTER_S, ALONE_FRESH_S = 0.1, 10.0
#: After the other one's end was found broken what it says of this port counts for nothing for this long, s, and three
#: heartbeats: it asks for the address each 0.5 s, and has not had an answer yet.
MENDED_S = 0.6
#: Frames heard so soon after the last answer say nothing of the time since, s: two probes. And who hears again must
#: have asked again, s: a probe and its answer.
STILL_ANSWERED_S, ASKED_AGAIN_S = 1.0, 0.6
#: The virtual IP is asked for each 0.5 s. Who was still heard when it had been silent for so long is no news, s.
SILENT_BEFORE_S = 1.25
#: Regular probes of the virtual IP that must stay unanswered before it counts as unseen (0.5 s apart).
UNSEEN_PROBES = 3
#: The same where the peer's Ethernet heartbeats still arrive: a lossy network is not a dead one.
UNSEEN_PROBES_ALIVE = 20


class Reading(Enum):
    """What a port says of the peer's virtual IP."""

    NO_CARRIER = "no_carrier"
    ANSWERED = "answered"
    SILENT = "silent"
    BLIND = "blind"


@dataclass
class PathEvidence:
    """What one path has shown."""

    path: Path
    heard_at: float | None = None
    first_at: float | None = None
    rtt_s: float | None = None
    rtts: deque[float] = field(default_factory=lambda: deque(maxlen=LOSS_WINDOW))
    #: when late heartbeats came, and after how many intervals each was due
    beats: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=LOSS_WINDOW))

    def heard(self, now: float, rtt_s: float | None, every: int) -> None:
        """Note a message.

        :param every: a paced heartbeat, from which loss is told, comes each so many intervals; 0 for any other message.
        """
        self.heard_at = now
        if self.first_at is None:
            self.first_at = now
        if every:
            self.beats.append((now, every))
        if rtt_s is not None:
            self.rtt_s = rtt_s
            self.rtts.append(rtt_s)

    def silent_s(self, now: float) -> float:
        """Return how long the path has been silent, s; infinite if it was never heard."""
        return float("inf") if self.heard_at is None else now - self.heard_at

    def usual_rtt_s(self) -> float:
        """Return the round trip that four of five messages keep, s.

        Not the worst of late: one thawed peer answers what has waited for it, and a take-over that waited for such
        a "round trip" took 320 ms instead of 60 (measured).
        """
        return sorted(self.rtts)[len(self.rtts) * 4 // 5] if self.rtts else 0.0

    def loss_percent(self, interval_s: float) -> float:
        """Return the share of late heartbeats that did not arrive."""
        if len(self.beats) < LOSS_WINDOW:
            return 0.0
        (first, _), *later = self.beats
        took = (later[-1][0] - first) / interval_s
        return max(0.0, 100.0 * (1 - sum(every for _, every in later) / took)) if took > 0 else 0.0


@dataclass
class PortEvidence:
    """What one virtual-IP port has shown."""

    port: str
    carrier: bool = False
    carrier_since: float = 0.0
    #: the peer answered for the virtual IP here
    answered_at: float | None = None
    #: an Ethernet heartbeat of the peer arrived here, and it says that it hears ours
    both_ways_at: float | None = None
    ethernet_at: float | None = None
    stranger_at: float | None = None
    conflict_at: float | None = None
    conflict_mac: bytes = b""
    conflict_announced_at: float = float("-inf")
    probed_at: float | None = None
    #: probes sent since the peer last answered
    unanswered: int = 0
    #: the first frame of anybody else since the virtual IP fell silent here
    heard_since: float | None = None
    #: others were heard here while the peer's Ethernet heartbeats were not
    cut_off_at: float = float("-inf")
    #: a probe could not be sent
    not_asked_at: float = float("-inf")

    def set_carrier(self, up: bool, now: float) -> None:
        """Note the carrier. A port that has just come up has proved nothing yet."""
        if up != self.carrier:
            self.carrier = up
            self.carrier_since = now
            self.heard_since = None

    def probed(self, now: float) -> None:
        self.probed_at = now
        self.unanswered += 1

    def not_asked(self, now: float) -> None:
        """Take back the last probe: it was not sent."""
        self.not_asked_at = now
        self.unanswered = max(0, self.unanswered - 1)

    def answered(self, now: float) -> None:
        self.answered_at = now
        self.heard_since = None
        self.unanswered = 0

    def forget_peer(self) -> None:
        """Drop what a former peer has shown here; carrier, strangers and conflicts stay."""
        self.answered_at = self.both_ways_at = self.ethernet_at = None
        self.unanswered = 0

    def strangers(self, now: float) -> bool:
        """Return whether others than the peer were heard here since the carrier came up, and lately."""
        return (
            self.stranger_at is not None
            and self.stranger_at >= self.carrier_since
            and now - self.stranger_at <= STRANGER_FRESH_S
        )

    def others_since_peer(self, now: float, silent_s: float) -> bool:
        """Return whether others are heard here, and the peer's Ethernet heartbeats were not for so long before that.

        Then its end is broken, not this one.
        """
        return (
            self.ethernet_at is not None
            and self.strangers(now)
            and self.stranger_at is not None
            and self.stranger_at > self.ethernet_at + silent_s
            and now - self.stranger_at < ALONE_FRESH_S
        )

    def watch_peer(self, now: float, interval_s: float) -> None:
        """Remember when the peer's end was last found broken."""
        if self.others_since_peer(now, 3 * interval_s + ALONE_AFTER_S):
            self.cut_off_at = now

    def peer_was_cut_off(self, now: float, interval_s: float) -> bool:
        """Return whether the peer's end is broken, or was until a moment ago."""
        return now - self.cut_off_at < 3 * interval_s + MENDED_S

    def heard(self, now: float) -> None:
        """Take note of a frame of anybody else: this port hears."""
        if self.heard_since is None and (self.answered_at is None or now > self.answered_at + STILL_ANSWERED_S):
            self.heard_since = now

    def hears_and_asked(self, now: float) -> bool:
        """Return whether others were heard here after the virtual IP had fallen silent, and it was asked for since."""
        return self.heard_since is not None and now - self.heard_since >= ASKED_AGAIN_S

    def forwards(self) -> bool:
        """Return whether a frame of anybody else has come in since the carrier came up."""
        latest = max(
            (at for at in (self.stranger_at, self.ethernet_at, self.answered_at) if at is not None), default=None
        )
        return self.carrier and latest is not None and latest >= self.carrier_since

    def readable(self, cold: bool) -> bool:
        """Return whether silence here is evidence (rule 2 of the hard cases).

        :param cold: the peer was never heard as active since this agent started.
        """
        if not self.carrier:
            return False
        proofs = [self.answered_at, self.both_ways_at]
        if cold:
            proofs.append(self.stranger_at)
        return any(at is not None and at >= self.carrier_since for at in proofs)

    def may_be_deaf(self, peer_at: float) -> bool:
        """Return whether the virtual IP was silent here before the peer was, and nobody else was heard since.

        :param peer_at: when the peer was heard last, on any path.
        """
        latest = max(self.answered_at or float("-inf"), self.ethernet_at or float("-inf"))
        return self.heard_since is None and peer_at - latest > SILENT_BEFORE_S

    def reading(self, since: float, cold: bool, peer_at: float | None = None) -> Reading:
        """Return what this port says, from the answers since ``since``.

        :param peer_at: when the peer was heard last, None: never.
        """
        if not self.carrier:
            return Reading.NO_CARRIER
        if self.answered_at is not None and self.answered_at >= since:
            return Reading.ANSWERED
        if not self.readable(cold) or self.not_asked_at >= since:
            return Reading.BLIND
        deaf = not cold and peer_at is not None and self.may_be_deaf(peer_at)
        return Reading.BLIND if deaf else Reading.SILENT

    def conflict(self, now: float) -> bool:
        """Return whether a MAC of neither gateway used the virtual IP lately."""
        return self.conflict_at is not None and now - self.conflict_at <= CONFLICT_SHOWN_S
