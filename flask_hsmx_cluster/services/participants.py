"""Which participants there are: the one place where they are plugged in.

A participant gets its set-up from the agent: a function of the same name in :mod:`..agent.services_setup`.
"""

from __future__ import annotations

from collections.abc import Callable

from .participant import Participant
from .pppoe import PPPoE

#: How to make each, in the order in which they become active; becoming passive is the other way round.
PARTICIPANTS: tuple[Callable[[], Participant], ...] = (PPPoE,)
