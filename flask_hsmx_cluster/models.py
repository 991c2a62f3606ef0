"""SQLAlchemy models of the node store: what one gateway must know when nobody else can be asked.

Settings are rows of typed columns, one set per revision. Nothing here is replicated by the database:
revisions travel between the agents (see :mod:`flask_hsmx_cluster.agent.revisions.model`).
"""

from __future__ import annotations

from sqlalchemy import CheckConstraint, ForeignKey, LargeBinary, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

#: Version of this schema, kept in SQLite's ``user_version``. 2: networks, aliases and routes; how the data stands.
#: 3: PPPoE connections, and own addresses of the gateways. 4: router advertisements, and notification targets.
#: 5: renewals under way. 6: the preferred gateway. 7: the present reign is remembered elsewhere.
SCHEMA_VERSION = 7
#: By version: what brings a store to the next one, besides the making of new tables.
UPGRADES = {
    1: ("ALTER TABLE settings_revision ADD COLUMN stale_wait_s INTEGER DEFAULT 60",),
    6: ("ALTER TABLE reign DROP COLUMN last_term", "ALTER TABLE reign DROP COLUMN last_boot_id",
        "DROP TABLE IF EXISTS asked_reign"),
}  # fmt: skip
#: Tables that a store of an earlier version may have.
FORMER_TABLES = frozenset({"asked_reign"})

#: Events beyond this number are forgotten, oldest first.
MAX_EVENTS = 5000


class Base(DeclarativeBase):
    """Base of all models of the node store."""


class _One:
    """A table of at most one row."""

    id: Mapped[int] = mapped_column(primary_key=True, default=1)


class Identity(_One, Base):
    """Who this gateway is, and the machine that it was when it became that."""

    __tablename__ = "identity"
    __table_args__ = (CheckConstraint("id = 1"),)

    node_id: Mapped[str] = mapped_column(String(32))
    machine_digest: Mapped[str] = mapped_column(String(64))
    """SHA-256 of the machine id; empty where the machine has none."""


class IdentityMac(Base):
    """A port MAC that this machine has had."""

    __tablename__ = "identity_mac"

    mac: Mapped[str] = mapped_column(String(17), primary_key=True)
    port: Mapped[str] = mapped_column(String(32))


class ClusterKey(Base):
    """A key shared by both gateways. The one in position 0 signs, all verify."""

    __tablename__ = "cluster_key"

    key_id: Mapped[int] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(unique=True)
    secret: Mapped[bytes] = mapped_column(LargeBinary(32))


class SettingsRevision(Base):
    """One revision of the cluster's settings."""

    __tablename__ = "settings_revision"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    number: Mapped[int]
    parent: Mapped[str] = mapped_column(String(64))
    merged: Mapped[str] = mapped_column(String(64))
    """Digest of the second parent of a revision that ended a conflict; else empty."""
    author: Mapped[str] = mapped_column(String(32))
    author_name: Mapped[str] = mapped_column(String(128))
    changed_at: Mapped[str] = mapped_column(String(40))
    key_id: Mapped[int]
    signature: Mapped[bytes] = mapped_column(LargeBinary(32))
    cluster_id: Mapped[str] = mapped_column(String(128))
    heartbeat_ms: Mapped[int]
    ping_pongs: Mapped[int]
    lease_s: Mapped[int]
    boot_hold_s: Mapped[int]
    announce_refresh_s: Mapped[int]
    stale_wait_s: Mapped[int | None]

    nodes: Mapped[list[RevisionNode]] = relationship(cascade="all, delete-orphan", order_by="RevisionNode.position")
    virtual_ips: Mapped[list[RevisionVirtualIP]] = relationship(
        cascade="all, delete-orphan", order_by="RevisionVirtualIP.position"
    )
    links: Mapped[list[RevisionLink]] = relationship(cascade="all, delete-orphan", order_by="RevisionLink.position")
    references: Mapped[list[RevisionReference]] = relationship(
        cascade="all, delete-orphan", order_by="RevisionReference.position"
    )
    networks: Mapped[list[RevisionNetwork]] = relationship(
        cascade="all, delete-orphan", order_by="RevisionNetwork.position"
    )
    advertised: Mapped[list[RevisionAdvertised]] = relationship(
        cascade="all, delete-orphan", order_by="RevisionAdvertised.position"
    )
    aliases: Mapped[list[RevisionAlias]] = relationship(cascade="all, delete-orphan", order_by="RevisionAlias.position")
    routes: Mapped[list[RevisionRoute]] = relationship(cascade="all, delete-orphan", order_by="RevisionRoute.position")
    pppoe: Mapped[list[RevisionPPPoE]] = relationship(cascade="all, delete-orphan", order_by="RevisionPPPoE.position")
    interfaces: Mapped[list[RevisionInterface]] = relationship(
        cascade="all, delete-orphan", order_by="RevisionInterface.position"
    )
    notify: Mapped[list[RevisionNotify]] = relationship(
        cascade="all, delete-orphan", order_by="RevisionNotify.position"
    )
    preferred: Mapped[RevisionPreferred | None] = relationship(cascade="all, delete-orphan")


def _of_revision() -> Mapped[str]:
    return mapped_column(ForeignKey(SettingsRevision.digest, ondelete="CASCADE"), primary_key=True)


class RevisionNode(Base):
    """A gateway named in a revision."""

    __tablename__ = "revision_node"

    revision: Mapped[str] = _of_revision()
    position: Mapped[int] = mapped_column(primary_key=True)
    node_id: Mapped[str] = mapped_column(String(128))
    name: Mapped[str] = mapped_column(String(128))


class RevisionPreferred(Base):
    """The preferred gateway of a revision."""

    __tablename__ = "revision_preferred"

    revision: Mapped[str] = _of_revision()
    node_id: Mapped[str] = mapped_column(String(128))
    delay_min: Mapped[int]


class RevisionVirtualIP(Base):
    """A virtual IP of a revision."""

    __tablename__ = "revision_virtual_ip"

    revision: Mapped[str] = _of_revision()
    position: Mapped[int] = mapped_column(primary_key=True)
    address: Mapped[str] = mapped_column(String(64))
    port: Mapped[str] = mapped_column(String(128))
    off_subnet: Mapped[bool]
    virtual_mac: Mapped[bool]


class RevisionLink(Base):
    """A link of a revision."""

    __tablename__ = "revision_link"

    id: Mapped[int] = mapped_column(primary_key=True)
    revision: Mapped[str] = mapped_column(ForeignKey(SettingsRevision.digest, ondelete="CASCADE"), index=True)
    position: Mapped[int]
    kind: Mapped[str] = mapped_column(String(16))

    ends: Mapped[list[RevisionLinkEnd]] = relationship(
        cascade="all, delete-orphan", order_by="RevisionLinkEnd.position"
    )


class RevisionLinkEnd(Base):
    """Where a link ends on one gateway."""

    __tablename__ = "revision_link_end"

    link: Mapped[int] = mapped_column(ForeignKey(RevisionLink.id, ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    node_id: Mapped[str] = mapped_column(String(128))
    port: Mapped[str] = mapped_column(String(128))
    address: Mapped[str] = mapped_column(String(64))


class RevisionReference(Base):
    """A reference address of a revision."""

    __tablename__ = "revision_reference"

    revision: Mapped[str] = _of_revision()
    position: Mapped[int] = mapped_column(primary_key=True)
    address: Mapped[str] = mapped_column(String(64))


class RevisionNetwork(Base):
    """A subscriber network of a revision."""

    __tablename__ = "revision_network"

    revision: Mapped[str] = _of_revision()
    position: Mapped[int] = mapped_column(primary_key=True)
    address: Mapped[str] = mapped_column(String(64))
    port: Mapped[str] = mapped_column(String(128))
    name: Mapped[str] = mapped_column(String(128))


class RevisionAdvertised(Base):
    """That a subscriber network of a revision has router advertisements; the position is the network's."""

    __tablename__ = "revision_advertised"

    revision: Mapped[str] = _of_revision()
    position: Mapped[int] = mapped_column(primary_key=True)
    advertise: Mapped[str] = mapped_column(String(16))
    dns: Mapped[str | None] = mapped_column(String(64))


class RevisionAlias(Base):
    """An IP alias of a revision."""

    __tablename__ = "revision_alias"

    revision: Mapped[str] = _of_revision()
    position: Mapped[int] = mapped_column(primary_key=True)
    address: Mapped[str] = mapped_column(String(64))
    port: Mapped[str] = mapped_column(String(128))
    note: Mapped[str] = mapped_column(String(128))


class RevisionRoute(Base):
    """A route of a revision."""

    __tablename__ = "revision_route"

    revision: Mapped[str] = _of_revision()
    position: Mapped[int] = mapped_column(primary_key=True)
    destination: Mapped[str] = mapped_column(String(64))
    via: Mapped[str] = mapped_column(String(64))
    port: Mapped[str | None] = mapped_column(String(128))


class RevisionPPPoE(Base):
    """A PPPoE connection of a revision. The node store is readable by the agent's user only: the password is in it."""

    __tablename__ = "revision_pppoe"

    revision: Mapped[str] = _of_revision()
    position: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(32))
    port: Mapped[str] = mapped_column(String(128))
    user: Mapped[str] = mapped_column(String(200))
    password: Mapped[str] = mapped_column(String(200))
    service: Mapped[str] = mapped_column(String(200))
    concentrator: Mapped[str] = mapped_column(String(200))
    mtu: Mapped[int]
    default_route: Mapped[bool]
    enabled: Mapped[bool]


class RevisionNotify(Base):
    """A notification target of a revision, with its password."""

    __tablename__ = "revision_notify"

    revision: Mapped[str] = _of_revision()
    position: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    kind: Mapped[str] = mapped_column(String(200))
    address: Mapped[str] = mapped_column(String(200))
    user: Mapped[str] = mapped_column(String(200))
    password: Mapped[str] = mapped_column(String(200))
    security: Mapped[str] = mapped_column(String(200))
    sender: Mapped[str] = mapped_column(String(200))
    recipients: Mapped[str] = mapped_column(String(2000))
    """One a line."""
    fingerprint: Mapped[str] = mapped_column(String(200))
    least: Mapped[str] = mapped_column(String(200))
    repeat_min: Mapped[int]
    remind_h: Mapped[int]
    enabled: Mapped[bool]


class RevisionInterface(Base):
    """An own address of a gateway, of a revision."""

    __tablename__ = "revision_interface"

    revision: Mapped[str] = _of_revision()
    position: Mapped[int] = mapped_column(primary_key=True)
    port: Mapped[str] = mapped_column(String(128))
    apart: Mapped[bool]
    node_id: Mapped[str] = mapped_column(String(128))
    address: Mapped[str] = mapped_column(String(64))


class RevisionHead(_One, Base):
    """Which revision is in force, which one is prepared, and which one contradicts it."""

    __tablename__ = "revision_head"
    __table_args__ = (CheckConstraint("id = 1"),)

    applied: Mapped[str | None] = mapped_column(ForeignKey(SettingsRevision.digest))
    prepared: Mapped[str | None] = mapped_column(ForeignKey(SettingsRevision.digest))
    conflict: Mapped[str | None] = mapped_column(ForeignKey(SettingsRevision.digest))
    peer_digest: Mapped[str] = mapped_column(String(64), default="")
    """Digest of the revision that the other gateway confirmed to have in force."""


class RevisionAncestor(Base):
    """A forebear of the revision in force, newest first."""

    __tablename__ = "revision_ancestor"

    position: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(String(64))


class Peer(_One, Base):
    """What the other gateway last told about itself."""

    __tablename__ = "peer"
    __table_args__ = (CheckConstraint("id = 1"),)

    node_id: Mapped[str] = mapped_column(String(32))
    name: Mapped[str] = mapped_column(String(128))
    firmware: Mapped[str] = mapped_column(String(128))
    version: Mapped[str] = mapped_column(String(64))
    protocol: Mapped[int]
    http_port: Mapped[int]


class PeerMac(Base):
    """MAC of one of the other gateway's virtual-IP ports, as it last signed it in a heartbeat."""

    __tablename__ = "peer_mac"

    port: Mapped[str] = mapped_column(String(32), primary_key=True)
    mac: Mapped[str] = mapped_column(String(17))


class Joining(_One, Base):
    """A join that was agreed but whose last answer has not come: the revision is the prepared one."""

    __tablename__ = "joining"
    __table_args__ = (CheckConstraint("id = 1"),)

    address: Mapped[str] = mapped_column(String(64))
    http_port: Mapped[int]


class Pairing(_One, Base):
    """The one-time pairing code that lives at present."""

    __tablename__ = "pairing"
    __table_args__ = (CheckConstraint("id = 1"),)

    code_hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    boot_id: Mapped[str] = mapped_column(String(36))
    expires_at_s: Mapped[float]
    """End of its life on that boot's boot-time clock, s: a stepped wall clock changes nothing."""
    attempts_left: Mapped[int]
    joiner: Mapped[str] = mapped_column(String(32), default="")
    """Node id that has used the code; nobody else may then."""


class ReservedTerm(_One, Base):
    """The highest term that is reserved for a claim."""

    __tablename__ = "reign"
    __table_args__ = (CheckConstraint("id = 1"),)

    reserved_term: Mapped[int] = mapped_column(default=0)


class DataStanding(_One, Base):
    """Whether this gateway's data may be older than the other one's, should it start alone."""

    __tablename__ = "data_standing"
    __table_args__ = (CheckConstraint("id = 1"),)

    followed: Mapped[bool]
    """The other gateway was the one that wrote last."""
    behind: Mapped[bool]
    in_step_at: Mapped[str] = mapped_column(String(40))
    """Wall time at which this gateway last had all that the other one had; empty if that is not known."""
    degraded_at: Mapped[str] = mapped_column(String(40))
    """Since when this gateway, active, confirms its writes alone; empty if it does not."""


class Maintenance(_One, Base):
    """Until when this gateway is in maintenance, wall clock, ISO 8601: it has to survive a reboot."""

    __tablename__ = "maintenance"
    __table_args__ = (CheckConstraint("id = 1"),)

    until: Mapped[str] = mapped_column(String(40))


class Guide(_One, Base):
    """The renewal that was begun last, as both gateways hold it; how far it is follows from what they are now."""

    __tablename__ = "guide"
    __table_args__ = (CheckConstraint("id = 1"),)

    number: Mapped[int]
    kind: Mapped[str] = mapped_column(String(16))
    began_at: Mapped[str] = mapped_column(String(128))
    by: Mapped[str] = mapped_column(String(128))
    ended_at: Mapped[str] = mapped_column(String(128))
    """Empty: it is under way."""

    gateways: Mapped[list[GuideGateway]] = relationship(cascade="all, delete-orphan", order_by="GuideGateway.position")


class GuideGateway(Base):
    """What a gateway was when a renewal began; the first is the one that was passive."""

    __tablename__ = "guide_gateway"

    guide: Mapped[int] = mapped_column(ForeignKey(Guide.id, ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    node_id: Mapped[str] = mapped_column(String(128))
    name: Mapped[str] = mapped_column(String(128))
    boot: Mapped[str] = mapped_column(String(128))
    fingerprint: Mapped[str] = mapped_column(String(64))
    names: Mapped[str] = mapped_column(String(6000))
    """Of the certificate, one a line."""
    not_after: Mapped[int]
    firmware: Mapped[str] = mapped_column(String(128))
    version: Mapped[str] = mapped_column(String(128))


class Event(Base):
    """Something that happened, in words."""

    __tablename__ = "event"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[str] = mapped_column(String(40))
    kind: Mapped[str] = mapped_column(String(64))
    severity: Mapped[str] = mapped_column(String(16))
    text: Mapped[str] = mapped_column(String(500))
    node: Mapped[str] = mapped_column(String(128))

    evidence: Mapped[list[EventEvidence]] = relationship(
        cascade="all, delete-orphan", passive_deletes=True, order_by="EventEvidence.position"
    )


class EventEvidence(Base):
    """One piece of evidence for an event."""

    __tablename__ = "event_evidence"

    event: Mapped[int] = mapped_column(ForeignKey(Event.id, ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(500))
