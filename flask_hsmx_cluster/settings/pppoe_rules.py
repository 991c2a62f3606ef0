"""Whether PPPoE connections make sense: a part of :mod:`flask_hsmx_cluster.settings.rules`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from ..errors import Finding
from .addressing import PORT_NAME, Port
from .model import Settings
from .pppoe import KEY, LONGEST, MTU, Connection

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")


def check(settings: Settings, known: Mapping[str, Mapping[str, Port]]) -> list[Finding]:
    """Return what is wrong with the connections, whether their passwords are there or masked.

    :param known: ports by name, by node id, as far as they are known.
    """
    return [
        finding
        for at, one in enumerate(settings.pppoe)
        for found in (_check_one(f"{KEY}.{at}", one), _check_others(at, settings), _check_port(at, settings, known))
        for finding in found
    ]


def check_passwords(settings: Settings) -> list[Finding]:
    """Return which connections have no password at all; for the agent, which knows the stored ones."""
    return [
        Finding("password", f"The password of {one.name} is missing.",
                "Type it; also when name, port or user name were changed.", f"{KEY}.{at}.password")
        for at, one in enumerate(settings.pppoe) if not one.password
    ]  # fmt: skip


def _check_one(where: str, one: Connection) -> Iterator[Finding]:
    if not NAME.fullmatch(one.name):
        yield Finding("name", f"{one.name!r:.40} is no name for a connection.",
                      "Use 1 to 32 letters, digits, dots, dashes and underscores.", f"{where}.name")
    if not PORT_NAME.fullmatch(one.port):
        yield Finding("port_missing", f"{one.name} is on no network port.", "Choose a port.", f"{where}.port")
    if not one.user:
        yield Finding("user", f"{one.name} has no user name.", "Enter the provider's.", f"{where}.user")
    for key in ("user", "password", "service", "concentrator"):
        value = getattr(one, key)
        if len(value.encode()) > LONGEST or not value.isprintable():
            yield Finding("words", f"The {key} of {one.name} is longer than {LONGEST} bytes, or has signs in it that "
                          "cannot be printed.", "Correct it.", f"{where}.{key}")
    low, _usual, high = MTU
    if not low <= one.mtu <= high:
        yield Finding("mtu", f"The MTU is a number from {low} to {high}.", "1492 is usual.", f"{where}.mtu")


def _check_others(at: int, settings: Settings) -> Iterator[Finding]:
    one = settings.pppoe[at]
    for other in settings.pppoe[:at]:
        if other.name == one.name:
            yield Finding("duplicate", f"There are two connections named {one.name}.", "Choose another name.",
                          f"{KEY}.{at}.name")
        elif one.default_route and other.default_route and one.enabled and other.enabled:
            yield Finding("default_route", f"{other.name} and {one.name} both want the default route.",
                          "Leave it to one of them.", f"{KEY}.{at}.default_route")


def _check_port(at: int, settings: Settings, known: Mapping[str, Mapping[str, Port]]) -> Iterator[Finding]:
    one, names = settings.pppoe[at], {node.node_id: node.name for node in settings.nodes}
    if not PORT_NAME.fullmatch(one.port):
        return
    lacking = [names.get(node, "The other gateway") for node, ports in known.items() if one.port not in ports]
    if lacking:
        yield Finding(
            "port_missing",
            f"{' and '.join(lacking)} {'have' if len(lacking) > 1 else 'has'} no network port {one.port}: {one.name} "
            f"would not be dialled while {' or '.join(lacking)} is active.",
            "Port names must be the same on both gateways. Make the port there, or choose another one.",
            f"{KEY}.{at}.port",
            blocking=len(lacking) == len(settings.nodes),
        )
    cables = {end.port for link in settings.links if link.kind != "service" for end in link.ends.values()}
    if one.port in cables:
        yield Finding("on_cable", f"{one.name} is on {one.port}, the cable between the two gateways.",
                      "Choose the port to which the provider's line is connected.", f"{KEY}.{at}.port", blocking=False)
