"""Which network port the operator probably means: the one through which this page was reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface
from typing import Any

from flask import request

from ..settings.model import Address, Interface
from ..translate import gettext as _


@dataclass(frozen=True)
class Proposal:
    """A proposed port, and why."""

    port: str
    why: str


def proposed_port(ports: Sequence[Mapping[str, Any]]) -> Proposal | None:
    """Return the port through which the present request came, or None if it cannot be told.

    The address in the browser's address bar is asked first, then the socket's own address, then whose network
    the browser is in. It is a proposal only: a forged header can do no more than preselect an existing port.
    """
    own = [(port["name"], _interface(text)) for port in ports for text in port["addresses"]]
    for address in filter(None, (_host_address(), _socket_address())):
        for name, interface in own:
            if interface is not None and interface.ip == address:
                return Proposal(name, _("Proposed because you reached this page at %(address)s, which is on %(port)s.",
                                        address=address, port=name))
    browser = _address(request.remote_addr or "")
    if browser is None or browser.is_loopback:
        return None
    for name, interface in own:
        if interface is not None and browser in interface.network:
            return Proposal(name, _("Proposed because your computer, %(address)s, is in the network of %(port)s.",
                                    address=browser, port=name))
    return None


def _host_address() -> Address | None:
    host = request.host
    if host.startswith("["):
        return _address(host[1:].partition("]")[0])
    return _address(host.partition(":")[0])


def _socket_address() -> Address | None:
    connection = request.environ.get("gunicorn.socket") or request.environ.get("werkzeug.socket")
    try:
        return _address(connection.getsockname()[0]) if connection is not None else None
    except (OSError, AttributeError, IndexError, TypeError):
        return None


def _address(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _interface(text: str) -> Interface | None:
    try:
        return ip_interface(text)
    except ValueError:
        return None
