"""What a gateway answers that showed a pairing code: whoever types it in may have been given another one's."""

from __future__ import annotations

import json
from typing import Any
from unittest import mock

from flask_hsmx_cluster.agent.peer import joining
from flask_hsmx_cluster.errors import ClusterError
from tests.unit.gateways import ENDS_OF_B, settings_of_one

from ..pair import FuzzPair
from ..target import Broken, Target, line

_NOTED = ("event", "event_evidence", "sqlite_sequence")


class Fuzzed(Target):
    name = "pairing_answer"
    longest = 64 * 1024
    is_json = True
    words = (b"ok", b"result", b"error", b"settings", b"revision", b"keys", b"facts", b"heard", b"@A", b"@B")

    def __init__(self) -> None:
        self._of = FuzzPair(formed=False)
        self._step, self._answer = -1, b""
        self._heard: list[bytes] = []

    def _join(self) -> None:
        code = self._of.world.a.service.create(settings_of_one())["code"]
        self._number = -1
        on_answer = joining.pairing.Joiner.on_answer

        def answered(joiner: Any, data: bytes) -> bytes:
            true = on_answer(joiner, data)
            self._number += 1
            self._heard.append(true)
            return self._answer if self._number == self._step else true

        with mock.patch.object(joining.pairing.Joiner, "on_answer", answered):
            self._of.world.b.service.join("10.9.0.1", code, ENDS_OF_B)

    def seeds(self) -> list[bytes]:
        self._step, self._heard = -1, []
        self._join()
        heard = list(self._heard)
        self.renew()
        return [
            self._of.generic(line({"step": number, "answer": json.loads(one)})) for number, one in enumerate(heard)
        ]

    def take(self, data: bytes) -> bool:
        data, self._step = self._of.specific(data), len(data) % 6
        try:
            told = json.loads(data)
            self._step, self._answer = int(told["step"]) % 6, json.dumps(told["answer"]).encode()
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            self._answer = data
        before = self._of.stored(*_NOTED, gateway="B")
        try:
            self._join()
        except ClusterError:
            store = self._of.world.b.store
            if store.joining() is None and self._of.stored(*_NOTED, gateway="B") != before:
                raise Broken("a join that was refused has changed something") from None
        self.renew()  # the gateway with the code has been changed in any case
        return True

    def renew(self) -> None:
        self._of.renew()

    def close(self) -> None:
        self._of.close()
