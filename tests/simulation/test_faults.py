"""Two decision cores in a simulated world: each fault, and what must come of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flask_hsmx_cluster.decision import events
from flask_hsmx_cluster.decision.core import CLONE_HEARD_S
from flask_hsmx_cluster.decision.model import Beat, Cause, CauseKind, Kind, Motive, Phase, Term, Timing

from .machine import Machine
from .world import ALL_PATHS, World, active


def beat_of(world: World, name: str) -> Beat:
    core = world.machines[name].core
    assert core is not None
    return core.beat(Kind.BEAT)


@pytest.fixture
def world() -> World:
    world = World(seed=1)
    world.form()
    assert world.holders() == ["a"] and active(world) == ["a"], world.log
    world.forget_figures()
    return world


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


@pytest.mark.parametrize("seed", range(8))
def test_a_passive_whose_lan_was_dead_does_not_get_the_role_when_it_is_back(seed: int) -> None:
    """It could not see the address, and says so until it has asked again."""
    world = World(seed, data=bool(seed % 2))
    world.form()
    world.run(seed * 0.037)
    world.lan_up["b"] = False
    world.run(2.6 + seed * 0.05)
    world.lan_up["b"] = True
    world.run(5)
    assert active(world) == ["a"] and len(world.reigns) == 1, world.log


@pytest.mark.parametrize("deaf_s", [2.4, 9.4, 15.0])
def test_a_passive_whose_port_hears_nothing_accuses_nobody_nor_when_it_hears_again(world: World, deaf_s: float) -> None:
    world.lan.deaf = {"b"}
    world.run(deaf_s)
    world.lan.deaf = set()
    world.run(5)
    assert active(world) == ["a"] and len(world.reigns) == 1, world.log


def test_a_passive_whose_port_passes_nothing_is_not_handed_the_role(world: World) -> None:
    """It sees nothing of it itself: the carrier is up."""
    world.lan_up["b"] = False
    world.run(3)
    check = Cause(CauseKind.SERVICE, 0)
    world._tell(world.machines["a"], events.HealthReport(check, True))
    world.run(3)
    world.fail_over("a")
    world.run(1)
    ended = world.machines["a"].handovers[-1]
    assert active(world) == ["a"] and world.none_longest == 0, world.log
    assert not ended.ok and "guests could not reach it" in ended.text
    world.lan_up["b"] = True
    world.run(5)
    assert active(world) == ["b"] and world.none_longest < 0.05, world.log


def test_bounced_blind_passive_does_not_dethrone_the_server(world: World) -> None:
    """Rule 2: the passive's port comes up behind a blocking spanning tree while all cables are cut."""
    world.set_carrier("b", "lan0", False)
    world.run(1)
    world.cut = {"sync", "backup"}
    world.lan_up["b"] = False
    world.set_carrier("b", "lan0", True)
    world.run(1.5)
    assert active(world) == ["a"], world.log
    assert world.machines["b"].core is not None and world.machines["b"].core.phase.name == "WAITING"


def test_gates_postpone_but_do_not_forbid(world: World) -> None:
    world.set_carrier("b", "lan0", False)
    world.run(1)
    world.strangers = False
    world.set_carrier("b", "lan0", True)
    world.lan_up["a"] = False
    world.power_off("a")
    world.run(3 * world.timing.lease_s + 1)
    assert active(world) == ["b"], world.log


def test_dead_lan_with_carrier_up_moves_the_role(world: World) -> None:
    """Rule 1: the active's switch port forwards nothing, its carrier stays."""
    world.lan_up["a"] = False
    world.run(4)
    assert active(world) == ["b"], world.log
    world.run(30)
    assert active(world) == ["b"]


@pytest.mark.parametrize("interval_s", [0.1, 0.2, 1.0])
def test_dead_lan_of_the_passive_moves_nothing(interval_s: float) -> None:
    """It hears nobody any more, but had heard others a moment ago; the active one still does (rule 1)."""
    world = World(1, Timing(interval_s=interval_s, lease_s=max(2.0, 4 * interval_s)))
    world.form()
    world.forget_figures()
    world.lan_up["b"] = False
    world.run(70)
    assert active(world) == ["a"] and world.none_longest == 0, world.log
    world.lan_up["b"] = True
    world.run(5)
    world.lan_up["a"] = False
    world.run(3 + 12 * interval_s)
    assert active(world) == ["b"], world.log


def test_a_dead_lan_without_others_moves_the_role(world: World) -> None:
    """Nobody is heard on either side since: the passive is believed, as it had heard others before."""
    world.strangers = False
    world.lan_up["a"] = False
    world.run(6)
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


def test_a_machine_that_stood_still_once_is_given_more_time(world: World) -> None:
    """Rule 11: a hypervisor's pause stops every clock and the kernel; the dead time is widened to what was seen."""
    world.pause("a", 0.1)
    world.run(2)
    assert active(world) == ["a"], "shorter than the usual dead time"
    world.pause("a", 0.3)
    world.run(3)
    assert world.both < 0.02 and len(active(world)) == 1, world.log
    core = world.machines["b"].core
    assert core is not None and 0.25 < core.stalls.longest_s < 0.5, world.log
    if active(world) == ["b"]:
        world._tell(world.machines["b"], events.FailoverRequested(Motive.REQUEST))
        world.run(2)
    world.pause("a", 0.3)
    world.run(2)
    assert active(world) == ["a"], world.log


def test_the_second_stall_moves_nothing(world: World) -> None:
    core = world.machines["b"].core
    assert core is not None
    core.stalls.longest_s, core.stalls.at = 0.4, world.now
    world.pause("a", 0.4)
    world.run(2)
    assert active(world) == ["a"] and world.both == 0, world.log
    world.forget_figures()
    world.power_off("a", switched=True)
    world.run(1)
    assert active(world) == ["b"] and world.none_longest < 0.75, world.log


def hear_clone(world: World, name: str, seconds: float) -> None:
    """Let time pass while a clone of a gateway proves itself to it, five times a second."""
    for _ in range(round(seconds / 0.2)):
        world._tell(world.machines[name], events.CloneHeard("lan0 (Ethernet)"))
        world.run(0.2)


def test_no_claim_while_a_clone_is_heard_and_one_after_it(world: World) -> None:
    hear_clone(world, "b", 1)
    world.power_off("a")
    hear_clone(world, "b", 20)
    assert not world.holders(), "a clone may claim as well: two machines with one identity on one address"
    world.run(CLONE_HEARD_S + 1.5)
    assert world.holders() == ["b"], world.log


def test_a_clone_that_is_heard_first_during_the_burst_counts_too(world: World) -> None:
    world.power_off("a")
    world.run(0.02)
    assert not world.holders()
    hear_clone(world, "b", 3)
    assert not world.holders(), world.log


def test_a_clone_keeps_a_hold_from_its_claim(world: World) -> None:
    world.kill("a")
    hear_clone(world, "b", 8)
    assert not world.holders(), "the kernel of a has dropped the address, and nobody may take it"
    world.run(CLONE_HEARD_S + 1.5)
    assert world.holders() == ["b"], world.log


def test_a_clone_keeps_a_boot_hold_from_its_claim() -> None:
    world = World(seed=3)
    world.start("a")
    hear_clone(world, "a", world.timing.boot_hold_s + 8)
    assert not world.holders()
    world.run(CLONE_HEARD_S + 1.5)
    assert world.holders() == ["a"], world.log


def test_a_clone_keeps_its_twin_from_the_tie_break() -> None:
    """Of two passives that hear each other the one without a clone goes first, whoever it is."""
    for name in "ab":
        world = World(seed=4)
        world.start("a")
        world.start("b")
        hear_clone(world, name, world.timing.boot_hold_s + 5)
        assert active(world) == [world.other(name).name], world.log


def test_an_active_gateway_goes_on_although_it_has_a_clone(world: World) -> None:
    hear_clone(world, "a", 10)
    assert active(world) == ["a"] and world.none_longest == 0
    assert [note.kind for note in world.machines["a"].notes].count("clone_alive") == 1


def test_the_role_is_not_handed_to_a_gateway_that_has_a_clone(world: World) -> None:
    hear_clone(world, "b", 0.4)
    world._tell(world.machines["a"], events.FailoverRequested(Motive.REQUEST))
    world.run(1)
    assert active(world) == ["a"] and not world.machines["a"].handovers[-1].ok, world.log


def most_in_a_second(times: list[float]) -> int:
    """Return how many of these moments, in order, lie in one second at most."""
    return max((sum(start <= at < start + 1.0 for at in times) for start in times), default=0)


@pytest.mark.parametrize("probes", [2, 5, 10])
def test_a_waiting_gateway_asks_seldom(probes: int) -> None:
    """ARP inspection disables a switch port at 15 packets a second; each question is two with two addresses."""
    world = World(seed=2, timing=Timing(burst_probes=probes))
    world.form()
    machine = world.machines["b"]
    assert machine.core is not None
    hear_clone(world, "b", 1)
    world.power_off("a")
    hear_clone(world, "b", 1)
    machine.asked.clear()
    hear_clone(world, "b", 20)  # else it would not wait for longer than three leases
    assert machine.core.phase is Phase.WAITING, world.log
    assert 60 <= len(machine.asked) <= 105
    assert most_in_a_second(machine.asked) <= max(5, probes)


@pytest.mark.parametrize("seed", range(20))
def test_a_hold_asks_seldom_but_around_the_end_of_a_lease(seed: int) -> None:
    world = World(seed, timing=Timing(lease_s=5))
    world.form()
    world.run(0.023 * seed)
    machine = world.machines["b"]
    machine.asked.clear()
    world.kill("a")
    killed = world.now
    world.run(world.timing.lease_s + 1)
    assert active(world) == ["b"]
    assert most_in_a_second([at for at in machine.asked if killed + 1 < at < killed + 3]) <= 3
    assert most_in_a_second(machine.asked) <= 18, "what docs/deciding.md says"


def test_a_gateway_that_is_patient_after_a_stall_asks_seldom(world: World) -> None:
    core = world.machines["b"].core
    assert core is not None
    core.stalls.longest_s, core.stalls.at = 1.5, world.now
    world.machines["b"].asked.clear()
    began = world.now
    world.power_off("a", switched=True)
    world.run(1.6)
    assert not active(world)
    assert most_in_a_second([at for at in world.machines["b"].asked if at > began + 0.3]) <= 6
    world.run(0.5)
    assert active(world) == ["b"], world.log


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


def test_terms_that_a_full_disk_refused_are_written_once_it_has_room(world: World) -> None:
    """The other gateway's term has jumped above all that this one has in stock."""
    store = world.machines["b"].clerk.ledger
    world.fail_over("a")
    world.run(1)
    store.full = True
    core = world.machines["a"].core
    assert core is not None
    core.terms.above(100_000)
    world.fail_over("b")
    world.run(3)
    assert active(world) == ["a"] and store.reserved < 100_000, world.log
    store.full = False
    world.run(10)
    assert store.reserved > 100_000, world.log


def test_terms_that_are_on_disk_only_after_the_settings_changed_count_too(world: World) -> None:
    """The session that asked for them is gone by then."""
    machine = world.machines["b"]
    machine.clerk.ledger.full = True
    assert machine.core is not None
    machine.core.terms.watch(Term(50, "b" * 32))
    world.run(1)
    world.replan("b")
    machine.clerk.ledger.full = False
    world.run(10)
    assert machine.core.terms.on_disk(Term(55, "b" * 32)), world.log


def test_a_reign_that_a_full_disk_refused_is_written_once_it_has_room(world: World) -> None:
    """What stood there before was an earlier reign of the same boot: nobody may go on with that one."""
    machine = world.machines["b"]
    store = machine.clerk.ledger
    world.fail_over("a")
    world.run(1)
    earlier = store.last_reign()
    store.full = True
    world.fail_over("b")
    world.run(1)
    world.fail_over("a")
    world.run(1)
    assert active(world) == ["b"] and store.last_reign() == earlier, world.log
    store.full = False
    world.run(10)
    assert machine.core is not None
    assert store.last_reign() == (machine.core.term.counter, machine.clocks.boot_id)


def test_a_reign_that_ended_with_its_lease_is_forgotten_when_the_agent_comes_back(world: World) -> None:
    machine = world.machines["b"]
    world.fail_over("a")
    world.run(1)
    world.kill("b")
    world.run(20)
    assert active(world) == ["a"] and machine.clerk.ledger.last_reign() is not None
    machine.start_agent()
    world.run(5)
    assert active(world) == ["a"] and machine.clerk.ledger.last_reign() is None


def test_an_active_gateway_that_is_back_before_it_was_missed_is_not_waited_for(world: World) -> None:
    """A container starts again within a long heartbeat: it listens and has nothing, and the other one has listened."""
    world.power_off("a", switched=True)
    world.run(0.05)
    world.power_on("a")
    world.run(1)
    assert world.holders() == ["b"] and active(world) == ["b"], world.log
    assert world.none_longest < 0.05 + 3 * world.timing.interval_s + 0.1 and world.both == 0, world.log


def test_a_listener_whose_kernel_still_answers_is_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its agent was started again without a reign to go on with, and its kernel does not let go."""
    machine = world.machines["a"]
    machine.clerk.ledger.reign = None
    monkeypatch.setattr(machine, "drops", lambda: None)
    world.kill("a")
    world.run(0.02)
    machine.start_agent()
    world.run(0.8)
    assert active(world) == [] and world.holders() == ["a"], world.log
    world.run(5)
    assert len(active(world)) == 1 and world.both == 0, world.log


@pytest.mark.parametrize("later_s", [0.3, 1.0, 2.4])
def test_a_listener_that_has_listened_is_waited_for_no_longer(later_s: float) -> None:
    """Nothing was seen on a quiet network that would make silence a proof: it was waited for."""
    world = World(seed=3, strangers=False)
    world.form()
    for name in "ab":
        world.power_off(name)
    world.set_carrier("b", "lan0", False)
    world.power_on("a")
    world.run(later_s)
    world.power_on("b")
    world.run(world.timing.boot_hold_s - 0.1)
    assert active(world) == [], world.log
    world.run(0.1 + 4 * world.timing.interval_s)
    assert active(world) == ["a"], world.log


def test_a_listener_with_newer_data_is_waited_for() -> None:
    world = World(seed=1, data=True)
    world.form()
    follower = world.machines["b"].core
    assert follower is not None and active(world) == ["a"]
    world.power_off("a", switched=True)
    follower.behind = True
    world.run(0.05)
    world.power_on("a")
    world.run(1)
    assert active(world) == [], world.log
    world.run(world.timing.boot_hold_s + 2)
    assert active(world) == ["a"], world.log


def test_answers_that_are_read_late_count_for_nothing(world: World) -> None:
    """This port was deaf while it asked, and its agent stood still until it heard again: the other one may answer."""
    core = world.machines["b"].core
    assert core is not None
    world.kill("a")
    world.lan.deaf.add("b")
    while core.passive.burst is None or core.passive.burst.sent < world.timing.burst_probes:
        world.run(0.001)
    world.freeze("b")
    world.lan.deaf.discard("b")
    world.run(world.timing.late_s * 0.9)
    world.thaw("b")
    world.run(0.4)
    assert world.both == 0, world.log
    world.run(world.timing.lease_s + 1)
    assert world.holders() == ["b"], world.log


@pytest.mark.parametrize("name", ["lan_up", "deaf"])
def test_the_silence_of_an_address_that_was_silent_before_is_no_news(world: World, name: str) -> None:
    """The passive gateway's own port passes nothing, and then the cables fail, too."""
    if name == "lan_up":
        world.lan_up.update(b=False)
    else:
        world.lan.deaf.add("b")
    world.run(2)
    world.cut = ALL_PATHS
    world.run(world.timing.lease_s)
    assert active(world) == ["a"], world.log


def test_a_dead_active_gateway_whose_port_was_dead_before_is_replaced(world: World) -> None:
    """Others are heard on the passive gateway's port: it is not the one that is cut off."""
    world.lan_up.update(a=False)
    world.run(1.4)
    world.power_off("a", switched=True)
    world.run(0.3)
    assert active(world) == ["b"], world.log


def test_who_may_have_other_addresses_by_now_has_a_lease_to_say_so(world: World) -> None:
    """Its settings changed, and its agent stood still before it could tell."""
    a, b = world.machines["a"], world.machines["b"]
    b.tell(events.SettingsExpected())
    a.frozen = True
    world.settings["a"] = (1, "10.0.0.101")
    a.held = "10.0.0.101"
    world.run(world.timing.suspect_s + 0.5)
    assert active(world) == ["a"], world.log
    world.run(world.timing.lease_s)
    assert world.holders() == ["b"], world.log
    a.frozen = False


def test_settings_that_were_expected_and_came_slow_no_fail_over(world: World) -> None:
    world.machines["b"].tell(events.SettingsExpected())
    world.change("a", 1, "10.0.0.101")
    world.change("b", 1, "10.0.0.101")
    world.run(1)
    world.power_off("a", switched=True)
    world.run(0.3)
    assert active(world) == ["b"], world.log


def test_a_machine_that_stood_still_hears_before_it_acts(world: World) -> None:
    """Rule 11: what the other gateway has said meanwhile must not be overlooked by a renewal that is due."""
    effects: list[tuple[str, str]] = []
    world.observers.append(lambda machine, effect: effects.append((machine.name, type(effect).__name__)))
    world.machines["a"].pause()
    world.run(world.timing.late_s * 0.9)
    assert active(world) == ["a", "b"], world.log
    effects.clear()
    world.machines["a"].resume(0.0)
    world.run(0.3)
    mine = [name for who, name in effects if who == "a"]
    assert "Release" in mine and "Renew" not in mine[: mine.index("Release")], mine
