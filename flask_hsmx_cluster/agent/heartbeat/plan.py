"""Turns a membership into what the heartbeat needs: the core's plan, the paths, the codec's keys."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network

from ...decision.model import ArbiterUse, Path, Plan
from ...network.router_advertisement import Advertisement, Prefix, virtual_link_local
from ...network.virtual_mac import virtual_mac
from ...settings.model import Interface, Settings
from ...settings.timing import timing_of
from ..membership import Membership
from .datagram import MOST_PORTS, Challenges, Codec, path_tag
from .transport import UdpEnds


@dataclass(frozen=True)
class UdpPlan:
    """A UDP path to be opened.

    :param former: the ends that the other gateway may have still, where they are being changed.
    """

    name: str
    tag: int
    ends: UdpEnds
    former: UdpEnds | None = None


@dataclass(frozen=True)
class EthernetPlan:
    """An Ethernet path on a watched port."""

    name: str
    tag: int
    port: str


@dataclass(frozen=True)
class Shared:
    """An address that is on the active gateway only, with where it comes from.

    :param alias: one of many: an IP alias.
    :param virtual_mac: it goes on the port's virtual MAC. Where one virtual IP of a port does, networks and aliases
        of the port do, too.
    """

    address: Interface
    port: str
    alias: bool
    virtual_mac: bool


def shared_of(settings: Settings) -> list[Shared]:
    """Return all shared addresses: virtual IPs, then networks, their virtual link-local addresses, then aliases."""
    virtual = {vip.port for vip in settings.virtual_ips if vip.virtual_mac}
    lans6 = dict.fromkeys(one.port for one in settings.networks if one.address.version == 6)
    return [
        *(Shared(vip.address, vip.port, False, vip.virtual_mac) for vip in settings.virtual_ips),
        *(Shared(one.address, one.port, False, one.port in virtual) for one in settings.networks),
        *(Shared(virtual_link_local(settings.cluster_id, port), port, False, port in virtual) for port in lans6),
        *(Shared(one.address, one.port, True, one.port in virtual) for one in settings.aliases),
    ]


def shared_by_port(settings: Settings) -> dict[str, list[Shared]]:
    """Return all shared addresses by port: those of virtual IPs first, then of networks, then of aliases."""
    found: dict[str, list[Shared]] = {}
    for one in shared_of(settings):
        found.setdefault(one.port, []).append(one)
    return found


def watched_of(settings: Settings) -> dict[str, list[Shared]]:
    """Return by which addresses each port is watched, in an order that is the same on both gateways.

    The virtual IPs of a port, else its first network, else its first alias; and so many ports as a heartbeat has room
    for. What the brain weighs does not grow with a thousand aliases.
    """
    virtual = {vip.address for vip in settings.virtual_ips}
    ports = list(shared_by_port(settings).items())[:MOST_PORTS]
    return {name: [one for one in shared if one.address in virtual] or shared[:1] for name, shared in ports}


def advertised_of(settings: Settings) -> dict[str, Advertisement]:
    """Return by port what router advertisements tell there; all networks of a port are in one."""
    found: dict[str, Advertisement] = {}
    for one in settings.networks:
        network = one.address.network
        if not one.advertise or not isinstance(network, IPv6Network):
            continue
        before = found.get(one.port, Advertisement())
        prefixes = {prefix.network: prefix for prefix in before.prefixes}
        autonomous = one.autonomous or (network in prefixes and prefixes[network].autonomous)
        prefixes[network] = Prefix(network, autonomous)
        dns = (one.dns,) if isinstance(one.dns, IPv6Address) else ()
        found[one.port] = Advertisement(
            tuple(prefixes.values()), before.managed or one.advertise == "dhcp",
            before.other or one.advertise == "stateless-dhcp", tuple(dict.fromkeys((*before.dns, *dns))),
        )  # fmt: skip
    return found


def ports_of(settings: Settings) -> tuple[str, ...]:
    """Return the ports that are watched."""
    return tuple(watched_of(settings))


def virtual_mac_of(settings: Settings, port: str) -> str:
    """Return the virtual MAC of a port, or "" where none of its addresses has one."""
    wanted = any(vip.virtual_mac for vip in settings.virtual_ips if vip.port == port)
    return virtual_mac(settings.cluster_id, port) if wanted else ""


def udp_paths(membership: Membership, udp_port: int) -> list[UdpPlan]:
    """Return the UDP paths: each link whose both ends are known."""
    former = _ends(membership, membership.there, udp_port) if membership.there else {}
    return [
        UdpPlan(kind, path_tag(kind), ends, former[kind] if former.get(kind, ends) != ends else None)
        for kind, ends in _ends(membership, membership.settings, udp_port).items()
    ]


def _ends(membership: Membership, settings: Settings, udp_port: int) -> dict[str, UdpEnds]:
    """Return own and other end of each link whose both ends are known, by its kind."""
    peer = membership.settings.peer_of(membership.node_id)
    found = {}
    for link in settings.links:
        mine = link.ends.get(membership.node_id)
        theirs = link.ends.get(peer.node_id) if peer else None
        if mine and theirs:
            found[str(link.kind)] = UdpEnds(mine.port, str(mine.address.ip), str(theirs.address.ip), udp_port)
    return found


def ethernet_paths(membership: Membership) -> list[EthernetPlan]:
    """Return the Ethernet paths: one on each watched port, once there is a peer."""
    if membership.settings.peer_of(membership.node_id) is None:
        return []
    return [
        EthernetPlan(f"{port} (Ethernet)", path_tag("ethernet", index), port)
        for index, port in enumerate(ports_of(membership.settings))
    ]


def core_plan(
    membership: Membership, udp_port: int, peer_macs: Mapping[str, str], data: bool = False, synchronous: bool = True,
    services: bool = False, checks: tuple[str, ...] = (), arbiter: ArbiterUse = ArbiterUse.NONE,
) -> Plan:  # fmt: skip
    """Return what the decision core must know.

    :param data: the database is shared, too; ``synchronous``: its commits are to wait for the other gateway.
    :param services: services, hooks or the like follow the role; ``checks``: the host's that may move it.
    :param arbiter: how an arbiter is used.
    """
    settings = membership.settings
    peer = settings.peer_of(membership.node_id)
    watched = watched_of(settings)
    ports = tuple(watched)
    return Plan(
        node=membership.node_id,
        peer=peer.node_id if peer else "",
        peer_name=peer.name if peer else "",
        paths=(
            *(
                Path(path.name, path.name, path.ends.device, direct=path.name in ("sync", "backup"))
                for path in udp_paths(membership, udp_port)
            ),
            *(Path(path.name, "ethernet", path.port) for path in ethernet_paths(membership)),
        ),
        ports=ports,
        addresses=tuple(", ".join(str(one.address.ip) for one in shared) for shared in watched.values()),
        timing=timing_of(settings.advanced),
        revision=membership.revision,
        data=data,
        synchronous=synchronous,
        services=services,
        checks=checks,
        arbiter=arbiter,
        preferred=settings.advanced.preferred,
        preferred_delay_s=60.0 * settings.advanced.preferred_delay_min,
        peer_macs=tuple(bytes.fromhex(peer_macs.get(port, "").replace(":", "")) for port in ports),
    )


def codec_for(membership: Membership, incarnation: bytes) -> Codec:
    """Return the codec of a membership."""
    peer = membership.settings.peer_of(membership.node_id)
    return Codec(
        cluster=hashlib.sha256(membership.settings.cluster_id.encode()).digest()[:8],
        node=bytes.fromhex(membership.node_id),
        peer=bytes.fromhex(peer.node_id) if peer else b"",
        keys={key.key_id: key.secret for key in membership.keys},
        signing=membership.keys[0].key_id,
        incarnation=incarnation,
        challenges=Challenges(),
    )
