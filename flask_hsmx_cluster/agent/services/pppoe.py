"""PPPoE connections as the agent tends them: what is recorded of them, and what the other gateway knows.

The other gateway is told the active's sessions. If that one dies, it can tell the provider that they are over.
"""

from __future__ import annotations

import re
from typing import Any

from ...errors import ClusterError, PeerUnavailable, RequestRefused
from ...network.clock import boot_time_s
from ...settings import pppoe
from ..cluster import Cluster
from ..jobs import Periodic
from ..peer.exchange import Exchange
from .side import ServicesSide

LOOK_EVERY_S = 1.0
#: The other gateway is told sessions again after a failure only this much later, s.
SHARE_AGAIN_S = 10.0
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_SESSION_KEYS = ("name", "session", "concentrator_mac", "mac")


class PPPoESide:
    """Watches the connections, and carries out what an operator wants of one.

    :param services: knows the process that dials.
    """

    def __init__(self, cluster: Cluster, exchange: Exchange, services: ServicesSide) -> None:
        self._cluster, self._exchange, self._services = cluster, exchange, services
        self._states: dict[str, str] = {}
        self._shared: list[dict[str, Any]] = []
        self._share_at = 0.0
        exchange.handle("pppoe", lambda _sender, told: self._here(str(told.get("name")), told.get("connect") is True))
        exchange.handle("pppoe_sessions", lambda _sender, told: self._on_sessions(told.get("sessions")))

    def periodic_jobs(self) -> Periodic:
        """Return period (s) and work of each job, by name."""
        return {"PPPoE: look": (lambda: self._services.every(LOOK_EVERY_S), self.look)}

    def status(self) -> list[dict[str, Any]]:
        """Return how the connections are on this gateway."""
        found: list[dict[str, Any]] = self._services.shown("pppoe").get("connections", [])
        return found

    def look(self) -> str:
        """Record what has changed, and tell the other gateway the sessions."""
        rows = self.status()
        for row in rows:
            self._note(row)
        self._states = {row["name"]: row["state"] for row in rows}
        sessions = [{key: row[key] for key in _SESSION_KEYS} for row in rows if row["state"] == "up"]
        if sessions != self._shared:
            if self._cluster.role() == "active":
                self._share(sessions)
            else:
                self._shared = []
        return f"{len(sessions)} of {len(rows)} up"

    def command(self, name: str, connect: bool) -> dict[str, Any]:
        """Connect or disconnect a connection, wherever the role is.

        :raises ClusterError: it cannot be.
        """
        if self._cluster.role() == "active":
            return self._here(name, connect)
        return self._exchange.ask("pppoe", timeout_s=5.0, name=name, connect=connect)

    def _here(self, name: str, connect: bool) -> dict[str, Any]:
        if self._cluster.role() != "active":
            raise RequestRefused("Connections are dialled on the active gateway only.", "Do it there.")
        self._services.command("pppoe", name=name, connect=connect)
        what = "connected" if connect else "disconnected"
        self._cluster.store.record("pppoe_command", "info", f"An operator {what} PPPoE connection {name}.")
        return {"name": name, "connect": connect}

    def _note(self, row: dict[str, Any]) -> None:
        before, now = self._states.get(row["name"], "down"), row["state"]
        if now == "up" and before != "up":
            text = f"PPPoE connection {row['name']} is up with {row['address']} on {row['interface']}."
            self._cluster.store.record("pppoe_up", "info", text)
        elif before == "up" and now != "up":
            why = row["fault"] or f"It {row['text']}."
            severity = "warning" if row["fault"] else "info"
            self._cluster.store.record("pppoe_down", severity, f"PPPoE connection {row['name']} has ended. {why}")

    def _share(self, sessions: list[dict[str, Any]]) -> None:
        if boot_time_s() < self._share_at or not self._cluster.has_peer(self._cluster.require_heads()):
            return
        try:
            self._exchange.ask("pppoe_sessions", timeout_s=2.0, sessions=sessions)
            self._shared = sessions
        except PeerUnavailable:
            self._share_at = boot_time_s() + SHARE_AGAIN_S
        except ClusterError:  # an older version: it has no need to know
            self._shared = sessions

    def _on_sessions(self, told: Any) -> dict[str, Any]:
        if not isinstance(told, list) or len(told) > pppoe.MAX_CONNECTIONS or not all(map(_is_session, told)):
            raise RequestRefused("These are no sessions.")
        self._cluster.peer_sessions = [{key: row[key] for key in _SESSION_KEYS} for row in told]
        return {}


def _is_session(row: Any) -> bool:
    return (
        isinstance(row, dict)
        and set(row) == set(_SESSION_KEYS)
        and isinstance(row["name"], str) and len(row["name"]) <= 32
        and type(row["session"]) is int and 0 < row["session"] < 0xFFFF
        and all(isinstance(row[key], str) and _MAC.fullmatch(row[key]) for key in ("concentrator_mac", "mac"))
    )  # fmt: skip
