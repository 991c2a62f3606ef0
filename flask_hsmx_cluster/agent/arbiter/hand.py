"""The heartbeat loop's hand on the process that talks to the arbiter. It never waits."""

from __future__ import annotations

import math
from typing import Any

from ...decision import events
from ...decision.model import ArbiterUse, Timing, Word
from ...network.clock import boot_time_s
from ..child import Child

#: The word is kept so much longer than any address could be, s: a leader of etcd that was just deposed, and does not
#: know it yet, may answer a renewal that the new one does not count.
KEPT_LONGER_S = 2
#: Characters of why it does not answer.
MOST_TEXT = 400
WORDS = {"granted": Word.GRANTED, "denied": Word.DENIED, "silent": Word.SILENT}


class ArbiterLink(Child):
    """Starts the process that talks to the arbiter."""

    MODULE = "flask_hsmx_cluster.arbiter"
    NAME = WHAT = "The process that talks to the arbiter"
    LOOK = "It is started again by itself; see the agent's log."


class ArbiterHand:
    """Asks, and takes the answers.

    :param link: the process; None where there is no arbiter.
    :param required: rather no gateway serves than two.
    """

    def __init__(self, link: ArbiterLink | None, required: bool = False) -> None:
        self.link = link
        self.use = ArbiterUse.NONE if link is None else ArbiterUse.REQUIRED if required else ArbiterUse.ASKED
        self.answers: bool | None = None  #: whether it answered last; None: not known yet
        self.text = ""  #: why not, in words
        self.since = boot_time_s()  #: since when that is so, boot time in s

    def fileno(self) -> int | None:
        return self.link.fileno() if self.link else None

    def ask(self, turn: int, cluster: str, node: str, timing: Timing) -> bool:
        """Ask whether a gateway may serve; False if that cannot even be sent."""
        ttl_s = math.ceil(timing.give_up_s) + KEPT_LONGER_S
        key = f"/hsmx-cluster/{cluster}/active"
        return self.link is not None and self.link.send("ask", turn=turn, key=key, owner=node, ttl_s=ttl_s)

    def leave(self) -> None:
        """Give back what was granted. If that is not heard it ends by itself."""
        if self.link is not None:
            self.link.send("leave")

    def receive(self) -> list[events.Event] | None:
        """Return what the answers mean for the core; None when the process has gone."""
        messages = self.link.receive() if self.link else None
        if messages is None:
            self.seen(None, "its process has ended")
            return None
        try:
            return [event for message in messages for event in self._events(message)]
        except (KeyError, TypeError, ValueError, OverflowError):  # the loop, which keeps addresses, must not end
            if self.link is not None:
                self.link.distrust()
            self.seen(None, "its process says what cannot be read")
            return None

    def seen(self, answers: bool | None, text: str) -> None:
        """Note whether it answers."""
        if answers is not self.answers:
            self.since = boot_time_s()
        self.answers, self.text = answers, text

    def _events(self, message: dict[str, Any]) -> list[events.Event]:
        if message["event"] == "seen":
            self.seen(message["answers"] is True, str(message["text"])[:MOST_TEXT])
            return []
        word, at = WORDS[message["word"]], float(message["at"])
        if not 0 <= at <= boot_time_s():  # a proof from the future would never grow old
            raise ValueError(at)
        return [events.ArbiterAnswered(message["turn"], word, at)]
