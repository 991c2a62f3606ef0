"""Over which link the data goes: the first one over which heartbeats come, and back when the better one is sound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...settings.model import Settings

#: A link must have worked this long before the data goes back to it, s.
SOUND_AFTER_S = 10.0
#: The other gateway's former addresses are let in this long after it has others, s: its database follows in its own
#: time, and a session that is cut off is begun anew only 5 s later.
FORMER_S = 30.0


def link_addresses(settings: Settings, node_id: str) -> list[str]:
    """Return a gateway's addresses on the links that carry data, sync first."""
    links = [link for kind in ("sync", "backup") for link in settings.links if link.kind == kind]
    return [str(link.ends[node_id].address.ip) for link in links if node_id in link.ends]


class DataLinks:
    """Remembers which links were down lately."""

    def __init__(self) -> None:
        self._down_at: dict[str, float] = {}
        self._peer = ""
        self._had_at: dict[str, float] = {}

    def former(self, peer: str, addresses: Sequence[str], there: Sequence[str], now: float) -> list[str]:
        """Return addresses from which the other gateway may come still, although it has others.

        :param peer: its node id.
        :param addresses: those that it has by the settings in force here.
        :param there: those that it has in force still, if the links are being changed.
        :param now: boot time, s.
        """
        if peer != self._peer:
            self._peer, self._had_at = peer, {}
        self._had_at |= dict.fromkeys((*addresses, *there), now)
        return [one for one, at in self._had_at.items() if one not in addresses and now - at < FORMER_S]

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
