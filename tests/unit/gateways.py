"""Two gateways in one process: real stores and services, a fake hot side, and a wire that can be cut."""

from __future__ import annotations

import base64
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import pytest

from flask_hsmx_cluster.agent.config import AgentConfig
from flask_hsmx_cluster.agent.membership import Membership
from flask_hsmx_cluster.agent.node_store import NodeStore
from flask_hsmx_cluster.agent.peer.client import Route
from flask_hsmx_cluster.agent.preflight import checks as preflight
from flask_hsmx_cluster.agent.service import AgentService
from flask_hsmx_cluster.decision.model import Cause
from flask_hsmx_cluster.errors import ClusterError, NetworkError, PeerUnavailable, RequestRefused

LAN_ADDRESS = "10.0.0.100"


def port(name: str, mac: str, *addresses: str, carrier: bool = True) -> dict[str, Any]:
    return {
        "name": name,
        "mac": mac,
        "carrier": carrier,
        "addresses": list(addresses),
        "leased": [],
        "kind": "ethernet",
        "mtu": 1500,
    }


def settings_of_one(**changes: Any) -> dict[str, Any]:
    """Settings as an operator enters them on gateway A."""
    settings: dict[str, Any] = {
        "cluster_id": "",
        "nodes": [{"node_id": "self", "name": ""}],
        "virtual_ips": [{"address": f"{LAN_ADDRESS}/24", "port": "lan0"}],
        "links": [
            {"kind": "sync", "ends": {"self": {"port": "sync0", "address": "10.9.0.1/24"}}},
            {"kind": "backup", "ends": {"self": {"port": "backup0", "address": "10.8.0.1/24"}}},
        ],
        "advanced": {},
    }
    return {**settings, **changes}


ENDS_OF_B = {
    "sync": {"port": "sync0", "address": "10.9.0.2/24"},
    "backup": {"port": "backup0", "address": "10.8.0.2/24"},
}


@dataclass
class FakeHot:
    """The hot side as far as the cold side can tell: active when it claims, refuses when told to."""

    number: int
    role: str = "standalone"
    membership: Membership | None = None
    applied: list[Membership | None] = field(default_factory=list)
    refuse: str = ""
    stranger: str = ""
    blind: bool = False
    other: FakeHot | None = None
    path_states: dict[str, str] = field(default_factory=dict)
    maintenance_left_s: float = 0.0
    revision_of_peer: int = 0
    probed: list[dict[str, list[str]]] = field(default_factory=list)
    guests: dict[str, str] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    expected: int = 0

    def __post_init__(self) -> None:
        self.own_ports = [
            port("lan0", self.mac, f"10.0.0.{self.number}/24"),
            port("sync0", f"02:00:00:00:01:0{self.number}", f"10.9.0.{self.number}/24"),
            port("backup0", f"02:00:00:00:02:0{self.number}", f"10.8.0.{self.number}/24"),
        ]

    @property
    def mac(self) -> str:
        return f"02:00:00:00:00:0{self.number}"

    def snapshot(self) -> dict[str, Any]:
        peer = self.membership.settings.peer_of(self.membership.node_id) if self.membership else None
        return {
            "node": {"role": self.role, "maintenance_left_s": None},
            "peer": {"id": peer.node_id, "name": peer.name, "role": "unknown", "revision": self.revision_of_peer}
            if peer else None,
            "paths": [{"name": kind, "kind": kind, "state": state} for kind, state in self.path_states.items()],
            "virtual_ips": [],
            "alarms": [],
            "readiness": {"ready": True, "reasons": []},
            "data": {"synchronous": False, "degraded_since_s": None, "follower": None},
            "counters": {},
        }

    def expect_settings(self) -> None:
        self.expected += 1

    def apply(self, membership: Membership | None) -> None:
        self.applied.append(membership)
        if membership is not None and self.refuse:
            raise NetworkError(self.refuse, "Mend it.")
        if membership is None:
            self.role = "standalone"
        elif self.membership is None:
            alone = membership.settings.peer_of(membership.node_id) is None
            self.role = "active" if membership.claim or alone else "passive"
        self.membership = membership

    def request(self, action: str, **arguments: Any) -> dict[str, Any]:
        self.requests.append((action, arguments))
        if action == "maintenance":
            return {"on": arguments["on"], "left_s": arguments["duration_s"] if arguments["on"] else 0}
        if self.role != "active" or self.other is None or self.other.role != "passive":
            raise RequestRefused("The other gateway is not ready.")
        self.role, self.other.role = "passive", "active"
        return {"took_ms": 1.0, "to": "B"}

    def ports(self) -> list[dict[str, Any]]:
        return self.own_ports

    def probe_address(self, port: str, address: str, timeout_s: float) -> list[str]:
        found = [self.stranger] if self.stranger else []
        other = self.other
        if other is not None and other.role == "active" and not self.blind and other.membership is not None:
            vips = other.membership.settings.virtual_ips
            if any(str(vip.address.ip) == address and vip.port == port for vip in vips):
                found.append(other.mac)
        return found

    def probe_addresses(self, wanted: Mapping[str, Sequence[str]]) -> dict[tuple[str, str], list[str]]:
        self.probed.append({port: list(addresses) for port, addresses in wanted.items()})
        places = [(port, address) for port, addresses in wanted.items() for address in addresses]
        return {place: [self.guests[place[1]]] for place in places if place[1] in self.guests}

    def peer_macs(self) -> dict[str, str]:
        return {"lan0": self.other.mac} if self.other and self.membership else {}

    def listen_to_children(self) -> None: ...

    def report_health(self, cause: Cause, bad: bool) -> None: ...

    def block_return(self, why: str) -> None: ...

    def restore_maintenance(self, left_s: float) -> None:
        self.maintenance_left_s = left_s


class FakeHand:
    """Sets own addresses on the ports of a fake hot side."""

    def __init__(self, hot: FakeHot) -> None:
        self.ports = hot.own_ports
        self.acts: list[str] = []
        self.refuse = ""

    def present(self) -> dict[str, tuple[Any, ...]]:
        return {port["name"]: tuple(map(ip_interface, port["addresses"])) for port in self.ports}

    def add(self, port: str, address: Any) -> None:
        if str(address) == self.refuse:
            raise NetworkError("The kernel refused an address", "Mend it.")
        there = self._addresses(port)
        there[:] = [one for one in there if address.version == 4 or ip_interface(one).ip != address.ip]
        there.append(str(address))
        self.acts.append(f"+{address}@{port}")

    def remove(self, port: str, address: Any) -> None:
        if str(address) in self._addresses(port):
            self._addresses(port).remove(str(address))
            self.acts.append(f"-{address}@{port}")

    def _addresses(self, port: str) -> list[str]:
        return next(one["addresses"] for one in self.ports if one["name"] == port)  # type: ignore[no-any-return]


@dataclass
class Gateway:
    config: AgentConfig
    store: NodeStore
    hot: FakeHot
    hand: FakeHand
    service: AgentService

    def event_kinds(self) -> list[str]:
        return [event["kind"] for event in self.store.events()]


#: Sees each message: destination (A or B), path, and a function that delivers it; returns the answer.
Tap = Callable[[str, str, Callable[[], bytes]], bytes]


class World:
    """Gateways A and B and the wire between them.

    :param links: replicators, by gateway; without one a gateway's database is never shared.
    :ivar cut: True while nothing passes.
    :ivar tap: may lose, delay or count messages.
    """

    def __init__(self, root: Path, links: Mapping[str, Any] | None = None) -> None:
        self.root = root
        self.links = links or {}
        self.cut = False
        self.tap: Tap = lambda _to, _path, deliver: deliver()
        self.posted: list[tuple[tuple[Route, ...], str, bytes]] = []
        self.gateways: dict[str, Gateway] = {}
        for name in "AB":
            self.start(name)
        self.a, self.b = self.gateways["A"], self.gateways["B"]

    def start(self, name: str, hot: FakeHot | None = None) -> Gateway:
        """Start, or start anew, an agent on its state directory."""
        number = "AB".index(name) + 1
        state_dir = self.root / name
        state_dir.mkdir(exist_ok=True)
        (state_dir / "machine-id").write_text(f"machine {name}\n")
        scope = getattr(self.links.get(name), "scope", "")
        config = AgentConfig(str(state_dir), str(state_dir / "agent.sock"), "5.3", node_name=name, scope=scope)
        store, hot = NodeStore.open(config), hot or FakeHot(number)
        hand = FakeHand(hot)
        service = AgentService(config, store, hot, post=self._post, link=self.links.get(name), hand=hand)
        gateway = Gateway(config, store, hot, hand, service)
        self.gateways[name] = gateway
        self.a, self.b = self.gateways.get("A", gateway), self.gateways.get("B", gateway)
        self.a.hot.other, self.b.hot.other = self.b.hot, self.a.hot
        gateway.service.start()
        return gateway

    def restart(self, name: str) -> Gateway:
        """Kill an agent and start it again."""
        self.gateways[name].store.close()
        return self.start(name)

    def close(self) -> None:
        for gateway in self.gateways.values():
            gateway.store.close()

    def form(self) -> None:
        """Make a cluster of both; A is the active one."""
        code = self.a.service.create(settings_of_one())["code"]
        self.b.service.join("10.9.0.1", code, ENDS_OF_B)

    def edited(self, name: str, **advanced: int) -> dict[str, Any]:
        """Change advanced settings on a gateway."""
        service = self.gateways[name].service
        found = service.settings()
        settings = found["settings"]
        settings["advanced"].update(advanced)
        return service.propose(settings, found["revision"])

    def answer_from(self, address: str) -> bytes:
        """Deliver the message posted last to gateway A as if it had come from another address."""
        message = base64.b64encode(self.posted[-1][2]).decode()
        return base64.b64decode(self.a.service.peer(message, address)["message"])

    def _post(
        self, routes: Sequence[Route], port: int, path: str, body: bytes, timeout_s: float, repeatable: bool = True
    ) -> bytes:
        self.posted.append((tuple(routes), path, body))
        if self.cut or not routes:
            raise PeerUnavailable("The other gateway did not answer (cut).")
        to = "A" if routes[0].remote.endswith(".1") else "B"

        def deliver() -> bytes:
            service = self.gateways[to].service
            message = base64.b64encode(body).decode()
            try:
                if path.endswith("/pair"):
                    return base64.b64decode(service.pair(message)["message"])
                return base64.b64decode(service.peer(message, routes[0].local)["message"])
            except ClusterError as error:
                raise PeerUnavailable(f"The other gateway's web app answered 400 ({error.message}).") from None

        return self.tap(to, path, deliver)


class HeardWindow:
    """Stands for :class:`preflight.EchoWindow` where there are no real links."""

    unheard: set[str] = set()

    def __init__(self, routes: dict[str, Route], port: int, token: bytes) -> None:
        self._kinds = set(routes)

    def open(self) -> None: ...

    def start(self, duration_s: float = 0) -> None: ...

    def result(self) -> list[str]:
        return sorted(self._kinds - self.unheard)


@contextmanager
def in_memory() -> Iterator[Path]:
    """A directory without a disk below it: the tests need the order of writes, not their slowness."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as path:
        yield Path(path)


def without_real_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the checks that need real links pass."""
    monkeypatch.setattr("flask_hsmx_cluster.agent.peer.forming.EchoWindow", HeardWindow)
    monkeypatch.setattr("flask_hsmx_cluster.agent.peer.joining.EchoWindow", HeardWindow)
    monkeypatch.setattr(HeardWindow, "unheard", set())
    monkeypatch.setattr(preflight, "reachable", lambda route, port: "")
    monkeypatch.setattr("flask_hsmx_cluster.agent.preflight.ports.reachable", lambda route, port: "")


#: What brings a node store back to versions before 7.
BEFORE_7 = (
    "ALTER TABLE reign ADD COLUMN last_term INTEGER", "ALTER TABLE reign ADD COLUMN last_boot_id VARCHAR(36)",
    "CREATE TABLE asked_reign (id INTEGER NOT NULL PRIMARY KEY, term INTEGER NOT NULL)",
)  # fmt: skip


def changed(path: Path, *statements: str) -> Any:
    """Change a closed node store, as into what a former version wrote; return the last statement's first row."""
    with sqlite3.connect(path) as connection:
        found = [connection.execute(statement).fetchone() for statement in statements]
    connection.close()
    return found[-1]
