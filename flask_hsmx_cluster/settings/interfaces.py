"""Own addresses of the gateways, as the section *Network interface* of the cluster settings states them.

They are part of the settings (:class:`.model.Settings`), so that either gateway's page can change both. Yet each
belongs to one gateway: it is keyed by node id, and only that gateway's agent touches it. A port that is not named here
is its gateway's own business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import Any

from .values import flag, text

Interface = IPv4Interface | IPv6Interface

MAX_INTERFACES = 64
#: Own addresses of one gateway on one port.
MAX_ADDRESSES = 8
#: Key of the dict form. Without any it is left out: the digest of older settings stays what it was.
KEY = "interfaces"


@dataclass(frozen=True)
class NetworkInterface:
    """What own addresses the gateways have on a port.

    :param port: name of the network port on both gateways.
    :param addresses: by node id; a gateway that is not named keeps what its own network settings give it.
    :param apart: the operator ticked that the two gateways need not be in one subnet here.
    """

    port: str
    addresses: Mapping[str, tuple[Interface, ...]]
    apart: bool = False


def stated(interfaces: Sequence[NetworkInterface], node_id: str) -> dict[str, tuple[Interface, ...]]:
    """Return the own addresses that one gateway is to have, by port; other ports are not named."""
    return {one.port: one.addresses[node_id] for one in interfaces if node_id in one.addresses}


def without(interfaces: Sequence[NetworkInterface], node_id: str) -> tuple[NetworkInterface, ...]:
    """Return what is left when a gateway has gone."""
    rest = (
        NetworkInterface(one.port, {node: each for node, each in one.addresses.items() if node != node_id}, one.apart)
        for one in interfaces
    )
    return tuple(one for one in rest if one.addresses)


def to_dict(interfaces: Sequence[NetworkInterface]) -> dict[str, Any]:
    """Return the dict form, with its key, of which nothing is left where there are none."""
    rows = [
        {"port": one.port, "addresses": {node: list(map(str, each)) for node, each in one.addresses.items()},
         "apart": one.apart}
        for one in interfaces
    ]
    return {KEY: rows} if rows else {}


def from_dict(data: Mapping[str, Any]) -> tuple[NetworkInterface, ...]:
    """Return the field of the settings, sorted by port.

    :raises ValueError, TypeError, KeyError, AttributeError: something in it is malformed.
    """
    rows = data.get(KEY, [])
    if not isinstance(rows, list) or len(rows) > MAX_INTERFACES:
        raise ValueError(f"{KEY}: no list of at most {MAX_INTERFACES} entries")
    found = []
    for row in rows:
        apart = flag(row.get("apart", False))
        addresses = {text(node): _addresses(each) for node, each in sorted(row["addresses"].items()) if each}
        if len(addresses) > 2:
            raise ValueError("more than two gateways")
        if addresses:
            found.append(NetworkInterface(text(row["port"]), addresses, apart))
    return tuple(sorted(found, key=lambda one: one.port))


def _addresses(items: object) -> tuple[Interface, ...]:
    if not isinstance(items, list) or len(items) > MAX_ADDRESSES:
        raise ValueError(f"no list of at most {MAX_ADDRESSES} addresses")
    return tuple(ip_interface(text(item)) for item in items)
