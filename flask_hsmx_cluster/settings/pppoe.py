"""PPPoE connections: they are dialled on the active gateway only. A part of the settings, like shared networks.

Their passwords are in the settings that both gateways keep; an answer to a person or a program never has them. There an
empty password stands for the one that is stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

KEY = "pppoe"
MAX_CONNECTIONS = 16
#: Lowest, usual and highest MTU, bytes.
MTU = (576, 1492, 1500)
#: Longest user name, password and other text, bytes: what pppd takes.
LONGEST = 200


@dataclass(frozen=True)
class Connection:
    """A PPPoE connection.

    :param name: what it is called, by people and by pppd's scripts.
    :param port: name of the network port on both gateways.
    :param service: name of the service that the provider wants to be asked for; empty: any.
    :param concentrator: name of the access concentrator that may answer; empty: any.
    :param mtu: bytes.
    :param default_route: whether the internet is reached through it.
    :param enabled: False: it is not dialled.
    """

    name: str
    port: str
    user: str
    password: str = field(repr=False)
    service: str = ""
    concentrator: str = ""
    mtu: int = MTU[1]
    default_route: bool = True
    enabled: bool = True


def to_dict(connections: tuple[Connection, ...]) -> dict[str, Any]:
    """Return the dict form with passwords; without connections there is no key, so that older digests stay equal."""
    return {KEY: [dict(vars(one)) for one in connections]} if connections else {}


def from_dict(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the field of the settings.

    :raises ValueError, TypeError, KeyError, AttributeError: something in it is malformed; a password is not repeated.
    """
    rows = data.get(KEY, [])
    if not isinstance(rows, list) or len(rows) > MAX_CONNECTIONS:
        raise ValueError(f"{KEY}: no list of at most {MAX_CONNECTIONS} entries")
    return {KEY: tuple(_connection(row) for row in rows)}


def masked(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings in dict form as they may be shown: without passwords."""
    if KEY not in settings:
        return dict(settings)
    return {**settings, KEY: [{**row, "password": ""} for row in settings[KEY]]}


def filled(settings: Mapping[str, Any], present: tuple[Connection, ...]) -> dict[str, Any]:
    """Return settings in dict form where the passwords that are left empty are the stored ones.

    A stored password goes with the connection of its name only. So that nobody sends it elsewhere unawares, it has to
    be typed again for another port or user name.
    """
    rows = settings.get(KEY)
    if not isinstance(rows, list):
        return dict(settings)
    stored = {(one.name, one.port, one.user): one.password for one in present}
    return {**settings, KEY: [
        {**row, "password": row.get("password") or stored.get(_identity(row), "")} if isinstance(row, dict) else row
        for row in rows
    ]}


def _identity(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return str(row.get("name")), str(row.get("port")), str(row.get("user"))


def _connection(row: Any) -> Connection:
    plain = Connection("", "", "", "")
    name, port, user, password, service, concentrator = (
        _text(key, row.get(key, "")) for key in ("name", "port", "user", "password", "service", "concentrator"))
    default_route, enabled, mtu = row.get("default_route", True), row.get("enabled", True), row.get("mtu", plain.mtu)
    if type(mtu) is not int or type(default_route) is not bool or type(enabled) is not bool:
        raise ValueError("a PPPoE connection's numbers and ticks")
    if unknown := set(row) - set(vars(plain)):
        raise ValueError(f"a PPPoE connection has no {min(map(str, unknown))[:40]}")
    return Connection(name, port, user, password, service, concentrator, mtu, default_route, enabled)


def _text(key: str, value: object) -> str:
    if not isinstance(value, str) or len(value) > LONGEST or not value.isprintable():
        raise ValueError(f"a PPPoE connection's {key} is no short printable text")
    return value
