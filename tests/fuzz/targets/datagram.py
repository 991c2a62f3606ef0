"""Datagrams as anybody on the link can send them: without the key."""

from __future__ import annotations

from collections.abc import Hashable

from flask_hsmx_cluster.agent.heartbeat.datagram import LONGEST

from ..target import Broken, Target
from .heartbeats import BEAT, CLUSTER, KEY, TAGS, A, B, Codec, Heartbeats, _Counting


class Fuzzed(Target):
    name = "datagram"
    longest = LONGEST + 64
    words = (b"HX\1\1", CLUSTER, A, B, b"incarn-B", b"incarn-A", bytes(8), b"\xff" * 8)

    def __init__(self) -> None:
        self._of = Heartbeats()
        self._of.greet()
        self._clock = self._of.clock()
        self._clock.__enter__()

    def seeds(self) -> list[bytes]:
        # Of a former key and of a former incarnation: nothing that can be recorded is believed.
        found = []
        for node, incarnation, key in ((B, b"incarn-B", b"o" * 32), (B, b"before-B", KEY), (A, b"before-A", KEY)):
            codec = Codec(CLUSTER, node, A, {1: key}, 1, incarnation, _Counting())
            found += [codec.encode(BEAT, tag, 1.0) for tag in TAGS.values()]
        return found

    def take(self, data: bytes) -> bool:
        self._of.now += 0.001
        return self._of.hear(data)

    def state(self) -> Hashable:
        # An unknown incarnation's challenge is answered once it is signed: that much of a path may change.
        paths, *others = self._of.state()
        return (tuple((tag, heard) for tag, heard, _response in paths), *others)

    def check_bounds(self) -> None:
        if len(self._of.codec._paths) > 2 or any(len(one.sent) > 64 for one in self._of.codec._paths.values()):
            raise Broken("the codec remembers more than it should")

    def close(self) -> None:
        self._clock.__exit__(None, None, None)
