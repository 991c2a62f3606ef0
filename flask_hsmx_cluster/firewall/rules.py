"""The rules that let the other gateway in: one for each port that it needs and each of its addresses.

Files go over ssh from firmware 5.2.03 on, over an rsync daemon before. In a pair of both kinds they go over the rsync
daemon, which both understand; ssh is open there all the same. The gateway that is upgraded last speaks ssh from its
first minute on, and nobody should have to edit a firewall in the midst of an upgrade, nor when one is taken back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Literal

from ..files.way import FIRST_WITH_SSH, numbers
from ..settings.model import LinkKind, Settings

Address = IPv4Address | IPv6Address
Protocol = Literal["tcp", "udp"]

LINK_KINDS: tuple[LinkKind, ...] = ("sync", "backup", "service")
#: conntrackd's own UDP port.
CONNTRACKD = 3780
#: Addresses of the other gateway that somebody may name before there is a cluster.
MOST_PEERS = 8


class Use(StrEnum):
    """What a port is for."""

    SETTINGS = "settings"
    SSH = "ssh"
    RSYNC = "rsync"
    DATABASE = "database"
    HEARTBEATS = "heartbeats"
    CONNECTIONS = "connections"


#: Over the guests' network go heartbeats and requests only; whatever is copied keeps to the cables.
_OVER_SERVICE = (Use.SETTINGS, Use.HEARTBEATS)


@dataclass(frozen=True)
class Service:
    """A port of this gateway that the other one uses."""

    use: Use
    protocol: Protocol
    port: int

    def as_dict(self) -> dict[str, object]:
        """Return the form in which gateways tell it each other."""
        return {"use": str(self.use), "protocol": self.protocol, "port": self.port}

    @property
    def only_peer(self) -> bool:
        """Whether nobody but the other gateway has business there: guests use the web app, administrators ssh."""
        return self.use not in (Use.SETTINGS, Use.SSH)


@dataclass(frozen=True)
class Peer:
    """An address of the other gateway.

    :param kind: of the link on which it has it; None where that is not known yet.
    """

    address: Address
    kind: LinkKind | None = None


@dataclass(frozen=True)
class Rule:
    """Let one address reach one port of this gateway."""

    service: Service
    source: Address
    kind: LinkKind | None = None

    def as_dict(self) -> dict[str, object]:
        """Return the form of the verb ``firewall``."""
        return {**self.service.as_dict(), "source": str(self.source), "link": self.kind or ""}


def services(
    firmwares: Iterable[str], http: int = 80, database: int = 5432, heartbeats: int = 5555, connections: bool = False,
    *, ssh: int = 22, rsync: int = 873,
) -> tuple[Service, ...]:  # fmt: skip
    """Return the ports that the other gateway uses, in the order of the manual.

    :param firmwares: the versions of both gateways, as far as they are known. One that cannot be read may be either.
    :param connections: guests' connections move along (conntrackd).
    """
    versions = [numbers(one) for one in firmwares]
    found = [
        Service(Use.SETTINGS, "tcp", http),
        *([Service(Use.RSYNC, "tcp", rsync)] if any(one < FIRST_WITH_SSH for one in versions) else []),
        Service(Use.DATABASE, "tcp", database),
        Service(Use.HEARTBEATS, "udp", heartbeats),
        *([Service(Use.SSH, "tcp", ssh)] if any(not one or one >= FIRST_WITH_SSH for one in versions) else []),
        *([Service(Use.CONNECTIONS, "udp", CONNTRACKD)] if connections else []),
    ]
    return tuple(found)


def rules(some: Sequence[Service], peers: Iterable[Peer]) -> tuple[Rule, ...]:
    """Return one rule for each address of the other gateway and each port that it needs over that link."""
    return tuple(
        Rule(service, peer.address, peer.kind)
        for peer in dict.fromkeys(peers)
        for service in some
        if goes_over(service.use, peer.kind)
    )


def goes_over(use: Use, kind: str | None) -> bool:
    """Return whether something goes over a kind of link."""
    return kind != "service" or use in _OVER_SERVICE


def peers_of(settings: Settings, node_id: str) -> Iterator[Peer]:
    """Yield the other gateway's addresses on the links: sync first, then backup, then service."""
    for kind in LINK_KINDS:
        link = settings.link(kind)
        for other, end in link.ends.items() if link else ():
            if other != node_id:
                yield Peer(end.address.ip, kind)
