"""Whether settings make sense: checks of the whole form, pure, the same on the page, the CLI and both agents."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_interface
from itertools import combinations

from ..errors import Finding
from . import interface_rules, notify_rules, pppoe_rules
from . import network_rules as shared_network_rules
from .addressing import ADDRESS_REMEDY, NO_MEMBER, PORT_NAME, Port, address_fault, overlap, own_addresses
from .model import (
    ANNOUNCE_REFRESH_S,
    BOOT_HOLD_S,
    HEARTBEAT_MS,
    LEASE_S,
    MAX_REFERENCES,
    MAX_VIRTUAL_IPS,
    PING_PONGS,
    PREFERRED_DELAY_MIN,
    STALE_WAIT_S,
    Address,
    Link,
    LinkEnd,
    Settings,
)

NETWORK_SETTINGS = "Configure it in Network settings on that gateway first."

_BOUNDS = {
    "heartbeat_ms": (HEARTBEAT_MS, "The heartbeat interval", "ms"),
    "ping_pongs": (PING_PONGS, "The number of ping pongs", ""),
    "lease_s": (LEASE_S, "The lease", "s"),
    "boot_hold_s": (BOOT_HOLD_S, "The boot hold", "s"),
    "announce_refresh_s": (ANNOUNCE_REFRESH_S, "The announcement refresh", "s"),
    "stale_wait_s": (STALE_WAIT_S, "The wait of a gateway with older data", "s"),
    "preferred_delay_min": (PREFERRED_DELAY_MIN, "The delay of the preferred gateway", "min"),
}
_NODE_ID = re.compile(r"[0-9a-f]{32}")
_LINK_NAMES = {"sync": "synchronisation", "backup": "backup", "service": "service"}


def check(settings: Settings, ports_by_node: Mapping[str, Sequence[Port]] | None = None) -> list[Finding]:
    """Return everything that is wrong with settings, in the order in which a person would fix it.

    :param ports_by_node: the network ports of each gateway whose ports are known, by node id; what concerns the
        ports of another one is not checked.
    """
    now = {node: {str(port["name"]): port for port in ports} for node, ports in (ports_by_node or {}).items()}
    known = interface_rules.overlaid(settings, now)
    return [
        *_check_nodes(settings),
        *_check_virtual_ips(settings),
        *_check_virtual_ip_ports(settings, known),
        *_check_links(settings),
        *_check_link_ports(settings, known),
        *_check_link_pairs(settings),
        *_check_own_addresses(settings, known),
        *_check_timing(settings),
        *_check_references(settings, known),
        *shared_network_rules.check(settings, known),
        *pppoe_rules.check(settings, known),
        *notify_rules.check(settings),
        *interface_rules.check(settings, known),
    ]


def detection_ms(settings: Settings) -> float:
    """Return how long it takes at most to find the other gateway dead: 1.25 intervals, then a burst 10 ms apart."""
    return 1.25 * settings.advanced.heartbeat_ms + settings.advanced.ping_pongs * 10


def _check_nodes(settings: Settings) -> Iterator[Finding]:
    if not 1 <= len(settings.nodes) <= 2:
        yield Finding("node_count", "A cluster has one or two gateways.", "Leave out those that are none.", "nodes")
    for at, node in enumerate(settings.nodes):
        if not _NODE_ID.fullmatch(node.node_id):
            yield Finding("node_id", "A gateway's id is malformed.", "Leave it as it was.", f"nodes.{at}.node_id")
        if not node.name.strip() or len(node.name) > 64:
            yield Finding(
                "node_name", "A gateway's name has 1 to 64 characters.", "Give it a name.", f"nodes.{at}.name"
            )
    for one, other in combinations(settings.nodes, 2):
        if one.node_id == other.node_id:
            yield Finding("node_id", "Both gateways have the same id.", "Is one a clone of the other?", "nodes")
        if one.name.strip().lower() == other.name.strip().lower():
            yield Finding(
                "node_name",
                f"Both gateways are called {one.name}.",
                "Set HSMX_CLUSTER_NODE_NAME, or another host name, on one of them.",
                "nodes.1.name",
            )


def _check_virtual_ips(settings: Settings) -> Iterator[Finding]:
    if not settings.virtual_ips:
        yield Finding(
            "virtual_ip_missing",
            "There is no virtual IP.",
            "Enter the address that clients shall use.",
            "virtual_ips.0.address",
        )
    if len(settings.virtual_ips) > MAX_VIRTUAL_IPS:
        text = f"There are more than {MAX_VIRTUAL_IPS} virtual IPs."
        yield Finding("virtual_ip_count", text, "Enter further ones as IP aliases.", "virtual_ips")
    for at, vip in enumerate(settings.virtual_ips):
        if fault := address_fault(vip.address):
            yield Finding("address", f"{vip.address} {fault}.", ADDRESS_REMEDY, f"virtual_ips.{at}.address")
        if not PORT_NAME.fullmatch(vip.port):
            yield _no_port(f"virtual_ips.{at}.port")
        for earlier in settings.virtual_ips[:at]:
            if earlier.address.ip == vip.address.ip:
                yield Finding(
                    "duplicate",
                    f"{vip.address.ip} is entered twice.",
                    "Remove one of the two virtual IPs.",
                    f"virtual_ips.{at}.address",
                )
        for link in settings.links:
            if link.kind != "service" and any(end.port == vip.port for end in link.ends.values()):
                yield Finding(
                    "virtual_ip_on_cable",
                    f"The virtual IP {vip.address.ip} is on {vip.port}, the {_LINK_NAMES[link.kind]} port: "
                    "no client is there.",
                    "Choose the port of a network with clients.",
                    f"virtual_ips.{at}.port",
                    blocking=False,
                )


def _no_port(field: str) -> Finding:
    return Finding("port_missing", "No network port is chosen.", "Choose one.", field)


def _check_virtual_ip_ports(settings: Settings, known: Mapping[str, Mapping[str, Port]]) -> Iterator[Finding]:
    for at, vip in enumerate(settings.virtual_ips):
        for node in settings.nodes:
            if node.node_id not in known or not PORT_NAME.fullmatch(vip.port):
                continue
            port = known[node.node_id].get(vip.port)
            if port is None:
                yield Finding(
                    "port_missing",
                    f"{node.name} has no network port {vip.port}.",
                    "Port names must be the same on both gateways. Choose another port, or rename it there.",
                    f"virtual_ips.{at}.port",
                )
            elif not vip.off_subnet and not any(vip.address.ip in own.network for own in own_addresses(port)):
                yield Finding(
                    "off_subnet",
                    f"{vip.address.ip} is in none of {node.name}'s own networks on {vip.port}.",
                    "Choose another address or port, or tick that it need not be in the port's own network.",
                    f"virtual_ips.{at}.address",
                )


def _check_links(settings: Settings) -> Iterator[Finding]:
    kinds = [link.kind for link in settings.links]
    if "sync" not in kinds:
        yield Finding(
            "sync_missing",
            "There is no synchronisation link.",
            "Choose the port of the cable between the two gateways.",
            "links.sync",
        )
    for kind in sorted({kind for kind in kinds if kinds.count(kind) > 1}):
        yield Finding("duplicate", f"There are two {_LINK_NAMES[kind]} links.", "Remove one.", f"links.{kind}")
    members = {node.node_id: node.name for node in settings.nodes}
    for link in settings.links:
        for node_id in link.ends:
            if node_id not in members:
                where = f"links.{link.kind}.{node_id}"
                yield Finding("link_end", "A link ends on an unknown gateway.", NO_MEMBER, where)
        for node_id, name in members.items():
            if node_id not in link.ends:
                yield Finding(
                    "link_end_missing",
                    f"The {_LINK_NAMES[link.kind]} link has no port and address on {name}.",
                    "Enter them, or remove the link.",
                    f"links.{link.kind}.{node_id}.port",
                )
        for node_id, end in link.ends.items():
            yield from _check_end(link, node_id, end)
        yield from _check_ends_together(link)


def _check_end(link: Link, node_id: str, end: LinkEnd) -> Iterator[Finding]:
    where = f"links.{link.kind}.{node_id}"
    if not PORT_NAME.fullmatch(end.port):
        yield _no_port(f"{where}.port")
    if fault := address_fault(end.address):
        yield Finding("address", f"{end.address} {fault}.", ADDRESS_REMEDY, f"{where}.address")


def _check_ends_together(link: Link) -> Iterator[Finding]:
    if len(link.ends) != 2:
        return
    (_, one), (node_id, other) = link.ends.items()
    name, field = _LINK_NAMES[link.kind], f"links.{link.kind}.{node_id}.address"
    if one.address.version != other.address.version:
        yield Finding(
            "link_family",
            f"The {name} link has an IPv4 address on one gateway and an IPv6 address on the other.",
            "Use one of the two on both.",
            field,
        )
    elif one.address.ip == other.address.ip:
        yield Finding(
            "duplicate",
            f"Both gateways have {one.address.ip} on the {name} link.",
            "Give one of them another address. " + NETWORK_SETTINGS,
            field,
        )
    elif one.address.ip not in other.address.network or other.address.ip not in one.address.network:
        yield Finding(
            "link_routed",
            f"The ends of the {name} link, {one.address} and {other.address}, are in different networks.",
            "This works only if routers carry packets between them. On a cable, use one network for both.",
            field,
            blocking=False,
        )


def _check_link_ports(settings: Settings, known: Mapping[str, Mapping[str, Port]]) -> Iterator[Finding]:
    names = {node.node_id: node.name for node in settings.nodes}
    for link in settings.links:
        for node_id, end in link.ends.items():
            if node_id in known and PORT_NAME.fullmatch(end.port):
                where, name = f"links.{link.kind}.{node_id}", names.get(node_id, "The gateway")
                yield from _check_end_port(known[node_id], name, end, where)


def check_end(ports: Sequence[Port], name: str, kind: str, end: LinkEnd) -> list[Finding]:
    """Return what is wrong with one end of a link on a gateway that has not joined yet.

    :param name: what people call the gateway.
    :param kind: of link; the fields of the findings are ``ends.<kind>.port`` and ``ends.<kind>.address``.
    """
    where = f"ends.{kind}"
    if not PORT_NAME.fullmatch(end.port):
        return [_no_port(f"{where}.port")]
    if fault := address_fault(end.address):
        return [Finding("address", f"{end.address} {fault}.", ADDRESS_REMEDY, f"{where}.address")]
    return list(_check_end_port({str(port["name"]): port for port in ports}, name, end, where))


def _check_end_port(ports: Mapping[str, Port], name: str, end: LinkEnd, where: str) -> Iterator[Finding]:
    port = ports.get(end.port)
    if port is None:
        yield Finding(
            "port_missing", f"{name} has no network port {end.port}.", "Choose another port.", f"{where}.port"
        )
    elif all(end.address.ip != own.ip for own in own_addresses(port)):
        yield Finding(
            "address_missing",
            f"{name} has not the address {end.address.ip} on {end.port}.",
            NETWORK_SETTINGS,
            f"{where}.address",
        )


def _check_link_pairs(settings: Settings) -> Iterator[Finding]:
    for one, other in combinations(settings.links, 2):
        for node_id in one.ends.keys() & other.ends.keys():
            first, second = one.ends[node_id], other.ends[node_id]
            names = f"The {_LINK_NAMES[one.kind]} link and the {_LINK_NAMES[other.kind]} link"
            where = f"links.{other.kind}.{node_id}"
            if first.port == second.port:
                yield Finding(
                    "same_port",
                    f"{names} are both on {first.port}: one cable would cut both.",
                    "Choose another port.",
                    f"{where}.port",
                )
            if overlap(first.address, second.address):
                yield Finding(
                    "same_subnet",
                    f"{names} are both in {first.address.network}: packets of both would take one port.",
                    "Use networks that do not overlap.",
                    f"{where}.address",
                )


def _check_own_addresses(settings: Settings, known: Mapping[str, Mapping[str, Port]]) -> Iterator[Finding]:
    own = {end.address.ip for link in settings.links for end in link.ends.values()}
    for ports in known.values():
        for port in ports.values():
            own.update(address.ip for address in own_addresses(port))
    for at, vip in enumerate(settings.virtual_ips):
        if address_fault(vip.address):
            continue
        if vip.address.ip in own:
            yield Finding(
                "virtual_ip_is_own",
                f"{vip.address.ip} is one gateway's own address.",
                "Choose an address that no machine has.",
                f"virtual_ips.{at}.address",
            )
        for link in settings.links if PORT_NAME.fullmatch(vip.port) else ():
            for end in link.ends.values():
                if end.port != vip.port and overlap(end.address, vip.address) and vip.address.ip not in own:
                    yield Finding(
                        "subnet_overlap",
                        f"{vip.address} on {vip.port} lies in the network of the {_LINK_NAMES[link.kind]} link "
                        f"on {end.port}: packets would take the wrong port.",
                        "Use networks that do not overlap.",
                        f"virtual_ips.{at}.address",
                    )
                    break


def _check_timing(settings: Settings) -> Iterator[Finding]:
    advanced = settings.advanced
    for key, ((lowest, _, highest), name, unit) in _BOUNDS.items():
        value = getattr(advanced, key)
        if value is not None and not lowest <= value <= highest:
            yield Finding(
                "bounds",
                f"{name} must be between {lowest} and {highest} {unit}".rstrip() + ".",
                "Enter a number in these bounds.",
                f"advanced.{key}",
            )
    if advanced.preferred and advanced.preferred not in {node.node_id for node in settings.nodes}:
        yield Finding(
            "preferred_unknown", "The preferred gateway is none of the cluster's.", "Choose one of the two, or none.",
            "advanced.preferred",
        )  # fmt: skip
    lease_ms = advanced.lease_s * 1000
    if lease_ms <= detection_ms(settings) or lease_ms < 4 * advanced.heartbeat_ms:
        yield Finding(
            "lease_too_short",
            f"The lease of {advanced.lease_s} s is not longer than it takes to find the other gateway dead "
            f"({detection_ms(settings):.0f} ms) and four heartbeats ({4 * advanced.heartbeat_ms} ms).",
            "Make the lease longer, or the heartbeat interval shorter.",
            "advanced.lease_s",
        )


def _check_references(settings: Settings, known: Mapping[str, Mapping[str, Port]]) -> Iterator[Finding]:
    references = settings.advanced.references
    if len(references) > MAX_REFERENCES:
        yield Finding(
            "reference_count", f"There are more than {MAX_REFERENCES} references.", "Remove some.",
            "advanced.references",
        )
    ours = {vip.address.ip for vip in settings.virtual_ips}
    ours |= {end.address.ip for link in settings.links for end in link.ends.values()}
    for at, address in enumerate(references):
        where = f"advanced.references.{at}"
        if fault := address_fault(ip_interface(address)):
            yield Finding("address", f"The reference {address} {fault}.", "Enter a host's address.", where)
        elif address in references[:at]:
            yield Finding("duplicate", f"The reference {address} is entered twice.", "Remove one.", where)
        elif address in ours or _is_own(address, known):
            yield Finding(
                "reference_is_own",
                f"The reference {address} is the cluster's own: it proves nothing about the network.",
                "Enter another machine's address, for example the upstream router's.",
                where,
            )
        else:
            yield from _check_on_link(settings, known, address, where)


def _is_own(address: Address, known: Mapping[str, Mapping[str, Port]]) -> bool:
    return any(own.ip == address for ports in known.values() for port in ports.values() for own in own_addresses(port))


def _check_on_link(
    settings: Settings, known: Mapping[str, Mapping[str, Port]], address: Address, where: str
) -> Iterator[Finding]:
    if any(address in vip.address.network for vip in settings.virtual_ips):
        return
    for node in settings.nodes:
        ports = known.get(node.node_id)
        if ports is None:
            continue
        if not any(address in own.network for port in ports.values() for own in own_addresses(port)):
            yield Finding(
                "reference_off_link",
                f"The reference {address} is in none of {node.name}'s networks.",
                "Enter the address of a machine that both gateways reach without a router.",
                where,
            )
