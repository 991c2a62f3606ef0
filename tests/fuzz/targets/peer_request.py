"""What a taken gateway asks: anything, sealed with the cluster's key, from the right address."""

from __future__ import annotations

import json
from collections.abc import Hashable
from typing import Any

from flask_hsmx_cluster.control import MAX_MESSAGE

from ..pair import FuzzPair, conversation
from ..target import Broken, Target, line

#: Its facts are noted whatever it asks for, and some refusals are recorded.
_NOTED = ("peer", "event", "event_evidence", "sqlite_sequence")


class Fuzzed(Target):
    name = "peer_request"
    longest = 256 * 1024
    is_json = True

    def __init__(self) -> None:
        self._of = FuzzPair()
        verbs = self._of.world.a.service._exchange._handlers
        self.words = (*(verb.encode() for verb in verbs), b"arguments", b"facts", b"@A", b"@B", b"@HEAD")

    def seeds(self) -> list[bytes]:
        found = [self._of.generic(line(message)) for verb, message in conversation(self._of) if verb]
        self._of.renew()
        return list(dict.fromkeys(found))

    def take(self, data: bytes) -> bool:
        answer: Any = self._of.ask_a(self._of.signed(self._of.specific(data)))
        if len(json.dumps(answer)) > MAX_MESSAGE:
            raise Broken("the answer is longer than a message may be")
        return bool(answer["ok"])

    def state(self) -> Hashable:
        return self._of.stored(*_NOTED)

    def check_bounds(self) -> None:
        self._of.check_bounds()

    def renew(self) -> None:
        self._of.renew()

    def close(self) -> None:
        self._of.close()
