"""A session with its real core and codec, on a clock that only the fuzzer moves; shared by what comes from the wire."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

from flask_hsmx_cluster.agent.heartbeat import session as session_module
from flask_hsmx_cluster.agent.heartbeat import transport as transport_module
from flask_hsmx_cluster.agent.heartbeat.datagram import Challenges, Codec, path_tag
from flask_hsmx_cluster.agent.heartbeat.session import Session
from flask_hsmx_cluster.agent.heartbeat.transport import EthernetPath, UdpEnds, UdpPath
from flask_hsmx_cluster.decision.model import Beat, Kind, PortReport, Role, Term
from flask_hsmx_cluster.network.wire import PortSocket
from tests.unit.test_session import MAC, PEER_MAC, core_at, session_of

A, B, CLUSTER, KEY = b"\xaa" * 16, b"\xbb" * 16, b"c" * 8, b"k" * 32
TAGS = {"sync": path_tag("sync"), "ethernet": path_tag("ethernet")}
BEAT = Beat(
    Kind.BEAT, Role.PASSIVE, Term(3, "aa" * 16), lease_left_ms=0, revision=1,
    ports=(PortReport(PEER_MAC, carrier=True, peer_seen=True),),
)  # fmt: skip


class _Counting(Challenges):
    """Draws the same challenges in each run: an input must do the same again."""

    def __init__(self) -> None:
        self._drawn = 0

    def draw(self) -> bytes:
        self._drawn += 1
        return self._drawn.to_bytes(8, "big")


class Socket:
    """A socket whose datagrams are handed in."""

    def __init__(self) -> None:
        self.waiting: list[Any] = []

    def recv(self, size: int) -> bytes:
        if not self.waiting:
            raise BlockingIOError
        return bytes(self.waiting.pop(0)[:size])

    recvmsg: Any = None

    def send(self, data: bytes) -> int:
        return len(data)


class Heartbeats:
    """Gateway A's session and gateway B's codec, which know each other."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.core = core_at(self.now)
        self.session: Session = session_of(self.core, frozenset({"10.0.0.254"}))
        self.codec = self.session.codec = Codec(CLUSTER, A, B, {1: KEY}, 1, b"incarn-A", _Counting())
        self.other = Codec(CLUSTER, B, A, {1: KEY}, 1, b"incarn-B", _Counting())
        self.udp = UdpPath("sync", TAGS["sync"], UdpEnds("sync0", "10.9.0.1", "10.9.0.2", 5555))
        self.udp_socket, self.wire_socket = Socket(), Socket()
        self.udp._socket = self.udp_socket  # type: ignore[assignment]
        self.port = self.session.watched["lan0"]
        self.port.wire = wire = object.__new__(PortSocket)
        wire.port, wire.index, wire.mac, wire._socket = "lan0", 2, MAC, self.wire_socket  # type: ignore[assignment]
        self.port.shared = frozenset({"10.0.0.100", "10.0.0.101", "2001:db8::1"})
        self.session.udp["sync"] = self.udp
        self.session.ethernet["lan0"] = EthernetPath("ethernet lan0", TAGS["ethernet"], "lan0")
        self.session.ethernet["lan0"].wire = wire
        self.session.former = {}
        self.session.membership = SimpleNamespace()  # type: ignore[assignment]

    def greet(self) -> None:
        """Let both believe each other."""
        for _ in range(3):
            with self.clock():
                self.hear(self.other.encode(BEAT, TAGS["sync"], self.now))
                self.other.decode(self.codec.encode(BEAT, TAGS["sync"], self.now), TAGS["sync"], self.now)

    @contextmanager
    def clock(self) -> Iterator[None]:
        """Let the session see the fuzzer's time."""
        with (
            mock.patch.object(session_module, "boot_time_s", lambda: self.now),
            mock.patch.object(transport_module, "boot_time_s", lambda: self.now),
        ):
            yield

    def hear(self, data: bytes) -> bool:
        """Hand in a datagram that came over the synchronisation link; tell whether it was believed."""
        before = self.codec.counters["received"]
        self.udp_socket.waiting.append(data)
        self.session.receive_udp(self.udp)
        return self.codec.counters["received"] > before

    def hear_frame(self, data: bytes) -> None:
        """Hand in a frame that came in on the port."""
        self.wire_socket.waiting.append(data)
        self.session.receive_frames(self.port)

    def state(self) -> tuple[Any, ...]:
        """Return what only a believed message may change."""
        paths = tuple((tag, path.heard, path.response) for tag, path in sorted(self.codec._paths.items()))
        core = self.core
        return (paths, self.codec._peer_incarnation, self.codec._newest, core.role, core.term, core.peer, core.peer_at)
