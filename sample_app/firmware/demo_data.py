"""Demo data: a hotel of 96 rooms. The same date gives the same rows on every gateway."""

from __future__ import annotations

import hashlib
import random
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta

from .models import (
    AccessPoint,
    Account,
    AccountDevice,
    Accounting,
    BackupSettings,
    Base,
    Certificate,
    Charge,
    FirewallRule,
    Guest,
    Interface,
    Language,
    Licence,
    Performance,
    PortAddress,
    PortalText,
    PPPoEConnection,
    Room,
    Voucher,
)

HOTEL = "Hotel Seeblick"

_FAMILY = (
    "Aebi", "Almeida", "Andersson", "Baumann", "Bianchi", "Brunner", "Chen", "Costa", "Dubois", "Eriksen",
    "Fischer", "Garcia", "Haas", "Hansen", "Huber", "Ito", "Jansen", "Keller", "Kim", "Kovacs", "Laurent",
    "Lehmann", "Martin", "Meier", "Moretti", "Nowak", "Okafor", "Petrov", "Ricci", "Rossi", "Schmid", "Silva",
    "Suter", "Tanaka", "Vogel", "Weber", "Wyss", "Yilmaz", "Zimmermann",
)
_FIRST = (
    "Amelie", "Anna", "Carlos", "David", "Elena", "Emma", "Erik", "Fatima", "Hugo", "Ines", "Jan", "Julia",
    "Kenji", "Lara", "Leon", "Lina", "Luca", "Marco", "Maria", "Mateo", "Mia", "Nina", "Noah", "Olga", "Paul",
    "Sofia", "Tom", "Vera", "Yuki", "Zoe",
)
_DEVICES = ("iPhone", "iPhone", "Android phone", "Android phone", "MacBook", "Windows laptop", "iPad", "Smart TV")
_PLANS = ("Free 10 Mbit/s", "Free 10 Mbit/s", "Premium", "Voucher", "Conference")
_NOTES = ("Reception", "Reception", "Conference Uri", "Spa day guests", "Wedding Rossi")
#: No 0, O, 1, I: codes are typed from paper.
CODE_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"


def demo_rows(gateway: str, day: datetime) -> Iterator[Base]:
    """Yield every row of the demo, in the order in which they can be inserted.

    :param gateway: name of this gateway; licence, certificates and its own addresses differ by it, nothing else does.
    :param day: midnight at the start of the day on which the data ends.
    """
    dice = random.Random(2021)
    points = list(_access_points(dice))
    yield from points
    yield from _guests(dice, points, day)
    yield from _vouchers(dice, day)
    yield from _portal()
    dice = random.Random(2022)
    yield from _rooms(dice, day)
    yield from _accounts(dice, day)
    yield from _accounting(dice, day)
    yield from _network(gateway)
    yield from _own(gateway, day)


def _mac(dice: random.Random, prefix: str) -> str:
    return prefix + "".join(f":{dice.randrange(256):02x}" for _ in range(3))


def _access_points(dice: random.Random) -> Iterator[AccessPoint]:
    public = ("Lobby", "Restaurant", "Bar", "Spa", "Conference Uri", "Conference Schwyz", "Terrace", "Car park")
    places = [*public, *(f"Floor {floor}, {wing} wing" for floor in range(1, 5) for wing in ("lake", "garden"))]
    for number, place in enumerate(places, 1):
        yield AccessPoint(
            id=number,
            name=f"AP-{number:02d}",
            location=place,
            model="Outdoor 6" if place in ("Terrace", "Car park") else "Wall 6E" if "Floor" in place else "Ceiling 6E",
            mac=_mac(dice, "02:5e:ab"),
            channel=dice.choice((36, 44, 52, 60, 100, 108)),
            up=place != "Car park",
        )


def _guests(dice: random.Random, points: list[AccessPoint], day: datetime) -> Iterator[Guest]:
    reachable = [point for point in points if point.up]
    for number in range(1, 65):
        online = dice.random() < 0.72
        yield Guest(
            id=number,
            room=f"{dice.randrange(1, 5)}{dice.randrange(1, 25):02d}",
            name=f"{dice.choice(_FIRST)} {dice.choice(_FAMILY)}",
            device=dice.choice(_DEVICES),
            mac=_mac(dice, "de:ad:0c"),
            plan=dice.choice(_PLANS),
            online=online,
            since=day + timedelta(minutes=dice.randrange(-2880, 0)),
            received_mb=int(dice.lognormvariate(5.5, 1.3)),
            sent_mb=int(dice.lognormvariate(3.6, 1.1)),
            access_point_id=dice.choice(reachable).id if online else None,
        )


def _vouchers(dice: random.Random, day: datetime) -> Iterator[Voucher]:
    for number in range(1, 25):
        code = "-".join("".join(dice.choice(CODE_LETTERS) for _ in range(4)) for _ in range(3))
        yield Voucher(
            id=number,
            code=code,
            hours=dice.choice((4, 24, 24, 72)),
            devices=dice.choice((1, 2, 2, 5)),
            note=dice.choice(_NOTES),
            state=dice.choice(("unused", "unused", "in use", "expired")),
            created_at=day + timedelta(minutes=30 * (number - 26)),
        )


def _portal() -> Iterator[PortalText]:
    texts = {
        "en": ("Welcome to Hotel Seeblick", "The internet is part of your stay. Choose how you want to connect, and "
               "enjoy the lake.", "Go online"),
        "de": ("Willkommen im Hotel Seeblick", "Das Internet gehört zu Ihrem Aufenthalt. Wählen Sie, wie Sie sich "
               "verbinden möchten, und geniessen Sie den See.", "Verbinden"),
        "fr": ("Bienvenue à l'Hôtel Seeblick", "Internet fait partie de votre séjour. Choisissez votre connexion et "
               "profitez du lac.", "Se connecter"),
    }
    for number, (language, (title, welcome, button)) in enumerate(texts.items(), 1):
        yield PortalText(id=number, language=language, title=title, welcome=welcome, button=button)


def _rooms(dice: random.Random, day: datetime) -> Iterator[Base]:
    numbers = [f"{floor}{door:02d}" for floor in range(1, 5) for door in range(1, 25)]
    for number in numbers:
        yield Room(building="Main", number=number, extension=f"7{number}", occupied=dice.random() < 0.8)
    for _ in range(18):
        yield Charge(
            id=uuid.UUID(int=dice.getrandbits(128), version=4), building="Main", number=dice.choice(numbers),
            text="Premium, 1 day", cents=990, posted_at=day + timedelta(minutes=dice.randrange(-2880, 0)),
        )


def _accounts(dice: random.Random, day: datetime) -> Iterator[Base]:
    for number, login in enumerate(("reception", "housekeeping", "conference", "spa", "long.stay.412"), 1):
        yield Account(
            id=number, login=login, mail=None if "." in login else f"{login}@seeblick.example", plan="Premium",
            valid_until=day + timedelta(days=30 * number),
        )
        for name in ("Tablet", "Telephone")[: 1 + number % 2]:
            yield AccountDevice(account_id=number, mac=_mac(dice, "de:ad:0d"), name=name)


def _accounting(dice: random.Random, day: datetime) -> Iterator[Accounting]:
    for number in range(1, 41):
        yield Accounting(
            id=number, session=f"{dice.getrandbits(64):016x}", interim=0, mac=_mac(dice, "de:ad:0c"),
            received_bytes=int(dice.lognormvariate(19, 1.3)), sent_bytes=int(dice.lognormvariate(17, 1.1)),
            at=day + timedelta(minutes=15 * (number - 41)),
        )


def _network(gateway: str) -> Iterator[Base]:
    host = 2 + int(hashlib.sha256(gateway.encode()).hexdigest()[:8], 16) % 100
    for kind, number, port, address, note in (
        ("lan", 1, "lan0", "10.0.0.1/24", "Guests"),
        ("lan", 2, "lan1", "10.20.0.1/22", "Conference"),
        ("wan", 1, "wan0", f"198.51.100.{host}/24", "This gateway's own"),
        ("virtual", 1, "wan0", "198.51.100.1/24", "Always on the active gateway"),
        ("alias", 1, "wan0", "198.51.100.200/32", "Web server of the hotel"),
    ):
        yield Interface(kind=kind, id=number, port=port, address=address, note=note)
    yield PPPoEConnection(id=1, port="wan1", login="seeblick@isp.example", enabled=False)
    yield PortAddress(port="wan0", own=f"198.51.100.{host}", note="Let in by the property management system")


def _own(gateway: str, day: datetime) -> Iterator[Base]:
    digest = hashlib.sha256(gateway.encode()).hexdigest().upper()
    yield Language(id=1, interface="en", date_format="31.12.2026", time_zone="Europe/Zurich")
    yield Licence(
        id=1, serial=f"FY-{digest[:4]}-{digest[4:8]}", holder=HOTEL, rooms=96, valid_until=day + timedelta(days=412),
        key="-".join(digest[start:start + 5] for start in range(8, 33, 5)),
    )
    yield Performance(id=1, connections=65536, guest_mbit=10, uplink_mbit=1000, dns_cache=True)
    for number, (purpose, host, days) in enumerate(
        (("Administration pages", "gateway", 73), ("Captive portal", "wifi", 73), ("RADIUS (802.1X)", "radius", 19)), 1
    ):
        print_of = hashlib.sha256(f"{gateway} {host}".encode()).hexdigest().upper()
        yield Certificate(
            id=number, subject=f"{host}.seeblick.example", issuer="Example Hospitality CA 2", purpose=purpose,
            fingerprint=":".join(print_of[start:start + 2] for start in range(0, 64, 2)),
            valid_until=day + timedelta(days=days),
        )
    rules: tuple[tuple[str, str, int | None, str, str], ...] = (
        ("allow", "icmp", None, "", "Ping"),
        ("allow", "tcp", 80, "", "Captive portal and administration"),
        ("allow", "tcp", 443, "", "Captive portal and administration"),
        ("allow", "udp", 53, "", "DNS for guests"),
        ("allow", "udp", 1812, "10.0.0.0/24", "RADIUS from access points"),
    )
    for number, (action, protocol, port, source, note) in enumerate(rules, 1):
        yield FirewallRule(id=number, action=action, protocol=protocol, port=port, source=source, note=note)
    yield BackupSettings(id=1, daily=True, hour=3, keep=7)
