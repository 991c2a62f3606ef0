"""Packet rules of our own, by Debian's ``nft``: each table belongs to one participant, which replaces it as a whole."""

from __future__ import annotations

import json
import re
from ipaddress import IPv4Address, IPv6Address, ip_address

from ..network.nftables import ToolFailed as ToolFailed
from ..network.nftables import replacement
from ..network.nftables import run as run

#: Lifetime of an address that is no lease.
_FOREVER = 2**32 - 1
_PORT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}")

Address = IPv4Address | IPv6Address


def checked_address(text: object) -> Address:
    """Return an address, which as text can be nothing else.

    :raises ToolFailed: it is none.
    """
    try:
        if not isinstance(text, str) or "%" in text:  # a zone may hold anything
            raise ValueError
        return ip_address(text)
    except ValueError:
        raise ToolFailed(f"{text!r:.60} is not an IP address.", "Correct the cluster's settings.") from None


def checked_port(name: object) -> str:
    """Return a network port's name that is safe in any configuration.

    :raises ToolFailed: it is none.
    """
    if not isinstance(name, str) or not _PORT.fullmatch(name):
        raise ToolFailed(
            f"{name!r:.60} cannot be used here as the name of a network port.",
            "Rename the port: letters, digits, dots, hyphens and underscores.",
        )
    return name


def replace_table(name: str, body: str) -> None:
    """Put a table of the family ``inet`` in place of the one of that name, in one transaction.

    :param body: its chains; empty: the table is removed.
    :raises ToolFailed: the kernel refused; then all is as before.
    """
    run("nft", "-f", "-", stdin=replacement(name, body))


def own_addresses() -> list[Address]:
    """Return this machine's addresses that are no leases, hence its own."""
    said = run("ip", "-json", "address", "show") or "[]"
    try:
        ports = json.loads(said, strict=False)  # a port's name may have any signs in it
        return [
            ip_address(found["local"])
            for port in ports
            for found in port.get("addr_info", ())
            if "local" in found and found.get("valid_life_time") == _FOREVER
        ]
    except ValueError:
        raise ToolFailed("What ip says of the addresses cannot be read.", "Has a port an odd name?") from None


def matching(keyword: str, addresses: list[Address]) -> list[str]:
    """Return matches, one for each family, of a header field (``saddr`` or ``daddr``) with a list of addresses."""
    families = {"ip": IPv4Address, "ip6": IPv6Address}
    found = {family: [str(each) for each in addresses if isinstance(each, kind)] for family, kind in families.items()}
    return [f"{family} {keyword} {{ {', '.join(sorted(set(some)))} }}" for family, some in found.items() if some]
