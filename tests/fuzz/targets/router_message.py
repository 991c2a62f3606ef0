"""ICMPv6 of guests that ask for routers, and of whoever says that it is one."""

from __future__ import annotations

import socket
import struct
from collections.abc import Hashable
from ipaddress import IPv6Address
from typing import Any

from flask_hsmx_cluster.agent.heartbeat.advertiser import OTHERS_KEPT, AdvertisedPort, Advertiser
from flask_hsmx_cluster.network.router_advertisement import Advertisement, AdvertisingSocket, encode, parse

from ..target import Broken, Target

_HEAD = 18  #: how far, which port, and the sender's address


class _Socket:
    def __init__(self) -> None:
        self.waiting: list[bytes] = []

    def recvmsg(self, size: int, _ancillary: int) -> tuple[bytes, list[tuple[int, int, bytes]], int, tuple[str, int]]:
        if not self.waiting:
            raise BlockingIOError
        data = self.waiting.pop()
        sender = str(IPv6Address(data[2:_HEAD].ljust(16, b"\0")))
        control = [
            (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT, struct.pack("=i", data[0])),
            (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, struct.pack("=16sI", bytes(16), data[1])),
        ]
        return data[_HEAD : _HEAD + size], control, 0, (f"{sender}%lan0", 0)

    def setsockopt(self, *_words: object) -> None: ...

    def sendto(self, *_words: object) -> None: ...


class Fuzzed(Target):
    name = "router_message"
    longest = 128

    def __init__(self) -> None:
        self._socket, self._now = _Socket(), 1000.0
        wire = object.__new__(AdvertisingSocket)
        wire._socket = self._socket  # type: ignore[assignment]
        port = AdvertisedPort(Advertisement(), IPv6Address("fe80::5"), 2, "lan0", 2, b"\2" * 6)
        self._of = Advertiser({"lan0": port}, wire)
        self._of._active = True  # without its first advertisements: sending is not what is tried here

    def seeds(self) -> list[bytes]:
        head = b"\xff\2" + IPv6Address("fe80::77").packed
        return [head + encode(Advertisement(), b"\2" * 6, life_s) for life_s in (0, 1800)] + [head + b"\x85" + bytes(7)]

    def take(self, data: bytes) -> bool:
        if len(data) < _HEAD:
            return False
        self._now += 1.0
        self._socket.waiting.append(data)
        self._of.receive(self._now)
        return data[:2] == b"\xff\2" and parse(data[_HEAD:], str(IPv6Address(data[2:_HEAD])), 2) is not None

    def state(self) -> Hashable:
        port: Any = self._of._ports["lan0"]
        return tuple(port.others.items()), port.due

    def check_bounds(self) -> None:
        if len(self._of._ports["lan0"].others) > OTHERS_KEPT:
            raise Broken("other routers fill the memory")
