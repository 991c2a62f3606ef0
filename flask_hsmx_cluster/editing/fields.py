"""What a person may type: addresses and numbers of the settings, read with errors in plain words.

What an address may be is decided in ``rules``; here it is read from text.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_interface
from typing import Any

from ..settings.addressing import address_fault
from ..settings.model import Address, Interface
from ..translate import gettext as _

#: Longest text that is an address, characters.
ADDRESS_MAX = 64


def interface(text: str) -> Interface:
    """Read an address with its prefix length, such as ``10.0.0.100/24`` or ``2001:db8::5/64``.

    :raises ValueError: says in words what is wrong.
    """
    text = text.strip()
    if len(text) > ADDRESS_MAX or "%" in text:
        raise ValueError(_("This is not an IP address."))
    host, slash, prefix = text.partition("/")
    address = _bare(host)
    if not slash:
        raise ValueError(_("Add the prefix length, for example %(example)s.",
                           example=f"{address}/{24 if address.version == 4 else 64}"))
    if not (prefix.isascii() and prefix.isdigit() and int(prefix[:4]) <= address.max_prefixlen):
        raise ValueError(_("The prefix length after the slash is a number from 1 to %(most)s.",
                           most=address.max_prefixlen))
    found = ip_interface(f"{address}/{int(prefix)}")
    _refuse_faulty(found)
    return found


def reference(text: str) -> Address:
    """Read an address without prefix length.

    :raises ValueError: says in words what is wrong.
    """
    text = text.strip()
    if len(text) > ADDRESS_MAX or "%" in text:
        raise ValueError(_("This is not an IP address."))
    address = _bare(text)
    _refuse_faulty(ip_interface(address))
    return address


def stale_wait(text: str) -> int | None:
    """Read how long a gateway with older data waits: seconds, or ``never`` if it is not to serve by itself at all.

    :raises ValueError: says in words what is wrong.
    """
    text = text.strip()
    if text == "never":
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 9):
        raise ValueError(_("Enter a number of seconds, or never."))
    return int(text)


def end(text: str) -> dict[str, Any]:
    """Read an address and its port, such as ``192.168.254.1/30@sync0``, as a link's end.

    :raises ValueError: says in words what is wrong.
    """
    address, at, port = text.strip().rpartition("@")
    if not at or not port:
        raise ValueError(_("Write ADDRESS/PREFIX@PORT, for example 192.168.254.1/30@sync0."))
    return {"port": port, "address": str(interface(address))}


def virtual_ip(text: str) -> dict[str, Any]:
    """Read a virtual IP, such as ``10.0.0.100/24@lan0``, with ``,off-subnet`` and ``,virtual-mac`` if wanted.

    :raises ValueError: says in words what is wrong.
    """
    where, *ticks = (part.strip() for part in text.split(","))
    if unknown := set(ticks) - {"off-subnet", "virtual-mac"}:
        raise ValueError(_("There is no option %(name)s; there are off-subnet and virtual-mac.", name=min(unknown)))
    return {**end(where), "off_subnet": "off-subnet" in ticks, "virtual_mac": "virtual-mac" in ticks}


def peer(text: str) -> str:
    """Read where the other gateway's pages are: an address, with a TCP port if it is not the usual one.

    :raises ValueError: says in words what is wrong.
    """
    text = text.strip()
    if len(text) > ADDRESS_MAX:
        raise ValueError(_("This is not an IP address."))
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        port = port.removeprefix(":") if bracket else "?"
    elif text.count(":") == 1:
        host, _colon, port = text.partition(":")
    else:
        host, port = text, ""
    address = reference(host)
    if not port and not text.endswith(":"):
        return f"[{address}]" if address.version == 6 else str(address)
    if not (port.isascii() and port.isdigit() and 1 <= int(port[:6]) <= 65535):
        raise ValueError(_("The port after the colon is a number from 1 to 65535."))
    return f"[{address}]:{int(port)}" if address.version == 6 else f"{address}:{int(port)}"


def _bare(text: str) -> Address:
    try:
        return ip_address(text.strip())
    except ValueError:
        raise ValueError(_("This is not an IP address.")) from None


def _refuse_faulty(found: Interface) -> None:
    if fault := address_fault(found):
        raise ValueError(f"{found.ip} {fault}.")
