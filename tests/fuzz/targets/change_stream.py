"""What a PostgreSQL server sends as changes. An input is a course of messages, each after its length."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator

from flask_hsmx_cluster.replication.pgoutput import Decoder, MalformedMessage, Relation

from ..target import Broken, Target


def _messages(data: bytes) -> Iterator[bytes]:
    at = 0
    while at + 2 <= len(data):
        length = int.from_bytes(data[at : at + 2], "big")
        yield data[at + 2 : at + 2 + length]
        at += 2 + length


def _course(*messages: bytes) -> bytes:
    return b"".join(len(one).to_bytes(2, "big") + one for one in messages)


class Fuzzed(Target):
    name = "change_stream"
    longest = 4096
    words = (b"R", b"I", b"U", b"D", b"T", b"N", b"K", b"O", b"t\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\7")

    def seeds(self) -> list[bytes]:
        column = b"\1id\0" + struct.pack("!IiB", 20, -1, 0) + b"note\0" + struct.pack("!Ii", 25, -1)
        relation = b"R" + struct.pack("!I", 7) + b"public\0voucher\0d" + struct.pack("!H", 2) + column
        row = struct.pack("!H", 2) + b"t\0\0\0\x011" + b"n"
        begin, commit = b"B" + struct.pack("!QqI", 9, 5, 3), b"C" + struct.pack("!BQQq", 0, 8, 9, 5)
        head = struct.pack("!I", 7)
        return [
            _course(begin, relation, b"I" + head + b"N" + row, commit),
            _course(relation, b"U" + head + b"K" + row + b"N" + row, b"D" + head + b"O" + row),
            _course(relation, b"T" + struct.pack("!IB", 1, 0) + head, b"O" + bytes(8) + b"origin\0"),
            _course(b"Y" + head + b"public\0mood\0", b"M" + struct.pack("!BQ", 1, 9) + b"x\0\0\0\0\1y"),
        ]

    def take(self, data: bytes) -> bool:
        self.handled_s, taken = 0.0, False
        for decoder in (Decoder(), Decoder(lambda relation: 1)):
            for message in _messages(data):
                before = dict[int, Relation](decoder._relations)
                began = time.thread_time()
                try:
                    decoder.decode(message)
                    taken = True
                except MalformedMessage:
                    if decoder._relations != before:
                        raise Broken("a message that makes no sense has described a table") from None
                self.handled_s = max(self.handled_s, time.thread_time() - began)
        return taken
