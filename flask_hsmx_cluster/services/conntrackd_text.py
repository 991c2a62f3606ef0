"""What conntrackd and nft are told about connection tracking, as text. Touches nothing.

Whatever goes into it is an address or a name that was checked: conntrackd's configuration knows no quoting.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from .packet_rules import Address, ToolFailed, checked_address, checked_port, matching

#: UDP port of conntrackd, its own default.
UDP_PORT = 3780
#: The table with our packet rules.
TABLE = "hsmx_conntrack"
#: Packets are held back for so long unless that is renewed, s: not for ever, should this process be gone.
HELD_S = 15
_PATH = re.compile(r"/[A-Za-z0-9/._-]+")
#: Longest path of its socket, bytes; conntrackd would cut it.
_SOCKET_PATH_MAX = 100


@dataclass(frozen=True)
class Link:
    """A cable between the gateways: this gateway's port and address there, and the other one's."""

    port: str
    own: Address
    peer: Address


@dataclass(frozen=True)
class Setup:
    """What connection tracking needs to know.

    :param program: conntrackd, as an absolute path.
    :param directory: for its files; nobody else's.
    :param links: the sync link first; conntrackd uses one at a time, the first whose port has carrier.
    :param lease_s: how long the kernel keeps addresses that nobody renews, s.
    :param shared: addresses that are the gateway itself for its guests; connections to them end here and do not move.
    """

    program: str
    directory: Path
    links: tuple[Link, ...]
    shared: tuple[Address, ...]
    lease_s: float

    @classmethod
    def parsed(cls, setup: Mapping[str, Any]) -> Setup:
        """Return what the agent has sent.

        :raises ToolFailed: something in it cannot be written down for conntrackd.
        """
        directory, program = str(setup["directory"]), str(setup["program"])
        for path in (directory, program):
            if not _PATH.fullmatch(path):
                raise ToolFailed(
                    f"conntrackd cannot work with the path {path!r:.80}.",
                    "Use letters, digits, dots, hyphens and underscores in HSMX_CLUSTER_STATE_DIR.",
                )
        if len(directory) > _SOCKET_PATH_MAX - len("/control"):
            raise ToolFailed(f"The path {directory} is too long for conntrackd.", "Shorten HSMX_CLUSTER_STATE_DIR.")
        links = tuple(
            Link(checked_port(each["port"]), checked_address(each["own"]), checked_address(each["peer"]))
            for each in setup["links"]
        )
        if not links or any(type(link.own) is not type(link.peer) for link in links):
            raise ToolFailed("conntrackd needs a link to the other gateway, with both addresses of one family.")
        shared = tuple(checked_address(each) for each in setup["shared"])
        return cls(program, Path(directory), links, shared, float(setup["lease_s"]))

    @property
    def configuration(self) -> Path:
        return self.directory / "conntrackd.conf"

    @property
    def control(self) -> Path:
        return self.directory / "control"

    @property
    def lock(self) -> Path:
        return self.directory / "lock"

    @property
    def output(self) -> Path:
        return self.directory / "output"


def configuration(setup: Setup, own: Sequence[Address], connections: int) -> str:
    """Return conntrackd's configuration.

    :param own: this gateway's own addresses, whose connections do not move.
    :param connections: how many the kernel may have (``nf_conntrack_max``).
    """
    channels = "\n".join(_channel(link, first=number == 0) for number, link in enumerate(setup.links))
    ignored = sorted({*own, *setup.shared, *(checked_address(each) for each in ("127.0.0.1", "::1"))}, key=str)
    addresses = "\n".join(f"\t\t\t{_family(each)}_address {each}" for each in ignored)
    return f"""\
Sync {{
	Mode FTFW {{
		DisableExternalCache Off
		PurgeTimeout 60
	}}
{channels}
	Options {{
		TCPWindowTracking Off
	}}
}}
General {{
	Systemd Off
	Syslog Off
	LogFile Off
	HashSize {max(1024, connections // 4)}
	HashLimit {2 * connections}
	LockFile {setup.lock}
	UNIX {{
		Path {setup.control}
	}}
	NetlinkBufferSize 2097152
	NetlinkBufferSizeMaxGrowth 8388608
	Filter From Userspace {{
		Protocol Ignore {{
			ICMP
			IPv6-ICMP
		}}
		Address Ignore {{
{addresses}
		}}
	}}
}}
"""


def packet_rules(setup: Setup, own: Sequence[Address]) -> str:
    """Return the chains of our table.

    conntrackd knows no password: what reaches its port otherwise than over the cable from the other gateway is
    dropped. While packets are *held* back (see :func:`holding`), what belongs to a connection that this kernel does not
    know (yet) is dropped, and so is what would make an entry in the way of one: without it an answer from outside
    that is faster than the commit meets nobody, and is answered with a reset. Whoever sent it sends it again. New TCP
    connections and echoes pass; so does what concerns this gateway's own addresses.
    """
    peers = "\n".join(
        f'        iifname "{link.port}" {_header(link.peer)} saddr {link.peer} {_header(link.own)} daddr {link.own} '
        f"udp dport {UDP_PORT} accept"
        for link in setup.links
    )
    known = "\n".join(f"        {each} accept" for each in matching("daddr", list(own)))
    return f"""\
    set held {{
        type nf_proto; flags timeout;
    }}
    chain from_the_peer_only {{
        type filter hook prerouting priority raw; policy accept;
{peers}
        udp dport {UDP_PORT} fib daddr type local drop
    }}
    chain unknown_connections {{
        type filter hook prerouting priority mangle; policy accept;
        ct state established,related,untracked accept
        iifname "lo" accept
        tcp flags & (fin | syn | rst | ack) == syn accept
{known}
        meta l4proto {{ tcp, udp }} fib daddr type {{ local, unicast }} meta nfproto @held drop
    }}"""


def holding(on: bool) -> str:
    """Return what nft is told to hold packets of unknown connections back for :data:`HELD_S`, or to let them pass."""
    lines = f"flush set inet {TABLE} held\n"
    if on:
        lines += f"add element inet {TABLE} held {{ ipv4 timeout {HELD_S}s, ipv6 timeout {HELD_S}s }}\n"
    return lines


def entries(statistics: str) -> dict[str, int]:
    """Return how many connections are in the caches, from what ``conntrackd -s`` prints.

    ``own``: those of this gateway's kernel; ``peer``: those that the other gateway told of.
    """
    found = {}
    for cache, name in (("internal", "own"), ("external", "peer")):
        match = re.search(rf"^cache {cache}:\s*\ncurrent active connections:\s*(\d+)", statistics, re.MULTILINE)
        if match:
            found[name] = int(match[1])
    return found


def _channel(link: Link, first: bool) -> str:
    family = _family(link.own)
    return f"""\
	UDP{" Default" if first else ""} {{
		{family}_address {link.own}
		{family}_Destination_Address {link.peer}
		Port {UDP_PORT}
		Interface {link.port}
		SndSocketBuffer 1249280
		RcvSocketBuffer 1249280
		Checksum On
	}}"""


def _family(address: Address) -> str:
    return "IPv4" if isinstance(address, IPv4Address) else "IPv6"


def _header(address: Address) -> str:
    return "ip" if isinstance(address, IPv4Address) else "ip6"
