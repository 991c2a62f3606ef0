"""Whether the gateways' own addresses make sense: a part of :mod:`flask_hsmx_cluster.settings.rules`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from ..errors import Finding
from .addressing import ADDRESS_REMEDY, NO_MEMBER, PORT_NAME, Placed, Port, address_fault, own_addresses
from .interfaces import MAX_INTERFACES, Interface, NetworkInterface, stated
from .model import Address, Settings

Known = Mapping[str, Mapping[str, Port]]


def overlaid(settings: Settings, known: Known) -> Known:
    """Return the ports that are known, with the own addresses that the settings are about to give them."""
    return {node: _as_stated(ports, stated(settings.interfaces, node)) for node, ports in known.items()}


def _as_stated(ports: Mapping[str, Port], wanted: Mapping[str, tuple[Interface, ...]]) -> dict[str, Port]:
    return {
        name: {**port, "addresses": [*map(str, wanted[name]), *port.get("leased", ())]} if name in wanted else port
        for name, port in ports.items()
    }


def check(settings: Settings, known: Known) -> list[Finding]:
    """Return what is wrong with the own addresses of both gateways.

    :param known: ports by name, by node id, as far as they are known, with the own addresses of the settings.
    """
    if not settings.interfaces:
        return []
    return [
        *_check_ports(settings, known),
        *_check_each(settings),
        *_check_duplicates(settings, known),
        *_check_subnets(settings, known),
        *_check_overlaps(settings, known),
    ]


def _entries(settings: Settings) -> Iterator[tuple[NetworkInterface, str, Interface, str]]:
    """Yield each address with its port's entry, its gateway's id and its place in the settings."""
    for one in settings.interfaces:
        for node, addresses in one.addresses.items():
            for address in addresses:
                yield one, node, address, _field(one.port, node)


def _field(port: str, node: str) -> str:
    return f"interfaces.{port}.{node}"


def _names(settings: Settings) -> dict[str, str]:
    return {node.node_id: node.name for node in settings.nodes}


def _check_ports(settings: Settings, known: Known) -> Iterator[Finding]:
    names = _names(settings)
    cables = {
        (node, end.port): link.kind for link in settings.links if link.kind != "service"
        for node, end in link.ends.items()
    }
    if len(settings.interfaces) > MAX_INTERFACES:
        text = f"There are more than {MAX_INTERFACES} network interfaces."
        yield Finding("count", text, "Remove some.", "interfaces")
    counts = Counter(one.port for one in settings.interfaces)
    for one in settings.interfaces:
        if counts[one.port] > 1:
            yield Finding("duplicate", f"{one.port} is entered twice.", "Remove one.", f"interfaces.{one.port}.")
        for node in one.addresses:
            where, name = _field(one.port, node), names.get(node, "The gateway")
            if node not in names:
                yield Finding("interface_node", "An address belongs to an unknown gateway.", NO_MEMBER, where)
            elif not PORT_NAME.fullmatch(one.port):
                yield Finding("port_missing", "This is no name of a network port.", "Choose a port.", where)
            elif (node, one.port) in cables:
                yield Finding(
                    "on_cable",
                    f"{one.port} is the {cables[node, one.port]} port of {name}.",
                    "Change its address in that gateway's Network settings, and under Between the gateways.", where,
                )
            elif node in known and one.port not in known[node]:
                yield Finding(
                    "port_missing",
                    f"{name} has no network port {one.port}.",
                    "Port names must be the same on both gateways. Make the port there, or leave the field empty.",
                    where,
                )


def _check_each(settings: Settings) -> Iterator[Finding]:
    for _one, _node, address, where in _entries(settings):
        if fault := address_fault(address):
            yield Finding("address", f"{address} {fault}.", ADDRESS_REMEDY, where)


def _check_duplicates(settings: Settings, known: Known) -> Iterator[Finding]:
    names = _names(settings)
    shared: dict[Address, str] = {one.address.ip: "an IP alias" for one in settings.aliases}
    shared |= {one.address.ip: "the gateway's address in a network" for one in settings.networks}
    shared |= {one.address.ip: "a virtual IP" for one in settings.virtual_ips}
    places: dict[Address, list[tuple[str, str]]] = {}  # where each address is entered: gateway and port
    for one, node, address, _where in _entries(settings):
        places.setdefault(address.ip, []).append((node, one.port))
    entered = {(node, one.port) for one in settings.interfaces for node in one.addresses}
    taken: dict[Address, str] = {}  # what stands elsewhere: on links, and on ports that are not in the section
    for link in settings.links:
        for node, end in link.ends.items():
            if (node, end.port) not in entered:
                taken[end.address.ip] = f"{names.get(node, 'The gateway')} has it on {end.port}"
    for node, ports in known.items():
        for port in ports.values():
            if (node, port["name"]) not in entered:
                for address in own_addresses(port):
                    taken.setdefault(address.ip, f"{names.get(node, 'the gateway')} has it on {port['name']}")
    for one, node, address, where in _entries(settings):
        ip = address.ip
        if ip in shared:
            yield Finding(
                "is_shared", f"{ip} is {shared[ip]}: it moves, and is no gateway's own.",
                "Enter an address that only this gateway has.", where,
            )
        elif ip in taken:
            yield Finding("duplicate", f"{ip} is in use: {taken[ip]}.", "Enter another address.", where)
        elif elsewhere := [place for place in places[ip] if place != (node, one.port)]:
            other, there = elsewhere[0]
            yield Finding(
                "duplicate", f"{ip} is in use: {names.get(other, 'the gateway')} has it on {there}.",
                "Enter another address.", where,
            )
        elif len(places[ip]) > 1:
            yield Finding("duplicate", f"{ip} is entered twice.", "Remove one of the two.", where)


def _check_subnets(settings: Settings, known: Known) -> Iterator[Finding]:
    """Where both gateways have addresses of a family on a port, each lies in a subnet of the other one's.

    That of a gateway whose addresses are not entered is its own business: it is told, and stops nothing.
    """
    names = _names(settings)
    for one in (one for one in settings.interfaces if not one.apart):
        sides = {node: _side(one, node, known) for node in names}
        for node in one.addresses:
            others = [address for other in sides if other != node for address in sides[other]]
            for address in sides.get(node, []):
                beside = [other for other in others if other.version == address.version]
                if beside and address.network not in [other.network for other in beside]:
                    yield Finding(
                        "apart",
                        f"{address} and the other gateway's {beside[0]} on {one.port} are in different networks.",
                        "Correct one of the two, or tick that they need not be in the same one.",
                        _field(one.port, node),
                        blocking=len(one.addresses) == len(names),
                    )


def _side(one: NetworkInterface, node: str, known: Known) -> list[Interface]:
    if node in one.addresses:
        return list(one.addresses[node])
    return own_addresses(known.get(node, {}).get(one.port, {}))


def _check_overlaps(settings: Settings, known: Known) -> Iterator[Finding]:
    """Two ports of a gateway with one network: packets would take the wrong one."""
    shared = [(one.port, one.address, "a virtual IP's") for one in settings.virtual_ips]
    shared += [(one.port, one.address, "a subscriber network") for one in settings.networks]
    nodes = {node for one in settings.interfaces for node in one.addresses}
    beside = {node: Placed([*shared, *_networks_of(node, settings, known)]) for node in nodes}
    for one, node, address, where in _entries(settings):
        if address_fault(address):
            continue
        for port, other, whose in beside[node].overlapping(one.port, address):
            if other.ip != address.ip:
                yield Finding(
                    "subnet_overlap",
                    f"{address} on {one.port} lies in the network {other.network}, {whose}, on {port}: packets would "
                    "take the wrong port.",
                    "Use networks that do not overlap.", where,
                )
                break


def _networks_of(node: str, settings: Settings, known: Known) -> Iterator[tuple[str, Interface, str]]:
    """Yield the networks of one gateway's links and own addresses, each with its port and what it is."""
    for link in settings.links:
        if node in link.ends:
            yield link.ends[node].port, link.ends[node].address, "that of a link"
    for each in settings.interfaces:
        for other in each.addresses.get(node, ()):
            yield each.port, other, "its own"
    for name, port in known.get(node, {}).items():
        for other in own_addresses(port):
            yield name, other, "its own"
