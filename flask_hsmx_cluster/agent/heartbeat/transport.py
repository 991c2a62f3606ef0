"""The paths over which heartbeats go: connected UDP sockets, and Ethernet frames on the virtual-IP ports."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface

from ...network.clock import boot_time_s
from ...network.wire import PortSocket

Interface = IPv4Interface | IPv6Interface
#: Datagrams taken from a path in one turn of the loop.
DATAGRAMS_PER_TURN = 32
#: So often an Ethernet heartbeat goes to the group, s: a clone of this gateway must hear it too (rule 16).
GROUP_EVERY_S = 1.0


@dataclass(frozen=True)
class UdpEnds:
    """Own and other end of a UDP path; addresses without prefix length, ``port`` is the UDP port."""

    device: str
    local: str
    remote: str
    port: int


class UdpPath:
    """A heartbeat path over UDP, bound to its device and own address, connected to the peer's.

    Bound to the own address because after a take-over packets would else leave from the virtual IP, and the
    peer would refuse them (rule 9).
    """

    def __init__(self, name: str, tag: int, ends: UdpEnds) -> None:
        self.name, self.tag, self.ends = name, tag, ends
        self._socket: socket.socket | None = None
        self.problem = "not opened yet"
        #: Its ends are being changed, and the other gateway was last heard over the new ones: nothing is sent here.
        self.quiet = False

    def fileno(self) -> int | None:
        return None if self._socket is None else self._socket.fileno()

    def open(self) -> bool:
        """Open the socket if it is closed. False (and :attr:`problem`) if the kernel refuses, for now."""
        if self._socket is not None:
            return True
        family = socket.AF_INET6 if ":" in self.ends.local else socket.AF_INET
        try:
            connection = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        except OSError as error:  # a kernel without IPv6, or no descriptor left
            self.problem = str(error.strerror or error)
            return False
        try:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self.ends.device.encode() + b"\0")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, 6)
            connection.bind((self.ends.local, self.ends.port))
            connection.connect((self.ends.remote, self.ends.port))
        except OSError as error:
            self.problem = f"{self.ends.local} on {self.ends.device}: {error.strerror or error}"
            connection.close()
            return False
        self._socket, self.problem = connection, ""
        return True

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            self.problem = "closed"

    def send(self, data: bytes) -> None:
        if self._socket is not None and not self.quiet:
            try:
                self._socket.send(data)
            except OSError as error:  # no carrier, refused by the peer's kernel: silence will tell
                self.problem = str(error.strerror or error)

    def receive(self) -> list[bytes]:
        """Return what has arrived, at most :data:`DATAGRAMS_PER_TURN`."""
        found: list[bytes] = []
        for _ in range(DATAGRAMS_PER_TURN):
            if self._socket is None:
                break
            try:
                found.append(self._socket.recv(2048))
            except BlockingIOError:
                break
            except OSError:  # an ICMP error was queued: it is consumed now
                continue
        return found


class EthernetPath:
    """A heartbeat path of raw Ethernet frames on one port; it needs no address of its own."""

    def __init__(self, name: str, tag: int, port: str) -> None:
        self.name, self.tag, self.port = name, tag, port
        self.wire: PortSocket | None = None
        self.peer_mac: bytes | None = None
        self._to_group_at = float("-inf")

    def send(self, data: bytes) -> None:
        """Send to the other gateway, and once a second to the group."""
        now = boot_time_s()
        if now - self._to_group_at >= GROUP_EVERY_S:
            self.send_to_group(data)
            self._to_group_at = now
        elif self.wire is not None:
            self.wire.send_heartbeat(data, self.peer_mac)

    def send_to_group(self, data: bytes) -> None:
        """Send to everybody who listens."""
        if self.wire is not None:
            self.wire.send_heartbeat(data, None)
