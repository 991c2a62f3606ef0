"""Ethernet frames on a virtual-IP port: ARP, neighbour discovery, raw heartbeats."""

from __future__ import annotations

from collections.abc import Hashable
from ipaddress import ip_address

from flask_hsmx_cluster.agent.heartbeat.session import NEIGHBOURS_KEPT
from flask_hsmx_cluster.network.wire import GROUP_MAC, AddressClaim, OtherFrame, parse
from tests.unit.test_session import PEER_MAC

from ..target import Broken, Target
from .heartbeats import BEAT, KEY, TAGS, Codec, Heartbeats, _Counting

_STRANGER = b"\2\0\0\0\0\x77"


def arp(mac: bytes, address: str, operation: int = 2) -> bytes:
    head = b"\xff" * 6 + mac + b"\x08\x06\x00\x01\x08\x00\x06\x04" + operation.to_bytes(2, "big")
    return head + mac + ip_address(address).packed + bytes(6) + ip_address(address).packed


def advertisement(mac: bytes, address: str) -> bytes:
    target = ip_address(address).packed
    ipv6 = b"\x60\0\0\0" + (24).to_bytes(2, "big") + b"\x3a\xff" + target + ip_address("ff02::1").packed
    return b"\x33\x33\0\0\0\1" + mac + b"\x86\xdd" + ipv6 + b"\x88\0\0\0\x20\0\0\0" + target


class Fuzzed(Target):
    name = "frame"
    longest = 1514
    words = (b"\x08\x06\x00\x01\x08\x00\x06\x04", b"\x86\xdd", b"\x88\xb5", PEER_MAC, ip_address("10.0.0.100").packed)

    def __init__(self) -> None:
        self._of = Heartbeats()
        self._of.greet()
        self._clock = self._of.clock()
        self._clock.__enter__()

    def seeds(self) -> list[bytes]:
        beat = Codec(b"c" * 8, b"\xbb" * 16, b"\xaa" * 16, {1: KEY}, 1, b"before-B", _Counting())
        payload = beat.encode(BEAT, TAGS["ethernet"], 1.0)
        return [
            arp(_STRANGER, "10.0.0.100"), arp(PEER_MAC, "10.0.0.100"), arp(_STRANGER, "0.0.0.0", 1),
            arp(_STRANGER, "10.0.0.254"), advertisement(_STRANGER, "2001:db8::1"),
            GROUP_MAC + PEER_MAC + b"\x88\xb5" + len(payload).to_bytes(2, "big") + payload,
        ]  # fmt: skip

    def take(self, data: bytes) -> bool:
        self._of.now += 0.001
        self._of.hear_frame(data)
        self._of.session.turn()
        return isinstance(parse(data), AddressClaim | OtherFrame)

    def state(self) -> Hashable:
        session, port = self._of.session, self._of.port
        return len(session._seen), tuple(port.neighbours), session._reference_at, self._of.core.role

    def check_bounds(self) -> None:
        if len(self._of.session._seen) > 257 or len(self._of.port.neighbours) > NEIGHBOURS_KEPT:
            raise Broken("strangers fill the memory")

    def close(self) -> None:
        self._clock.__exit__(None, None, None)
