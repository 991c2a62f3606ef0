"""A virtual MAC for shared addresses: a macvlan on the port, up on the active only, with one MAC on both gateways.

For networks whose equipment ignores, suppresses or punishes announcements: a fail-over then changes no neighbour's
cache, only the switches' tables, which every frame updates (RFC 5798, section 7.3, does the same).
"""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path

from ..errors import NetworkError
from .messages import NLM_F_CREATE, NLM_F_EXCL, RTM_DELLINK, RTM_NEWLINK, LinkMessage
from .netlink import RequestSocket, encode
from .ports import Port, prepare_port, read_ports, write_sysctl

_IFF_UP = 0x1
_NAME_MOST = 15
_PREFIX = "vm-"


def virtual_mac(cluster_id: str, port: str) -> str:
    """Return the MAC, the same on both gateways: locally administered, from cluster and port."""
    digest = hashlib.sha256(f"{cluster_id} {port}".encode()).digest()
    return bytes([0x02, *digest[:5]]).hex(":")


def device_name(port: str) -> str:
    """Return the name of a port's macvlan."""
    name = f"{_PREFIX}{port}"
    if len(name) <= _NAME_MOST:
        return name
    return f"{_PREFIX}{hashlib.sha256(port.encode()).hexdigest()[: _NAME_MOST - len(_PREFIX)]}"


def is_virtual(port: Port) -> bool:
    """Return whether this is one of our own devices: nobody else's to choose."""
    return port.kind == "macvlan" and port.name.startswith(_PREFIX)


def ensure_device(requests: RequestSocket, parent: Port, mac: str) -> Port:
    """Return the macvlan of a port; it is made, down, if it is not there or has another MAC.

    :raises NetworkError: the kernel refused.
    """
    name = device_name(parent.name)
    found = _find(requests, name)
    if found is not None and found.mac != mac:
        remove_device(requests, found)
        found = None
    if found is None:
        message = LinkMessage()
        message["attrs"] = [
            ("IFLA_IFNAME", name),
            ("IFLA_LINK", parent.index),
            ("IFLA_ADDRESS", mac),
            (
                "IFLA_LINKINFO",
                {
                    "attrs": [
                        ("IFLA_INFO_KIND", "macvlan"),
                        ("IFLA_INFO_DATA", {"attrs": [("IFLA_MACVLAN_MODE", "bridge")]}),
                    ]
                },
            ),
        ]
        requests.transact([encode(message, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL)], frozenset({errno.EEXIST}))
        found = _find(requests, name)
    if found is None:
        raise NetworkError(
            f"The kernel did not make the virtual MAC's device on {parent.name}.", "Does this kernel have macvlan?"
        )
    prepare_port(name)
    # What comes in here is answered through the port itself: strict reverse-path filtering would drop it.
    write_sysctl(Path("ipv4/conf") / name / "rp_filter", "2")
    # A link-local address of its own would speak with the shared MAC.
    if Path("/proc/sys/net/ipv6/conf", name).exists():
        write_sysctl(Path("ipv6/conf") / name / "addr_gen_mode", "1")
    return found


def remove_device(requests: RequestSocket, device: Port) -> None:
    """Remove a device that :func:`ensure_device` made; one that is gone already is no failure.

    :raises NetworkError: the kernel refused, or the device is none of ours.
    """
    if not is_virtual(device):
        raise NetworkError(f"{device.name} is no virtual MAC's device.")
    message = LinkMessage()
    message["index"] = device.index
    requests.transact([encode(message, RTM_DELLINK, 0)], frozenset({errno.ENODEV}))


def switch_message(index: int, up: bool) -> bytearray:
    """Return the prebuilt message that brings a device up or down."""
    message = LinkMessage()
    message["index"] = index
    message["flags"] = _IFF_UP if up else 0
    message["change"] = _IFF_UP
    return encode(message, RTM_NEWLINK, 0)


def _find(requests: RequestSocket, name: str) -> Port | None:
    return next((port for port in read_ports(requests) if port.name == name), None)
