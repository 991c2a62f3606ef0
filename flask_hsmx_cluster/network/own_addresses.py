"""Own addresses of this machine: permanent ones, set and removed one at a time. What is leased is nobody's business
here: shared addresses and those of DHCP have a lifetime."""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path

from ..errors import NetworkError
from .messages import NLM_F_CREATE, NLM_F_REPLACE, RTM_DELADDR, RTM_NEWADDR, AddressMessage
from .netlink import RequestSocket, encode
from .ports import Port, read_ports, write_sysctl
from .virtual_mac import is_virtual

Interface = IPv4Interface | IPv6Interface
_GONE = frozenset({errno.EADDRNOTAVAIL, errno.ENODEV})


class OwnAddressHand:
    """Reads, sets and removes own addresses. To be used by one thread at a time."""

    def present(self) -> Mapping[str, tuple[Interface, ...]]:
        """Return the permanent addresses of each port.

        :raises NetworkError: the kernel did not answer.
        """
        return {name: _permanent(port) for name, port in self._ports().items()}

    def add(self, port: str, address: Interface) -> None:
        """Set an address; it outlives others of its subnet (rule 9).

        :raises NetworkError: the port is not there, or the kernel refused.
        """
        found = self._port(port)
        write_sysctl(Path("ipv4/conf") / port / "promote_secondaries", "1")
        # The same IPv6 address with another prefix length cannot stand beside it.
        twins = [one for one in _permanent(found) if one.version == 6 and one.ip == address.ip and one != address]
        self._send([_message(found, one, RTM_DELADDR) for one in twins], _GONE)
        self._send([_message(found, address, RTM_NEWADDR)])

    def remove(self, port: str, address: Interface) -> None:
        """Remove an address; one that is not there is no failure.

        :raises NetworkError: the kernel refused.
        """
        found = self._ports().get(port)
        if found is not None:
            write_sysctl(Path("ipv4/conf") / port / "promote_secondaries", "1")
            self._send([_message(found, address, RTM_DELADDR)], _GONE)

    def _port(self, name: str) -> Port:
        try:
            return self._ports()[name]
        except KeyError:
            raise NetworkError(f"There is no port {name} on this gateway.", "Plug it in, or make it.") from None

    @staticmethod
    def _ports() -> dict[str, Port]:
        requests = RequestSocket()
        try:
            return {port.name: port for port in read_ports(requests) if not is_virtual(port)}
        finally:
            requests.close()

    @staticmethod
    def _send(batch: list[bytearray], tolerate: frozenset[int] = frozenset()) -> None:
        requests = RequestSocket()
        try:
            if batch:
                requests.transact(batch, tolerate)
        finally:
            requests.close()


def _permanent(port: Port) -> tuple[Interface, ...]:
    return tuple(
        held.interface for held in port.addresses if held.valid_s is None and not held.interface.is_link_local
    )


def _message(port: Port, address: Interface, kind: int) -> bytearray:
    message = AddressMessage()
    message["family"] = socket.AF_INET if address.version == 4 else socket.AF_INET6
    message["prefixlen"] = address.network.prefixlen
    message["index"] = port.index
    message["attrs"] = [("IFA_LOCAL", str(address.ip)), ("IFA_ADDRESS", str(address.ip))]
    if isinstance(address, IPv4Interface) and address.network.prefixlen < 31:
        message["attrs"].append(("IFA_BROADCAST", str(address.network.broadcast_address)))
    return encode(message, kind, NLM_F_CREATE | NLM_F_REPLACE if kind == RTM_NEWADDR else 0)
