"""A session between the core and the kernel: what the kernel says, references, probes; without sockets."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import pytest

from flask_hsmx_cluster.agent import session as session_module
from flask_hsmx_cluster.agent.frames import PortFrames
from flask_hsmx_cluster.agent.session import REFERENCE_FRESH_S, Session, WatchedPort
from flask_hsmx_cluster.decision import events
from flask_hsmx_cluster.decision.core import Core
from flask_hsmx_cluster.decision.model import Cause, CauseKind, Path, Phase, Plan, Role, Start, Timing
from flask_hsmx_cluster.network.announce import Frames
from flask_hsmx_cluster.network.messages import RTM_DELLINK, RTM_NEWLINK

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
        send=lambda frame: True, hold=lambda: None, release=lambda: None, record=lambda *words: None,
        do=lambda job: None, addresses=[], encode=lambda *words: b"",
    )  # fmt: skip
    lan = WatchedPort("lan0", 2, MAC, anything, frozenset({"10.0.0.100"}))
    return Session(
        anything, core, anything, anything, anything, anything, {}, {}, {"lan0": lan}, {"lan0": 2}, references,
        lambda result: None,
    )  # fmt: skip


def frames(references: int = 0) -> dict[str, PortFrames]:
    return {"lan0": PortFrames([Frames((b"announcement",), b"probe")], [b"reference"] * references)}


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
