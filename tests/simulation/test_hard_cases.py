"""Hard cases that no other module has: what once broke two-node clusters, each with the rule that closes it."""

from __future__ import annotations

import pytest

from flask_hsmx_cluster.decision import events
from flask_hsmx_cluster.decision.model import Cause, CauseKind, Motive, Phase
from flask_hsmx_cluster.network.wire import AddressClaim

from .machine import EXPIRES_LATE_S, MACS, Machine
from .world import ADDRESS, ALL_PATHS, World, active

CARD = Cause(CauseKind.SERVICE, 0)


@pytest.fixture
def world() -> World:
    world = World(seed=7)
    world.form()
    world.forget_figures()
    return world


@pytest.fixture
def shared() -> World:
    """A pair that shares a database, with guests who write."""
    world = World(seed=7, data=True, replicates=True)
    world.form()
    world.run(5)
    assert world.machines["a"].database.synchronous
    world.forget_figures()
    return world


def test_of_two_active_the_one_that_served_stays(world: World) -> None:
    """Rule 2: isolated, both claim; guests are at A's part of the switch alone. B's higher term is no reason."""
    world.cut, world.isolated = ALL_PATHS, True
    world.lan_up["b"] = False
    world.run(0.6)
    world.lan_up["b"] = True
    world.strangers = False
    world.run(3 * world.timing.lease_s + 1)
    assert active(world) == ["a", "b"], world.log
    world.machines["a"].sees(AddressClaim(b"\xaa\0\0\0\0\7", "10.0.0.7"))
    world.cut, world.isolated = set(), False
    world.run(0.3)
    assert active(world) == ["a"] and world.holders() == ["a"], world.log[-5:]


def test_a_blind_port_is_believed_again_once_the_peer_was_seen_there(world: World) -> None:
    world.set_carrier("b", "lan0", False)
    world.run(1)
    world.set_carrier("b", "lan0", True)
    world.run(3)
    world.forget_figures()
    world.power_off("a", switched=True)
    world.run(0.4)
    assert active(world) == ["b"] and world.none_longest < 0.3, world.log


@pytest.mark.parametrize("forged", [True, False])
def test_a_forged_answer_holds_for_two_leases_at_most(world: World, forged: bool) -> None:
    """Rule 3: somebody answers with the dead gateway's own MAC."""
    world.lan.forged_until = world.now + 20 * forged
    world.power_off("a", switched=True)
    world.run(6)
    assert active(world) == ["b"], world.log
    held_s = world.none_longest
    assert held_s < (2 * world.timing.lease_s + 0.7 if forged else 0.2)
    assert held_s > world.timing.lease_s or not forged, "it was believed at first"


@pytest.mark.parametrize("seed", range(8))
def test_no_lost_probes_end_a_hold(seed: int) -> None:
    """Rule 4: the agent of A is dead, its kernel answers, and one frame of three is lost.

    The kernel ends a lease up to 0.52 s late: so long a lost burst may make two, never before the lease's end.
    """
    world = World(seed)
    world.form()
    world.forget_figures()
    world.kill("a")
    world.run(0.3)
    assert world.machines["b"].core is not None and world.machines["b"].core.phase is Phase.HOLDING
    world.loss = 0.3
    world.run(world.timing.lease_s + 2.5)
    assert active(world) == ["b"] and world.both < EXPIRES_LATE_S[-1], world.log


def test_one_lost_answer_after_the_lease_is_no_silence(world: World) -> None:
    """Rule 4: A's kernel ends the lease as late as it can, and meanwhile one question is lost."""
    a, b = world.machines["a"], world.machines["b"]
    while a.lease_until - a.leased_at - world.timing.lease_s < EXPIRES_LATE_S[-1] - 0.01:
        world.run(0.01)
    world.kill("a")
    world.run(a.lease_until - 0.3 - world.now)
    assert b.core is not None and b.core.passive.hold is not None and b.core.passive.hold.expiry < world.now
    world.loss = 1.0
    while not any(port.unanswered for port in b.core.ports.values()):
        world.run(0.001)
    world.loss = 0.0
    world.run(0.2)
    assert "b" not in active(world), world.log
    world.run(0.5)
    assert active(world) == ["b"] and world.both == 0, world.log


def test_who_claimed_out_of_hold_releases_when_the_other_one_still_answers(world: World) -> None:
    """Rule 4: A's kernel held the address longer than any lease lasts; its answer is a double hold."""
    world.kill("a")
    world.run(world.timing.lease_s + 1)
    assert active(world) == ["b"]
    world.machines["a"].leases(ADDRESS, world.timing.lease_s)
    world.machines["b"].sees(AddressClaim(MACS["a"], ADDRESS))
    world.run(0.01)
    assert active(world) == [] and world.both < 0.01, world.log
    world.run(world.timing.lease_s + 1.5)
    assert active(world) == ["b"] and world.holders() == ["b"], world.log


def test_a_commit_that_waits_when_the_role_goes_is_no_success(shared: World) -> None:
    """Rule 5: B is dead, the commit waits; A loses the role before it could go on alone."""
    shared.power_off("b", switched=True)
    assert shared.replication is not None
    a = shared.machines["a"]
    shared.replication.write(a, 0)
    (number,) = a.database.waiting
    a.perform([events.Release(), events.DemoteData()])
    shared.run(3)
    assert number not in shared.replication.acknowledged and not a.database.waiting


def test_maintenance_postpones_a_claim_and_outlives_a_reboot(world: World) -> None:
    """Rule 7: and it forbids nothing."""
    b = world.machines["b"]
    b.maintenance = True
    world.start("b")
    world.run(world.timing.boot_hold_s + 1)
    assert b.core is not None and b.core.maintenance
    world.power_off("a", switched=True)
    world.run(2 * world.timing.lease_s)
    assert not active(world), world.log
    world.run(world.timing.lease_s + 1)
    assert active(world) == ["b"], world.log


def test_a_flapping_check_moves_the_role_ever_less_often(world: World) -> None:
    """Rule 8: first one gateway's, then the other one's, and so on for a quarter of an hour."""
    moves = len(world.reigns)
    for _ in range(45):
        ill = active(world)[0]
        world.machines[ill].tell(events.HealthReport(CARD, True))
        world.run(10)
        world.machines[ill].tell(events.HealthReport(CARD, False))
        world.run(5.5)
        world.machines[ill].tell(events.HealthReport(CARD, False))
        world.run(4.5)
    assert 2 <= len(world.reigns) - moves <= 5, "60, 120, 240, 480 s apart"
    assert world.both == 0 and world.none_longest < 0.05


def test_what_was_written_alone_is_in_quarantine_after_both_were_switched_off(shared: World) -> None:
    """Rule 10: A wrote alone and died; B served without that, and A came back."""
    replication = shared.replication
    assert replication is not None
    shared.power_off("b")
    shared.run(5)
    a, b = shared.machines["a"], shared.machines["b"]
    alone = a.database.rows - b.database.rows
    assert len(alone) > 5 and alone <= replication.acknowledged.keys()
    shared.power_off("a")
    shared.start("b")
    shared.run(shared.timing.boot_hold_s + shared.timing.stale_wait_s + 2)
    assert active(shared) == ["b"] and "data_stale" in {note.kind for note in b.notes}
    shared.power_on("a")
    shared.run(15)
    assert active(shared) == ["b"] and alone <= a.database.quarantine and replication.forgotten(b) == []
    assert b.core is not None and b.core.data.confirms()


@pytest.mark.parametrize("effect", [events.Renew, events.Claim])
def test_a_renewal_that_came_too_late_is_taken_back_at_once(world: World, effect: type) -> None:
    """Rule 11: the agent stands still after it looked at the clock, and before the kernel does what it asked for."""
    a = world.machines["a"]
    if effect is events.Claim:
        world.fail_over("a")
        world.run(0.2)
        world.fail_over("b")

    def stand_still(machine: Machine, what: events.Effect) -> None:
        if machine is a and isinstance(what, effect):
            world.observers.clear()
            a.at_effect(1, lambda: a.stand_still(6.0))

    world.observers.append(stand_still)
    world.run(12)
    assert world.both == 0 and len(active(world)) == 1 and world.holders() == active(world), world.log
    assert active(world) == ["b"], "it took over when A's lease had ended"


def test_a_claim_that_stood_still_before_the_kernel_yields_to_who_serves(world: World) -> None:
    """Rule 11: B is handed the role, stands still before it takes the address; A, unanswered, takes it back."""
    b = world.machines["b"]

    def stand_still(machine: Machine, what: events.Effect) -> None:
        if machine is b and isinstance(what, events.Claim):
            world.observers.clear()
            b.at_effect(1, lambda: b.stand_still(4.0))

    world.observers.append(stand_still)
    world.fail_over("a")
    world.run(6)
    assert len(active(world)) == 1 and world.serving() == active(world), world.log
    assert world.both < world.timing.interval_s + 0.05 and world.none_longest < 1, "A took it back meanwhile"


@pytest.mark.parametrize("clock_too", [False, True])
def test_a_paused_machine_whose_clock_stood_still_yields_within_a_heartbeat(world: World, clock_too: bool) -> None:
    world.pause("a", 7.0, clock_too)
    world.run(3)
    assert len(active(world)) == 1 and world.serving() == active(world), world.log
    assert world.both <= world.timing.interval_s + 0.05


def test_a_conflict_is_announced_against_once_in_ten_seconds(world: World) -> None:
    """Rule 12."""
    announced: list[float] = []
    world.observers.append(
        lambda machine, effect: announced.append(world.now) if isinstance(effect, events.Announce) else None
    )
    for _ in range(250):
        world.stranger_claims("a")
        world.run(0.1)
    assert 2 <= len(announced) <= 3


def test_a_guest_that_missed_the_announcements_is_served_again(world: World) -> None:
    """Rule 12: its neighbour cache names the dead gateway until it looks anew."""
    for guest in world.lan.guests:
        guest.cache = None
    world.run(3)
    world.power_off("a", switched=True)
    world.run(0.5)
    assert world.serving() == ["b"]
    for guest in world.lan.guests:
        guest.learn(MACS["a"])
    world.run(8)
    assert all(guest.cache == MACS["b"] and world.now - guest.served_at < 2 for guest in world.lan.guests)


@pytest.mark.parametrize("seed", range(5))
def test_the_right_to_write_ends_before_the_address(seed: int) -> None:
    """Rule 14: whatever the moment at which the agent dies."""
    world = World(seed, data=True, replicates=True)
    world.form()
    world.run(0.37 * seed)
    a = world.machines["a"]
    world.kill("a")
    while a.holds():
        held, writes = a.holds(), a.database.takes_writes()
        world.run(0.01)
    assert held and not writes


@pytest.mark.parametrize("number", range(1, 16))
def test_a_crash_between_any_two_effects_of_a_claim_burns_its_term(world: World, number: int) -> None:
    """Rule 15: wherever the agent ends, no term is used twice, and the pair is whole again."""
    for _ in range(2):
        world.machines["b"].crash_at_effect(number)
        world.fail_over("a") if active(world) == ["a"] else None
        world.run(1)
        if world.machines["b"].session is None:
            world.start("b", machine_boot=False)
        world.run(6)
        for name in active(world):
            if name == "b":
                world.fail_over("b", Motive.REQUEST)
                world.run(2)
    assert len(active(world)) == 1 and world.serving() == active(world), world.log[-8:]
    assert len(set(world.reigns)) == len(world.reigns) and world.both <= 0.05
    for machine in world.machines.values():
        assert machine.terms == sorted(set(machine.terms))
