"""What the replicator is told once, and again when it changes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .scope import Scope


@dataclass(frozen=True)
class Peer:
    """The other gateway's database.

    :param addresses: its link addresses, the sync link's first.
    :param former: addresses that it had a moment ago: it is let in from these, too.
    :param own_password: with which it logs in here; ``password``: with which we log in there.
    :param certificate: its server's certificate, PEM; "" as long as it has not told.
    :param system: its server's system identifier; "" as long as it has not told.
    """

    node_id: str
    addresses: tuple[str, ...]
    port: int
    database: str
    certificate: str
    system: str
    password: str = field(repr=False)
    own_password: str = field(repr=False)
    name: str = "the other gateway"
    former: tuple[str, ...] = ()


@dataclass(frozen=True)
class Setup:
    """What the replicator is told once, and again when it changes.

    :param dsn: connection string of the agent's role, over the local socket.
    :param peer: None while this gateway is alone in its cluster.
    :param scope: as the host declares it; in force is what of it the host has made already.
    :param synchronous: commits are to wait for the other gateway while it keeps up.
    """

    dsn: str = field(repr=False)
    node_id: str
    peer: Peer | None
    scope: Scope = field(repr=False)
    name: str = "this gateway"
    synchronous: bool = True

    @property
    def peer_id(self) -> str:
        return self.peer.node_id if self.peer else ""


def _peer_from(told: dict[str, Any]) -> Peer:
    return Peer(**{**told, "addresses": tuple(told["addresses"]), "former": tuple(told.get("former", ()))})


def setup_from(arguments: dict[str, Any]) -> Setup:
    """Return a set-up from what the agent sends."""
    peer = arguments["peer"]
    return Setup(
        dsn=arguments["dsn"],
        node_id=arguments["node_id"],
        peer=None if peer is None else _peer_from(peer),
        scope=Scope.from_json(arguments["scope"]),
        name=arguments["name"],
        synchronous=arguments["synchronous"],
    )
