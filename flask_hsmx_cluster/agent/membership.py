"""What the hot side is told about the cluster that this gateway is a member of."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..settings.model import Settings


@dataclass(frozen=True)
class Key:
    """A cluster key.

    :param key_id: 1 to 255, named in every datagram and message.
    :param secret: 32 bytes, the same on both gateways; never shown.
    """

    key_id: int
    secret: bytes = field(repr=False)


@dataclass(frozen=True)
class Membership:
    """This gateway's place in its cluster.

    :param node_id: this gateway.
    :param settings: the settings in force.
    :param revision: their number.
    :param keys: the first signs, all verify.
    :param claim: True only where a cluster has just been created: become active at once.
    :param digest: digest of the settings revision, hex; tells two revisions of one number apart.
    :param there: the settings that the other gateway has in force still, where these are others.
    """

    node_id: str
    settings: Settings
    revision: int
    keys: tuple[Key, ...]
    claim: bool = False
    digest: str = ""
    there: Settings | None = None
