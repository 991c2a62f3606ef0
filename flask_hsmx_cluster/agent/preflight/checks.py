"""Preflight: what is checked on both gateways before anything is changed. The table is in ``docs/preflight.md``.

Facts are gathered first (:class:`Facts`), then judged by pure functions; what must be tried on the wire (a
virtual IP's owner, heartbeats in each direction, the web ports) has a function each. A gateway judges its own side
and what it sees of the other.
"""

from __future__ import annotations

import errno
import shutil
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any

from ...errors import Finding, NetworkError
from ...settings import rules
from ...settings.addressing import Port
from ...settings.model import Settings
from ...settings.values import text, whole
from ..node_store import PeerFacts
from ..peer.client import Route, reachable
from .probing import PROBE_TIMEOUT_S, Probe, in_use

#: Oldest protocol that this version still understands.
PROTOCOL_LEAST = 1
CLOCK_DIFFERENCE_S = 5.0
DISK_FREE_LEAST = 50 * 1024 * 1024
#: Ports of the other gateway that are looked at, a VLAN for each network that there can be among them; own addresses
#: of all these together: the rules compare each with whatever is shared.
MOST_PORTS, MOST_ADDRESSES = 2048, 4096

#: How long an :class:`EchoWindow` sends and listens, s, and how often it sends.
ECHO_WINDOW_S = 0.6
ECHO_EVERY_S = 0.05

#: What each check asks, in words, for the list of what was checked.
CHECKS = {
    "settings": "The settings make sense",
    "carrier": "Every port used has a cable",
    "virtual_ip": "No other machine uses a virtual IP",
    "heartbeat_port": "The heartbeat port is free",
    "disk": "There is room in the state directory",
    "membership": "Neither gateway is in another cluster",
    "versions": "Both gateways understand each other",
    "clock": "Both clocks agree",
    "port_names": "Both gateways have the same port names",
    "same_network": "Both gateways are on the virtual IP's network",
    "http": "Both web apps reach each other",
    "heartbeats": "Heartbeats pass in both directions",
    "firewall": "Only the other gateway reaches the ports between the two",
    "ports": "The ports between the gateways are open in both directions",
    "managers": "Nothing else configures the shared ports",
    "files": "Files can be copied from and to this gateway",
    "arbiter": "The arbiter answers this gateway",
    "database": "Both databases can be kept as one",
}


@dataclass
class Report:
    """What was checked and what was found."""

    findings: list[Finding] = field(default_factory=list)
    checked: dict[str, bool] = field(default_factory=dict)

    def add(self, check: str, findings: Sequence[Finding]) -> None:
        """Note the outcome of a check; a warning leaves it passed."""
        self.findings.extend(findings)
        self.checked[check] = self.checked.get(check, True) and not any(one.blocking for one in findings)

    @property
    def blocking(self) -> list[Finding]:
        """The findings that forbid going on."""
        return [finding for finding in self.findings if finding.blocking]

    def as_dict(self) -> dict[str, Any]:
        """Return the form of the verb ``preflight``."""
        return {
            "findings": [finding.as_dict() for finding in self.findings],
            "checked": [{"key": key, "text": CHECKS[key], "ok": ok} for key, ok in self.checked.items()],
        }


@dataclass(frozen=True)
class Facts:
    """What a gateway tells about itself while pairing.

    :param wall_s: its wall clock, s since the epoch.
    :param in_cluster: whether it belongs to a cluster of two already.
    """

    node_id: str
    name: str
    firmware: str
    version: str
    protocol: int
    protocol_least: int
    http_port: int
    heartbeat_port: int
    wall_s: float
    in_cluster: bool
    ports: tuple[Port, ...]

    def to_dict(self) -> dict[str, Any]:
        return {**self.__dict__, "ports": [dict(port) for port in self.ports]}

    @classmethod
    def from_dict(cls, data: Any) -> Facts:
        """Return facts from their dict form.

        :raises ValueError: they are malformed.
        """
        try:
            facts = cls(
                node_id=text(data["node_id"]),
                name=text(data["name"]),
                firmware=text(data["firmware"]),
                version=text(data["version"]),
                protocol=whole(data["protocol"], 0, 1000),
                protocol_least=whole(data["protocol_least"], 0, 1000),
                http_port=whole(data["http_port"], 1, 65535),
                heartbeat_port=whole(data["heartbeat_port"], 1, 65535),
                wall_s=float(data["wall_s"]),
                in_cluster=data["in_cluster"] is True,
                ports=ports_from(data["ports"]),
            )
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"facts are malformed: {error!r:.80}") from None
        if len(bytes.fromhex(facts.node_id)) != 16:
            raise ValueError("facts are malformed: node id")
        return facts


def ports_from(data: Any) -> tuple[Port, ...]:
    """Return network ports that the other gateway told, reduced to what is expected.

    :raises ValueError: they are malformed.
    """
    if not isinstance(data, list) or len(data) > MOST_PORTS:
        raise ValueError("ports are malformed")
    found: list[Port] = []
    for port in data:
        lists = [port.get(key, []) for key in ("addresses", "leased")] if isinstance(port, dict) else []
        if len(lists) != 2 or not all(isinstance(one, list) for one in lists):
            raise ValueError("a port is malformed")
        addresses, leased = ([text(one) for one in each[:256]] for each in lists)
        found.append(
            {
                "name": text(port.get("name")),
                "mac": text(port.get("mac")).lower(),
                "carrier": port.get("carrier") is True,
                "addresses": addresses,
                "leased": leased,
                "kind": text(port.get("kind", "")),
                "mtu": whole(port.get("mtu", 0), 0, 1 << 20),
            }
        )
    if sum(len(port["addresses"]) for port in found) > MOST_ADDRESSES:
        raise ValueError("too many addresses")
    return tuple(found)


# -- one gateway ----------------------------------------------------------------------------------------------


def check_disk(state_dir: str) -> Iterator[Finding]:
    """Is there room for the node store?"""
    free = shutil.disk_usage(state_dir).free
    if free < DISK_FREE_LEAST:
        yield Finding(
            "disk_space",
            f"Only {free // 1_000_000} MB are free in {state_dir}.",
            "Free at least 50 MB on this gateway.",
        )


def check_heartbeat_port(addresses: Sequence[str], port: int) -> Iterator[Finding]:
    """Can the heartbeat port be used on these own addresses?"""
    for address in addresses:
        try:
            with socket.socket(_family(address), socket.SOCK_DGRAM) as probe:
                probe.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                yield Finding(
                    "heartbeat_port_in_use",
                    f"Another program uses UDP port {port} on {address}.",
                    f"Stop it (`ss -lunp sport = {port}` names it), or set HSMX_CLUSTER_HEARTBEAT_PORT on both.",
                )


def check_carrier(settings: Settings, node_id: str, ports: Sequence[Port], joining: bool) -> Iterator[Finding]:
    """Has every port used a carrier? Before the other gateway is there, its cables may be dead."""
    by_name = {str(port["name"]): port for port in ports}
    used = {vip.port: True for vip in settings.virtual_ips}
    for link in settings.links:
        if node_id in link.ends:
            used.setdefault(link.ends[node_id].port, joining)
    for name, blocking in used.items():
        if name in by_name and not by_name[name]["carrier"]:
            yield Finding(
                "no_carrier",
                f"The port {name} has no carrier.",
                "Plug in its cable, and see whether the other end is on.",
                blocking=blocking,
            )


# -- the pair -------------------------------------------------------------------------------------------------


def check_membership(own_in_cluster: bool, peer: Facts) -> Iterator[Finding]:
    """Is either gateway in a cluster already?"""
    if own_in_cluster:
        yield Finding(
            "already_in_cluster", "This gateway is in a cluster already.", "Leave that cluster first, on this gateway."
        )
    if peer.in_cluster:
        yield Finding(
            "already_in_cluster",
            f"{peer.name} is in a cluster with another gateway already.",
            "Leave that cluster first, on that gateway.",
        )


def check_versions(own: Facts, peer: Facts) -> Iterator[Finding]:
    """Do both understand a common protocol, and run the same firmware and heartbeat port?"""
    common = min(own.protocol, peer.protocol)
    if common < max(own.protocol_least, peer.protocol_least):
        older = own if own.protocol < peer.protocol else peer
        yield Finding(
            "protocol_incompatible",
            f"The two gateways have no protocol in common ({own.name}: {own.protocol}, {peer.name}: {peer.protocol}).",
            f"Update {older.name} (firmware {older.firmware}).",
        )
    elif own.firmware != peer.firmware:
        yield Finding(
            "firmware_differs",
            f"{own.name} runs firmware {own.firmware}, {peer.name} runs {peer.firmware}.",
            "They work together; bring both to the same firmware soon.",
            blocking=False,
        )
    if own.heartbeat_port != peer.heartbeat_port:
        yield Finding(
            "heartbeat_ports_differ",
            f"Heartbeats use UDP port {own.heartbeat_port} on {own.name} and {peer.heartbeat_port} on {peer.name}.",
            "Set HSMX_CLUSTER_HEARTBEAT_PORT alike on both.",
        )


def check_clock(own_wall_s: float, peer: Facts) -> Iterator[Finding]:
    """Do the wall clocks agree? Nothing is decided by them, but event logs are read side by side."""
    difference_s = peer.wall_s - own_wall_s
    if abs(difference_s) > CLOCK_DIFFERENCE_S:
        yield Finding(
            "clock_difference",
            f"The clock of {peer.name} is {abs(difference_s):.0f} s {'ahead' if difference_s > 0 else 'behind'}.",
            "Let both follow the same time server.",
            blocking=False,
        )


def check_settings(settings: Settings, own: Facts, peer: Facts) -> list[Finding]:
    """Do the settings make sense on both? A missing port of a virtual IP is :func:`check_port_names`' business."""
    found = rules.check(settings, {own.node_id: own.ports, peer.node_id: peer.ports})
    return [one for one in found if one.key != "port_missing" or not one.field.startswith("virtual_ips")]


def check_port_names(settings: Settings, own: Facts, peer: Facts) -> Iterator[Finding]:
    """Does the port of each virtual IP exist on both gateways?"""
    for at, vip in enumerate(settings.virtual_ips):
        for facts in (own, peer):
            names = sorted(str(port["name"]) for port in facts.ports)
            if vip.port not in names:
                yield Finding(
                    "port_names_differ",
                    f"{facts.name} has no port {vip.port}, on which the virtual IP {vip.address.ip} shall be; "
                    f"it has {', '.join(names[:12])}.",
                    "Network ports must have the same names on both gateways: rename one, or choose another.",
                    f"virtual_ips.{at}.port",
                )


def check_same_network(settings: Settings, creator: Facts, probe: Probe) -> Iterator[Finding]:
    """Does this gateway see the creator, and nobody else, behind each virtual IP?"""
    macs = {str(port["name"]): str(port["mac"]) for port in creator.ports}
    for at, vip in enumerate(settings.virtual_ips):
        try:
            answered = probe(vip.port, str(vip.address.ip), PROBE_TIMEOUT_S)
        except NetworkError as error:
            yield Finding(
                "probe_failed", f"{vip.port} cannot be probed: {error.message}", error.remedy, f"virtual_ips.{at}.port"
            )
            continue
        strangers = [mac for mac in answered if mac != macs.get(vip.port) and not (vip.virtual_mac and _local(mac))]
        if strangers:
            yield in_use(at, vip, strangers)
        elif not answered:
            yield Finding(
                "not_same_network",
                f"The virtual IP {vip.address.ip}, which {creator.name} has, is not seen from this gateway's "
                f"{vip.port}: the two ports are not on the same network.",
                f"Check the cable, switch port and VLAN of {vip.port} on both gateways.",
                f"virtual_ips.{at}.port",
            )


def routes_between(settings: Settings, own_id: str, peer_id: str) -> dict[str, Route]:
    """Return the routes to the other gateway by kind of link: sync first, then backup, then service."""
    order = {"sync": 0, "backup": 1, "service": 2}
    return {
        link.kind: Route(str(link.ends[own_id].address.ip), str(link.ends[peer_id].address.ip))
        for link in sorted(settings.links, key=lambda link: order[link.kind])
        if own_id in link.ends and peer_id in link.ends
    }


def check_http(routes: Mapping[str, Route], peer: Facts | PeerFacts) -> Iterator[Finding]:
    """Can the other gateway's web app be reached over each link?"""
    for kind, route in routes.items():
        if why := reachable(route, peer.http_port):
            yield Finding(
                "http_unreachable",
                f"The web app of {peer.name} cannot be reached at {route.remote}, TCP port {peer.http_port}, over the "
                f"{kind} link: {why}.",
                f"Let {route.local} reach TCP port {peer.http_port} in the firewall of {peer.name}; check the cable.",
                f"links.{kind}.{peer.node_id}.address",
            )


def check_heartbeats(
    routes: Mapping[str, Route], port: int, own_name: str, peer: Facts, heard: Sequence[str], peer_heard: Sequence[str]
) -> Iterator[Finding]:
    """Did test datagrams arrive over each link, in each direction?

    :param heard: kinds of links over which this gateway heard the other.
    :param peer_heard: kinds of links over which the other heard this one.
    """
    for kind, route in routes.items():
        for there, sender, source, receiver in (
            (kind in peer_heard, own_name, route.local, peer.name),
            (kind in heard, peer.name, route.remote, own_name),
        ):
            if not there:
                yield Finding(
                    "heartbeat_unreachable",
                    f"Datagrams from {sender} to {receiver}, UDP port {port}, do not arrive over the {kind} link.",
                    f"Let {source} reach UDP port {port} in the firewall of {receiver}; check the cable.",
                    f"links.{kind}.{peer.node_id}.address",
                )


class EchoWindow:
    """Sends test datagrams to the other gateway's heartbeat port and listens on this one's, for a short time.

    Both gateways run one at the same time, over all links. Senders use another port, so that each direction is
    judged on its own: a firewall that only lets answers in does not pass as open.

    :param routes: by kind of link.
    :param port: the heartbeat port on both gateways.
    :param token: shared by both through the pairing channel, so that only the pair's datagrams count.
    """

    def __init__(self, routes: Mapping[str, Route], port: int, token: bytes) -> None:
        self._routes = dict(routes)
        self._port = port
        self._token = token
        self._heard: set[str] = set()
        self._listeners: dict[str, socket.socket] = {}
        self._threads: list[threading.Thread] = []

    def open(self) -> None:
        """Start to listen. What cannot be bound is simply not heard."""
        for kind, route in self._routes.items():
            listener = socket.socket(_family(route.local), socket.SOCK_DGRAM)
            try:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((route.local, self._port))
                listener.settimeout(ECHO_EVERY_S)
            except OSError:
                listener.close()
                continue
            self._listeners[kind] = listener

    def start(self, duration_s: float = ECHO_WINDOW_S) -> None:
        """Send and listen in the background for a time, s."""
        for kind in self._routes:
            thread = threading.Thread(target=self._run, args=(kind, duration_s), name=f"echo {kind}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def result(self) -> list[str]:
        """Wait for the end and return the kinds of links over which the other gateway was heard."""
        for thread in self._threads:
            thread.join(10)
        for listener in self._listeners.values():
            listener.close()
        return sorted(self._heard)

    def _run(self, kind: str, duration_s: float) -> None:
        route, listener = self._routes[kind], self._listeners.get(kind)
        end = time.monotonic() + duration_s
        with listener or nullcontext(), socket.socket(_family(route.local), socket.SOCK_DGRAM) as sender:
            try:
                sender.bind((route.local, 0))
            except OSError:
                return
            while time.monotonic() < end:
                with suppress(OSError):  # no route, or a firewall here: the other one will not hear it
                    sender.sendto(self._token, (route.remote, self._port))
                self._listen(kind, route, listener)

    def _listen(self, kind: str, route: Route, listener: socket.socket | None) -> None:
        if listener is None:
            time.sleep(ECHO_EVERY_S)
            return
        until = time.monotonic() + ECHO_EVERY_S
        while time.monotonic() < until:
            try:
                data, source = listener.recvfrom(2048)
            except OSError:
                return
            if data == self._token and source[0] == route.remote:
                self._heard.add(kind)


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _local(mac: str) -> bool:
    """Whether a MAC is a locally administered one, as a virtual MAC is."""
    return bool(int(mac.split(":")[0], 16) & 2)
