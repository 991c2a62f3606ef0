"""Two sockets on the kernel's routing netlink: one for requests with acknowledgement, one that listens.

pyroute2 builds and parses the messages; sending prebuilt bytes on an open socket takes tens of microseconds
where a call through the library takes 0.4 to 0.9 ms (measured), which counts on the way to a claim.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Any

from ..errors import NetworkError
from .messages import (
    NLM_F_ACK,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    RTM_GETADDR,
    RTM_GETLINK,
    AddressMessage,
    LinkMessage,
)

_HEADER = struct.Struct("=IHHII")
_ERROR = struct.Struct("=i")
#: Larger than any answer; still below the size from which malloc asks the kernel for pages each time.
_RECEIVE = 1 << 16
#: Multicast groups: links, IPv4 addresses, IPv6 addresses.
_GROUPS = 0x1 | 0x10 | 0x100


def encode(message: Any, kind: int, flags: int) -> bytearray:
    """Return a pyroute2 message as bytes, ready to be sent any number of times."""
    message["header"]["type"] = kind
    message["header"]["flags"] = flags | NLM_F_REQUEST | NLM_F_ACK
    message.encode()
    return bytearray(message.data)


def messages(data: bytes) -> Iterator[tuple[int, int, memoryview]]:
    """Yield (type, sequence number, body) of each netlink message in a datagram."""
    view = memoryview(data)
    offset = 0
    while offset + 16 <= len(view):
        length, kind, _flags, sequence, _pid = _HEADER.unpack_from(view, offset)
        if length < 16 or offset + length > len(view):
            return
        yield kind, sequence, view[offset + 16 : offset + length]
        offset += (length + 3) & ~3


class RequestSocket:
    """Sends requests and waits for the kernel's answer. To be used by one thread."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))
        self._socket.settimeout(2.0)
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def transact(self, batch: Sequence[bytearray], tolerate: frozenset[int] = frozenset()) -> int:
        """Send prebuilt messages in one batch and wait for every acknowledgement.

        :param tolerate: errno values that are no failure (deleting what is not there).
        :return: how many messages were refused with one of these.
        :raises NetworkError: the kernel refused a message, or did not answer within 2 s.
        """
        if not batch:
            return 0
        first = self._sequence + 1
        for message in batch:
            self._sequence = (self._sequence + 1) & 0x7FFFFFFF
            struct.pack_into("=I", message, 8, self._sequence)
        waiting = set(range(first, first + len(batch)))
        failed = tolerated = 0
        try:
            self._socket.send(b"".join(batch))
            while waiting:
                for kind, sequence, body in messages(self._socket.recv(_RECEIVE)):
                    if kind == NLMSG_ERROR and sequence in waiting:
                        waiting.discard(sequence)
                        number = -_ERROR.unpack_from(body)[0]
                        if number in tolerate:
                            tolerated += 1
                        elif number:
                            failed = number
        except OSError as error:
            raise NetworkError(f"The kernel did not answer a netlink request: {error}") from error
        if failed:
            raise NetworkError(
                f"The kernel refused an address: {os.strerror(failed)}",
                "Check that the agent has CAP_NET_ADMIN and that the port exists.",
            )
        return tolerated

    def dump(self, message: Any, kind: int) -> list[Any]:
        """Return every object of a kind, parsed by pyroute2."""
        self._sequence = (self._sequence + 1) & 0x7FFFFFFF
        message["header"].update(type=kind, flags=NLM_F_REQUEST | NLM_F_DUMP, sequence_number=self._sequence)
        message.encode()
        found: list[Any] = []
        try:
            self._socket.send(message.data)
            while True:
                data = self._socket.recv(_RECEIVE)
                for offset, found_kind in _offsets(data, self._sequence):
                    if found_kind == NLMSG_DONE:
                        return found
                    if found_kind == NLMSG_ERROR:
                        raise NetworkError("The kernel refused to list its ports or addresses.")
                    parsed = type(message)(data, offset)
                    parsed.decode()
                    found.append(parsed)
        except OSError as error:
            raise NetworkError(f"The kernel did not answer a netlink request: {error}") from error

    def links(self) -> list[Any]:
        """Return all ports (pyroute2 ``ifinfmsg``)."""
        return self.dump(LinkMessage(), RTM_GETLINK)

    def addresses(self) -> list[Any]:
        """Return all addresses (pyroute2 ``ifaddrmsg``)."""
        return self.dump(AddressMessage(), RTM_GETADDR)


def _offsets(data: bytes, sequence: int) -> Iterator[tuple[int, int]]:
    offset = 0
    while offset + 16 <= len(data):
        length, kind, _flags, number, _pid = _HEADER.unpack_from(data, offset)
        if length < 16:
            return
        if number == sequence:
            yield offset, kind
        offset += (length + 3) & ~3


class MonitorSocket:
    """Hears of carrier and address changes. Non-blocking; a lost event is reported as :attr:`overrun`."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.bind((0, _GROUPS))
        self.overrun = False

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def receive(self) -> list[tuple[int, int, memoryview]]:
        """Return the messages that have arrived, at most 64 datagrams a turn."""
        found: list[tuple[int, int, memoryview]] = []
        for _ in range(64):
            try:
                found.extend(messages(self._socket.recv(1 << 16)))
            except BlockingIOError:
                break
            except OSError:  # ENOBUFS: events were lost; the caller looks at everything again
                self.overrun = True
                break
        return found
