"""Two decision cores in a simulated world: each fault, and what must come of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flask_hsmx_cluster.decision import events
from flask_hsmx_cluster.decision.model import Beat, Kind, Motive, Timing

from .machine import Machine
from .world import ALL_PATHS, World, active


def beat_of(world: World, name: str) -> Beat:
    core = world.machines[name].core
    assert core is not None
    return core.beat(Kind.BEAT)


def test_power_off_moves_the_address(world: World) -> None:
    world.power_off("a")
    world.run(0.2)
    assert world.holders() == ["b"], world.log
    assert world.none_longest < 0.07


def test_power_off_behind_a_switch_where_carriers_stay(world: World) -> None:
    world.power_off("a", switched=True)
    world.run(0.3)
    assert world.holders() == ["b"], world.log
    assert world.none_longest < 0.2


def test_returning_gateway_does_not_fail_back(world: World) -> None:
    world.power_off("a")
    world.run(1)
    world.power_on("a")
    world.run(8)
    assert active(world) == ["b"] and world.both == 0, world.log


def test_operators_failover_is_quick_and_never_double(world: World) -> None:
    machine = world.machines["a"]
    world._tell(machine, events.FailoverRequested(Motive.REQUEST))
    world.run(0.3)
    assert active(world) == ["b"] and world.holders() == ["b"], world.log
    assert machine.handovers[-1].ok
    assert world.both == 0 and world.none_longest < 0.01


@pytest.mark.parametrize("seed", range(8))
def test_a_late_message_of_another_path_does_not_look_like_two_actives(seed: int) -> None:
    world = World(seed)
    world.form()
    for _ in range(6):
        name = active(world)[0]
        world._tell(world.machines[name], events.FailoverRequested(Motive.REQUEST))
        world.run(0.4)
        assert active(world) == [world.other(name).name], world.log
    assert not any("both gateways were active" in line.lower() for line in world.log), world.log


def test_failover_is_refused_without_a_peer(world: World) -> None:
    world.power_off("b")
    world.run(2)
    world._tell(world.machines["a"], events.FailoverRequested(Motive.REQUEST))
    assert not world.machines["a"].handovers[-1].ok
    assert active(world) == ["a"]


def test_lan_cable_moves_the_role_at_once(world: World) -> None:
    world.set_carrier("a", "lan0", False)
    world.run(0.1)
    assert active(world) == ["b"], world.log
    assert world.none_longest < 0.02
    world.set_carrier("a", "lan0", True)
    world.run(20)
    assert active(world) == ["b"], "equal health never moves the role"


def test_killed_agent_is_followed_within_a_lease_and_never_double(world: World) -> None:
    world.kill("a")
    world.run(world.timing.lease_s + 0.8)  # the kernel may end the lease half a second late
    assert world.holders() == ["b"], world.log
    assert world.both == 0 and world.none_longest < 0.1


@pytest.mark.parametrize("moment", range(60))
def test_killed_at_any_moment_between_two_renewals(moment: int) -> None:
    """The passive knows the end of the lease however short before the death it was renewed."""
    world = World(moment)
    world.form()
    world.run(0.009 * moment)
    world.forget_figures()
    world.kill("a")
    world.run(world.timing.lease_s + 0.8)  # the kernel may end the lease half a second late
    assert world.holders() == ["b"], world.log
    assert world.both == 0 and world.none_longest < 0.12


def test_killed_and_restarted_within_the_lease_goes_on_as_the_active(world: World) -> None:
    term = world.machines["a"].terms[-1]
    world.kill("a")
    world.run(1.0)
    world.start("a", machine_boot=False)
    world.run(5)
    assert active(world) == ["a"] and world.holders() == ["a"], world.log
    assert world.machines["a"].terms[-1] == term
    assert world.none_longest == 0 and world.both == 0


def test_frozen_agent_yields_when_thawed(world: World) -> None:
    world.freeze("a")
    world.run(5)
    assert active(world) and world.holders() == ["b"], world.log
    world.thaw("a")
    world.run(2)
    assert active(world) == ["b"] and world.both == 0, world.log
    assert world.none_longest < 0.1


def test_short_freeze_moves_nothing(world: World) -> None:
    world.freeze("a")
    world.run(1.2)
    world.thaw("a")
    world.run(3)
    assert active(world) == ["a"] and world.both == 0, world.log


@pytest.mark.parametrize("cut", [{"sync"}, {"sync", "backup"}])
def test_cut_cables_between_the_two_move_nothing(world: World, cut: set[str]) -> None:
    world.cut = cut
    world.run(20)
    assert active(world) == ["a"] and world.both == 0, world.log


def test_all_authenticated_paths_cut_but_the_address_answers(world: World) -> None:
    """Rule 3: ARP alone holds for at most two leases where Ethernet heartbeats had worked."""
    world.cut = ALL_PATHS
    world.run(2 * world.timing.lease_s - 0.3)
    assert active(world) == ["a"], world.log


def test_heartbeats_go_over_half_of_the_paths_in_turn_while_all_work(world: World) -> None:
    """Over all again as soon as one is silent, or the other gateway has to ask."""

    def spread(name: str) -> bool:
        core = world.machines[name].core
        assert core is not None
        return core.beat(Kind.BEAT).spread

    def losses(name: str) -> list[float]:
        core = world.machines[name].core
        assert core is not None
        return [path.loss_percent(world.timing.interval_s) for path in core.paths.values()]

    world.run(15)
    assert spread("a") and spread("b")
    assert max(losses("a") + losses("b")) < 3, "half of the heartbeats is no loss"
    world.cut = {"sync"}
    world.run(1.5)
    assert not spread("a") and not spread("b")
    world.cut = set()
    world.run(1.5)
    assert spread("a") and spread("b")
    world._tell(world.machines["a"], events.Heard("sync", replace(beat_of(world, "b"), kind=Kind.PROBE)))
    assert not spread("a")
    world.run(15)
    world.loss = 0.2
    world.run(20)
    assert 10 < sum(losses("a")) / 4 < 30 and active(world) == ["a"]


def test_the_two_send_their_heartbeats_together(world: World) -> None:
    """Who hears a heartbeat sends its own with it if it is due soon; the pace stays."""
    sent: list[tuple[float, str]] = []

    def note(sender: Machine, effect: events.Effect) -> None:
        if isinstance(effect, events.Send) and effect.kind is Kind.BEAT:
            sent.append((world.now, sender.name))

    world.observers.append(note)
    world.run(10)
    together = [name for (at, name), (after, _) in zip(sent[::2], sent[1::2], strict=False) if after - at < 0.01]
    assert 190 <= len(sent) <= 215 and len(together) > 90


def test_isolation_is_the_documented_limit_and_heals_alone(world: World) -> None:
    world.cut = {"sync", "backup"}
    world.isolated = True
    world.run(3)
    assert active(world) == ["a", "b"]
    world.cut, world.isolated = set(), False
    world.run(1)
    assert len(active(world)) == 1 and len(world.holders()) == 1, world.log
    world.run(5)
    assert len(active(world)) == 1


def cut_one_way(world: World, talker: str, cut: bool = True) -> None:
    """Let nothing pass from one gateway to the other one, while the other direction works."""
    for path in ALL_PATHS:
        world.wires[path, talker].cut = cut
    world.isolated = cut  # who does not hear the other's heartbeats hears no answer for its address either


def test_a_passive_that_hears_nothing_any_more_takes_over_and_the_other_one_sees_it(world: World) -> None:
    cut_one_way(world, "a")
    world.run(3)
    assert active(world) == ["b"]
    assert 0 < world.both < 0.6 and world.none_longest == 0
    cut_one_way(world, "a", False)
    world.run(5)
    assert active(world) == ["b"]
    assert world.both < 0.6 and world.none_longest == 0


def test_without_any_guest_both_keep_the_address_until_they_hear_each_other(world: World) -> None:
    cut_one_way(world, "a")
    world.strangers = False
    world.run(3)
    assert active(world) == ["a", "b"]
    cut_one_way(world, "a", False)
    before = world.both
    world.run(5)
    assert len(active(world)) == 1 and world.both - before < 0.12


def test_an_active_that_hears_nothing_any_more_stays(world: World) -> None:
    cut_one_way(world, "b")
    world.run(10)
    assert active(world) == ["a"]
    cut_one_way(world, "b", False)
    world.run(5)
    assert active(world) == ["a"] and world.both == world.none_longest == 0


def test_gates_postpone_but_do_not_forbid(world: World) -> None:
    world.set_carrier("b", "lan0", False)
    world.run(1)
    world.strangers = False
    world.set_carrier("b", "lan0", True)
    world.lan_up["a"] = False
    world.power_off("a")
    world.run(3 * world.timing.lease_s + 1)
    assert active(world) == ["b"], world.log


def test_a_guest_with_the_address_delays_nothing(world: World) -> None:
    world.power_off("a")
    for _ in range(30):
        world.stranger_claims("b")
        world.run(0.01)
    assert world.holders() == ["b"], world.log
    assert any(note.kind == "conflict" for note in world.machines["b"].notes)


@pytest.mark.parametrize("seed", range(5))
def test_two_that_boot_together_end_with_one_active(seed: int) -> None:
    world = World(seed)
    world.start("a")
    world.run(world.dice.random() * 0.2)
    world.start("b")
    world.run(8)
    assert len(active(world)) == 1 and world.both == 0, world.log


def test_alone_after_a_cold_boot(world: World) -> None:
    lonely = World(3)
    lonely.machines["b"].powered = False
    lonely.start("a")
    lonely.run(10)
    assert active(lonely) == ["a"], lonely.log


@pytest.mark.parametrize("seed", range(5))
def test_twenty_percent_loss_moves_nothing(seed: int) -> None:
    world = World(seed)
    world.form()
    world.loss = 0.2
    world.run(60)
    assert active(world) == ["a"] and world.both == 0, world.log


def test_one_second_heartbeats() -> None:
    world = World(2, Timing(interval_s=1.0))
    world.form()
    world.forget_figures()
    world.power_off("a", switched=True)
    world.run(2)
    assert world.holders() == ["b"] and world.none_longest < 1.5, world.log


def test_a_gateway_in_maintenance_is_not_handed_the_role(world: World) -> None:
    world._tell(world.machines["b"], events.MaintenanceSet(True))
    world.run(0.3)
    world._tell(world.machines["a"], events.FailoverRequested(Motive.REQUEST))
    world.run(0.5)
    assert active(world) == ["a"]
    assert "maintenance" in world.machines["a"].handovers[-1].text


def test_terms_only_grow_and_are_unique() -> None:
    world = World(4)
    world.form()
    for _ in range(3):
        first = active(world)[0]
        world.power_off(first)
        world.run(1)
        world.power_on(first)
        world.run(5)
    counters = [term.counter for term in world.reigns]
    assert len(counters) == 4 and counters == sorted(set(counters))


@pytest.mark.parametrize("apart_ms", [0, 1, 50, 90])
@pytest.mark.parametrize("first", ["a", "b"])
def test_two_that_boot_together_never_hold_the_address_both(first: str, apart_ms: int) -> None:
    """The one that goes second waits for the one that goes first from when both are ready, not from when it booted."""
    for seed in range(3):
        world = World(seed)
        world.start(first)
        world.run(apart_ms / 1000)
        world.start(world.other(first).name)
        world.run(6)
        assert world.both == 0 and len(active(world)) == 1, world.log[-6:]
