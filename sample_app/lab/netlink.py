"""As much of rtnetlink as the lab needs, in a few microseconds a call: a port up or down, address events."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from .namespace import LabError, Namespace

_RTM_NEWLINK = 16
_RTM_NEWADDR, _RTM_DELADDR, _RTM_GETADDR = 20, 21, 22
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_DUMP = 0x001, 0x004, 0x300
_IFF_UP = 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTMGRP_IPV4_IFADDR, _RTMGRP_IPV6_IFADDR = 0x10, 0x100

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port id
_IFINFO = struct.Struct("=BxHiII")  # family, type, index, flags, change
_IFADDR = struct.Struct("=BBBBi")  # family, prefix length, flags, scope, index
_ATTRIBUTE = struct.Struct("=HH")  # length, type


class AddressEvent(NamedTuple):
    """An address appeared (or was renewed), or went."""

    present: bool
    address: str


class PortSwitch:
    """Sets ports of one namespace up and down, on a socket that is open already."""

    def __init__(self, namespace: Namespace) -> None:
        self._socket = namespace.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)

    def set(self, index: int, up: bool) -> None:
        """Set the port with this index up or down; its other end's carrier follows."""
        body = _IFINFO.pack(socket.AF_UNSPEC, 0, index, _IFF_UP if up else 0, _IFF_UP)
        self._socket.send(_message(_RTM_NEWLINK, _NLM_F_REQUEST | _NLM_F_ACK, body))
        (code,) = struct.unpack_from("=i", self._socket.recv(65536), _HEADER.size)
        if code:
            raise LabError(f"port {index}: {os.strerror(-code)}")

    def close(self) -> None:
        self._socket.close()


class AddressSocket:
    """The address events of one namespace; the first ones describe what is there already."""

    def __init__(self, namespace: Namespace) -> None:
        self._socket = namespace.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.bind((0, _RTMGRP_IPV4_IFADDR | _RTMGRP_IPV6_IFADDR))
        body = _IFADDR.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
        self._socket.send(_message(_RTM_GETADDR, _NLM_F_REQUEST | _NLM_F_DUMP, body))
        self._socket.setblocking(False)

    def fileno(self) -> int:
        return self._socket.fileno()

    def read(self) -> list[AddressEvent]:
        """Return what is waiting; nothing if nothing is."""
        events: list[AddressEvent] = []
        while True:
            try:
                data = self._socket.recv(65536)
            except BlockingIOError:
                return events
            events += _address_events(data)


def _message(kind: int, flags: int, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, 1, 0) + body


def _address_events(data: bytes) -> Iterator[AddressEvent]:
    for kind, body in _messages(data):
        if kind in (_RTM_NEWADDR, _RTM_DELADDR):
            family, *_ = _IFADDR.unpack_from(body)
            attributes = dict(_attributes(body[_IFADDR.size :]))
            packed = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS)
            if packed and family in (socket.AF_INET, socket.AF_INET6):
                yield AddressEvent(kind == _RTM_NEWADDR, socket.inet_ntop(family, packed))


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(data)
        yield kind, data[_HEADER.size : length]
        data = data[_aligned(length) :]


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        yield kind, data[_ATTRIBUTE.size : length]
        data = data[_aligned(length) :]


def _aligned(length: int) -> int:
    return (length + 3) & ~3
