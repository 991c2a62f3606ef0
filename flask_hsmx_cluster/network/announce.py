"""Frames on the virtual IPs: gratuitous ARP, unsolicited neighbour advertisements, and probes.

scapy builds the bytes, once, when settings or MACs change. It does so in a process of its own that ends
afterwards: its 45 MB and its import time of 0.3 s are of no use to an agent that only sends prebuilt bytes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address

from ..errors import NetworkError

#: It takes 0.5 s, most of it for scapy's import; this is for a starved machine.
BUILD_TIMEOUT_S = 30
#: Where an ARP frame has its sender's and its target's IPv4 address, bytes.
_SENDER_AT, _TARGET_AT = 28, 38


@dataclass(frozen=True)
class FrameRequest:
    """Asks for the frames of one shared address.

    :param mac: the MAC that carries the address (``aa:bb:...``): the port's, or a virtual one.
    :param router: neighbour advertisements say that this is a router.
    :param asker: the port's own MAC, from which probes go; empty where it is the same.
    """

    address: str
    mac: str
    router: bool = False
    asker: str = ""


@dataclass(frozen=True)
class Frames:
    """Complete Ethernet frames for one address.

    :param announcements: both ARP forms (some stacks ignore one), or the unsolicited advertisement.
    :param probe: asks who holds the address without claiming it (sender 0.0.0.0 or ::, RFC 5227, RFC 4862).
    """

    announcements: tuple[bytes, ...]
    probe: bytes


def build_frames(requests: Sequence[FrameRequest]) -> list[Frames]:
    """Return the frames for each request, in order. Takes about 0.5 s: never call it when it matters.

    :raises NetworkError: the builder failed.
    """
    lines = json.dumps([[one.address, one.mac, one.router, one.asker or one.mac] for one in requests])
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__],
            input=lines,
            capture_output=True,
            text=True,
            timeout=BUILD_TIMEOUT_S,
            check=True,
        )
        return [
            Frames(tuple(bytes.fromhex(frame) for frame in row[:-1]), bytes.fromhex(row[-1]))
            for row in json.loads(done.stdout)
        ]
    except subprocess.CalledProcessError as error:
        raise NetworkError(f"scapy could not build the announcements: {error.stderr.strip()[-300:]}") from None
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise NetworkError(f"scapy could not build the announcements: {error}") from error


def _ipv4(address: str, mac: str, asker: str) -> list[bytes]:
    """Return the frames of an IPv4 address. Those of one port differ in it only: with scapy each takes 0.5 ms, and
    there may be thousands."""
    packed = ip_address(address).packed
    announcements = [bytearray(frame) for frame in _arp(mac, asker)]
    for frame in announcements[:-1]:
        frame[_SENDER_AT : _SENDER_AT + 4] = packed
    for frame in announcements:
        frame[_TARGET_AT : _TARGET_AT + 4] = packed
    return [bytes(frame) for frame in announcements]


@cache
def _arp(mac: str, asker: str) -> tuple[bytes, ...]:
    """Return both announcements and the probe of 0.0.0.0, which is to be replaced."""
    from scapy.layers.l2 import ARP, Ether

    nobody, everybody, address = "00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "0.0.0.0"
    ether = Ether(src=mac, dst=everybody)
    return (
        bytes(ether / ARP(op="who-has", hwsrc=mac, psrc=address, hwdst=nobody, pdst=address)),
        bytes(ether / ARP(op="is-at", hwsrc=mac, psrc=address, hwdst=everybody, pdst=address)),
        bytes(
            Ether(src=asker, dst=everybody) / ARP(op="who-has", hwsrc=asker, psrc=address, hwdst=nobody, pdst=address)
        ),
    )


def _ipv6(address: str, mac: str, router: bool, asker: str) -> list[bytes]:
    from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptDstLLAddr, IPv6
    from scapy.layers.l2 import Ether
    from scapy.utils6 import in6_getnsma, in6_getnsmac

    group = in6_getnsma(ip_address(address).packed)
    text = str(ip_address(group))
    return [
        bytes(
            Ether(src=mac, dst="33:33:00:00:00:01")
            / IPv6(src=address, dst="ff02::1", hlim=255)
            / ICMPv6ND_NA(tgt=address, R=int(router), S=0, O=1)
            / ICMPv6NDOptDstLLAddr(lladdr=mac)
        ),
        bytes(
            Ether(src=asker, dst=in6_getnsmac(group)) / IPv6(src="::", dst=text, hlim=255) / ICMPv6ND_NS(tgt=address)
        ),
    ]


def _main() -> None:
    rows = [
        _ipv4(address, mac, asker) if ip_address(address).version == 4 else _ipv6(address, mac, router, asker)
        for address, mac, router, asker in json.load(sys.stdin)
    ]
    json.dump([[frame.hex() for frame in row] for row in rows], sys.stdout)


if __name__ == "__main__":
    _main()
