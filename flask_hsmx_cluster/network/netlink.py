"""Two sockets on the kernel's routing netlink: one for requests with acknowledgement, one that listens.

pyroute2 builds and parses the messages; sending prebuilt bytes on an open socket takes tens of microseconds
where a call through the library takes 0.4 to 0.9 ms (measured), which counts on the way to a claim.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ..errors import NetworkError
from .messages import (
    NLM_F_ACK,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    RTM_GETADDR,
    RTM_GETLINK,
    RTM_NEWADDR,
    AddressMessage,
    LinkMessage,
)

_HEADER = struct.Struct("=IHHII")
_ERROR = struct.Struct("=i")
_SEQUENCE = struct.Struct("=I")
#: Larger than any answer; still below the size from which malloc asks the kernel for pages each time.
_RECEIVE = 1 << 16
#: Multicast groups: links, IPv4 addresses, IPv6 addresses.
_GROUPS = 0x1 | 0x10 | 0x100
#: Messages sent in one go: their answers must find room in the socket before one of them is read.
_CHUNK = 128
_SOL_NETLINK, _NETLINK_CAP_ACK = 270, 10
_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
_ATTRIBUTE = struct.Struct("=HH")
_ADDRESS = struct.Struct("=BBBBI")
_LIFETIMES = struct.Struct("=II")
_IFA_ADDRESS, _IFA_LOCAL, _IFA_CACHEINFO = 1, 2, 6
_FOREVER = 0xFFFFFFFF


class KernelAddress(NamedTuple):
    """An address in the kernel.

    :param device: number of the device that carries it.
    :param valid_s: remaining lifetime, s; None for ever.
    """

    device: int
    address: str
    prefixlen: int
    valid_s: int | None


def encode(message: Any, kind: int, flags: int) -> bytearray:
    """Return a pyroute2 message as bytes, ready to be sent any number of times."""
    message["header"]["type"] = kind
    message["header"]["flags"] = flags | NLM_F_REQUEST
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
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        self._socket.bind((0, 0))
        self._socket.settimeout(2.0)
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def transact(self, batch: Sequence[bytearray], tolerate: frozenset[int] = frozenset()) -> int:
        """Send prebuilt messages in one batch and wait until the kernel has carried all of them out.

        Of each hundred only the last is acknowledged: an error is told without being asked for.

        :param tolerate: errno values that are no failure (deleting what is not there).
        :return: how many messages were refused with one of these.
        :raises NetworkError: the kernel refused a message, or did not answer within 2 s.
        """
        failed = tolerated = 0
        try:
            for at in range(0, len(batch), _CHUNK):
                for number in self._errors_of(batch[at : at + _CHUNK]):
                    if number in tolerate:
                        tolerated += 1
                    else:
                        failed = number
        except OSError as error:
            raise NetworkError(f"The kernel did not answer a netlink request: {error}") from error
        if failed:
            raise NetworkError(
                f"The kernel refused an address: {os.strerror(failed)}",
                "Check that the agent has CAP_NET_ADMIN and that the port exists.",
            )
        return tolerated

    def _errors_of(self, chunk: Sequence[bytearray]) -> list[int]:
        """Carry out a few messages and return the errno of each that failed."""
        if self._sequence > 0x7FFFFFFF - len(chunk):
            self._sequence = 0
        first = self._sequence + 1
        last = self._sequence = self._sequence + len(chunk)
        for sequence, message in enumerate(chunk, first):
            _SEQUENCE.pack_into(message, 8, sequence)
        chunk[-1][6] |= NLM_F_ACK
        found: list[int] = []
        try:
            self._socket.send(b"".join(chunk))
            while True:
                for kind, sequence, body in messages(self._socket.recv(_RECEIVE)):
                    if kind == NLMSG_ERROR and first <= sequence <= last:
                        if number := -_ERROR.unpack_from(body)[0]:
                            found.append(number)
                        if sequence == last:
                            return found
        finally:
            chunk[-1][6] &= ~NLM_F_ACK

    def dump(self, message: Any, kind: int) -> list[Any]:
        """Return every object of a kind, parsed by pyroute2."""
        found: list[Any] = []
        for data, offset in self._dumped(message, kind):
            parsed = type(message)(data, offset)
            parsed.decode()
            found.append(parsed)
        return found

    def _dumped(self, message: Any, kind: int) -> Iterator[tuple[bytes, int]]:
        self._sequence = (self._sequence + 1) & 0x7FFFFFFF
        message["header"].update(type=kind, flags=NLM_F_REQUEST | NLM_F_DUMP, sequence_number=self._sequence)
        message.encode()
        try:
            self._socket.send(message.data)
            while True:
                data = self._socket.recv(_RECEIVE)
                for offset, found_kind in _offsets(data, self._sequence):
                    if found_kind == NLMSG_DONE:
                        return
                    if found_kind == NLMSG_ERROR:
                        raise NetworkError("The kernel refused to list its ports or addresses.")
                    yield data, offset
        except OSError as error:
            raise NetworkError(f"The kernel did not answer a netlink request: {error}") from error

    def links(self) -> list[Any]:
        """Return all ports (pyroute2 ``ifinfmsg``)."""
        return self.dump(LinkMessage(), RTM_GETLINK)

    def addresses(self) -> list[KernelAddress]:
        """Return all addresses. There may be a thousand, for which pyroute2 would take 0.2 s."""
        found = []
        for data, offset in self._dumped(AddressMessage(), RTM_GETADDR):
            (length,) = _SEQUENCE.unpack_from(data, offset)
            body = memoryview(data)[offset + _HEADER.size : offset + length]
            if one := kernel_address(body):
                found.append(one)
        return found


def kernel_address(body: memoryview) -> KernelAddress | None:
    """Return the address that a message tells of; None if it is malformed."""
    family, prefixlen, _flags, _scope, index = _ADDRESS.unpack_from(body)
    told = attributes(body[_ADDRESS.size :])
    try:
        text = socket.inet_ntop(family, told.get(_IFA_LOCAL) or told[_IFA_ADDRESS])
    except (KeyError, ValueError, OSError):
        return None
    _preferred, valid = _LIFETIMES.unpack_from(told.get(_IFA_CACHEINFO, b"\xff" * 8))
    return KernelAddress(index, text, prefixlen, None if valid == _FOREVER else valid)


def attributes(body: memoryview) -> dict[int, bytes]:
    """Return the attributes of a message, by number; nested ones as they are."""
    found: dict[int, bytes] = {}
    offset = 0
    while offset + 4 <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, offset)
        if length < 4 or offset + length > len(body):
            break
        found[kind & 0x3FFF] = bytes(body[offset + 4 : offset + length])
        offset += (length + 3) & ~3
    return found


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

    def hear_additions(self, on: bool) -> None:
        """Hear of added addresses, or not: a renewal is told like an addition, and who renews a thousand twice a
        second would hear of nothing but himself (rule 18)."""
        if on:
            # The kernel has no program to detach where none was attached: that is no failure.
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
            return
        kind = int.from_bytes(struct.pack("=H", RTM_NEWADDR), "big")  # the filter's machine is a big-endian one
        program = ((0x28, 0, 0, 4), (0x15, 0, 1, kind), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))
        code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in program))
        head = struct.pack("@HP", len(program), ctypes.addressof(code))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, head)

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
