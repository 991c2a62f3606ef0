"""What changes under a running core: settings, the other gateway, a kernel that refuses, a restart."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flask_hsmx_cluster.decision import events
from flask_hsmx_cluster.decision.core import Core
from flask_hsmx_cluster.decision.model import Cause, CauseKind, Kind, Motive, Path, Role, Timing

from .machine import Machine
from .world import ALL_PATHS, World, active


def core_of(world: World, name: str) -> Core:
    core = world.machines[name].core
    assert core is not None
    return core


def test_a_shorter_lease_is_renewed_in_its_own_time() -> None:
    """The next renewal of a lease of 10 s may be 2.5 s away; one of 2 s must not wait for it."""
    world = World(1, Timing(lease_s=10.0))
    world.form()
    before = core_of(world, "a").renewed_at
    while core_of(world, "a").renewed_at == before:
        world.run(0.01)
    world.forget_figures()
    world.timing = Timing(lease_s=2.0)
    for name, machine in world.machines.items():
        core_of(world, name).replan(world.plan(name), world.now)
        if name == "a":
            world._do(machine, [events.Renew()])
    world.run(5)
    assert active(world) == ["a"] and world.none_longest == 0, world.log[-5:]


@pytest.mark.parametrize("author", ["a", "b"])
def test_a_virtual_ip_that_changes_first_on_one_gateway_is_no_ill_health(world: World, author: str) -> None:
    """The passive asks for an address that nobody has yet, or has any more, for as long as it takes."""
    world.change(author, 1, "10.0.0.111")
    world.run(15)
    assert active(world) == ["a"] and len(world.reigns) == 1, world.log[-5:]
    world.change("b" if author == "a" else "a", 1, "10.0.0.111")
    world.run(15)
    assert active(world) == ["a"] and len(world.reigns) == 1 and world.both == 0, world.log[-5:]
    world.lan_up["a"] = False
    world.run(3)
    assert active(world) == ["b"], "unseen again counts"


def test_where_the_addresses_differ_a_short_silence_is_no_death(world: World) -> None:
    """A is starved for a moment; its kernel answers, but not for the address that B asks for."""
    world.change("a", 1, "10.0.0.111")
    world.run(0.3)
    world.cut = ALL_PATHS
    world.run(0.5)
    world.cut = set()
    world.run(1)
    assert active(world) == ["a"] and len(world.reigns) == 1, world.log[-5:]
    world.power_off("a")
    world.run(world.timing.lease_s + 0.2)
    assert active(world) == ["b"], "silent for a lease: gone"


@pytest.mark.parametrize("later", [0.3, 0.7, 1.1, 1.5])
def test_what_was_silent_before_the_addresses_changed_proves_nothing_after_it(world: World, later: float) -> None:
    """A's agent stands still just after it took another address; B takes it amid a burst that had asked for the old."""
    world.change("a", 1, "10.0.0.111")
    world.run(0.3)
    world.freeze("a")
    world.run(later)
    world.change("b", 1, "10.0.0.111")
    world.run(world.timing.lease_s + 1)
    assert active(world)[-1] == "b" and world.holders() == ["b"] and world.both == 0, world.log[-5:]


def test_a_former_peer_leaves_nothing_behind(world: World) -> None:
    core = core_of(world, "a")
    plan, former = core.plan, core.peer
    world.power_off("b")
    world.run(0.05)
    core.replan(replace(plan, peer="", peer_name="", paths=(), peer_macs=()), world.now)
    world.run(1)
    core.replan(replace(plan, peer="c" * 32, peer_name="gw-c", peer_macs=(b"",)), world.now)
    assert former is not None and core.peer is None and core.peer_at is None
    assert core.peer_mac("lan0") == b"", "the former peer's MAC is not the new one's"
    assert all(path.heard_at is None and not path.beats for path in core.paths.values())
    port = core.ports["lan0"]
    assert (port.answered_at, port.ethernet_at, port.both_ways_at) == (None, None, None)
    world.machines["a"].notes.clear()
    world.run(3)
    assert not [note for note in world.machines["a"].notes if note.kind == "peer_lost"], "gw-c was never heard"
    assert active(world) == ["a"]


def test_terms_grow_over_a_change_of_the_peer(world: World) -> None:
    core = core_of(world, "a")
    world._tell(world.machines["a"], events.FailoverRequested(Motive.REQUEST))
    world.run(0.5)
    former = core_of(world, "b").term.counter
    assert active(world) == ["b"]
    world.power_off("b")
    core.replan(replace(core.plan, peer="", peer_name="", paths=(), peer_macs=()), world.now)
    world.run(1)
    assert active(world) == ["a"] and core.term.counter > former


def test_ill_health_of_a_port_does_not_pass_to_another_that_takes_its_place(world: World) -> None:
    core = core_of(world, "b")
    plan = core.plan
    core.replan(replace(plan, ports=("lan0", "wan0"), addresses=("10.0.0.100", "192.0.2.1")), world.now)
    world._tell(world.machines["b"], events.Carrier("lan0", False))
    world._tell(world.machines["b"], events.Carrier("wan0", True))
    assert Cause(CauseKind.NO_CARRIER, 0) in core.health.causes
    core.replan(replace(plan, ports=("wan0",), paths=(Path("sync", "sync", "sync0", True),)), world.now)
    assert not core.health.causes, "wan0 has its carrier"


def test_a_gateway_whose_kernel_refuses_the_address_does_not_keep_the_other_from_it(world: World) -> None:
    """Handed the role it cannot take it up, and by the tie-break's table it would be first for ever."""
    for _ in range(2):
        world._tell(world.machines[active(world)[0]], events.FailoverRequested(Motive.REQUEST))
        world.run(1.5)
    assert active(world) == ["a"]
    world.machines["b"].refuses = True
    world._tell(world.machines["a"], events.FailoverRequested(Motive.REQUEST))
    world.forget_figures()
    world.run(5)
    assert active(world) == ["a"] and world.holders() == ["a"], world.log[-10:]
    assert world.none_longest < 3.5 and world.both == 0


def test_a_higher_term_of_a_passive_is_not_yielded_to_by_an_agent_that_restarts(world: World) -> None:
    """Rule 15: after an isolation in which A alone served, B is passive with the higher term."""
    world.cut, world.isolated = {"sync", "backup"}, True
    world.run(3)
    core_of(world, "b").served_since = world.now + 60
    world.cut, world.isolated = set(), False
    world.run(1)
    assert active(world) == ["a"] and core_of(world, "b").term > core_of(world, "a").term
    world.forget_figures()
    world.kill("a")
    world.run(1)
    world.start("a", machine_boot=False)
    world.run(3)
    assert active(world) == ["a"] and world.none_longest == 0 and world.both == 0, world.log[-5:]


@pytest.mark.parametrize("how", ["late", "both_active"])
def test_a_hand_over_that_is_cut_short_is_told(world: World, how: str) -> None:
    machine = world.machines["a"]
    core = core_of(world, "a")
    world.cut = ALL_PATHS
    world._tell(machine, events.FailoverRequested(Motive.REQUEST))
    assert core.active.handover is not None
    if how == "late":
        world._do(machine, core.ran_late(1.5, world.now + 0.001))
    else:
        beat = replace(core_of(world, "b").beat(Kind.BEAT), role=Role.ACTIVE, served=True)
        core.served_since = world.now + 60
        world._tell(machine, events.Heard("sync", beat))
    assert core.active.handover is None
    assert machine.handovers and not machine.handovers[-1].ok


def test_the_role_is_granted_only_after_the_addresses_are_released(world: World) -> None:
    """A machine that stands still between the two would hold what the other one has claimed by then."""
    done: list[str] = []

    def look(sender: Machine, effect: events.Effect) -> None:
        if isinstance(effect, events.Release):
            done.append(f"{sender.name} releases")
        elif isinstance(effect, events.Send) and effect.kind is Kind.GRANT:
            done.append(f"{sender.name} grants")

    world.observers.append(look)
    world._tell(world.machines["a"], events.FailoverRequested(Motive.REQUEST))
    world.run(0.3)
    assert active(world) == ["b"] and done[:2] == ["a releases", "a grants"], done


def test_a_grant_that_was_taken_back_while_the_other_stood_still_is_not_used(world: World) -> None:
    """B says that it is ready and stands still; A, hearing nothing, takes the role back; then B reads its mail."""

    def freeze(sender: Machine, effect: events.Effect) -> None:
        if isinstance(effect, events.Send) and effect.kind is Kind.GRANT:
            world.freeze("b")

    world.observers.append(freeze)
    world._tell(world.machines["a"], events.FailoverRequested(Motive.REQUEST))
    world.run(0.05)
    world.observers.clear()
    assert world.machines["b"].frozen and not world.holders()
    before = len(world.reigns)
    world.run(0.4)
    assert active(world) == ["a"], world.log
    world.thaw("b")
    world.run(1)
    assert active(world) == ["a"] and world.both == 0, world.log
    assert len(world.reigns) == before + 1, "B has claimed as well, if only for a moment"


def test_a_move_for_health_that_fails_again_and_again_is_told_once_a_minute(world: World) -> None:
    """B does not hear A: each offer is lost, and the next one follows at once."""
    world.cut = {f"{path}:a" for path in ALL_PATHS}
    world._tell(world.machines["a"], events.HealthReport(Cause(CauseKind.DISK), True))
    world.run(3.5)
    machine = world.machines["a"]
    assert len(machine.handovers) > 3, "it is tried again"
    assert len([note for note in machine.notes if note.kind == "handover_failed"]) == 1
