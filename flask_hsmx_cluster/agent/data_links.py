"""Over which link the data goes: the first one over which heartbeats come, and back when the better one is sound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

#: A link must have worked this long before the data goes back to it, s.
SOUND_AFTER_S = 10.0


class DataLinks:
    """Remembers which links were down lately."""

    def __init__(self) -> None:
        self._down_at: dict[str, float] = {}

    def order(self, addresses: Sequence[str], states: Mapping[str, str], now: float) -> list[str]:
        """Return the other gateway's addresses in the order in which its database is to be reached.

        :param addresses: the best link's first.
        :param states: state of the heartbeat's path to each of them: ``up``, ``down``, ``unknown``.
        :param now: boot time, s.
        """
        for address, state in states.items():
            if state == "down":
                self._down_at[address] = now
        down = [one for one in addresses if now - self._down_at.get(one, float("-inf")) < SOUND_AFTER_S]
        # If all are down, none is better than another.
        return [*(one for one in addresses if one not in down), *down] if len(down) < len(addresses) else [*addresses]
