"""What an address, a network port's name and a port's own addresses are: the words that all rules share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Interface, IPv6Address, IPv6Interface, ip_interface
from typing import Any

from .model import Interface

#: A network port as the verb ``ports`` describes it.
Port = Mapping[str, Any]

#: What Linux accepts as a port name, and what is safe to show and to pass on.
PORT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:@-]{0,14}")
ADDRESS_REMEDY = "Enter the address of a host with its prefix length, for example 192.0.2.10/24."
NO_MEMBER = "Leave it out, or name a gateway of the cluster."
_THIS_NETWORK = IPv4Interface("0.0.0.0/8").network


def address_fault(interface: Interface) -> str:
    """Return why an address with prefix cannot be a gateway's own or virtual address; '' if it can.

    The network and broadcast addresses of point-to-point and host prefixes (/31, /32, /127, /128) are ordinary.
    """
    address, network = interface.ip, interface.network
    if address.is_unspecified:
        return "is the unspecified address"
    if address.is_loopback:
        return "is a loopback address"
    if address.is_multicast:
        return "is a multicast address"
    if isinstance(address, IPv6Address):
        if isinstance(interface, IPv6Interface) and interface.scope_id is not None:
            return "names a port"
        if address.ipv4_mapped is not None:
            return "is an IPv4 address written as IPv6"
        if address.is_link_local:
            return "is a link-local address, which means nothing without its port"
    elif address.is_reserved or address in _THIS_NETWORK:
        return "is a reserved address"
    if network.prefixlen == 0:
        return "has no prefix length that could be a network's"
    if network.max_prefixlen - network.prefixlen > 1:
        if address == network.network_address:
            return "is the address of its network, not of a host"
        if isinstance(interface, IPv4Interface) and address == network.broadcast_address:
            return "is the broadcast address of its network"
    return ""


def overlap(one: Interface, other: Interface) -> bool:
    """Return whether the networks of two addresses have addresses in common."""
    # ip addresses of both families compare as unequal but networks of two families refuse to
    return one.version == other.version and (
        one.network.network_address in other.network or other.network.network_address in one.network
    )


class Placed:
    """Networks, each with its port, among which overlapping ones are looked for. There may be thousands: two networks
    are compared by numbers, which is fifty times as fast as by :func:`overlap`.
    """

    def __init__(self, some: Iterable[tuple[str, Interface, str]] = ()) -> None:
        self._all: dict[int, list[tuple[int, int, str, Interface, str]]] = {4: [], 6: []}
        for port, address, whose in some:
            self.add(port, address, whose)

    def add(self, port: str, address: Interface, whose: str) -> None:
        """Add the network of an address; ``whose`` says in words what it is."""
        first, last = _bounds(address)
        self._all[address.version].append((first, last, port, address, whose))

    def overlapping(self, port: str, address: Interface) -> Iterator[tuple[str, Interface, str]]:
        """Yield what lies on another port and overlaps with the network of an address, in the order of adding."""
        first, last = _bounds(address)
        for one, other, where, found, whose in self._all[address.version]:
            if one <= last and first <= other and where != port:
                yield where, found, whose


def _bounds(address: Interface) -> tuple[int, int]:
    return int(address.network.network_address), int(address.network.broadcast_address)


def own_addresses(port: Port) -> list[Interface]:
    """Return a port's own addresses; what cannot be read is left out."""
    found: list[Interface] = []
    for text in port.get("addresses", ()):
        try:
            found.append(ip_interface(str(text)))
        except ValueError:
            continue
    return found
