"""Whether subscriber networks, IP aliases and routes make sense: a part of :mod:`flask_hsmx_cluster.settings.rules`.

There may be two thousand of them: each check passes over them once, and of a kind of finding the first few are told.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from ipaddress import ip_interface

from ..errors import Finding
from .addressing import ADDRESS_REMEDY, PORT_NAME, Placed, Port, address_fault, own_addresses
from .model import MAX_SIZE, Settings, VirtualIP, to_dict
from .networks import (
    MAX_ADVERTISED,
    MAX_ALIASES,
    MAX_ALIASES6,
    MAX_NETWORKS,
    MAX_ROUTES,
    MAX_WORDS,
    Address,
    Alias,
    Interface,
    Network,
    Route,
)

#: Findings of one kind that are told.
TOLD = 10

_NO_OVERLAP = "Use networks that do not overlap."
#: Prefix lengths from which on a network has no room for anybody.
_HOST = {4: 32, 6: 128}


def check(settings: Settings, known: Mapping[str, Mapping[str, Port]]) -> list[Finding]:
    """Return what is wrong with networks, aliases and routes.

    :param known: ports by name, by node id, as far as they are known.
    """
    if not (settings.networks or settings.aliases or settings.routes):
        return []
    return list(_first_few(_check_all(settings, known)))


def entries(settings: Settings) -> list[tuple[str, Network | Alias]]:
    """Return networks and aliases, each with its place in the settings (``aliases.3``)."""
    return [
        *((f"networks.{at}", network) for at, network in enumerate(settings.networks)),
        *((f"aliases.{at}", alias) for at, alias in enumerate(settings.aliases)),
    ]


def _check_all(settings: Settings, known: Mapping[str, Mapping[str, Port]]) -> Iterator[Finding]:
    yield from _check_counts(settings)
    yield from _check_each(settings)
    yield from _check_ports(settings, known)
    yield from _check_duplicates(settings, known)
    yield from _check_overlaps(settings, known)
    yield from _check_routes(settings)
    yield from _check_advertised(settings)


def _first_few(findings: Iterator[Finding]) -> Iterator[Finding]:
    told: Counter[str] = Counter()
    for finding in findings:
        told[finding.key] += 1
        if told[finding.key] <= TOLD:
            yield finding
    for key, count in told.items():
        if count > TOLD:
            more = f"There are {count - TOLD} more of this kind."
            yield Finding(key, more, "Mend the first ones, and look again.", "aliases")


def _check_counts(settings: Settings) -> Iterator[Finding]:
    for key, most, words in (
        ("networks", MAX_NETWORKS, "subscriber networks"), ("aliases", MAX_ALIASES, "IP aliases"),
        ("routes", MAX_ROUTES, "routes"),
    ):
        if len(getattr(settings, key)) > most:
            yield Finding("count", f"There are more than {most} {words}.", "Remove some.", key)
    if sum(alias.address.version == 6 for alias in settings.aliases) > MAX_ALIASES6:
        yield Finding(
            "count",
            f"There are more than {MAX_ALIASES6} IPv6 aliases: Linux renews many of them too slowly.",
            "Remove some, or route a prefix to the virtual IP.",
            "aliases",
        )
    if len(json.dumps(to_dict(settings))) > MAX_SIZE:
        yield Finding(
            "too_large", f"The settings are longer than {MAX_SIZE // 1024} KB.", "Shorten the notes.", "aliases"
        )


def _check_each(settings: Settings) -> Iterator[Finding]:
    for where, one in entries(settings):
        if fault := address_fault(one.address):
            yield Finding("address", f"{one.address} {fault}.", ADDRESS_REMEDY, f"{where}.address")
        if not PORT_NAME.fullmatch(one.port):
            yield Finding(
                "port_missing", f"{one.address} is on no network port.", "Choose a port.", f"{where}.port"
            )
        words = one.name if isinstance(one, Network) else one.note
        if len(words) > MAX_WORDS or not words.isprintable():
            yield Finding(
                "words", f"The text beside {one.address} is longer than {MAX_WORDS} characters, or has signs in it "
                "that cannot be printed.", "Shorten it.", f"{where}.{'name' if isinstance(one, Network) else 'note'}",
            )
        if isinstance(one, Network) and one.address.network.prefixlen == _HOST[one.address.version]:
            yield Finding(
                "network_size", f"{one.address} is one address, no network.",
                "Enter the network's prefix length, or make it an IP alias.", f"{where}.address",
            )


def _check_ports(settings: Settings, known: Mapping[str, Mapping[str, Port]]) -> Iterator[Finding]:
    """A port that one gateway lacks is told before it matters; one that no gateway has is a slip of the pen."""
    names = {node.node_id: node.name for node in settings.nodes}
    cables = {
        end.port: link.kind for link in settings.links if link.kind != "service" for end in link.ends.values()
    }
    first = {one.port: (where, one) for where, one in reversed(entries(settings)) if PORT_NAME.fullmatch(one.port)}
    for port, (where, one) in first.items():
        lacking = [names.get(node, "The other gateway") for node, ports in known.items() if port not in ports]
        if lacking:
            yield Finding(
                "port_missing",
                f"{' and '.join(lacking)} {'have' if len(lacking) > 1 else 'has'} no network port {port}: "
                f"{one.address} would not be there while {' or '.join(lacking)} is active.",
                "Port names must be the same on both gateways. Make the port there, or choose another one.",
                f"{where}.port",
                blocking=len(lacking) == len(settings.nodes),
            )
        if port in cables:
            yield Finding(
                "on_cable",
                f"{one.address} is on {port}, the cable between the two gateways: no client is there.",
                "Choose the port of a network with clients.", f"{where}.port", blocking=False,
            )


def _check_duplicates(settings: Settings, known: Mapping[str, Mapping[str, Port]]) -> Iterator[Finding]:
    own = {end.address.ip for link in settings.links for end in link.ends.values()}
    own |= {address.ip for ports in known.values() for port in ports.values() for address in own_addresses(port)}
    # A gateway that is absent has what was entered for it.
    own |= {address.ip for one in settings.interfaces for each in one.addresses.values() for address in each}
    seen: dict[Address, str] = {vip.address.ip: "a virtual IP" for vip in settings.virtual_ips}
    for where, one in entries(settings):
        address = one.address.ip
        if address in seen:
            yield Finding(
                "duplicate", f"{address} is entered twice: it is {seen[address]} already.", "Remove one of the two.",
                f"{where}.address",
            )
        elif address in own:
            yield Finding(
                "is_own", f"{address} is one gateway's own address.",
                "Choose an address that no machine has, or take it out of that gateway's network settings.",
                f"{where}.address",
            )
        seen.setdefault(address, "a network's gateway address" if isinstance(one, Network) else "an IP alias")


def _check_overlaps(settings: Settings, known: Mapping[str, Mapping[str, Port]]) -> Iterator[Finding]:
    """Two ports with one network: packets would take the wrong one."""
    others: dict[tuple[str, Interface], str] = {
        (end.port, _whole(end.address)): "one of a link" for link in settings.links for end in link.ends.values()
    }
    for ports in known.values():
        for name, known_port in ports.items():
            for address in own_addresses(known_port):
                others.setdefault((name, _whole(address)), "one of a gateway's own")
    others |= {(vip.port, _whole(vip.address)): "a virtual IP's" for vip in settings.virtual_ips}
    placed = Placed((port, network, whose) for (port, network), whose in others.items())
    seen: set[tuple[str, Interface]] = set()
    for where, one in entries(settings):
        place = (one.port, _whole(one.address))
        if place in seen or address_fault(one.address):
            continue
        seen.add(place)
        for port, network, whose in placed.overlapping(one.port, one.address):
            yield Finding(
                "subnet_overlap",
                f"{one.address} on {one.port} lies in the network {network.network}, {whose}, on {port}: packets "
                "would take the wrong port.",
                _NO_OVERLAP, f"{where}.address",
            )
            break
        if isinstance(one, Network) and place not in others:
            placed.add(*place, "a subscriber network")


def _whole(address: Interface) -> Interface:
    """Return the network of an address as an interface, so that many addresses of one network count once."""
    return ip_interface(address.network)


def _check_advertised(settings: Settings) -> Iterator[Finding]:
    advertised: Counter[str] = Counter()
    for at, one in enumerate(settings.networks):
        where = f"networks.{at}"
        if one.advertise and one.address.version == 4:
            yield Finding(
                "advertise", f"{one.address} is an IPv4 network: routers are advertised in IPv6 networks only.",
                "Switch router advertisements off for it.", f"{where}.advertise",
            )
        elif one.autonomous and one.address.network.prefixlen != 64:
            yield Finding(
                "advertise", f"{one.address} is no /64: guests make addresses of their own in a /64 only.",
                "Give it the prefix length 64, or let DHCPv6 give the addresses.", f"{where}.advertise",
            )
        if one.dns is not None and not one.advertise:
            yield Finding(
                "dns", f"Nothing tells guests in {one.address} of the DNS server {one.dns}.",
                "Switch router advertisements on, or leave it out.", f"{where}.dns",
            )
        elif one.dns is not None and (
            fault := address_fault(ip_interface(one.dns)) if one.dns.version == 6 else "is no IPv6 address"
        ):
            yield Finding("dns", f"The DNS server {one.dns} {fault}.", "Enter its IPv6 address.", f"{where}.dns")
        advertised[one.port] += bool(one.advertise)
        if one.advertise and advertised[one.port] == MAX_ADVERTISED + 1:
            yield Finding(
                "count", f"More than {MAX_ADVERTISED} networks on {one.port} are advertised.",
                "Switch router advertisements off for some.", f"{where}.advertise",
            )


def router_of(settings: Settings, route: Route) -> tuple[str, Interface] | None:
    """Return port and address of the shared network through which a route goes; None if there is none."""
    shared: tuple[VirtualIP | Network | Alias, ...] = (*settings.virtual_ips, *settings.networks, *settings.aliases)
    return next(
        (
            (one.port, one.address) for one in shared
            if route.port in (None, one.port) and route.via in one.address.network and route.via != one.address.ip
        ),
        None,
    )


def _check_routes(settings: Settings) -> Iterator[Finding]:
    seen = set()
    for at, route in enumerate(settings.routes):
        where, target = f"routes.{at}", route.destination
        if route.port is not None and not PORT_NAME.fullmatch(route.port):
            yield Finding("port_missing", "No network port is chosen.", "Choose one.", f"{where}.port")
        if target.is_multicast or target.is_loopback or target.is_link_local:
            yield Finding(
                "destination", f"There is no route to {target}.", "Enter a network elsewhere.", f"{where}.destination"
            )
        elif target in seen:
            yield Finding("duplicate", f"There are two routes to {target}.", "Remove one.", f"{where}.destination")
        seen.add(target)
        if route.via.version != target.version:
            yield Finding(
                "via", f"{route.via} is no router for {target}.", "Use one of the two families.", f"{where}.via"
            )
        elif (found := router_of(settings, route)) is not None:
            if fault := address_fault(ip_interface(f"{route.via}/{found[1].network.prefixlen}")):
                yield Finding("via", f"The router {route.via} {fault}.", "Enter the router's address.", f"{where}.via")
        else:
            yield Finding(
                "via",
                f"The router {route.via} is in none of the shared networks{f' on {route.port}' if route.port else ''}.",
                "Add its network first. A route through a gateway's own network belongs in its network settings.",
                f"{where}.via",
            )
