"""Heartbeats of a taken gateway: everything in them is the attacker's, and signed with the right key.

An input is a course of datagrams: each a byte that says how much time passes and what is kept of a true one, a length,
and so many bytes of what is signed. The core takes them as it takes any; the time is that of the one that took longest.
"""

from __future__ import annotations

import hmac
import time

from flask_hsmx_cluster.agent.heartbeat.datagram import _HEADER, LONGEST, SHORTEST

from ..target import Target
from .heartbeats import BEAT, KEY, TAGS, Heartbeats

_PASSES_S = (0.0, 0.001, 0.05, 0.1, 0.5, 3.0, 100.0, 1e6)
_MOST = LONGEST - 32


class Fuzzed(Target):
    name = "signed_datagram"
    longest = 1024
    words = (b"\0", b"\1", b"\2", b"\3", b"\xff" * 8, b"\xaa" * 16, b"\xbb" * 16)

    def seeds(self) -> list[bytes]:
        signed = Heartbeats().other.encode(BEAT, TAGS["sync"], 1.0)[:-32]
        body = signed[_HEADER.size :]
        one, whole = bytes((0x03, len(body))) + body, bytes((0x0B, len(signed))) + signed
        return [one, one * 5, whole, one + whole, bytes((0x1D, len(body))) + body]

    def take(self, data: bytes) -> bool:
        of = Heartbeats()
        of.greet()
        self.handled_s, at = 0.0, 0
        with of.clock():
            while at + 2 <= len(data):
                how, length = data[at], data[at + 1]
                told, at = data[at + 2 : at + 2 + length], at + 2 + length
                of.now += _PASSES_S[how & 7]
                tag = TAGS["ethernet" if how & 16 else "sync"]
                true = of.other.encode(BEAT, tag, of.now)[:-32]
                signed = told if how & 8 else true[: _HEADER.size] + told
                signed = signed[:_MOST].ljust(SHORTEST - 32, b"\0")
                message = signed + hmac.digest(KEY, signed, "sha256")
                frame = bytes(12) + b"\x88\xb5" + len(message).to_bytes(2, "big") + message
                began = time.thread_time()
                if how & 16:
                    of.hear_frame(frame)
                else:
                    of.hear(message)
                of.session.turn()
                self.handled_s = max(self.handled_s, time.thread_time() - began)
        return True
