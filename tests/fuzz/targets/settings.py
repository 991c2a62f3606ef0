"""Settings, whoever brings them: read, judged, and told again."""

from __future__ import annotations

import json
from typing import Any

from flask_hsmx_cluster.agent.heartbeat import plan
from flask_hsmx_cluster.errors import ChecksFailed
from flask_hsmx_cluster.firewall.rules import peers_of
from flask_hsmx_cluster.settings import model, passwords, rules
from tests.unit.test_rules import GOOD

from ..target import Broken, Target, line

_PORTS: dict[str, Any] = {}


class Fuzzed(Target):
    name = "settings"
    longest = model.MAX_SIZE
    is_json = True
    words = (
        b"virtual_ips", b"links", b"ends", b"networks", b"aliases", b"routes", b"pppoe", b"interfaces", b"notify",
        b"advanced", b"references", b"address", b"port", b"10.0.0.100/24", b"2001:db8::1/64", b"lan0", b"sync",
    )  # fmt: skip

    def seeds(self) -> list[bytes]:
        plain = model.to_dict(GOOD)
        many = {
            "networks": [{"address": f"10.{n}.0.1/24", "port": f"lan{n % 8}"} for n in range(1, 40)],
            "aliases": [{"address": f"10.0.{n // 200}.{n % 200 + 20}/32", "port": "lan0"} for n in range(400)],
            "routes": [{"destination": f"172.16.{n}.0/24", "gateway": "10.0.0.254", "port": "lan0"} for n in range(40)],
        }
        others = {
            "pppoe": [{"name": "isp", "port": "wan0", "user": "u", "password": "p"}],
            "notify": [{"name": "noc", "kind": "webhook", "url": "https://x.example/"}],
            "interfaces": [{"port": "lan0", "ends": {}}],
        }
        return [line(plain), line({**plain, **many}), line({**plain, **others})]

    def take(self, data: bytes) -> bool:
        try:
            told = json.loads(data)
        except (ValueError, RecursionError):
            return False
        if not isinstance(told, dict):
            return False
        try:
            found = model.from_dict(told)
        except ChecksFailed:
            return False
        if model.from_dict(json.loads(json.dumps(model.to_dict(found)))) != found:
            raise Broken("settings are not what they were when they are told again")
        if not any(one.blocking for one in [*rules.check(found, _PORTS), *passwords.missing(found)]):
            plan.watched_of(found), plan.advertised_of(found)
            for node in found.nodes:
                list(peers_of(found, node.node_id))
        return True
