"""What the firmware stores. The first half belongs to the hotel, the second half to one gateway."""

from __future__ import annotations

from datetime import datetime

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import ForeignKey, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    """Base of the firmware's models."""


db = SQLAlchemy(model_class=Base)


# The hotel's data: the same on both gateways of a cluster.


class AccessPoint(Base):
    """A radio somewhere in the hotel."""

    __tablename__ = "access_point"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40), unique=True)
    location: Mapped[str] = mapped_column(String(60))
    model: Mapped[str] = mapped_column(String(40))
    mac: Mapped[str] = mapped_column(String(17))
    channel: Mapped[int]
    up: Mapped[bool]
    guests: Mapped[list[Guest]] = relationship(back_populates="access_point")


class Guest(Base):
    """A guest's device, while it has a session or had one lately."""

    __tablename__ = "guest"

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

    id: Mapped[int] = mapped_column(primary_key=True)
    language: Mapped[str] = mapped_column(String(5), unique=True)
    title: Mapped[str] = mapped_column(String(80))
    welcome: Mapped[str] = mapped_column(Text)
    button: Mapped[str] = mapped_column(String(40))


# This gateway's own data: never shared.


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
