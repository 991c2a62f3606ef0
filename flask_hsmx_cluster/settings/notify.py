"""Notification targets: where alarms and important events are sent. A part of the settings, like PPPoE connections.

Passwords and signing keys are in the settings that both gateways keep; an answer to a person or a program never has
them. There an empty one stands for the one that is stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, urlsplit

from .values import few

KEY = "notify"
KINDS = ("mail", "webhook", "syslog")
#: How a mail server is spoken to, and its usual port.
SECURITY = {"starttls": 587, "tls": 465, "none": 25}
#: From the least to the most severe.
SEVERITIES = ("info", "warning", "critical")
MAX_TARGETS = 8
MAX_RECIPIENTS = 8
#: Longest address, password and other text, characters.
LONGEST = 200
#: The same alarm is told again at the earliest after: lowest, usual and highest, minutes.
REPEAT_MIN = (1, 30, 1440)
#: A reminder of an alarm that lasts after: lowest (0: never), usual and highest, hours.
REMIND_H = (0, 24, 720)
#: Usual ports of syslog by transport.
_SYSLOG_PORTS = {"udp": 514, "tcp": 601}


@dataclass(frozen=True)
class Target:
    """Somebody who is told.

    :param name: what people call it.
    :param kind: ``mail``, ``webhook`` or ``syslog``.
    :param address: ``HOST`` or ``HOST:PORT`` of a mail server; a webhook's URL; ``udp://HOST:PORT``, ``tcp://HOST:PORT``
        or ``unix:/PATH`` of a syslog server.
    :param password: of the mail server's user, or the key that signs what a webhook gets.
    :param security: of mail: ``starttls``, ``tls`` or ``none``.
    :param fingerprint: SHA-256 of the only certificate that is believed, 64 hex digits; empty: whatever the system's
        authorities vouch for.
    :param least: the least severity that is told.
    :param repeat_min: the same alarm is told again at the earliest after this time, minutes.
    :param remind_h: a reminder while an alarm lasts, hours; 0: none.
    """

    name: str
    kind: str
    address: str
    user: str = ""
    password: str = field(default="", repr=False)
    security: str = "starttls"
    sender: str = ""
    recipients: tuple[str, ...] = ()
    fingerprint: str = ""
    least: str = "warning"
    repeat_min: int = REPEAT_MIN[1]
    remind_h: int = REMIND_H[1]
    enabled: bool = True

    def as_dict(self) -> dict[str, Any]:
        """Return the dict form, with the password."""
        return {**vars(self), "recipients": list(self.recipients)}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Target:
        """Return a target from its dict form.

        :raises ValueError, TypeError, KeyError, AttributeError: it is malformed; a password is not repeated.
        """
        plain = cls("", "", "")
        if unknown := set(row) - set(vars(plain)):
            raise ValueError(f"a notification target has no {min(map(str, unknown))[:40]}")
        words = {key: _text(key, row.get(key, getattr(plain, key))) for key, value in vars(plain).items()
                 if isinstance(value, str)}  # fmt: skip
        return cls(
            **words,
            recipients=tuple(_text("recipients", one) for one in few(_list(row.get("recipients", [])), MAX_RECIPIENTS)),
            repeat_min=_number(row.get("repeat_min", plain.repeat_min)),
            remind_h=_number(row.get("remind_h", plain.remind_h)),
            enabled=_flag(row.get("enabled", True)),
        )


def to_dict(targets: tuple[Target, ...]) -> dict[str, Any]:
    """Return the dict form with passwords; without targets there is no key, so that older digests stay equal."""
    return {KEY: [one.as_dict() for one in targets]} if targets else {}


def from_dict(data: Mapping[str, Any]) -> tuple[Target, ...]:
    """Return the field of the settings.

    :raises ValueError, TypeError, KeyError, AttributeError: something in it is malformed; a password is not repeated.
    """
    return tuple(Target.from_dict(row) for row in few(_list(data.get(KEY, [])), MAX_TARGETS))


def masked(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings in dict form as they may be shown: without passwords."""
    if KEY not in settings:
        return dict(settings)
    return {**settings, KEY: [{**row, "password": ""} for row in settings[KEY]]}


def filled(settings: Mapping[str, Any], present: tuple[Target, ...]) -> dict[str, Any]:
    """Return settings in dict form where the passwords that are left empty are the stored ones.

    A stored one goes with what it was typed for only: for another server, user or kind of protection it has to be typed
    again, so that nobody sends it elsewhere unawares.
    """
    rows = settings.get(KEY)
    if not isinstance(rows, list):
        return dict(settings)
    stored = {_identity(one.as_dict()): one.password for one in present}
    return {**settings, KEY: [
        {**row, "password": row.get("password") or stored.get(_identity(row), "")} if isinstance(row, dict) else row
        for row in rows
    ]}  # fmt: skip


def mail_server(target: Target) -> tuple[str, int]:
    """Return host and port of a mail server.

    :raises ValueError: the address names none.
    """
    return _host_and_port(urlsplit(f"//{target.address}"), SECURITY[target.security])


def webhook(target: Target) -> SplitResult:
    """Return a webhook's URL, taken apart.

    :raises ValueError: it is none that may be asked.
    """
    url = urlsplit(target.address)
    if url.scheme not in ("http", "https") or url.fragment or not target.address.isascii():
        raise ValueError("not an http or https URL")
    if " " in target.address or not url.hostname or "@" in url.netloc:
        raise ValueError("no host, or a user name in the URL")
    _host_and_port(url._replace(path="", query=""), 443)
    return url


def syslog_server(target: Target) -> tuple[str, str, int]:
    """Return transport (``udp``, ``tcp``, ``unix``), host or path, and port of a syslog server.

    :raises ValueError: the address names none.
    """
    url = urlsplit(target.address)
    if url.scheme == "unix":
        if url.netloc or url.query or url.fragment or not url.path.startswith("/") or len(url.path.encode()) > 107:
            raise ValueError("no path of a socket")
        return "unix", url.path, 0
    if url.scheme not in _SYSLOG_PORTS:
        raise ValueError("neither udp, tcp nor unix")
    return (url.scheme, *_host_and_port(url, _SYSLOG_PORTS[url.scheme]))


def _host_and_port(url: SplitResult, usual: int) -> tuple[str, int]:
    """Return host and port of a URL that has nothing else."""
    host = url.hostname or ""
    known = host and host.isascii() and all(sign.isalnum() or sign in ".:-_%" for sign in host)
    if not known or host.startswith("-") or url.path or url.query or url.fragment or "@" in url.netloc:
        raise ValueError("no host, or more than a host and a port")
    port = usual if url.port is None else url.port
    if not 0 < port < 65536:
        raise ValueError("no port")
    return host, port


def _identity(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(row.get(key) or "") for key in ("name", "kind", "address", "user", "security", "fingerprint"))


def _text(key: str, value: object) -> str:
    if not isinstance(value, str) or len(value) > LONGEST or not value.isprintable():
        raise ValueError(f"a notification target's {key} is no short printable text")
    return value


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**31:
        raise ValueError("a notification target's numbers")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("a notification target's tick")
    return value


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError("no list")
    return value
