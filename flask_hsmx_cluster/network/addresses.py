"""The address lease: shared addresses held with a kernel lifetime, in prebuilt netlink batches.

If the agent dies, freezes or starves, the kernel drops the addresses within the lease. Measured: an address
with a lifetime of 2 s is gone after 2.01 s.
"""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_interface

from ..errors import NetworkError
from .messages import NLM_F_CREATE, NLM_F_REPLACE, RTM_DELADDR, RTM_NEWADDR, AddressMessage
from .netlink import RequestSocket, encode
from .ports import Port
from .virtual_mac import switch_message

Interface = IPv4Interface | IPv6Interface
_IFA_F_NODAD = 0x02
_PORT_GONE = frozenset({errno.ENODEV})
_ABSENT = frozenset({errno.EADDRNOTAVAIL, errno.ENODEV})


@dataclass(frozen=True)
class SharedAddress:
    """A shared address on a port of this machine, with the prefix length that it gets there.

    :param index: the kernel's number of the device that carries it: the port, or its virtual MAC's.
    :param switched: that device is up only while this gateway holds the address.
    """

    interface: Interface
    port: str
    index: int
    switched: bool = False


def placed(address: Interface, port: Port, device: Port | None = None) -> SharedAddress:
    """Return the address as it goes on the port, or on the virtual MAC's device of the port.

    Where the port has an own address in the same subnet the shared one is a /32 (/128): the subnet's route is
    there already and does not hang on the lease.
    """
    has_own = any(
        held.interface.version == address.version and held.valid_s is None and held.interface.network == address.network
        for held in port.addresses
    )
    interface = ip_interface((address.ip, address.max_prefixlen)) if has_own else address
    return SharedAddress(interface, port.name, (device or port).index, switched=device is not None)


class AddressLease:
    """Holds, renews and releases a fixed set of shared addresses, each in one batch.

    :param lease_s: kernel lifetime, whole s.
    """

    def __init__(self, requests: RequestSocket, addresses: list[SharedAddress], lease_s: int) -> None:
        self._requests = requests
        self.addresses = addresses
        switched = dict.fromkeys(address.index for address in addresses if address.switched)
        self._hold = [switch_message(index, up=True) for index in switched]
        self._hold += [_message(address, lease_s, RTM_NEWADDR) for address in addresses]
        self._release = [_message(address, lease_s, RTM_DELADDR) for address in addresses]
        self._release += [switch_message(index, up=False) for index in switched]

    def hold(self) -> None:
        """Add or renew all addresses with a full lease; those of a port that has just gone do not keep the rest off.

        :raises NetworkError: the kernel refused one of them, or no port is left.
        """
        if self._requests.transact(self._hold, _PORT_GONE) == len(self._hold):
            raise NetworkError("The kernel refused every address: No such device", "Check the network ports.")

    def release(self) -> None:
        """Delete all addresses; those that are not there are no failure.

        :raises NetworkError: the kernel refused.
        """
        self._requests.transact(self._release, _ABSENT)


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
