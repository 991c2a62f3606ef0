"""What a taken gateway answers: anything, sealed with the cluster's key, to each thing that this one asks."""

from __future__ import annotations

import json
from collections.abc import Hashable, Sequence
from typing import Any

from flask_hsmx_cluster.agent.peer.client import Route
from flask_hsmx_cluster.control import MAX_LINE
from flask_hsmx_cluster.errors import ClusterError

from ..pair import FuzzPair, conversation
from ..target import Broken, Target, line


class Fuzzed(Target):
    name = "peer_answer"
    longest = 256 * 1024
    is_json = True
    words = (b"ok", b"result", b"error", b"code", b"conflict", b"findings", b"message", b"@A", b"@B", b"@HEAD")

    def __init__(self) -> None:
        self._of = FuzzPair()
        self._answer = b""
        self._attach()

    def _attach(self) -> None:
        world = self._of.world

        def post(
            routes: Sequence[Route], port: int, path: str, body: bytes, timeout_s: float, repeatable: bool = True
        ) -> bytes:
            return self._of.sealed_answer(body, self._answer)

        world.a.service._exchange._post = post
        service, other = world.a.service, self._of.ids[1]
        data: Any = service._data
        self._calls = [
            service.peer_ports, self._deliver, lambda: service.propose(*self._edited()), service._firewall._check_ports,
            service.renewal_look, lambda: service.renewal_begin("certificate"), service.verify, service.verified,
            lambda: service.quarantine(node=other), lambda: service.quarantine(node=other, whole=True),
            lambda: service.quarantine_row(1, other), lambda: service.quarantine_value(1, "key", "id", 0, other),
            lambda: service.discard([1], other), lambda: service.reapply(1, node=other), lambda: service.swept(other),
            lambda: service.sweep("discard", [1], node=other), lambda: service.aside(other),
            lambda: service.aside_delete("x", other), lambda: service._desk.ask_peer(),  # type: ignore[union-attr]
            data.follow, data.compare, data.choose_link, lambda: service.leave(True), service._notifier.look,
            service._files.whole_pass, service._files._exchange_facts, service._files.compare,  # type: ignore[union-attr]
        ]  # fmt: skip

    def _deliver(self) -> object:
        self._of.world.a.service._revisions._peer_differs = True
        return self._of.world.a.service._revisions.deliver()

    def _edited(self) -> tuple[Any, int]:
        held = self._of.world.a.service.settings()
        held["settings"]["advanced"]["heartbeat_ms"] = 200
        return held["settings"], held["revision"]

    def seeds(self) -> list[bytes]:
        answers = [message for verb, message in conversation(self._of) if not verb]
        self.renew()
        found = [line({"call": number, "answer": answers[number % len(answers)]}) for number in range(len(self._calls))]
        found += [line({"call": number, "answer": message}) for number, message in enumerate(answers)]
        return list(dict.fromkeys(self._of.generic(one) for one in found))

    def take(self, data: bytes) -> bool:
        data, number = self._of.specific(data), len(data)
        try:
            told = json.loads(data)
            number, self._answer = int(told["call"]), self._of.signed(json.dumps(told["answer"]).encode())
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            self._answer = data
        try:
            found = self._calls[number % len(self._calls)]()
            found = list(found) if hasattr(found, "__next__") else found  # type: ignore[call-overload]
        except ClusterError as error:
            found, refused = error.as_dict(), True
        else:
            refused = False
        if len(json.dumps(found, default=vars)) > MAX_LINE:
            raise Broken("the answer does not fit into a line of the control socket")
        return not refused

    def state(self) -> Hashable:
        return self._of.stored("peer", "event", "event_evidence", "sqlite_sequence")

    def check_bounds(self) -> None:
        self._of.check_bounds()

    def renew(self) -> None:
        self._of.renew()
        self._attach()

    def close(self) -> None:
        self._of.close()
