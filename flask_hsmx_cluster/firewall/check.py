"""Do rules let in more than the other gateway? Whoever keeps them: the firmware, or somebody by hand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from ..errors import ConfigError, Finding
from .rules import Peer, Service, Use

Network = IPv4Network | IPv6Network

#: What a port is for, in words.
USES = {
    Use.SETTINGS: "settings and pairing",
    Use.SSH: "files",
    Use.RSYNC: "files",
    Use.DATABASE: "the database",
    Use.HEARTBEATS: "heartbeats",
    Use.CONNECTIONS: "guests' connections",
}


@dataclass(frozen=True)
class Allowed:
    """A rule that lets somebody in.

    :param protocol: ``tcp``, ``udp``, or empty for both.
    :param ports: first and last port of each range; empty: all ports.
    :param sources: who is let in; empty: anybody.
    :param where: how people find the rule.
    :param for_others: it is meant for others too, guests or administrators, and no rule of the cluster.
    """

    protocol: str
    ports: tuple[tuple[int, int], ...]
    sources: tuple[Network, ...]
    where: str
    for_others: bool = False

    def covers(self, service: Service) -> bool:
        """Return whether it opens a port."""
        return self.protocol in ("", service.protocol) and (
            not self.ports or any(first <= service.port <= last for first, last in self.ports))  # fmt: skip


def check(allowed: Iterable[Allowed], services: Sequence[Service], peers: Sequence[Peer]) -> Iterator[Finding]:
    """Is each port between the gateways open to single addresses only?

    :param services: the ports to look at.
    :param peers: addresses of the other gateway, as far as they are known.
    """
    for rule in allowed:
        covered = [] if rule.for_others else [one for one in services if rule.covers(one)]
        if not covered:
            continue
        ports = ", ".join(f"{one.port}/{one.protocol} ({USES[one.use]})" for one in covered)
        be = "is" if len(covered) == 1 else "are"
        known = " or ".join(dict.fromkeys(str(peer.address) for peer in peers)) or "such as 192.0.2.2"
        wide = [one for one in rule.sources if one.num_addresses > 1]
        if not rule.sources:
            yield Finding(
                "firewall_anybody", f"{ports} {be} open to anybody: {rule.where} names no source address.",
                f"Give it a single source address, the other gateway's: {known}.", blocking=False,
            )
        elif wide:
            names = ", ".join(map(str, wide[:3])) + (f" and {len(wide) - 3} more" if len(wide) > 3 else "")
            ranges = "a whole range" if len(wide) == 1 else "whole ranges"
            yield Finding(
                "firewall_range", f"{ports} {be} open to {names}, {ranges}, by {rule.where}.",
                f"Name single addresses in its place: the other gateway's, {known}.", blocking=False,
            )


def stated(rules: Iterable[Any]) -> list[Allowed]:
    """Return the host's own rules as it states them.

    Each is a mapping: ``protocol`` (``tcp``, ``udp``), ``port``, ``source`` (an address, a network, or empty), ``note``
    and ``for_others``.

    :raises ConfigError: one cannot be read.
    """
    found = []
    for number, rule in enumerate(rules, 1):
        try:
            if not isinstance(rule, Mapping):
                raise TypeError("no mapping")
            protocol, port, source = rule["protocol"], int(rule["port"]), str(rule.get("source") or "")
            if protocol not in ("tcp", "udp") or not 1 <= port <= 65535:
                raise ValueError("protocol or port")
            sources = (ip_network(source, strict=False),) if source else ()
            note = "".join(sign for sign in str(rule.get("note") or "")[:64] if sign.isprintable())
            where = f"rule {number}" + (f" (“{note}”)" if note else "")
            found.append(Allowed(protocol, ((port, port),), sources, where, rule.get("for_others") is True))
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"Rule {number} of the firewall cannot be read: {error!r:.80}.", "See docs/firewall.md for its form."
            ) from None
    return found
