"""What a gateway asks that knows the pairing code: its owner may be hostile, or the code overheard."""

from __future__ import annotations

import base64
import json
from collections.abc import Hashable
from typing import Any

from flask_hsmx_cluster.agent.peer import pairing
from flask_hsmx_cluster.control import MAX_MESSAGE
from flask_hsmx_cluster.errors import PairingFailed
from tests.unit.gateways import ENDS_OF_B, settings_of_one
from tests.unit.test_forming_data import SCOPE

from ..pair import FuzzPair
from ..target import Broken, Target, line


class Fuzzed(Target):
    name = "pairing_request"
    longest = 64 * 1024
    is_json = True
    words = (
        b"introduce", b"survey", b"layouts", b"echo", b"echo_result", b"propose", b"commit", b"abort", b"verb",
        b"arguments", b"@B", b"@A", b"facts", b"ends", b"digest",
    )  # fmt: skip

    def __init__(self) -> None:
        self._of = FuzzPair(formed=False)
        self._begin()

    def _begin(self) -> None:
        self._code = self._of.world.a.service.create(settings_of_one())["code"]
        self._introduction = line(
            {"verb": "introduce", "arguments": {"facts": self._facts(), "ends": ENDS_OF_B}},
        )
        self._joiner: pairing.Joiner | None = None

    def _facts(self) -> dict[str, Any]:
        cluster = self._of.world.b.service._cluster
        return cluster.facts(cluster.hot.ports()).to_dict()

    def seeds(self) -> list[bytes]:
        database = self._of.replicators["B"].told(SCOPE)
        asked: list[tuple[str, dict[str, Any]]] = [
            ("survey", {"database": database}), ("survey", {"database": None}), ("propose", {}), ("abort", {}),
            ("layouts", {"names": ["public.voucher"]}), ("echo", {"token": "5" * 64}), ("echo_result", {}),
            ("commit", {"digest": "@PREPARED"}),
        ]  # fmt: skip
        messages = [self._introduction, *(line({"verb": verb, "arguments": told}) for verb, told in asked)]
        return [self._of.generic(one) for one in messages]

    def _ask(self, payload: bytes) -> bytes:
        if self._joiner is None or self._joiner._established().count >= pairing.MAX_REQUESTS - 1:
            self._joiner = pairing.Joiner(self._of.ids[1], pairing.code_hash(self._code))
            self._joiner.on_offer(self._post(self._joiner.hello()))
            self._joiner.on_answer(self._post(self._joiner.request(self._introduction)))
        return self._joiner.on_answer(self._post(self._joiner.request(payload)))

    def _post(self, data: bytes) -> bytes:
        return base64.b64decode(self._of.world.a.service.pair(base64.b64encode(data).decode())["message"])

    def take(self, data: bytes) -> bool:
        try:
            answer = self._ask(self._of.specific(data))
        except PairingFailed:  # too long for a message
            self._joiner = None
            return False
        if len(answer) + 100 > MAX_MESSAGE:
            raise Broken("the answer is longer than a message may be")
        return bool(json.loads(answer)["ok"])

    def state(self) -> Hashable:
        return self._of.stored("pairing", "event", "event_evidence", "sqlite_sequence")

    def check_bounds(self) -> None:
        self._of.check_bounds()
        offerer = self._of.world.a.service._creator._offerer
        if offerer is not None and len(offerer._sessions) > pairing.MAX_SESSIONS:
            raise Broken("joiners fill the memory")

    def renew(self) -> None:
        self._of.renew()
        self._begin()

    def close(self) -> None:
        self._of.close()
