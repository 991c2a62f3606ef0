"""One packet socket per virtual-IP port: hears ARP, neighbour discovery and Ethernet heartbeats, sends frames."""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv6Address

from ..errors import NetworkError

#: IEEE 802 local experimental EtherType 1.
ETHERTYPE_HEARTBEAT = 0x88B5
#: Locally administered multicast group of Ethernet heartbeats: until the peer's MAC is known, and for clones.
GROUP_MAC = bytes.fromhex("0348534d5801")
_ALL_NODES_MAC = bytes.fromhex("333300000001")
_ETH_P_ALL = 0x0003
_ETH_ARP = b"\x08\x06"
_ETH_IPV6 = b"\x86\xdd"
_ETH_HEARTBEAT = ETHERTYPE_HEARTBEAT.to_bytes(2, "big")
_SOL_PACKET = 263
_PACKET_ADD_MEMBERSHIP = 1
_PACKET_IGNORE_OUTGOING = 23
_PACKET_MR_MULTICAST = 0
_SO_ATTACH_FILTER = 26
#: Frames taken from a port in one turn of the loop; a flood must not starve the renewal.
FRAMES_PER_TURN = 64

#: Classic BPF (code, jump if true, jump if false, operand): ARP, Ethernet heartbeats, neighbour solicitations and
#: advertisements come up; nothing else does.
_FILTER = (
    (0x28, 0, 0, 12),  # load EtherType
    (0x15, 7, 0, 0x0806),  # ARP: accept
    (0x15, 6, 0, ETHERTYPE_HEARTBEAT),  # accept
    (0x15, 0, 6, 0x86DD),  # not IPv6: drop
    (0x30, 0, 0, 20),  # load next header
    (0x15, 0, 4, 58),  # not ICMPv6: drop
    (0x30, 0, 0, 54),  # load ICMPv6 type
    (0x15, 1, 0, 135),  # solicitation: accept
    (0x15, 0, 1, 136),  # not an advertisement: drop
    (0x06, 0, 0, 0xFFFF),  # accept
    (0x06, 0, 0, 0),  # drop
)


@dataclass(frozen=True)
class AddressClaim:
    """A frame in which ``mac`` uses ``address`` as its own."""

    mac: bytes
    address: str


@dataclass(frozen=True)
class OtherFrame:
    """Any other frame of neighbour traffic; shows that ``mac`` is there."""

    mac: bytes


@dataclass(frozen=True)
class HeartbeatFrame:
    """An Ethernet heartbeat; ``payload`` is not yet authenticated."""

    mac: bytes
    payload: bytes


Frame = AddressClaim | OtherFrame | HeartbeatFrame


class FrameSender:
    """Sends frames on any port, and hears nothing.

    :raises NetworkError: CAP_NET_RAW is missing.
    """

    def __init__(self) -> None:
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        except OSError as error:
            raise NetworkError(f"No packet socket: {error.strerror}", "The agent needs CAP_NET_RAW.") from error

    def close(self) -> None:
        self._socket.close()

    def send(self, port: str, frame: bytes) -> bool:
        """Send a complete frame; False if the port's queue is full. A port that is gone or down takes everything."""
        try:
            self._socket.sendto(frame, (port, 0))
        except OSError as error:
            return error.errno not in (errno.ENOBUFS, errno.EAGAIN)
        return True


class PortSocket:
    """The packet socket of one port.

    :raises NetworkError: the port is not there, or CAP_NET_RAW is missing.
    """

    def __init__(self, port: str, index: int, mac: bytes) -> None:
        self.port, self.index, self.mac = port, index, mac
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
            try:
                self._attach_filter()
                self._socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
                for group in (GROUP_MAC, _ALL_NODES_MAC):
                    self._socket.setsockopt(
                        _SOL_PACKET,
                        _PACKET_ADD_MEMBERSHIP,
                        struct.pack("=iHH8s", index, _PACKET_MR_MULTICAST, 6, group + b"\0\0"),
                    )
                self._socket.bind((port, _ETH_P_ALL))
            except OSError:
                self._socket.close()
                raise
        except OSError as error:
            raise NetworkError(
                f"Port {port} cannot be opened for ARP: {error.strerror}",
                "The agent needs CAP_NET_RAW; the port must exist.",
            ) from error

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def send(self, frame: bytes) -> bool:
        """Send a complete frame; False if the port does not take it now (down, or its queue is full)."""
        try:
            self._socket.send(frame)
        except OSError:
            return False
        return True

    def send_heartbeat(self, payload: bytes, to: bytes | None) -> bool:
        """Send an Ethernet heartbeat to a MAC, or to the group."""
        return self.send(
            b"".join((to or GROUP_MAC, self.mac, _ETH_HEARTBEAT, len(payload).to_bytes(2, "big"), payload))
        )

    def receive(self) -> list[Frame]:
        """Return the frames that have arrived, at most :data:`FRAMES_PER_TURN`; malformed ones are left out."""
        found: list[Frame] = []
        for _ in range(FRAMES_PER_TURN):
            try:
                data = self._socket.recv(2048)
            except OSError:
                break
            frame = parse(data)
            # A copied machine may have our own MAC too: its heartbeats are told from ours by what is signed.
            if isinstance(frame, HeartbeatFrame) or (frame is not None and data[6:12] != self.mac):
                found.append(frame)
        return found

    def _attach_filter(self) -> None:
        program = [struct.pack("=HBBI", *line) for line in _FILTER]
        code = ctypes.create_string_buffer(b"".join(program))
        head = struct.pack("@HP", len(program), ctypes.addressof(code))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, head)


def parse(data: bytes) -> Frame | None:
    """Return what a frame says, or None if it is malformed or nothing of ours."""
    source, ethertype = data[6:12], data[12:14]
    if ethertype == _ETH_HEARTBEAT and len(data) >= 16:
        length = int.from_bytes(data[14:16], "big")
        return HeartbeatFrame(source, data[16 : 16 + length]) if 0 < length <= len(data) - 16 else None
    if ethertype == _ETH_ARP and len(data) >= 42 and data[14:20] == b"\x00\x01\x08\x00\x06\x04":
        sender_mac, sender_ip = data[22:28], data[28:32]
        if sender_ip == b"\0\0\0\0" or sender_mac != source:
            return OtherFrame(source)
        return AddressClaim(source, socket.inet_ntoa(sender_ip))
    if ethertype == _ETH_IPV6 and len(data) >= 78 and data[20] == 58:
        if data[54] == 136 and data[21] == 255:  # else a router has forwarded it: not its sender's MAC (RFC 4861)
            return AddressClaim(source, str(IPv6Address(data[62:78])))
        return OtherFrame(source)
    return None
