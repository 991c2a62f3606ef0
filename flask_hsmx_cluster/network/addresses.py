"""The address lease: shared addresses held with a kernel lifetime, in prebuilt netlink batches.

If the agent dies, freezes or starves, the kernel drops the addresses within the lease. Measured: an address
with a lifetime of 2 s is gone after 2.01 s. Routes through a shared network go with its address: an IPv4 route
names it as its source, and the kernel removes it then; an IPv6 route has a lifetime of its own.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_interface,
)

from ..errors import NetworkError
from .messages import (
    NLM_F_CREATE,
    NLM_F_REPLACE,
    RTM_DELADDR,
    RTM_DELROUTE,
    RTM_NEWADDR,
    RTM_NEWROUTE,
    AddressMessage,
    RouteMessage,
)
from .netlink import RequestSocket, encode
from .ports import Port
from .virtual_mac import switch_message

Interface = IPv4Interface | IPv6Interface
#: Metric of shared routes: before those of netplan and NetworkManager (from 100 on), behind those without one (0). It
#: tells them from the machine's own, which they neither replace nor take along.
ROUTE_METRIC = 50
#: Number of the routing protocol (``ip route show proto 72``): nobody else's.
ROUTE_PROTOCOL = 72
#: Aliases are renewed in so many turns, each one a renewal: a thousand at every renewal cost twice as much, and one
#: that is missed leaves them a quarter of a lease still.
ALIAS_TURNS = 2
_IFA_F_NODAD = 0x02
_PORT_GONE = frozenset({errno.ENODEV})
_ABSENT = frozenset({errno.EADDRNOTAVAIL, errno.ENODEV})
_NO_ROUTE = frozenset({errno.ESRCH, errno.ENODEV, errno.ENETUNREACH})
#: Where IFA_LOCAL's value begins; IFA_ADDRESS follows: after the headers of message, address and attribute, bytes.
_LOCAL_AT = 16 + 8 + 4
_MAIN_TABLE, _UNICAST = 254, 1


@dataclass(frozen=True)
class SharedAddress:
    """A shared address on a port of this machine, with the prefix length that it gets there.

    :param index: the kernel's number of the device that carries it: the port, or its virtual MAC's.
    :param switched: that device is up only while this gateway holds the address.
    :param alias: one of many; renewed less often, announced after the others.
    """

    interface: Interface
    port: str = field(compare=False)  # one that was renamed is the same, and so is an alias that became a virtual IP
    index: int
    switched: bool = False
    alias: bool = field(default=False, compare=False)


@dataclass(frozen=True)
class SharedRoute:
    """A route that goes with a shared address.

    :param source: the shared address in the router's network.
    :param index: the device that has that network.
    """

    destination: IPv4Network | IPv6Network
    via: IPv4Address | IPv6Address
    source: IPv4Address | IPv6Address
    index: int


def placed(address: Interface, port: Port, device: Port | None = None, alias: bool = False) -> SharedAddress:
    """Return the address as it goes on the port, or on the virtual MAC's device of the port.

    Where the port has an own address in the same subnet the shared one is a /32 (/128): the subnet's route is
    there already and does not hang on the lease. Link-local addresses are each device's own affair.
    """
    beside = device if device is not None and address.is_link_local else port
    has_own = address.network in beside.own_networks
    interface = ip_interface((address.ip, address.max_prefixlen)) if has_own else address
    return SharedAddress(interface, port.name, (device or port).index, device is not None, alias)


class AddressLease:
    """Holds, renews and releases a fixed set of shared addresses, each in one batch, and their routes.

    :param lease_s: kernel lifetime, whole s.
    """

    def __init__(
        self,
        requests: RequestSocket,
        addresses: Sequence[SharedAddress],
        lease_s: int,
        routes: Sequence[SharedRoute] = (),
    ) -> None:
        self._requests = requests
        #: The few come first: they answer before the aliases do.
        self.addresses = sorted(addresses, key=lambda address: address.alias)
        self.routes = list(routes)
        self.keys = frozenset((address.index, str(address.interface.ip)) for address in self.addresses)
        #: Why the kernel did not take a route when that was last tried; "" if it took all.
        self.route_problem = ""
        switched = dict.fromkeys(address.index for address in self.addresses if address.switched)
        adding, deleting = _Messages(lease_s, RTM_NEWADDR), _Messages(lease_s, RTM_DELADDR)
        aliases = [adding.of(address) for address in self.addresses if address.alias]
        self._first = [switch_message(index, up=True) for index in switched]
        self._first += [adding.of(address) for address in self.addresses if not address.alias]
        self._turns = [aliases[turn::ALIAS_TURNS] for turn in range(ALIAS_TURNS)]
        self._hold = [*self._first, *aliases]
        self._routes = [_route(route, lease_s, RTM_NEWROUTE) for route in self.routes]
        # Backwards: the kernel would else put each next address in the place of the first one of its network.
        self._release = [deleting.of(address) for address in reversed(self.addresses)]
        self._release += [switch_message(index, up=False) for index in switched]
        self._no_routes = [_route(route, lease_s, RTM_DELROUTE) for route in self.routes]
        self._held = False
        self._turn = 0

    def hold(self) -> None:
        """Add or renew all addresses with a full lease; those of a port that has just gone do not keep the rest off.

        :raises NetworkError: the kernel refused one of them, or no port is left.
        """
        self._send(self._hold)
        self._held = True

    def renew(self) -> None:
        """Renew what is held: the aliases in turns, the others each time. What has vanished meanwhile comes back.

        :raises NetworkError: the kernel refused one of them, or no port is left.
        """
        if not self._held:
            self.hold()
            return
        self._turn = (self._turn + 1) % ALIAS_TURNS
        self._send(self._first + self._turns[self._turn])

    def hold_for(self, lease_s: int) -> None:
        """Add or renew all addresses once, with another lease than the usual one, whole s.

        :raises NetworkError: the kernel refused one of them, or no port is left.
        """
        AddressLease(self._requests, self.addresses, lease_s, self.routes).hold()

    def release(self) -> None:
        """Delete all addresses and routes; those that are not there are no failure.

        :raises NetworkError: the kernel refused.
        """
        self._held = False
        self._requests.transact(self._no_routes, _NO_ROUTE)
        self._requests.transact(self._release, _ABSENT)

    def _send(self, batch: list[bytearray]) -> None:
        if batch and self._requests.transact(batch, _PORT_GONE) == len(batch):
            raise NetworkError("The kernel refused every address: No such device", "Check the network ports.")
        try:  # a route must not keep an address off
            refused = self._requests.transact(self._routes, _NO_ROUTE)
            self.route_problem = f"{refused} of {len(self._routes)} have no way to their router" if refused else ""
        except NetworkError as error:
            self.route_problem = error.message


class _Messages:
    """Makes messages about addresses. Those of one device differ in the address only: pyroute2, which takes 0.3 ms
    for each, is asked for the first one."""

    def __init__(self, lease_s: int, kind: int) -> None:
        self._lease_s, self._kind = lease_s, kind
        self._known: dict[tuple[int, int, int], bytearray] = {}

    def of(self, address: SharedAddress) -> bytearray:
        """Return a message of its own for an address."""
        interface = address.interface
        key = (interface.version, interface.network.prefixlen, address.index)
        if key not in self._known:
            self._known[key] = _message(address, self._lease_s, self._kind)
        message, packed = bytearray(self._known[key]), interface.ip.packed
        for at in (_LOCAL_AT, _LOCAL_AT + len(packed) + 4):
            message[at : at + len(packed)] = packed
        return message


def _message(address: SharedAddress, lease_s: int, kind: int) -> bytearray:
    message = AddressMessage()
    interface = address.interface
    message["family"] = socket.AF_INET if interface.version == 4 else socket.AF_INET6
    message["prefixlen"] = interface.network.prefixlen
    message["index"] = address.index
    text = str(interface.ip)
    # A deprecated IPv6 address is never chosen as a source: what the gateway sends itself leaves from its own.
    preferred = lease_s if interface.version == 4 else 0
    message["attrs"] = [("IFA_LOCAL", text), ("IFA_ADDRESS", text)]
    if kind == RTM_NEWADDR:
        message["attrs"].append(
            ("IFA_CACHEINFO", {"ifa_preferred": preferred, "ifa_valid": lease_s, "cstamp": 0, "tstamp": 0})
        )
        if interface.version == 6:
            message["attrs"].append(("IFA_FLAGS", _IFA_F_NODAD))
    return encode(message, kind, NLM_F_CREATE | NLM_F_REPLACE if kind == RTM_NEWADDR else 0)


def _route(route: SharedRoute, lease_s: int, kind: int) -> bytearray:
    message = RouteMessage()
    message["family"] = socket.AF_INET if route.destination.version == 4 else socket.AF_INET6
    message["dst_len"] = route.destination.prefixlen
    message["table"] = _MAIN_TABLE
    message["proto"] = ROUTE_PROTOCOL
    message["scope"] = 0
    message["type"] = _UNICAST
    message["attrs"] = [
        ("RTA_GATEWAY", str(route.via)), ("RTA_OIF", route.index), ("RTA_PRIORITY", ROUTE_METRIC),
    ]
    if route.destination.prefixlen:
        message["attrs"].append(("RTA_DST", str(route.destination.network_address)))
    if kind == RTM_NEWROUTE:
        message["attrs"].append(("RTA_PREFSRC", str(route.source)))
        if route.destination.version == 6:
            message["attrs"].append(("RTA_EXPIRES", struct.pack("=I", lease_s)))
    return encode(message, kind, NLM_F_CREATE | NLM_F_REPLACE if kind == RTM_NEWROUTE else 0)
