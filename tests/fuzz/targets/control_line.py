"""Lines on the control socket: of the web app's user, should the web app be taken."""

from __future__ import annotations

import json
from collections.abc import Hashable
from typing import Any
from unittest import mock

from flask_hsmx_cluster.agent import control_server
from flask_hsmx_cluster.agent.control_server import ARGUMENTS, ControlServer
from flask_hsmx_cluster.agent.node_store import PeerFacts
from flask_hsmx_cluster.control import MAX_LINE, VERBS
from flask_hsmx_cluster.errors import ClusterError
from tests.unit.gateways import ENDS_OF_B

from ..pair import FuzzPair
from ..target import Broken, Target, line

_SAMPLES: dict[str, Any] = {
    "limit": 10, "before": 5, "peers": ["10.9.0.2"], "base_revision": 2, "address": "10.9.0.2", "ends": ENDS_OF_B,
    "code": "7KQM-2XWP-9RTC-4HVN-0000", "force": True, "on": True, "duration_s": 600, "name": "isp", "connect": True,
    "kind": "certificate", "tree": "portal", "after": 0, "node": "@B", "table": "public.voucher", "state": "kept",
    "batch": "0" * 32, "whole": False, "row_id": 1, "which": "key", "column": "id", "offset": 0, "ids": [1],
    "overwrite": True, "seen": "", "action": "discard", "upto": 2, "keep": "mine", "message": "SFNNcw==",
    "by": "night manager", "within_s": 15,
}  # fmt: skip


class Fuzzed(Target):
    name = "control_line"
    longest = 256 * 1024
    is_json = True
    words = (b"verb", b"arguments", b"@A", b"@B", *(verb.encode() for verb in VERBS))

    def __init__(self) -> None:
        self._of = FuzzPair()
        self._attach()

    def _attach(self) -> None:
        service = self._of.world.a.service
        self._server = ControlServer(self._of.world.a.config, service)
        # What answers or does not is another target's business, and waiting for it costs executions.
        service._managers = mock.Mock(look=lambda settings: "", alarms=list)
        facts = self._of.world.a.store.peer()
        assert isinstance(facts, PeerFacts)

    def seeds(self) -> list[bytes]:
        settings = self._of.world.a.service.settings()["settings"]
        samples = {**_SAMPLES, "settings": {**settings, "advanced": {**settings["advanced"], "heartbeat_ms": 200}}}
        return [
            self._of.generic(line({"verb": verb, "arguments": {name: samples[name] for name in table}}))
            for verb, table in ARGUMENTS.items()
        ]

    def take(self, data: bytes) -> bool:
        try:
            verb, arguments = control_server._parse(self._of.specific(data))
            answer = self._server._carry_out(verb, arguments)
        except ClusterError as error:
            answer, taken = error.as_dict(), False
        else:
            taken = True
        if len(json.dumps(answer)) > MAX_LINE:
            raise Broken("the answer does not fit into a line")
        return taken

    def state(self) -> Hashable:
        # A change that the other gateway refuses is prepared and dropped, and what was drawn meanwhile is recorded.
        return self._of.stored("peer", "event", "event_evidence", "sqlite_sequence", "pairing")

    def check_bounds(self) -> None:
        self._of.check_bounds()

    def renew(self) -> None:
        self._of.renew()
        self._attach()

    def close(self) -> None:
        self._of.close()
