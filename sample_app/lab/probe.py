"""The programs that watch the lab: ``python -m sample_app.lab.probe ping|sweep|arp|addresses|sell ...``.

Each is a process of its own, so that nothing else in the lab's process delays it. It prints JSON lines with times
of the monotonic clock (which all processes of the machine share), at most 50 ms after the fact, and ends when its
standard input is closed, hence also with the process that started it.
"""

from __future__ import annotations

import contextlib
import gc
import ipaddress
import json
import select
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from .namespace import Namespace
from .netlink import AddressSocket
from .sales import Sales

_FLUSH_EVERY_S = 0.05
_ECHO = struct.Struct("!BBHHHQd")  # type, code, checksum, identifier, sequence; number and time sent
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_ETHERNET = struct.Struct("!6s6sH")
_ETHERTYPE_ARP = 0x0806
_BROADCAST = b"\xff" * 6
#: Nobody's MAC: answers to it are seen here, while the client's kernel takes them for somebody else's.
_ASKING_MAC = bytes.fromhex("020061736b73")


class Watch(Protocol):
    """What a program does: ``read`` when its ``sockets`` have something, ``turn`` once per interval."""

    interval_s: float

    @property
    def sockets(self) -> Sequence[Any]: ...

    def turn(self, number: int) -> None: ...

    def read(self) -> list[list[Any]]: ...


class Ping:
    """ICMP or ICMPv6 echo. Prints ``[number, sent, answered]`` for each answer."""

    def __init__(self, namespace: Namespace, address: str, interval_s: float) -> None:
        self.interval_s = interval_s
        version6 = ipaddress.ip_address(address).version == 6
        # A ping socket: the kernel fills in identifier and checksum, and passes on only our own answers.
        family, protocol = (
            (socket.AF_INET6, socket.IPPROTO_ICMPV6) if version6 else (socket.AF_INET, socket.IPPROTO_ICMP)
        )
        self._request, self._reply = (128, 129) if version6 else (8, 0)
        self._target = (address, 0)
        self._socket = namespace.socket(family, socket.SOCK_DGRAM, protocol)
        self._socket.setblocking(False)
        self.sockets: Sequence[Any] = [self._socket]

    def turn(self, number: int) -> None:
        echo = _ECHO.pack(self._request, 0, 0, 0, number & 0xFFFF, number, time.monotonic())
        # No route, no neighbour, an error that came back: as good as no answer.
        with contextlib.suppress(OSError):
            self._socket.sendto(echo, self._target)

    def read(self) -> list[list[Any]]:
        records: list[list[Any]] = []
        while True:
            try:
                data = self._socket.recv(256)
            except BlockingIOError:
                return records
            except OSError:
                continue  # The kernel reports an unreachable host this way.
            if len(data) >= _ECHO.size and data[0] == self._reply:
                *_, number, sent = _ECHO.unpack_from(data)
                records.append([number, round(sent, 6), round(time.monotonic(), 6)])


class Sweep(Ping):
    """Echoes to many addresses in turn. Prints ``[number, which, sent, answered]`` for each answer."""

    def __init__(self, namespace: Namespace, addresses: str, interval_s: float) -> None:
        self._targets = [(address, 0) for address in addresses.split(",")]
        super().__init__(namespace, self._targets[0][0], interval_s)

    def turn(self, number: int) -> None:
        for which, target in enumerate(self._targets):
            self._target = target
            super().turn(number * len(self._targets) + which)

    def read(self) -> list[list[Any]]:
        return [[*divmod(number, len(self._targets)), sent, answered] for number, sent, answered in super().read()]


class Arp:
    """Asks who has an IPv4 address, as RFC 5227 does. Prints ``[number, answered, mac]`` for each answer."""

    def __init__(self, namespace: Namespace, address: str, interval_s: float, port: str = "lan0") -> None:
        self.interval_s = interval_s
        self._socket = namespace.socket(socket.AF_PACKET, socket.SOCK_RAW)
        with namespace.entered():
            self._socket.bind((port, _ETHERTYPE_ARP))
        self._socket.setblocking(False)
        self._address = socket.inet_aton(address)
        self._question = _ETHERNET.pack(_BROADCAST, _ASKING_MAC, _ETHERTYPE_ARP) + _ARP.pack(
            1, 0x0800, 6, 4, 1, _ASKING_MAC, bytes(4), bytes(6), self._address
        )
        self._number = 0
        self.sockets: Sequence[Any] = [self._socket]

    def turn(self, number: int) -> None:
        self._number = number
        with contextlib.suppress(OSError):  # The port may be down; then nobody answers.
            self._socket.send(self._question)

    def read(self) -> list[list[Any]]:
        records: list[list[Any]] = []
        while True:
            try:
                data = self._socket.recv(128)
            except OSError:
                return records
            if len(data) < _ETHERNET.size + _ARP.size:
                continue
            destination, _, _ = _ETHERNET.unpack_from(data)
            *_, operation, mac, sender, _, _ = _ARP.unpack_from(data, _ETHERNET.size)
            if operation == 2 and destination == _ASKING_MAC and sender == self._address:
                records.append([self._number, round(time.monotonic(), 6), mac.hex(":")])


class Addresses:
    """Address events of several kernels. Prints ``[namespace, time, present, address]``."""

    interval_s = 1.0

    def __init__(self, namespaces: list[Namespace]) -> None:
        self._sources = {namespace.name: AddressSocket(namespace) for namespace in namespaces}
        self.sockets: Sequence[Any] = list(self._sources.values())

    def turn(self, number: int) -> None:
        pass

    def read(self) -> list[list[Any]]:
        # What is read in one go gets one time: else an address that moved from one kernel to the other between
        # two reads would look as if both had it.
        now = round(time.monotonic(), 6)
        records: list[list[Any]] = []
        while found := [[name, now, event.present, event.address]
                        for name, source in self._sources.items() for event in source.read()]:
            records += found
        return records


def watch(program: Watch) -> None:
    """Run a program until standard input is closed."""
    gc.disable()  # Nothing here makes cycles, and a collection would be seen as a late answer.
    lines: list[str] = []
    turn_at = flush_at = time.monotonic()
    number = 0
    while True:
        now = time.monotonic()
        if now >= turn_at:
            program.turn(number)
            number += 1
            # After a stall the missed turns are left out, not caught up with.
            turn_at = max(turn_at + program.interval_s, now)
        if now >= flush_at:
            _flush(lines)
            flush_at = now + _FLUSH_EVERY_S
        wait = max(0.0, min(turn_at, flush_at if lines else turn_at) - time.monotonic())
        ready, _, _ = select.select([*program.sockets, sys.stdin], [], [], wait)
        if ready and ready != [sys.stdin]:
            lines += [json.dumps(record, separators=(",", ":")) for record in program.read()]
        if sys.stdin in ready:
            _flush(lines)
            return


def _flush(lines: list[str]) -> None:
    if lines:
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()
        lines.clear()


def main(arguments: list[str]) -> None:
    programs: dict[str, Callable[..., Watch]] = {
        "ping": lambda namespace, address, interval: Ping(Namespace(namespace), address, float(interval)),
        "sweep": lambda namespace, addresses, interval: Sweep(Namespace(namespace), addresses, float(interval)),
        "arp": lambda namespace, address, interval: Arp(Namespace(namespace), address, float(interval)),
        "sell": lambda namespace, address, prefix: Sales(Namespace(namespace), address, prefix),
        "addresses": lambda *names: Addresses([Namespace(name) for name in names]),
    }
    program = programs[arguments[0]](*arguments[1:])
    print(json.dumps("ready"), flush=True)
    watch(program)


if __name__ == "__main__":
    main(sys.argv[1:])
