"""Which participants there are: the one place where they are plugged in.

A participant gets its set-up from the agent: a function under the same name in ``PARTS`` of
:mod:`..agent.services.setup`.
"""

from __future__ import annotations

from .checks import Checks
from .conntrack import ConnectionTracking
from .firmware import FirmwareServices
from .hooks import Hooks
from .participant import Participant
from .passive_internet import PassiveInternet
from .pppoe import PPPoE
from .runner import Runner
from .situation import Situation


def participants(situation: Situation) -> list[Participant]:
    """Return all of them, in the order in which they become active; a hand-over is the other way round."""
    runner = Runner()
    return [
        PPPoE(situation), ConnectionTracking(), PassiveInternet(), FirmwareServices(), Hooks(situation, runner),
        Checks(runner),
    ]  # fmt: skip
