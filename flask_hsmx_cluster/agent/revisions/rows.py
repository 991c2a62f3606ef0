"""A settings revision as rows of typed columns, and back."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

from ... import models as m
from ...settings import notify, pppoe
from ...settings.interfaces import Interface, NetworkInterface
from ...settings.model import PREFERRED_DELAY_MIN, Advanced, Link, LinkEnd, Node, Settings, VirtualIP
from ...settings.networks import Alias, Network, Route
from .model import Revision


def revision_row(revision: Revision) -> m.SettingsRevision:
    """Return the rows of a revision."""
    settings, advanced = revision.settings, revision.settings.advanced
    return m.SettingsRevision(
        digest=revision.digest,
        number=revision.number,
        parent=revision.parent,
        merged=revision.merged,
        author=revision.author,
        author_name=revision.author_name,
        changed_at=revision.changed_at,
        key_id=revision.key_id,
        signature=revision.signature,
        cluster_id=settings.cluster_id,
        heartbeat_ms=advanced.heartbeat_ms,
        ping_pongs=advanced.ping_pongs,
        lease_s=advanced.lease_s,
        boot_hold_s=advanced.boot_hold_s,
        announce_refresh_s=advanced.announce_refresh_s,
        stale_wait_s=advanced.stale_wait_s,
        preferred=m.RevisionPreferred(node_id=advanced.preferred, delay_min=advanced.preferred_delay_min)
        if advanced.preferred
        else None,
        nodes=[
            m.RevisionNode(position=at, node_id=node.node_id, name=node.name) for at, node in enumerate(settings.nodes)
        ],
        virtual_ips=[
            m.RevisionVirtualIP(
                position=at,
                address=str(vip.address),
                port=vip.port,
                off_subnet=vip.off_subnet,
                virtual_mac=vip.virtual_mac,
            )
            for at, vip in enumerate(settings.virtual_ips)
        ],
        links=[
            m.RevisionLink(
                position=at,
                kind=link.kind,
                ends=[
                    m.RevisionLinkEnd(position=place, node_id=node_id, port=end.port, address=str(end.address))
                    for place, (node_id, end) in enumerate(link.ends.items())
                ],
            )
            for at, link in enumerate(settings.links)
        ],
        references=[
            m.RevisionReference(position=at, address=str(address)) for at, address in enumerate(advanced.references)
        ],
        networks=[
            m.RevisionNetwork(position=at, address=str(one.address), port=one.port, name=one.name)
            for at, one in enumerate(settings.networks)
        ],
        advertised=[
            m.RevisionAdvertised(position=at, advertise=one.advertise, dns=str(one.dns) if one.dns else None)
            for at, one in enumerate(settings.networks)
            if one.advertise or one.dns
        ],
        aliases=[
            m.RevisionAlias(position=at, address=str(one.address), port=one.port, note=one.note)
            for at, one in enumerate(settings.aliases)
        ],
        routes=[
            m.RevisionRoute(position=at, destination=str(one.destination), via=str(one.via), port=one.port)
            for at, one in enumerate(settings.routes)
        ],
        pppoe=[m.RevisionPPPoE(position=at, **vars(one)) for at, one in enumerate(settings.pppoe)],
        notify=[
            m.RevisionNotify(**{**vars(one), "position": at, "recipients": "\n".join(one.recipients)})
            for at, one in enumerate(settings.notify)
        ],
        interfaces=[
            m.RevisionInterface(position=at, port=one.port, apart=one.apart, node_id=node, address=str(address))
            for at, (one, node, address) in enumerate(
                (one, node, address) for one in settings.interfaces
                for node, addresses in one.addresses.items() for address in addresses
            )
        ],
    )


def revision_from_row(row: m.SettingsRevision) -> Revision:
    """Return the revision of its rows.

    :raises ValueError: an address in them is malformed.
    """
    settings = Settings(
        cluster_id=row.cluster_id,
        nodes=tuple(Node(node.node_id, node.name) for node in row.nodes),
        virtual_ips=tuple(
            VirtualIP(ip_interface(vip.address), vip.port, vip.off_subnet, vip.virtual_mac) for vip in row.virtual_ips
        ),
        links=tuple(
            Link(
                link.kind,  # type: ignore[arg-type]  # one of three words, or the digest does not match
                {end.node_id: LinkEnd(end.port, ip_interface(end.address)) for end in link.ends},
            )
            for link in row.links
        ),
        advanced=Advanced(
            heartbeat_ms=row.heartbeat_ms,
            ping_pongs=row.ping_pongs,
            lease_s=row.lease_s,
            boot_hold_s=row.boot_hold_s,
            announce_refresh_s=row.announce_refresh_s,
            stale_wait_s=row.stale_wait_s,
            preferred=row.preferred.node_id if row.preferred else "",
            preferred_delay_min=row.preferred.delay_min if row.preferred else PREFERRED_DELAY_MIN[1],
            references=tuple(ip_address(item.address) for item in row.references),
        ),
        networks=_networks(row),
        aliases=tuple(Alias(ip_interface(one.address), one.port, one.note) for one in row.aliases),
        routes=tuple(Route(ip_network(one.destination), ip_address(one.via), one.port) for one in row.routes),
        pppoe=tuple(
            pppoe.Connection(
                one.name, one.port, one.user, one.password, one.service, one.concentrator, one.mtu, one.default_route,
                one.enabled,
            )
            for one in row.pppoe
        ),
        interfaces=_interfaces(row.interfaces),
        notify=tuple(
            notify.Target(
                one.name, one.kind, one.address, one.user, one.password, one.security, one.sender,
                tuple(one.recipients.split("\n")) if one.recipients else (), one.fingerprint, one.least,
                one.repeat_min, one.remind_h, one.enabled,
            )
            for one in row.notify
        ),
    )
    return Revision(
        number=row.number,
        parent=row.parent,
        merged=row.merged,
        author=row.author,
        author_name=row.author_name,
        changed_at=row.changed_at,
        settings=settings,
        key_id=row.key_id,
        signature=row.signature,
    )


def _networks(row: m.SettingsRevision) -> tuple[Network, ...]:
    advertised = {one.position: (one.advertise, ip_address(one.dns) if one.dns else None) for one in row.advertised}
    return tuple(
        Network(ip_interface(one.address), one.port, one.name, *advertised.get(one.position, ("", None)))
        for one in row.networks
    )


def _interfaces(rows: list[m.RevisionInterface]) -> tuple[NetworkInterface, ...]:
    found: dict[str, dict[str, tuple[Interface, ...]]] = {}
    apart = {row.port: row.apart for row in rows}
    for row in rows:
        ends = found.setdefault(row.port, {})
        ends[row.node_id] = (*ends.get(row.node_id, ()), ip_interface(row.address))
    return tuple(NetworkInterface(port, ends, apart[port]) for port, ends in found.items())
