"""What the firmware stores. The first half belongs to the hotel, the second half to one gateway.

``info={"cluster": ...}`` tells the cluster what of a table both gateways share. The tables of the second half, and the
interfaces, say nothing: the rules that the extension ships know them by name.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import BigInteger, ForeignKey, ForeignKeyConstraint, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from flask_hsmx_cluster import Shared

SHARED: dict[str, Any] = {"info": {"cluster": "shared"}}


class Base(DeclarativeBase):
    """Base of the firmware's models."""


db = SQLAlchemy(model_class=Base)


# The hotel's data: the same on both gateways of a cluster.


class AccessPoint(Base):
    """A radio somewhere in the hotel."""

    __tablename__ = "access_point"
    __table_args__ = SHARED

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40), unique=True)
    location: Mapped[str] = mapped_column(String(60))
    model: Mapped[str] = mapped_column(String(40))
    mac: Mapped[str] = mapped_column(String(17))
    channel: Mapped[int]
    up: Mapped[bool]
    reached_at: Mapped[datetime | None] = mapped_column(info={"cluster": "local"})  # by this gateway
    guests: Mapped[list[Guest]] = relationship(back_populates="access_point")


class Guest(Base):
    """A guest's device, while it has a session or had one lately."""

    __tablename__ = "guest"
    __table_args__ = SHARED

    id: Mapped[int] = mapped_column(primary_key=True)
    room: Mapped[str] = mapped_column(String(8))
    name: Mapped[str] = mapped_column(String(80))
    device: Mapped[str] = mapped_column(String(40))
    mac: Mapped[str] = mapped_column(String(17))
    plan: Mapped[str] = mapped_column(String(20))
    online: Mapped[bool]
    since: Mapped[datetime]
    received_mb: Mapped[int]
    sent_mb: Mapped[int]
    access_point_id: Mapped[int | None] = mapped_column(ForeignKey("access_point.id"))
    access_point: Mapped[AccessPoint | None] = relationship(back_populates="guests")


class Voucher(Base):
    """A code that opens the internet for a while."""

    __tablename__ = "voucher"
    __table_args__ = SHARED

    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(String(14), unique=True)
    hours: Mapped[int]
    devices: Mapped[int]
    note: Mapped[str] = mapped_column(String(60))
    state: Mapped[str] = mapped_column(String(8))  # unused, in use, expired
    created_at: Mapped[datetime]


class PortalText(Base):
    """What the captive portal says to a guest, in one language."""

    __tablename__ = "portal_text"
    __table_args__ = SHARED

    id: Mapped[int] = mapped_column(primary_key=True)
    language: Mapped[str] = mapped_column(String(5), unique=True)
    title: Mapped[str] = mapped_column(String(80))
    welcome: Mapped[str] = mapped_column(Text)
    button: Mapped[str] = mapped_column(String(40))


class Room(Base):
    """A room that internet access can be charged to."""

    __tablename__ = "room"
    __table_args__ = SHARED

    building: Mapped[str] = mapped_column(String(20), primary_key=True)
    number: Mapped[str] = mapped_column(String(8), primary_key=True)
    extension: Mapped[str] = mapped_column(String(8), unique=True)  # of the telephone
    occupied: Mapped[bool]


class Charge(Base):
    """An amount for the hotel's billing, numbered so that no two gateways give the same number."""

    __tablename__ = "charge"
    __table_args__ = (ForeignKeyConstraint(["building", "number"], ["room.building", "room.number"]), SHARED)

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    building: Mapped[str] = mapped_column(String(20))
    number: Mapped[str] = mapped_column(String(8))
    text: Mapped[str] = mapped_column(String(60))
    cents: Mapped[int]
    posted_at: Mapped[datetime]
    room: Mapped[Room] = relationship()


class Account(Base):
    """Somebody who logs in by name: staff, conference, long stay."""

    __tablename__ = "account"
    __table_args__ = SHARED

    id: Mapped[int] = mapped_column(primary_key=True)
    login: Mapped[str] = mapped_column(String(40), unique=True)
    mail: Mapped[str | None] = mapped_column(String(120), unique=True)
    plan: Mapped[str] = mapped_column(String(20))
    valid_until: Mapped[datetime]
    devices: Mapped[list[AccountDevice]] = relationship(back_populates="account")


class AccountDevice(Base):
    """A device that needs no login, because an account has named it."""

    __tablename__ = "account_device"
    __table_args__ = SHARED

    account_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), primary_key=True)
    mac: Mapped[str] = mapped_column(String(17), primary_key=True)
    name: Mapped[str] = mapped_column(String(40))
    account: Mapped[Account] = relationship(back_populates="devices")


class Accounting(Base):
    """A RADIUS accounting record. Thousands an hour, and none is missed if the last ones come late."""

    __tablename__ = "accounting"
    __table_args__ = (UniqueConstraint("session", "interim"), {"info": {"cluster": "bulk"}})

    id: Mapped[int] = mapped_column(primary_key=True)
    session: Mapped[str] = mapped_column(String(32))
    interim: Mapped[int]
    mac: Mapped[str] = mapped_column(String(17))
    received_bytes: Mapped[int] = mapped_column(BigInteger)
    sent_bytes: Mapped[int] = mapped_column(BigInteger)
    at: Mapped[datetime]


class Interface(Base):
    """An address on a port. Some rows are shared, some are this gateway's own: its kind is part of the key."""

    __tablename__ = "interface"

    kind: Mapped[str] = mapped_column(String(8), primary_key=True)  # lan, wan (its own address), virtual, alias
    id: Mapped[int] = mapped_column(primary_key=True)
    port: Mapped[str] = mapped_column(String(15))
    address: Mapped[str] = mapped_column(String(49))
    note: Mapped[str] = mapped_column(String(60))


class PPPoEConnection(Base):
    """A dial-up on a WAN port. The active gateway dials."""

    __tablename__ = "pppoe_connection"

    id: Mapped[int] = mapped_column(primary_key=True)
    port: Mapped[str] = mapped_column(String(15), unique=True)
    login: Mapped[str] = mapped_column(String(80))
    enabled: Mapped[bool]


class PortAddress(Base):
    """By which addresses the hotel's other systems know the two gateways: this one, and the other one."""

    __tablename__ = "port_address"
    __table_args__ = {"info": {"cluster": Shared(mirrored=(("own", "other"),))}}

    port: Mapped[str] = mapped_column(String(15), primary_key=True)
    own: Mapped[str | None] = mapped_column(String(49))
    other: Mapped[str | None] = mapped_column(String(49))
    note: Mapped[str] = mapped_column(String(60))


# This gateway's own data: never shared, as the rules of the extension say.


class Language(Base):
    """Language and formats of the administration pages."""

    __tablename__ = "language"

    id: Mapped[int] = mapped_column(primary_key=True)
    interface: Mapped[str] = mapped_column(String(5))
    date_format: Mapped[str] = mapped_column(String(20))
    time_zone: Mapped[str] = mapped_column(String(40))


class Licence(Base):
    """The licence of this machine."""

    __tablename__ = "licence"

    id: Mapped[int] = mapped_column(primary_key=True)
    serial: Mapped[str] = mapped_column(String(20))
    holder: Mapped[str] = mapped_column(String(80))
    key: Mapped[str] = mapped_column(String(40))
    rooms: Mapped[int]
    valid_until: Mapped[datetime]


class Performance(Base):
    """Limits that depend on this machine's hardware."""

    __tablename__ = "performance"

    id: Mapped[int] = mapped_column(primary_key=True)
    connections: Mapped[int]
    guest_mbit: Mapped[int]
    uplink_mbit: Mapped[int]
    dns_cache: Mapped[bool]


class Certificate(Base):
    """A certificate that this gateway presents."""

    __tablename__ = "certificate"

    id: Mapped[int] = mapped_column(primary_key=True)
    subject: Mapped[str] = mapped_column(String(80))
    issuer: Mapped[str] = mapped_column(String(80))
    purpose: Mapped[str] = mapped_column(String(40))
    fingerprint: Mapped[str] = mapped_column(String(95))
    valid_until: Mapped[datetime]


class FirewallRule(Base):
    """One rule for packets to this gateway."""

    __tablename__ = "firewall_rule"

    id: Mapped[int] = mapped_column(primary_key=True)
    action: Mapped[str] = mapped_column(String(6))  # allow, refuse
    protocol: Mapped[str] = mapped_column(String(4))  # tcp, udp, icmp
    port: Mapped[int | None]
    source: Mapped[str] = mapped_column(String(49))  # empty: anybody
    note: Mapped[str] = mapped_column(String(60))


class BackupSettings(Base):
    """When this gateway backs itself up."""

    __tablename__ = "backup_settings"

    id: Mapped[int] = mapped_column(primary_key=True)
    daily: Mapped[bool]
    hour: Mapped[int]
    keep: Mapped[int]


class Backup(Base):
    """A backup that lies in the state directory."""

    __tablename__ = "backup"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(60), unique=True)
    made_at: Mapped[datetime]
    size: Mapped[int]  # bytes
