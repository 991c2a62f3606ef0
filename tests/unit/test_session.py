"""A session between the core and the kernel: what the kernel says, references, probes; without sockets."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import pytest

from flask_hsmx_cluster.agent.heartbeat import session as session_module
from flask_hsmx_cluster.agent.heartbeat import transport as transport_module
from flask_hsmx_cluster.agent.heartbeat.announcer import Announcer
from flask_hsmx_cluster.agent.heartbeat.database_hand import DatabaseHand
from flask_hsmx_cluster.agent.heartbeat.datagram import Challenges, Codec, path_tag
from flask_hsmx_cluster.agent.heartbeat.frames import PortFrames
from flask_hsmx_cluster.agent.heartbeat.plan import UdpPlan
from flask_hsmx_cluster.agent.heartbeat.services_hand import ServicesHand
from flask_hsmx_cluster.agent.heartbeat.session import REFERENCE_FRESH_S, Session, WatchedPort, udp_paths
from flask_hsmx_cluster.agent.heartbeat.transport import EthernetPath, UdpEnds
from flask_hsmx_cluster.decision import events
from flask_hsmx_cluster.decision.core import Core
from flask_hsmx_cluster.decision.model import Cause, CauseKind, Path, Phase, Plan, Role, Start, Timing
from flask_hsmx_cluster.network.announce import Frames
from flask_hsmx_cluster.network.messages import RTM_DELADDR, RTM_DELLINK, RTM_NEWADDR, RTM_NEWLINK
from flask_hsmx_cluster.network.wire import AddressClaim

MAC, PEER_MAC = b"\2\0\0\0\0\1", b"\2\0\0\0\0\2"
NO_REFERENCE = Cause(CauseKind.NO_REFERENCE)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(session_module, "boot_time_s", clock)
    monkeypatch.setattr(transport_module, "boot_time_s", clock)
    return clock


def core_at(now: float) -> Core:
    return Core(
        Plan(
            node="a" * 32,
            peer="b" * 32,
            peer_name="gw-b",
            paths=(Path("sync", "sync", "sync0", True),),
            ports=("lan0",),
            addresses=("10.0.0.100",),
            timing=Timing(),
            peer_macs=(PEER_MAC,),
        ),
        Start(hold_s=1.0),
        now,
    )


def session_of(core: Core, references: frozenset[str] = frozenset()) -> Session:
    anything: Any = SimpleNamespace(
        send=lambda *frame: True, hold=lambda: None, renew=lambda: None, keys=frozenset(), release=lambda: None,
        record=lambda *words: None, do=lambda job: None, keep=lambda *words: None, reserved=0,
        addresses=[], encode=lambda *words: b"", remember=lambda reign: None, forget=lambda: None,
        settings=SimpleNamespace(cluster_id="cluster"),
    )  # fmt: skip
    lan = WatchedPort("lan0", 2, MAC, anything, frozenset({"10.0.0.100"}))
    return Session(
        anything, core, anything, anything, anything, anything, anything, {}, {}, {"lan0": lan}, {"lan0": 2},
        references, lambda result: None, DatabaseHand(None), ServicesHand(None, anything.record),
        Announcer(anything), lambda on: None,
    )  # fmt: skip


def frames(references: int = 0) -> dict[str, PortFrames]:
    return {"lan0": PortFrames([Frames((b"announcement",), b"probe")], [b"probe"], [b"reference"] * references)}


def tick(session: Session, clock: Clock, seconds: int) -> None:
    for _ in range(seconds):
        clock.now += 1
        session.slow_tick(clock.now)


def test_changed_settings_do_not_make_an_answering_reference_ill_health(clock: Clock) -> None:
    """A session that is installed later than the core began has heard no reference yet: it asks first."""
    core = core_at(clock.now)
    clock.now += 100
    session = session_of(core, frozenset({"10.0.0.254"}))
    session.set_frames(frames(1))
    tick(session, clock, int(REFERENCE_FRESH_S) - 1)
    assert NO_REFERENCE not in core.health.causes
    tick(session, clock, 3)
    assert NO_REFERENCE in core.health.causes, "twelve seconds without an answer are"


def test_a_reference_that_was_taken_out_of_the_settings_is_missed_no_more(clock: Clock) -> None:
    core = core_at(clock.now)
    core.health.report(NO_REFERENCE, True, clock.now)
    session = session_of(core)
    session.set_frames(frames())
    tick(session, clock, 8)
    assert NO_REFERENCE not in core.health.causes


def link(index: int, flags: int, family: int = 0) -> memoryview:
    return memoryview(struct.pack("=BxHiII", family, 1, index, flags, 0))


def test_a_port_that_leaves_a_bridge_has_not_lost_its_carrier(clock: Clock) -> None:
    core = core_at(clock.now)
    session = session_of(core)
    session.netlink([(RTM_NEWLINK, 1, link(2, 0x10001))])
    assert core.ports["lan0"].carrier
    session.netlink([(RTM_DELLINK, 2, link(2, 0x10001, family=7))])
    assert core.ports["lan0"].carrier and not session.stale
    session.netlink([(RTM_DELLINK, 3, link(2, 0))])
    assert not core.ports["lan0"].carrier and session.stale


def test_silence_is_no_proof_before_the_probes_are_built(clock: Clock) -> None:
    """The frames come a little after the session: until then nobody has been asked for the address."""
    core = core_at(clock.now)
    session = session_of(core)
    session.tell(events.Carrier("lan0", True))
    for _ in range(200):
        clock.now += 0.01
        session.tell(events.StrangerSeen("lan0"))
        session.perform(core.wake(clock.now))
    assert core.role is Role.PASSIVE and core.phase is Phase.WAITING
    session.set_frames(frames())
    for _ in range(100):
        clock.now += 0.01
        session.perform(core.wake(clock.now))
    assert core.role is Role.ACTIVE


class Wire:
    """A LAN with two agents of one identity: what one sends to the group, the other hears."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, bytes | None]] = []

    def send_heartbeat(self, data: bytes, to: bytes | None) -> bool:
        self.sent.append((data, to))
        return True


def twin(clock: Clock, incarnation: int) -> tuple[Session, Wire]:
    core = core_at(clock.now)
    session, wire = session_of(core), Wire()
    session.codec = Codec(
        b"c" * 8, b"\xaa" * 16, b"\xbb" * 16, {1: b"k" * 32}, 1, bytes([incarnation] * 8), Challenges()
    )
    path = EthernetPath("lan0 (Ethernet)", path_tag("ethernet"), "lan0")
    stand_in: Any = wire
    path.wire, path.peer_mac = stand_in, PEER_MAC
    session.ethernet = {"lan0": path}
    return session, wire


def hear(session: Session, wire: Wire) -> None:
    """Take everything that a wire has brought to the group; what goes to the peer's MAC does not get here."""
    path = session.ethernet["lan0"]
    for data, to in wire.sent:
        if to is None:
            session._message(path.name, path.tag, data)
    wire.sent.clear()


def test_two_agents_of_one_identity_find_each_other_although_they_talk_to_the_peer(clock: Clock) -> None:
    (one, from_one), (copy, from_copy) = twin(clock, 1), twin(clock, 2)
    for _ in range(50):
        clock.now += 0.1
        for session, wire in ((one, from_copy), (copy, from_one)):
            session.perform(session.core.wake(clock.now))
            hear(session, wire)
    assert one.core.clone_near() and copy.core.clone_near()
    assert one.core.role is Role.PASSIVE and copy.core.role is Role.PASSIVE


def test_a_recording_is_answered_now_and_then_and_stops_no_failover(clock: Clock) -> None:
    session, wire = twin(clock, 1)
    earlier, recorded = twin(clock, 2)
    earlier.perform(earlier.core.wake(clock.now))
    data, _ = recorded.sent[0]
    wire.sent.clear()
    for _ in range(1000):
        clock.now += 0.001
        session._message("lan0 (Ethernet)", path_tag("ethernet"), data)
    assert 4 <= len(wire.sent) <= 6
    assert session.clone_at == clock.now and not session.core.clone_near()


def seen(session: Session, frame: AddressClaim) -> list[events.Event]:
    """Hand a session one frame, and return what the core is told of it."""
    told: list[events.Event] = []
    session.tell = told.append  # type: ignore[method-assign]
    session.watched["lan0"].wire = SimpleNamespace(receive=lambda: [frame])  # type: ignore[assignment]
    session.receive_frames(session.watched["lan0"])
    return told


def test_of_a_thousand_aliases_none_is_evidence_but_a_stranger_on_one_is_a_conflict(clock: Clock) -> None:
    session = session_of(core_at(clock.now))
    port = session.watched["lan0"]
    port.shared = frozenset({"10.0.0.100", "10.0.0.7"})
    assert seen(session, AddressClaim(PEER_MAC, "10.0.0.100")) == [events.AddressSeen("lan0", PEER_MAC, "10.0.0.100")]
    assert seen(session, AddressClaim(PEER_MAC, "10.0.0.7")) == []
    stranger = b"\2\0\0\0\0\x77"
    assert seen(session, AddressClaim(stranger, "10.0.0.7")) == [events.AddressSeen("lan0", stranger, "10.0.0.7")]


def address(kind: int, text: str, index: int = 2) -> tuple[int, int, memoryview]:
    packed = bytes(int(part) for part in text.split("."))
    body = struct.pack("=BBBBI", 2, 24, 0, 0, index) + struct.pack("=HH", 8, 2) + packed
    return (kind, 0, memoryview(body))


@pytest.mark.parametrize(("active", "wrong"), [(True, RTM_DELADDR), (False, RTM_NEWADDR)])
def test_however_many_addresses_change_the_kernel_is_looked_at_once(clock: Clock, active: bool, wrong: int) -> None:
    core = core_at(clock.now)
    if active:
        core.role, core.renewed_at = Role.ACTIVE, clock.now
    session = session_of(core)
    session.lease.keys = frozenset((2, f"10.50.0.{at}") for at in range(200))
    looks: list[int] = []
    session.reconcile = lambda: looks.append(1)  # type: ignore[method-assign]
    right = RTM_NEWADDR if active else RTM_DELADDR
    session.netlink([address(right, f"10.50.0.{at}") for at in range(200)])
    malformed = (wrong, 0, memoryview(bytes(8)))
    session.netlink([address(wrong, "10.99.0.1"), address(wrong, "10.50.0.1", index=9), malformed])
    assert looks == []
    session.netlink([address(wrong, f"10.50.0.{at}") for at in range(200)])
    assert looks == [1]


def test_a_path_whose_ends_change_goes_over_both_until_it_is_heard_over_the_new_ones(clock: Clock) -> None:
    before, after = UdpEnds("sync0", "10.9.0.1", "10.9.0.2", 5405), UdpEnds("sync0", "10.7.0.1", "10.7.0.2", 5405)
    session = session_of(core_at(clock.now))
    session.udp, session.former = udp_paths([UdpPlan("sync", 1, before)], None)
    assert session.former == {}
    session.udp, session.former = udp_paths([UdpPlan("sync", 1, after)], session)
    assert session.former["sync"].ends == before, "what the other gateway has may be a moment behind"
    heard: list[str] = []
    session._message = lambda name, tag, data: heard.append(name) is None  # type: ignore[method-assign]
    for path in (session.former["sync"], session.udp["sync"]):
        assert not session.former["sync"].quiet
        path.receive = lambda: [b"datagram"]  # type: ignore[method-assign]
        session.receive_udp(path)
    assert heard == ["sync", "sync"] and session.former["sync"].quiet
    session.receive_udp(session.former["sync"])
    assert not session.former["sync"].quiet, "it went back: its disk was full"
    session.receive_udp(session.udp["sync"])
    back, former = udp_paths([UdpPlan("sync", 1, before)], session)
    assert (back["sync"].ends, former["sync"].ends) == (before, after), "the one over which it is heard"
    assert udp_paths([UdpPlan("sync", 1, after)], session)[1] == {}


def test_what_the_other_gateway_has_in_force_says_where_it_is(clock: Clock) -> None:
    here, there = UdpEnds("sync0", "10.7.0.1", "10.7.0.2", 5405), UdpEnds("sync0", "10.9.0.1", "10.9.0.2", 5405)
    _paths, former = udp_paths([UdpPlan("sync", 1, here, there)], None)
    assert former["sync"].ends == there and former["sync"].name == "sync" and former["sync"].tag == 1
