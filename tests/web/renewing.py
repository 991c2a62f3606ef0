"""A renewal as the stand-in for the agent plays it: the real guide, over facts that a test sets."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from flask_hsmx_cluster.agent.renewal import showing
from flask_hsmx_cluster.network.clock import boot_time_s
from flask_hsmx_cluster.renewal.certificate import DAY_S, Certificate
from flask_hsmx_cluster.renewal.guide import Before, Facts, Guide, Kind, checks, progress

OWN, PEER = "a" * 32, "b" * 32


def certificate(number: int, days: float = 365, names: tuple[str, ...] = ("wifi.hotel.example",)) -> Certificate:
    """Return a certificate that ends in so many days."""
    end = int(time.time() + days * DAY_S)
    return Certificate(f"{number:064x}", names, "CN=Example CA", min(end, int(time.time())) - DAY_S, end)


def facts(node: str, name: str, **changes: Any) -> Facts:
    whole: dict[str, Any] = {
        "node_id": node, "name": name, "boot": f"{name} 1", "https": True, "certificate": certificate(1, 20),
        "problem": "", "firmware": "5.2.03", "version": "0.1.0", "protocol": 4, "protocol_least": 1, **changes,
    }  # fmt: skip
    return Facts(**whole)


class Renewing:
    """Both gateways, and the renewal between them."""

    def __init__(self) -> None:
        self.facts = {OWN: facts(OWN, "gateway-a"), PEER: facts(PEER, "gateway-b", certificate=certificate(2, 20))}
        self.guide: Guide | None = None

    def begin(self, kind: Kind) -> None:
        before = Before.of(self.facts[PEER]), Before.of(self.facts[OWN])
        self.guide = Guide(1, kind, "2030-05-06T07:08:09+00:00", "gateway-a", before)

    def renew(self, node: str, **changes: Any) -> None:
        """Install and reboot, with what comes of it."""
        now = self.facts[node]
        self.facts[node] = replace(now, boot=f"{now.boot}+", **(changes or {"certificate": certificate(77)}))

    def told(self, active: str | None, alone: bool) -> dict[str, Any]:
        now, guide = time.time(), self.guide
        known = {node: one for node, one in self.facts.items() if node == OWN or not alone}
        found = progress(guide, known, active, now) if guide else None
        passive = next((node for node in known if node != active), "")
        against = (
            checks(guide.kind, known.get(passive), known[active], guide.before, now)
            if guide and found and active and found.fails_over_now else ()
        )  # fmt: skip
        return showing.status(guide, found, against, known, dict.fromkeys(known, boot_time_s()), active, OWN, now)
