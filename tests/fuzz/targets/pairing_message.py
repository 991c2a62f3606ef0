"""What anybody can post to the pairing endpoint while a code lives."""

from __future__ import annotations

import base64
from collections.abc import Hashable

from flask_hsmx_cluster.agent.peer import pairing
from flask_hsmx_cluster.agent.peer.pairing import MAX_SESSIONS
from tests.unit.gateways import settings_of_one

from ..pair import FuzzPair
from ..target import Broken, Target


class Fuzzed(Target):
    name = "pairing_message"
    longest = 2048
    words = (b"HSMp\1\1", b"HSMp\1\3", bytes(32), bytes(4))

    def __init__(self) -> None:
        self._of = FuzzPair(formed=False)
        self._begin()

    def _begin(self) -> None:
        self._of.world.a.service.create(settings_of_one())

    def seeds(self) -> list[bytes]:
        joiner = pairing.Joiner("bb" * 16, pairing.code_hash(pairing.new_code()))
        hello = joiner.hello()
        joiner.on_offer(self._answer(hello))
        return [hello, joiner.request(b"{}")]

    def _answer(self, data: bytes) -> bytes:
        return base64.b64decode(self._of.world.a.service.pair(base64.b64encode(data).decode())["message"])

    def take(self, data: bytes) -> bool:
        offerer = self._of.world.a.service._creator._offerer
        if offerer is not None and offerer.attempts_left <= 0:  # a new code, or all else would be refused from now on
            self._of.world.a.service.pairing_code()
        kind = self._answer(data)[5]
        if kind == 4:
            raise Broken("somebody without the code was answered")
        return kind != 5

    def state(self) -> Hashable:
        # An attempt is counted and recorded: that much may change.
        return self._of.stored("pairing", "event", "event_evidence", "sqlite_sequence")

    def check_bounds(self) -> None:
        offerer = self._of.world.a.service._creator._offerer
        if offerer is not None and len(offerer._sessions) > MAX_SESSIONS:
            raise Broken("joiners fill the memory")

    def close(self) -> None:
        self._of.close()
