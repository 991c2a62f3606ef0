"""An agent that is restarted on purpose: its addresses stay where they are, and the other gateway waits for it.

The active gateway asks first. Only if the other one has confirmed that it will wait, or there is none, are the right to
write and the lease of the addresses extended; then it says goodbye, and for how long. Where the other one is not heard
they are renewed once more, and the ordinary lease must do. The new process goes on with the same reign (rule 17).
Meanwhile the kernel answers for the addresses. If the new process is not back in time, or if the whole machine is gone,
the other gateway takes over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .events import DataKept, Extend, HandoverEnded, KeepData, RestartRequested, Send
from .model import NEVER, Beat, Kind, Motive, Phase, Role

if TYPE_CHECKING:
    from .core import Core

#: The new process has this long, s, unless it is said otherwise, and what may be said.
RESTART_S, RESTART_LEAST_S, RESTART_MOST_S = 15, 5, 60
#: The database is waited for this long, s. If it does not answer, it refuses writes until the new agent has asked it.
KEEP_MOST_S = 0.3
#: Between the offer and the goodbye pass at most some 2 s: what the other gateway waits longer if it hears no goodbye.
OFFER_MARGIN_S = 2.0
#: Why a gateway that must ask an arbiter, and that nobody hears, leases nothing any more.
UNPROVEN = "The arbiter has not said lately that this gateway may serve"
#: The goodbye is said so many times over every path.
GOODBYES = 3


def told_lease_s(beat: Beat) -> float:
    """Return how long the other gateway keeps the addresses, s, as it says: no longer than any lease can be."""
    return min(beat.lease_left_ms / 1000, RESTART_MOST_S + OFFER_MARGIN_S)


class Restart:
    """This gateway's restart, and the other one's.

    :param core: the brain.
    """

    def __init__(self, core: Core) -> None:
        self.core = core
        #: how long the new process may take, s; 0 if no restart is under way here
        self.within_s = 0.0
        #: the other gateway has said that it waits
        self.agreed = False
        #: all is said: this process does nothing any more
        self.over = False
        #: until when the other gateway's agent may be away, boot time in s
        self.peer_until = -NEVER
        self._peer_said_at = -NEVER
        self._without_carrier: set[str] = set()
        self._extending = False
        self._due = NEVER

    def deadline(self) -> float:
        """Return when the database is waited for no longer, s."""
        return self._due

    # Here -----------------------------------------------------------------------------------------------

    def begin(self, event: RestartRequested) -> None:
        core = self.core
        if core.role is not Role.ACTIVE:
            self.within_s = event.within_s
            self._say_goodbye()
            core.do(HandoverEnded(True, "", 0.0))
        elif core.active.handover is not None:
            core.do(HandoverEnded(False, "A hand-over is under way already", 0.0))
        elif core.renewed_at is None:
            core.do(HandoverEnded(False, "This gateway has just become active, and is taking the addresses", 0.0))
        elif not core.plan.peer or core.peer_fresh():
            self.within_s = event.within_s
            core.active.begin_handover(Motive.RESTART)
            if not core.plan.peer:
                self.confirmed()
        elif not core.arbiter.proven():
            core.do(HandoverEnded(False, UNPROVEN, 0.0))
        else:
            # Who has not said that it waits may take over: nothing is leased for longer than an agent that dies leaves.
            self.within_s = min(event.within_s, core.plan.timing.lease_s)
            core.active.begin_handover(Motive.RESTART)
            self.confirmed()

    def confirmed(self) -> None:
        """The other gateway waits: the right to write first, it ends before the addresses' lease (rule 14)."""
        if self.agreed:
            return
        self.agreed = True
        if self.core.data.writable:
            self._due = self.core.now + KEEP_MOST_S
            self.core.do(KeepData(self.core.term, self.within_s))
        else:
            self._extend()

    def step(self) -> None:
        """Wait for the database no longer than was said."""
        if self.core.now >= self._due:
            self.data_kept(DataKept(False))

    def data_kept(self, event: DataKept) -> None:
        if self._due == NEVER:
            return
        if not event.ok:
            self.core.note(
                "data_not_kept", "warning", "The database refuses writes until this gateway's agent is back",
                ("it did not extend the right to write",),
            )  # fmt: skip
        self._extend()

    def _extend(self) -> None:
        self._due = NEVER
        if self.within_s <= self.core.plan.timing.lease_s and not self.core.arbiter.proven():
            self.core.active.end_handover(False, UNPROVEN)
            return
        self._extending = True
        self.core.do(Extend(self.within_s))

    def extended(self) -> None:
        """The kernel has the long lease. Where it refuses it, the other gateway is told no goodbye."""
        core = self.core
        if not self._extending:
            return
        core.note("restart", "info", f"This gateway's agent is restarted; its addresses stay for {self.within_s:.0f} s")
        self._say_goodbye()
        core.active.end_handover(True, "")

    def _say_goodbye(self) -> None:
        for _ in range(GOODBYES):
            self.core.do(Send(Kind.BYE, motive=Motive.RESTART))
        self.over = True

    def told_left_s(self, kind: Kind, renewed_at: float | None) -> float:
        """Return how long the addresses are leased still, s, as this gateway tells the other one; a passive gateway's
        goodbye tells how long it means to be away.
        """
        if renewed_at is None:
            return self.within_s if self.over else 0.0
        lease_s = self.core.plan.timing.lease_s
        if self.within_s and kind is Kind.OFFER:
            lease_s = self.within_s + OFFER_MARGIN_S
        elif self.over:
            lease_s = self.within_s
        return max(0.0, renewed_at + lease_s - self.core.now)

    def end(self) -> None:
        """The attempt is over; where it succeeded nothing is sent any more."""
        if not self.over:
            self.within_s, self.agreed, self._extending, self._due = 0.0, False, False, NEVER

    # There ----------------------------------------------------------------------------------------------

    def heard(self, beat: Beat) -> bool:
        """Take what the other gateway says of its own restart; True if that was its goodbye."""
        core = self.core
        restarts = beat.motive is Motive.RESTART
        if restarts and beat.kind in (Kind.OFFER, Kind.BYE):
            self.peer_until, self._peer_said_at = core.now + told_lease_s(beat), core.now
        elif (
            beat.kind is Kind.BEAT
            and not (restarts or beat.listening)
            and core.now - self._peer_said_at > OFFER_MARGIN_S  # one may be older than our answer to the offer
        ):
            self.peer_until = -NEVER  # it goes on, or is back
        if not (restarts and beat.kind is Kind.BYE and (beat.role, core.role) == (Role.ACTIVE, Role.PASSIVE)):
            return False
        core.passive.peer_lease_until = self.peer_until  # the offer's was longer
        if core.phase in (Phase.FOLLOWING, Phase.SUSPECTING):
            core.note(
                "peer_restarts", "info", f"{core.plan.peer_name}'s agent is being restarted",
                (f"its addresses stay where they are for up to {self.peer_until - core.now:.0f} s",),
            )  # fmt: skip
            core.passive.burst = None
            core.passive.begin_hold()
        return True

    def peer_away(self) -> bool:
        """Return whether the other gateway's agent is being restarted, and has time left."""
        return self.core.now < self.peer_until

    def carrier(self, port: str, up: bool) -> None:
        """Take note of a port's carrier."""
        (self._without_carrier.discard if up else self._without_carrier.add)(port)

    def peer_gone(self) -> bool:
        """Return whether the machine of an agent that restarts is gone, too: its end of every direct cable is dead, and
        its address does not answer.

        That silence alone says less than usual: no heartbeat could contradict it, so a LAN that fails in these
        seconds would put the address on both.
        """
        core = self.core
        direct = {path.path.port for path in core.paths.values() if path.path.direct}
        read = [port for port in core.ports.values() if port.readable(not core.peer_was_active)]
        silent = bool(read) and all(port.unanswered >= core.plan.timing.burst_probes for port in read)
        return self.peer_away() and bool(direct) and direct <= self._without_carrier and silent
