"""Router advertisements (RFC 4861, DNS servers by RFC 8106), and the socket that sends them.

Guests know a router by its link-local address. Both gateways have the same one for a port, and the active one alone
holds it, on a lease. The kernel sends from no address that it does not have: when the lease has ended, nothing goes out
any more, whatever its owner believes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Interface, IPv6Network

from ..errors import NetworkError

#: How long guests keep the gateway as a router without hearing of it, s: three times the longest silence (RFC 4861).
ROUTER_LIFETIME_S = 1800
#: How long they use an address of an advertised network for new connections, and at all, s (RFC 9096).
PREFERRED_S, VALID_S = 2700, 5400
#: Hop limit that guests are to use.
HOP_LIMIT = 64
#: Messages taken in one turn of the loop.
MESSAGES_PER_TURN = 16

_ALL_NODES, _ALL_ROUTERS = "ff02::1", "ff02::2"
_SOLICITATION, _ADVERTISEMENT = 133, 134
_HEAD = struct.Struct("!BBHBBHII")
_SOURCE = struct.Struct("!BB6s")
_PREFIX = struct.Struct("!BBBBIII16s")
_DNS = struct.Struct("!BBHI")
_PKTINFO = struct.Struct("=16sI")
_ICMP6_FILTER, _IPV6_MULTICAST_ALL = 1, 29
#: Each bit that is set keeps a type of message off.
_ONLY_ROUTERS = struct.pack(
    "=8I", *(0xFFFFFFFF & ~((1 << _SOLICITATION % 32 | 1 << _ADVERTISEMENT % 32) if word == 4 else 0)
             for word in range(8))
)  # fmt: skip


@dataclass(frozen=True)
class Prefix:
    """An advertised network.

    :param autonomous: guests make addresses of their own in it (SLAAC).
    :param ended: it is advertised no more: guests begin nothing new with their addresses of it.
    """

    network: IPv6Network
    autonomous: bool
    ended: bool = False


@dataclass(frozen=True)
class Advertisement:
    """What guests on a port are told.

    :param managed: DHCPv6 gives addresses; ``other``: it gives other things.
    :param dns: DNS servers.
    """

    prefixes: tuple[Prefix, ...] = ()
    managed: bool = False
    other: bool = False
    dns: tuple[IPv6Address, ...] = ()


@dataclass(frozen=True)
class Solicitation:
    """A guest asks for routers, on the port of this number."""

    index: int


@dataclass(frozen=True)
class OtherRouter:
    """Somebody else advertises itself as a router.

    :param lifetime_s: as a default router, s; 0 if it is none.
    """

    index: int
    address: str
    lifetime_s: int


def virtual_link_local(cluster_id: str, port: str) -> IPv6Interface:
    """Return the link-local address of the active gateway on a port, the same on both: from cluster and port."""
    digest = hashlib.sha256(f"{cluster_id} {port} link-local".encode()).digest()
    return IPv6Interface((b"\xfe\x80" + bytes(6) + digest[:8], 64))


def encode(told: Advertisement, mac: bytes, lifetime_s: int) -> bytes:
    """Return an advertisement as ICMPv6; the kernel puts in the checksum.

    :param mac: of the device that carries the sender's address.
    :param lifetime_s: how long the sender is a default router; 0: it is none, nor are its DNS servers known.
    """
    flags = 0x80 * told.managed | 0x40 * told.other
    parts = [
        _HEAD.pack(_ADVERTISEMENT, 0, 0, HOP_LIMIT, flags, lifetime_s, 0, 0),
        _SOURCE.pack(1, 1, mac),
        *(
            _PREFIX.pack(
                3, 4, one.network.prefixlen, 0x80 | 0x40 * one.autonomous, VALID_S, 0 if one.ended else PREFERRED_S, 0,
                one.network.network_address.packed,
            )
            for one in told.prefixes
        ),
    ]  # fmt: skip
    if told.dns:
        parts += [_DNS.pack(25, 1 + 2 * len(told.dns), 0, lifetime_s), *(server.packed for server in told.dns)]
    return b"".join(parts)


class AdvertisingSocket:
    """One socket for all ports: hears guests that ask and routers that advertise, sends advertisements.

    :raises NetworkError: CAP_NET_RAW is missing, or the kernel has no IPv6.
    """

    def __init__(self) -> None:
        try:
            self._socket = socket.socket(
                socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_ICMPV6
            )
        except OSError as error:
            raise NetworkError(f"No ICMPv6 socket: {error.strerror}", "The agent needs CAP_NET_RAW.") from error
        self._socket.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, _ONLY_ROUTERS)
        for option, value in (
            (socket.IPV6_RECVPKTINFO, 1), (socket.IPV6_RECVHOPLIMIT, 1), (socket.IPV6_MULTICAST_HOPS, 255),
            (socket.IPV6_MULTICAST_LOOP, 0), (_IPV6_MULTICAST_ALL, 0),
        ):  # fmt: skip
            self._socket.setsockopt(socket.IPPROTO_IPV6, option, value)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def listen(self, index: int) -> None:
        """Hear what comes in on a port. One that has just gone, or has no IPv6, has nothing to say."""
        for group in (_ALL_ROUTERS, _ALL_NODES):
            with contextlib.suppress(OSError):
                self._socket.setsockopt(
                    socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP,
                    socket.inet_pton(socket.AF_INET6, group) + struct.pack("=I", index),
                )  # fmt: skip

    def solicit(self, index: int) -> None:
        """Ask on a port who advertises itself there."""
        with contextlib.suppress(OSError):
            self._socket.sendto(bytes((_SOLICITATION, *bytes(7))), (_ALL_ROUTERS, 0, 0, index))

    def send(self, message: bytes, source: IPv6Address, index: int) -> str:
        """Send to all nodes on a port; return why the kernel did not, "" if it did."""
        control = [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, _PKTINFO.pack(source.packed, index))]
        try:
            self._socket.sendmsg([message], control, 0, (_ALL_NODES, 0, 0, index))
        except OSError as error:
            return os.strerror(error.errno or 0)
        return ""

    def receive(self) -> list[Solicitation | OtherRouter]:
        """Return what has arrived, at most :data:`MESSAGES_PER_TURN`; malformed messages are left out."""
        found: list[Solicitation | OtherRouter] = []
        for _ in range(MESSAGES_PER_TURN):
            try:
                data, ancillary, _flags, sender = self._socket.recvmsg(64, 128)
            except OSError:
                break
            told = {kind: value for _level, kind, value in ancillary}
            if told.get(socket.IPV6_HOPLIMIT) != struct.pack("=i", 255):
                continue  # a router has forwarded it: it does not come from this network
            _address, index = _PKTINFO.unpack(told.get(socket.IPV6_PKTINFO, bytes(_PKTINFO.size)))
            if one := parse(data, sender[0].partition("%")[0], index):
                found.append(one)
        return found


def parse(data: bytes, sender: str, index: int) -> Solicitation | OtherRouter | None:
    """Return what an ICMPv6 message says, or None if it is malformed or nothing of ours."""
    if len(data) >= 8 and data[:2] == bytes((_SOLICITATION, 0)):
        return Solicitation(index)
    if len(data) >= _HEAD.size and data[:2] == bytes((_ADVERTISEMENT, 0)) and IPv6Address(sender).is_link_local:
        return OtherRouter(index, sender, int.from_bytes(data[6:8], "big"))
    return None
