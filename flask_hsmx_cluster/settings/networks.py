"""What lives on the active gateway only beside the virtual IPs: subscriber networks, IP aliases and their routes.

They are part of the settings (:class:`.model.Settings`), not of the replicated database: the agent must bring them up
while the database is down.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from typing import Any, TypeVar

from .values import text

Interface = IPv4Interface | IPv6Interface
Address = IPv4Address | IPv6Address
AnyNetwork = IPv4Network | IPv6Network
T = TypeVar("T")

MAX_NETWORKS = 256
MAX_ALIASES = 2000
#: For each IPv6 address that is added or renewed Linux looks at all others: a thousand cost 0.3 s (measured).
MAX_ALIASES6 = 200
MAX_ROUTES = 64
#: Longest name of a network and note of an alias, characters.
MAX_WORDS = 64
#: How guests of an IPv6 network come to addresses, as its router advertisements tell them; "": none are sent. *slaac*:
#: they make their own. *stateless-dhcp*: so they do, and DHCPv6 tells the rest. *dhcp*: DHCPv6 gives addresses, too.
ADVERTISE = ("", "slaac", "stateless-dhcp", "dhcp")
#: Advertised networks of a port: they must fit into one packet.
MAX_ADVERTISED = 16
#: Keys of the dict form, in order. One that is missing is empty, and an empty one is left out: so the settings of a
#: cluster without them have the same digest as before there were any, and an older version, which would drop them,
#: refuses settings that have them, because they do not match their signature.
KEYS = ("networks", "aliases", "routes")


@dataclass(frozen=True)
class Network:
    """A subscriber network.

    :param address: the gateway's address in it, with the network's prefix length.
    :param port: name of the network port on both gateways; ``lan0.100`` for a VLAN.
    :param name: what people call it.
    :param advertise: of an IPv6 network: one of :data:`ADVERTISE`.
    :param dns: the DNS server that its router advertisements tell, if any.
    """

    address: Interface
    port: str
    name: str = ""
    advertise: str = ""
    dns: Address | None = None

    @property
    def autonomous(self) -> bool:
        """Whether guests are to make addresses of their own in it."""
        return self.advertise in ("slaac", "stateless-dhcp")


@dataclass(frozen=True)
class Alias:
    """One more address of the active gateway.

    :param note: what it is for.
    """

    address: Interface
    port: str
    note: str = ""


@dataclass(frozen=True)
class Route:
    """A route through a router in a shared network: it comes and goes with the address in that network.

    :param via: the router.
    :param port: the port of the address, or None: whichever has it.
    """

    destination: AnyNetwork
    via: Address
    port: str | None = None


def to_dict(networks: tuple[Network, ...], aliases: tuple[Alias, ...], routes: tuple[Route, ...]) -> dict[str, Any]:
    """Return the dict form of those keys that are not empty."""
    found = {
        "networks": [
            {"address": str(one.address), "port": one.port, "name": one.name,
             **({"advertise": one.advertise} if one.advertise else {}), **({"dns": str(one.dns)} if one.dns else {})}
            for one in networks
        ],
        "aliases": [{"address": str(one.address), "port": one.port, "note": one.note} for one in aliases],
        "routes": [{"destination": str(one.destination), "via": str(one.via), "port": one.port} for one in routes],
    }
    return {key: rows for key, rows in found.items() if rows}


def from_dict(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the three fields of the settings.

    :raises ValueError, TypeError, KeyError, AttributeError: something in it is malformed.
    """
    return {
        "networks": _rows(data, "networks", MAX_NETWORKS, lambda row: Network(
            ip_interface(text(row["address"])), text(row["port"]), text(row.get("name", "")), _advertise(row),
            None if row.get("dns") is None else ip_address(_plain(row["dns"])))),
        "aliases": _rows(data, "aliases", MAX_ALIASES, lambda row: Alias(
            ip_interface(text(row["address"])), text(row["port"]), text(row.get("note", "")))),
        "routes": _rows(data, "routes", MAX_ROUTES, lambda row: Route(
            ip_network(_plain(row["destination"])), ip_address(_plain(row["via"])),
            None if row.get("port") is None else text(row["port"]))),
    }


def _rows(data: Mapping[str, Any], key: str, most: int, read: Callable[[Any], T]) -> tuple[T, ...]:
    rows = data.get(key, [])
    if not isinstance(rows, list) or len(rows) > most:
        raise ValueError(f"{key}: no list of at most {most} entries")
    return tuple(read(row) for row in rows)


def _advertise(row: Mapping[str, Any]) -> str:
    if (found := text(row.get("advertise", ""))) not in ADVERTISE:
        raise ValueError(f"no kind of router advertisements: {found:.60}")
    return found


def _plain(value: object) -> str:
    """Return a text that names no port (``fe80::1%lan0``): a route could not be told to the kernel that way."""
    if "%" in (found := text(value)):
        raise ValueError(f"an address names a port: {found:.60}")
    return found
