"""Heartbeats that are replayed, forged and flooded: nobody's role moves, and a recording is no sign of life."""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from flask_hsmx_cluster.agent.heartbeat.datagram import Codec, Refusal, path_tag
from flask_hsmx_cluster.decision.model import Beat, Kind, Role, Term

from .wires import SOCKET_HOLDS
from .world import ALL_PATHS, PATHS, World, active

#: Paths that a guest can reach; the others are cables between the two.
OF_GUESTS = frozenset({"service", "lan0 (Ethernet)"})
#: How often somebody sends, s, and how many at a time.
EVERY_S, AT_ONCE = 0.005, 5

#: Datagrams by the path and the gateway that sent them.
Recording = dict[tuple[str, str], list[bytes]]
Shot = tuple[str, str, bytes]


def record(world: World, seconds: float, fail_over: str = "") -> Recording:
    """Return what both gateways send meanwhile, with a fail-over from one of them among it."""
    found: Recording = {where: [] for where in world.wires}
    for where, wire in world.wires.items():
        wire.tap = found[where].append
    if fail_over:
        world.fail_over(fail_over)
    world.run(seconds)
    for wire in world.wires.values():
        wire.tap = None
    assert all(found.values())
    return found


def replayed(recording: Recording, paths: frozenset[str] = ALL_PATHS) -> list[Shot]:
    """Return path, victim and datagram of a recording: on its own path, on another one, and thrown back."""
    shots = []
    for (path, sender), datagrams in recording.items():
        victim, another = "b" if sender == "a" else "a", "service" if path != "service" else "lan0 (Ethernet)"
        for data in datagrams:
            shots += [(path, victim, data), (another, victim, data), (path, sender, data)]
    return [one for one in shots if one[0] in paths]


def forged(world: World, recording: Recording) -> list[Shot]:
    """Return what somebody makes who has no key, from genuine datagrams and from nothing."""
    dice, shots = world.dice, []
    for path, victim, data in replayed(recording):
        unsigned = bytearray(data[:-32])
        unsigned[36:44] = dice.randrange(2**62, 2**63).to_bytes(8, "big")  # a counter of the future
        wrong = hmac.digest(dice.randbytes(32), bytes(unsigned), "sha256")
        for one in (
            bytes(unsigned) + wrong, bytes(unsigned) + data[-32:], data[: dice.randrange(1, len(data))],
            data[:4] + dice.randbytes(len(data) - 4), dice.randbytes(dice.randrange(1, 1400)), data + b"\0",
        ):  # fmt: skip
            shots.append((path, victim, one))
    for victim, sender in ("ab", "ba"):
        strange = Codec(
            b"simulate", bytes.fromhex(sender * 32), bytes.fromhex(victim * 32), {1: b"\7" * 32}, 1, world.draw(),
            SimpleNamespace(draw=world.draw),  # type: ignore[arg-type]
        )  # fmt: skip
        for role, kind in ((Role.ACTIVE, Kind.BEAT), (Role.PASSIVE, Kind.GRANT), (Role.PASSIVE, Kind.BYE)):
            beat = Beat(kind, role, Term(2**40, sender * 32), served=True)
            shots += [(path.name, victim, strange.encode(beat, path_tag(path.kind), world.now)) for path in PATHS]
    return shots


def fire(world: World, shots: list[Shot], seconds: float, at_once: int = AT_ONCE) -> None:
    """Have somebody send these again and again for a while."""
    until, magazine = world.now + seconds, _endless(world, shots)

    def volley() -> None:
        if world.now < until:
            for _ in range(at_once):
                path, victim, data = next(magazine)
                world.machines[victim].arrives(path, data)
            world.at(EVERY_S, volley)

    world.at(0.0, volley)


def _endless(world: World, shots: list[Shot]) -> Iterator[Shot]:
    while True:
        yield from world.dice.sample(shots, len(shots))


def counters(world: World) -> Counter[str]:
    found: Counter[str] = Counter()
    for machine in world.machines.values():
        assert machine.session is not None
        found += machine.session.codec.counters
    return found


def refused_without_a_move(world: World, shots: list[Shot]) -> Counter[str]:
    """Fire at a pair whose active gateway is A, see that nothing moves, and return what was refused."""
    reigns, before = list(world.reigns), counters(world)
    fire(world, shots, 10)
    world.run(12)
    assert active(world) == world.holders() == ["a"] and world.reigns == reigns, world.log
    assert world.both == world.none_longest == 0
    return counters(world) - before


def test_a_recording_of_an_earlier_reign_moves_nothing(world: World) -> None:
    """Signed by both, and true once: A handed over to B then, and let go of the address."""
    shots = replayed(record(world, 2, fail_over="a"))
    assert active(world) == ["b"]
    world.fail_over("b")
    world.run(2)
    assert active(world) == ["a"]
    world.forget_figures()
    refused = refused_without_a_move(world, shots)
    assert refused[Refusal.REPLAY.value] > 1000 and refused[Refusal.STRANGER.value] > 1000


@pytest.mark.parametrize("paths", [OF_GUESTS, ALL_PATHS], ids=["guests", "all"])
def test_a_recording_of_earlier_agents_keeps_no_two_from_finding_each_other(
    world: World, paths: frozenset[str]
) -> None:
    """Both agents have started anew since; each asks who is unknown to answer a number that it drew itself."""
    shots = replayed(record(world, 2), paths)
    world.fail_over("a")
    world.run(2)
    for name in "ab":
        world.power_off(name)
        world.run(1)
    for name in "ab":
        world.power_on(name)
    world.forget_figures()
    fire(world, shots, 10)
    world.run(10)
    assert len(active(world)) == 1 and world.holders() == active(world) and world.both == 0, world.log
    assert counters(world)[Refusal.UNPROVEN.value] > 100
    reigns = list(world.reigns)
    world.run(5)
    assert world.reigns == reigns and world.both == 0


def test_a_recording_of_the_dead_active_delays_no_take_over(world: World) -> None:
    heard = record(world, 2)
    shots = [one for one in replayed(heard) if one[1] == "b"]
    world.power_off("a", switched=True)
    fire(world, shots, 5)
    world.run(0.4)
    assert active(world) == world.holders() == ["b"] and world.none_longest < 0.3, world.log
    world.run(5)
    assert active(world) == ["b"] and world.both == 0


def test_forged_datagrams_move_nothing(world: World) -> None:
    shots = forged(world, record(world, 0.5))
    refused = refused_without_a_move(world, shots)
    assert refused[Refusal.BAD_SIGNATURE.value] > 1000 and refused[Refusal.MALFORMED.value] > 1000


def test_a_flood_over_the_guests_network_moves_nothing(world: World) -> None:
    """More at once than a socket keeps: what the gateways say to each other there is lost, and the cables suffice."""
    heard = record(world, 1)
    shots = [one for one in replayed(heard) + forged(world, heard) if one[0] in OF_GUESTS]
    reigns = list(world.reigns)
    fire(world, shots, 0.4, at_once=6 * SOCKET_HOLDS)
    world.run(3)
    assert active(world) == world.holders() == ["a"] and world.reigns == reigns, world.log
    assert world.both == world.none_longest == 0
