"""The cluster's settings: one immutable value that both gateways hold alike.

What differs between the gateways is keyed by node id, never by "mine" and "yours"; the two columns of the
page are a view of it. That is why nothing has to be swapped when settings travel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address, ip_interface
from typing import Any, Literal

from ..errors import ChecksFailed, Finding
from . import interfaces, notify, pppoe
from . import networks as shared_networks
from .interfaces import NetworkInterface
from .networks import Alias, Network, Route
from .values import few, flag, text, whole

Interface = IPv4Interface | IPv6Interface
Address = IPv4Address | IPv6Address
LinkKind = Literal["sync", "backup", "service"]

#: Bounds of the advanced settings: (lowest, default, highest).
HEARTBEAT_MS = (50, 100, 5000)
PING_PONGS = (3, 5, 20)
LEASE_S = (2, 2, 30)
BOOT_HOLD_S = (1, 3, 120)
ANNOUNCE_REFRESH_S = (10, 100, 100)
STALE_WAIT_S = (0, 60, 86400)
PREFERRED_DELAY_MIN = (1, 10, 1440)
MAX_VIRTUAL_IPS = 2
MAX_REFERENCES = 4
#: Longest dict form as JSON, bytes: an offer to the other gateway holds two of them.
MAX_SIZE = 256 * 1024


@dataclass(frozen=True)
class VirtualIP:
    """An address that is always on the active gateway.

    :param address: address and prefix length.
    :param port: name of the network port on both gateways.
    :param off_subnet: the operator ticked that the address need not lie in the port's own subnet.
    :param virtual_mac: carry the address on a macvlan with a MAC of its own, so that a fail-over
        changes no neighbour's cache (for networks whose equipment ignores or forbids announcements).
    """

    address: Interface
    port: str
    off_subnet: bool = False
    virtual_mac: bool = False


@dataclass(frozen=True)
class LinkEnd:
    """Where a link ends on one gateway: its port and its own address there (with prefix length)."""

    port: str
    address: Interface


@dataclass(frozen=True)
class Link:
    """A pair of own addresses over which heartbeats go.

    :param kind: ``sync`` and ``backup`` are cables between the two; ``service`` is a network with clients.
    :param ends: by node id; one entry until the other gateway has joined, then two.
    """

    kind: LinkKind
    ends: Mapping[str, LinkEnd]


@dataclass(frozen=True)
class Node:
    """One gateway. ``node_id`` is 32 hex digits; ``name`` is what people call it."""

    node_id: str
    name: str


@dataclass(frozen=True)
class Advanced:
    """Timing. Defaults suit a cable between two healthy machines.

    :param heartbeat_ms: interval of heartbeats, ms.
    :param ping_pongs: unanswered burst probes per path before a fail-over.
    :param lease_s: kernel lifetime of a shared address without renewal, whole seconds.
    :param boot_hold_s: how long a starting gateway listens before its first claim, s.
    :param announce_refresh_s: period of the slow announcement refresh, s.
    :param stale_wait_s: how much longer a gateway that starts alone listens if its data may be older than the other
        one's, s; None: it never serves by itself then.
    :param references: addresses that a healthy gateway can reach.
    :param preferred: node id of the gateway that takes over again once it is well; "": none.
    :param preferred_delay_min: how long it must be well before, minutes.
    """

    heartbeat_ms: int = HEARTBEAT_MS[1]
    ping_pongs: int = PING_PONGS[1]
    lease_s: int = LEASE_S[1]
    boot_hold_s: int = BOOT_HOLD_S[1]
    announce_refresh_s: int = ANNOUNCE_REFRESH_S[1]
    stale_wait_s: int | None = STALE_WAIT_S[1]
    references: tuple[Address, ...] = ()
    preferred: str = ""
    preferred_delay_min: int = PREFERRED_DELAY_MIN[1]


@dataclass(frozen=True)
class Settings:
    """Everything that an operator enters on *Network / Cluster settings*."""

    cluster_id: str
    nodes: tuple[Node, ...]
    virtual_ips: tuple[VirtualIP, ...]
    links: tuple[Link, ...]
    advanced: Advanced = field(default_factory=Advanced)
    networks: tuple[Network, ...] = ()
    aliases: tuple[Alias, ...] = ()
    routes: tuple[Route, ...] = ()
    pppoe: tuple[pppoe.Connection, ...] = ()
    interfaces: tuple[NetworkInterface, ...] = ()
    notify: tuple[notify.Target, ...] = ()

    @property
    def protocol(self) -> int:
        """The oldest protocol in which these settings can be told (see :mod:`flask_hsmx_cluster.version`)."""
        if self.advanced.preferred:
            return 5
        if self.notify or any(one.advertise or one.dns for one in self.networks):
            return 4
        if self.pppoe or self.interfaces:
            return 3
        waits_otherwise = self.advanced.stale_wait_s != STALE_WAIT_S[1]
        return 2 if self.networks or self.aliases or self.routes or waits_otherwise else 1

    def link(self, kind: LinkKind) -> Link | None:
        """Return the link of a kind, or None."""
        return next((link for link in self.links if link.kind == kind), None)

    def peer_of(self, node_id: str) -> Node | None:
        """Return the other gateway, or None while there is only one."""
        return next((node for node in self.nodes if node.node_id != node_id), None)


def to_dict(settings: Settings) -> dict[str, Any]:
    """Return settings in the form used on the control socket, in peer messages, and by the CLI's ``--json``."""
    return {
        "cluster_id": settings.cluster_id,
        "nodes": [{"node_id": node.node_id, "name": node.name} for node in settings.nodes],
        "virtual_ips": [
            {"address": str(vip.address), "port": vip.port, "off_subnet": vip.off_subnet,
             "virtual_mac": vip.virtual_mac}
            for vip in settings.virtual_ips
        ],
        "links": [
            {"kind": link.kind,
             "ends": {node: {"port": end.port, "address": str(end.address)} for node, end in link.ends.items()}}
            for link in settings.links
        ],
        "advanced": {
            "heartbeat_ms": settings.advanced.heartbeat_ms,
            "ping_pongs": settings.advanced.ping_pongs,
            "lease_s": settings.advanced.lease_s,
            "boot_hold_s": settings.advanced.boot_hold_s,
            "announce_refresh_s": settings.advanced.announce_refresh_s,
            "references": [str(address) for address in settings.advanced.references],
            # Left out where protocol 1, which does not know it, needs nothing of it: digests stay what they were.
            **({} if settings.advanced.stale_wait_s == STALE_WAIT_S[1]
               else {"stale_wait_s": settings.advanced.stale_wait_s}),
            **({"preferred": settings.advanced.preferred,
                "preferred_delay_min": settings.advanced.preferred_delay_min} if settings.advanced.preferred else {}),
        },
        **shared_networks.to_dict(settings.networks, settings.aliases, settings.routes),
        **pppoe.to_dict(settings.pppoe),
        **interfaces.to_dict(settings.interfaces),
        **notify.to_dict(settings.notify),
    }


def from_dict(data: Mapping[str, Any]) -> Settings:
    """Return settings from their dict form; anything malformed raises :class:`ChecksFailed`.

    This checks form only. Whether the settings make sense is :func:`.rules.check`'s business.
    """
    try:
        return Settings(
            cluster_id=text(data["cluster_id"]),
            nodes=tuple(Node(text(node["node_id"]), text(node["name"])) for node in few(data["nodes"], 2)),
            virtual_ips=tuple(
                VirtualIP(ip_interface(text(vip["address"])), text(vip["port"]),
                          flag(vip.get("off_subnet", False)), flag(vip.get("virtual_mac", False)))
                for vip in few(data["virtual_ips"], MAX_VIRTUAL_IPS)
            ),
            links=tuple(
                Link(_kind(link["kind"]),
                     {text(node): LinkEnd(text(end["port"]), ip_interface(text(end["address"])))
                      for node, end in few(link["ends"].items(), 2)})
                for link in few(data["links"], 3)
            ),
            advanced=_advanced(data.get("advanced", {})),
            **shared_networks.from_dict(data),
            **pppoe.from_dict(data),
            interfaces=interfaces.from_dict(data),
            notify=notify.from_dict(data),
        )
    except ChecksFailed:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ChecksFailed([Finding(
            "malformed", f"The settings cannot be read: {error!r:.200}",
            "Send them in the form in which they are shown.",
        )]) from None  # fmt: skip


def _advanced(data: Mapping[str, Any]) -> Advanced:
    plain = Advanced()
    wait, delay = data.get("stale_wait_s", plain.stale_wait_s), plain.preferred_delay_min
    return Advanced(
        **{name: whole(data.get(name, getattr(plain, name)))
           for name in ("heartbeat_ms", "ping_pongs", "lease_s", "boot_hold_s", "announce_refresh_s")},
        stale_wait_s=None if wait is None else whole(wait),
        references=tuple(ip_address(text(item)) for item in few(data.get("references", []), MAX_REFERENCES)),
        preferred=(preferred := text(data.get("preferred") or "")),
        # Without a preferred gateway there is no delay: digests do not depend on what was typed beside it.
        preferred_delay_min=whole(data.get("preferred_delay_min", delay)) if preferred else delay,
    )





def _kind(value: object) -> LinkKind:
    if value == "sync" or value == "backup" or value == "service":
        return value
    raise ValueError(f"not a kind of link: {value!r:.60}")
