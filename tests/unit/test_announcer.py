"""Announcements in portions: the few first, nothing lost, nothing after a release."""

from __future__ import annotations

from flask_hsmx_cluster.agent.heartbeat.announcer import AGAIN_S, AT_ONCE, FULL_S, Announcer
from flask_hsmx_cluster.agent.heartbeat.frames import PortFrames
from flask_hsmx_cluster.decision.model import NEVER
from flask_hsmx_cluster.network.announce import FrameRequest, Frames, build_frames

MAC, ASKER = "02:00:00:00:00:01", "02:00:00:00:00:02"
NEIGHBOUR = b"\2\0\0\0\0\x09"


class Wire:
    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self.room = 10**6

    def send(self, port: str, frame: bytes) -> bool:
        if self.room == 0:
            return False
        self.room -= 1
        self.sent.append((port, frame))
        return True

    def close(self) -> None: ...


def frames_of(name: str) -> Frames:
    return Frames((f"{name} request".encode(), f"{name} reply".encode()), b"probe")


def many(count: int) -> dict[str, PortFrames]:
    return {
        port: PortFrames([frames_of(f"{port} vip")], aliases=[frames_of(f"{port} {at}") for at in range(count // 2)])
        for port in ("lan0", "lan1")
    }


def run(announcer: Announcer, now: float) -> float:
    """Let the loop turn until nothing is due."""
    while (due := announcer.deadline()) < NEVER:
        now = max(now, due)
        announcer.step(now)
    return now


def test_virtual_ips_go_first_and_each_alias_once_before_any_twice() -> None:
    wire = Wire()
    announcer = Announcer(wire)
    announcer.announce(many(1000), {}, again=False, now=5.0)
    assert len(wire.sent) <= 4 + AT_ONCE, "a turn of the loop sends one portion"
    assert [frame[5:8] for _port, frame in wire.sent[:4]] == [b"vip"] * 4
    run(announcer, 5.0)
    assert len(wire.sent) == 4 + 2000
    first = [frame for _port, frame in wire.sent[4:1004]]
    assert all(frame.endswith(b"request") for frame in first) and len(set(first)) == 1000
    assert len({frame for _port, frame in wire.sent[1004:]}) == 1000


def test_a_full_queue_loses_nothing() -> None:
    wire = Wire()
    announcer = Announcer(wire)
    wire.room = 100
    announcer.announce(many(1000), {}, again=False, now=5.0)
    assert announcer.deadline() == 5.0 + FULL_S
    wire.room = 10**6
    run(announcer, 5.0)
    assert len(set(wire.sent)) == len(wire.sent) == 2004


def test_a_repetition_takes_its_time_and_tells_known_neighbours_of_the_few() -> None:
    wire = Wire()
    announcer = Announcer(wire)
    announcer.announce(many(1000), {"lan0": [NEIGHBOUR]}, again=True, now=5.0)
    assert sum(frame.startswith(NEIGHBOUR) for _port, frame in wire.sent) == 1
    assert announcer.deadline() == 5.0 + AGAIN_S
    assert run(announcer, 5.0) > 6.0


def test_a_repetition_does_not_slow_down_a_first_round() -> None:
    wire = Wire()
    announcer = Announcer(wire)
    announcer.announce(many(1000), {}, again=False, now=5.0)
    announcer.announce(many(1000), {}, again=True, now=5.001)
    assert run(announcer, 5.001) < 5.1
    assert len({frame for _port, frame in wire.sent}) == 2004


def test_nothing_is_announced_after_a_release() -> None:
    wire = Wire()
    announcer = Announcer(wire)
    announcer.announce(many(1000), {}, again=False, now=5.0)
    announcer.stop()
    before = len(wire.sent)
    announcer.step(6.0)
    assert len(wire.sent) == before and announcer.deadline() == NEVER


def test_a_frame_of_one_address_is_what_scapy_makes_of_it() -> None:
    """The frames of a port are one that scapy built, with each address put in its place."""
    from scapy.layers.l2 import ARP, Ether

    addresses = ("10.0.0.7", "10.255.3.9")
    built = build_frames([FrameRequest(address, MAC, asker=ASKER) for address in addresses])
    for address, frames in zip(addresses, built, strict=True):
        request, reply = (Ether(frame)[ARP] for frame in frames.announcements)
        assert (request.op, reply.op) == (1, 2)
        for packet in (request, reply):
            assert (packet.psrc, packet.pdst, packet.hwsrc) == (address, address, MAC)
        probe = Ether(frames.probe)
        assert (probe.src, probe[ARP].psrc, probe[ARP].pdst, probe[ARP].hwsrc) == (ASKER, "0.0.0.0", address, ASKER)


def test_a_thousand_are_built_in_one_go() -> None:
    built = build_frames([FrameRequest(f"10.50.{at // 250}.{at % 250 + 1}", MAC) for at in range(1000)])
    assert len({frames.announcements for frames in built}) == 1000
