"""A third opinion, where a site has one: a gateway that does not hear the other one asks an arbiter before it serves.

Two that hear each other never ask. What its word means stands in :mod:`.judge`; why it is safe, in docs/arbiter.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import judge
from .events import ArbiterAnswered, AskArbiter, LeaveArbiter
from .model import EXPIRY_LATE_S, NEVER, ArbiterUse, Kind, Phase, Role, Word

if TYPE_CHECKING:
    from .core import Core

#: An answer is waited for at most this long, s.
ANSWER_MOST_S = 1.0
#: An active gateway that has lost the carrier of a direct cable, and hears nothing for this long after it, asks, s:
#: before the passive one, which sends a burst first, can.
CARRIER_S = 0.015
#: Two bursts of the other gateway are farther apart than this, s. One that lasts for ``UNHEARD_S`` had no answer.
BURST_S = 0.1
UNHEARD_S = 0.011
#: What a passive gateway does while it may want the arbiter's word.
IN_DOUBT = (Phase.SUSPECTING, Phase.HOLDING, Phase.WAITING)


class Arbiter:
    """What a gateway's brain asks the arbiter, and what it makes of the answers.

    :param core: the brain.
    """

    def __init__(self, core: Core) -> None:
        self.core = core
        self.word: Word | None = None  #: what it said last in the present doubt
        self.granted_at = -NEVER  #: when the question was sent that it granted last, boot time in s
        self.echoed_at = -NEVER  #: when the last of what the other gateway has echoed was sent, boot time in s
        self._word_at = self._asked_at = self._carrier_at = -NEVER
        self._burst_at = self._probed_at = -NEVER  #: first and last probe of the other gateway's last burst
        self._turn = 0
        self._open = False  #: a question has no answer yet
        self._used = False  #: it may hold its word for this gateway

    @property
    def use(self) -> ArbiterUse:
        """How it is used; not at all in a cluster of one."""
        return self.core.plan.arbiter if self.core.plan.peer else ArbiterUse.NONE

    def deadline(self) -> float:
        """Return when the next question, the end of one, or the end of a reign without a proof is due, s."""
        core = self.core
        if self.use is ArbiterUse.NONE:
            return NEVER
        answer = self._asked_at + ANSWER_MOST_S if self._open else NEVER
        if core.role is not Role.ACTIVE:
            return answer
        if not self.alone():
            assert core.peer_at is not None
            carrier = self._carrier_at + CARRIER_S if self._carrier_at > core.peer_at else NEVER
            return min(carrier, core.peer_at + core.plan.timing.suspect_s)
        ask = NEVER if self._open else self._asked_at + core.plan.timing.renew_s
        return min(answer, ask, self._unproven_at() if self.use is ArbiterUse.REQUIRED else NEVER)

    # What the roles ask -------------------------------------------------------------------------------------

    def consents(self) -> bool | None:
        """Return whether this gateway may serve although it does not hear the other one; None: it is being asked."""
        self._ask_if_due()
        return self.verdict()

    def verdict(self) -> bool | None:
        """Return the same as far as it is known, and ask nothing."""
        if self.use is ArbiterUse.NONE:
            return True
        if self.word is None or not self._fresh():
            return None
        required = self.use is ArbiterUse.REQUIRED
        early = required and self.core.role is Role.PASSIVE and self.core.now < self.not_before()
        return judge.may_serve_alone(self.word, required) and not early

    def not_before(self) -> float:
        """Return when a passive gateway may claim at the earliest where the arbiter is required, boot time in s.

        An active one that is cut off from everything has let go of its addresses by then. What it last heard echoed
        it had sent before this gateway heard it; and before this agent's start it may have heard an earlier one. One
        whose agent is restarted holds them for as long as it has said.
        """
        core = self.core
        if self.use is not ArbiterUse.REQUIRED:
            return -NEVER
        given_up = max(core.peer_at or core.began, core.began) + core.plan.timing.give_up_s
        return max(given_up, core.restart.peer_until + EXPIRY_LATE_S)

    def alone(self) -> bool:
        """Return whether this gateway cannot be sure that the other one hears it, and it the other one."""
        core, timing = self.core, self.core.plan.timing
        if core.peer_at is None or not core.peer_fresh():
            return True
        cut = self._carrier_at > core.peer_at and core.now >= self._carrier_at + CARRIER_S
        unheard = self.echoed_at < self._burst_at < self._probed_at - UNHEARD_S
        return cut or unheard or core.now - self.echoed_at > timing.proof_s / 2

    def settled(self) -> bool:
        """Return whether an active gateway may take it that it goes on serving, so that commits may go on alone."""
        return self.use is ArbiterUse.NONE or not self.alone() or self.verdict() is True

    def proven(self) -> bool:
        """Return whether the addresses may be renewed: where it is required, only with a recent proof."""
        return self.use is not ArbiterUse.REQUIRED or self.core.now - self._proven_at() <= self.core.plan.timing.proof_s

    def in_words(self) -> tuple[str, ...]:
        """Return the evidence that it gave, as people read it."""
        if self.use is ArbiterUse.NONE or self.word is None:
            return ()
        return (judge.WORD_WORDS[self.word].format(peer=self.core.plan.peer_name),)

    # What comes in ------------------------------------------------------------------------------------------

    def answered(self, event: ArbiterAnswered) -> None:
        core = self.core
        if not self._open or event.turn != self._turn:
            return  # of an earlier doubt
        self._open = False
        before, self.word, self._word_at = self.word, event.word, core.now
        if event.word is Word.GRANTED:
            self.granted_at = self._word_at = event.at
        if core.role is Role.PASSIVE:
            core.passive.arbiter_answered()
        elif before not in (None, event.word) and event.word is not Word.DENIED:
            self._note()

    def heard(self, kind: Kind, echo_at: float | None) -> None:
        """The other gateway was heard.

        :param echo_at: when what it echoes was sent, boot time in s.
        """
        if kind is Kind.PROBE:
            if self.core.now - self._probed_at > BURST_S:
                self._burst_at = self.core.now
            self._probed_at = self.core.now
        if echo_at is not None:
            self.echoed_at = max(self.echoed_at, echo_at)

    def forget_peer(self) -> None:
        """The other gateway is another one now, which knows of no reign but this one."""
        self.echoed_at = self.core.now

    def carrier_lost(self) -> None:
        """The carrier of a direct cable has gone: the other gateway's burst begins now."""
        self._carrier_at = self.core.now

    # What is due --------------------------------------------------------------------------------------------

    def step(self) -> None:
        """Do what is due, before the roles do."""
        core = self.core
        if self.use is ArbiterUse.NONE:
            return
        if self._open and core.now >= self._asked_at + ANSWER_MOST_S:
            self.answered(ArbiterAnswered(self._turn, Word.SILENT, core.now))
        if core.role is Role.ACTIVE:
            self._watch_reign()
        elif core.phase not in IN_DOUBT:
            self.leave()

    def leave(self) -> None:
        """Give its word back: there is no doubt, or this gateway does not serve."""
        self.word, self._open = None, False
        if self._used:
            self._used = False
            self.core.do(LeaveArbiter())

    def _watch_reign(self) -> None:
        core = self.core
        if not self.alone():
            self.leave()
            return
        allowed = self.consents()
        if self.word is Word.DENIED and allowed is False:
            core.step_down(f"the arbiter has given the role to {core.plan.peer_name}", Phase.WAITING,
                           (core.silence_words(), *self.in_words()))  # fmt: skip
        elif self.use is ArbiterUse.REQUIRED and core.now >= self._unproven_at():
            unproven_s = core.now - self._proven_at()
            core.step_down("neither the other gateway nor the arbiter has confirmed it", Phase.WAITING,
                           (core.silence_words(), f"no proof for {unproven_s:.1f} s", *self.in_words()))  # fmt: skip

    def _proven_at(self) -> float:
        return max(self.echoed_at, self.granted_at)

    def _unproven_at(self) -> float:
        return self._proven_at() + self.core.plan.timing.proof_s + self.core.plan.timing.lease_s / 2

    def _fresh(self) -> bool:
        return self.core.now - self._word_at <= self.core.plan.timing.proof_s

    def _ask_if_due(self) -> None:
        """A passive gateway asks anew when the last answer is old, an active one renews what it was granted."""
        core = self.core
        if self.use is ArbiterUse.NONE or self._open:
            return
        renews = core.role is Role.ACTIVE and core.now >= self._asked_at + core.plan.timing.renew_s
        if renews or self.word is None or not self._fresh():
            self._turn += 1
            self._open = self._used = True
            self._asked_at = core.now
            core.do(AskArbiter(self._turn))

    def _note(self) -> None:
        core = self.core
        granted = self.word is Word.GRANTED
        goes_on = granted or self.use is not ArbiterUse.REQUIRED
        core.note(
            "arbiter",
            "info" if granted else "warning",
            "The arbiter answers again" if granted else "The arbiter does not answer any more",
            (core.silence_words(), "this gateway goes on" if goes_on else "this gateway may not go on for long"),
        )
