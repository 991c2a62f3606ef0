"""How the agent's slow half (settings, pairing, verbs) sees its fast half (heartbeats, addresses)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ..decision.model import Cause
from .membership import Membership


class HotSide(Protocol):
    """The fast half. Any thread may call any method; it may block its caller, never the heartbeat."""

    def snapshot(self) -> dict[str, Any]:
        """Return the fast half of a status: node, peer, paths, virtual_ips, alarms, readiness, data, counters."""

    def apply(self, membership: Membership | None) -> None:
        """Take over a membership; None releases everything and makes this gateway standalone.

        :raises NetworkError: the kernel refused; apply the former membership again.
        """

    def request(self, action: str, **arguments: Any) -> dict[str, Any]:
        """Carry out ``failover``, ``take_over`` (``by``), ``maintenance`` (``on``, ``duration_s``) or ``restart``
        (``within_s``; nothing else may be asked afterwards) and return its verb's result.

        :raises RequestRefused: not possible now; the message says why.
        """

    def ports(self) -> list[dict[str, Any]]:
        """Return this gateway's network ports as the verb ``ports`` does, own addresses only."""

    def probe_address(self, port: str, address: str, timeout_s: float) -> list[str]:
        """Return the MACs (lower case, colons) that answer for an address on a port, this gateway's excluded.

        :raises NetworkError: the port cannot be probed.
        """

    def probe_addresses(self, wanted: Mapping[str, Sequence[str]]) -> dict[tuple[str, str], list[str]]:
        """Return the MACs that answer for addresses, by port and address; it asks for a few a second.

        :param wanted: the addresses by port; a port that is not there is left out.
        :raises NetworkError: a port cannot be probed.
        """

    def peer_macs(self) -> dict[str, str]:
        """Return the MACs that the other gateway announced in authenticated heartbeats, by port name."""

    def listen_to_children(self) -> None:
        """Listen to a process of the agent's own that was started just now."""

    def report_health(self, cause: Cause, bad: bool) -> None:
        """Take the result of a health check."""

    def block_return(self, why: str) -> None:
        """Say what keeps the preferred gateway from taking over again, in words; "": nothing."""

    def expect_settings(self) -> None:
        """The other gateway is about to put other settings in force: it must be silent for a lease to count as gone."""

    def restore_maintenance(self, left_s: float) -> None:
        """Go on with a maintenance that a restart interrupted; called before the first :meth:`apply`."""
