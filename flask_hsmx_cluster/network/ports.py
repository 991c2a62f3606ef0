"""The machine's network ports and their addresses, as the kernel has them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network, ip_interface
from pathlib import Path
from typing import Any

from ..errors import NetworkError
from .netlink import RequestSocket

Interface = IPv4Interface | IPv6Interface
_IFF_UP = 0x1
_IFF_LOOPBACK = 0x8
_IFF_LOWER_UP = 0x10000


@dataclass(frozen=True)
class HeldAddress:
    """An address in the kernel; ``valid_s`` is its remaining lifetime in s, None for ever."""

    interface: Interface
    valid_s: int | None


@dataclass(frozen=True)
class Port:
    """A network port.

    :param carrier: up, and something is plugged in.
    """

    name: str
    index: int
    mac: str
    kind: str
    mtu: int
    carrier: bool
    addresses: tuple[HeldAddress, ...]

    @cached_property
    def own_networks(self) -> frozenset[IPv4Network | IPv6Network]:
        """The networks of its addresses that are nobody's lease."""
        return frozenset(held.interface.network for held in self.addresses if held.valid_s is None)

    def as_dict(self, shared: frozenset[str] = frozenset()) -> dict[str, Any]:
        """Return the form of the control verb ``ports``; ``shared`` addresses are left out.

        Those of ``addresses`` that are in ``leased``, too, come from DHCP or from a router and may end.
        """
        own = [
            str(held.interface)
            for held in self.addresses
            if str(held.interface.ip) not in shared and not held.interface.is_link_local
        ]
        ends = {str(held.interface) for held in self.addresses if held.valid_s is not None}
        return {
            "name": self.name,
            "mac": self.mac,
            "carrier": self.carrier,
            "addresses": own,
            "leased": [address for address in own if address in ends],
            "kind": self.kind,
            "mtu": self.mtu,
        }


def carrier_of(flags: int) -> bool:
    """Return whether interface flags say: up, with a carrier."""
    return bool(flags & _IFF_UP and flags & _IFF_LOWER_UP)


def read_ports(requests: RequestSocket) -> list[Port]:
    """Return all ports but loopback.

    :raises NetworkError: the kernel did not answer.
    """
    addresses: dict[int, list[HeldAddress]] = {}
    for message in requests.addresses():
        addresses.setdefault(message.device, []).append(
            HeldAddress(ip_interface((message.address, message.prefixlen)), message.valid_s)
        )
    found = []
    for link in requests.links():
        if link["flags"] & _IFF_LOOPBACK:
            continue
        info = link.get_attr("IFLA_LINKINFO")
        kind = (info.get_attr("IFLA_INFO_KIND") if info else None) or "ethernet"
        found.append(
            Port(
                name=_fit_to_show(link.get_attr("IFLA_IFNAME")),
                index=link["index"],
                mac=link.get_attr("IFLA_ADDRESS") or "",
                kind=kind,
                mtu=link.get_attr("IFLA_MTU") or 0,
                carrier=carrier_of(link["flags"]),
                addresses=tuple(addresses.get(link["index"], ())),
            )
        )
    return found


def _fit_to_show(name: str | bytes) -> str:
    """Return a port's name, for which Linux takes nearly any bytes. One that was changed is no name for settings."""
    text = name.decode(errors="replace") if isinstance(name, bytes) else name
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)


#: Kernel settings of a port that carries a shared address, each with its reason.
PORT_SYSCTLS = (
    ("arp_ignore", "1"),  # an address on a carrier-less port must not answer through another port (rule 18)
    ("arp_announce", "2"),
    ("promote_secondaries", "1"),  # else an expiring lease takes the port's own addresses with it (rule 9)
)


def prepare_port(name: str) -> None:
    """Set :data:`PORT_SYSCTLS` on a port.

    :raises NetworkError: the kernel refused.
    """
    for key, value in PORT_SYSCTLS:
        write_sysctl(Path("ipv4/conf") / name / key, value)


def ignore_routers(name: str) -> None:
    """Let a port learn nothing from router advertisements: they are our own, or the other gateway's.

    :raises NetworkError: the kernel refused.
    """
    write_sysctl(Path("ipv6/conf") / name / "accept_ra", "0")


def write_sysctl(path: Path, value: str) -> None:
    """Set a kernel setting below ``/proc/sys/net``, if it is another one now.

    :raises NetworkError: the kernel refused.
    """
    whole = Path("/proc/sys/net") / path
    try:
        if whole.read_text().strip() != value:
            whole.write_text(value)
    except OSError as error:
        raise NetworkError(
            f"The kernel setting {path} cannot be set to {value}: {error.strerror}",
            "The agent needs CAP_NET_ADMIN; the port must exist.",
        ) from error


def forwards_ipv6(name: str) -> bool | None:
    """Return whether the port forwards IPv6: then its advertisements carry the router flag. None: there is no port."""
    try:
        return Path(f"/proc/sys/net/ipv6/conf/{name}/forwarding").read_text().strip() == "1"
    except OSError:
        return None
