"""An agent that is restarted on purpose keeps its addresses; a preferred gateway gets the role back, in its time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flask_hsmx_cluster.decision import events
from flask_hsmx_cluster.decision.core import Core
from flask_hsmx_cluster.decision.model import MOST_TERM, Cause, CauseKind, Kind, Motive, Phase, Plan
from flask_hsmx_cluster.decision.restart import RESTART_LEAST_S

from .world import ALL_PATHS, Machine, World, active

#: What a new process is given here, s: as little as can be, for quick tests.
RESTART_S = float(RESTART_LEAST_S)
#: How long a preferred gateway must be well, s. The page asks for minutes.
DELAY_S = 5.0


class Restarting(World):
    """A world whose agents can be restarted.

    Gateway ``preferred`` is the preferred one; "": none is.
    """

    preferred = ""

    def plan(self, name: str) -> Plan:
        return replace(super().plan(name), preferred=self.preferred * 32, preferred_delay_s=DELAY_S)

    def core(self, name: str) -> Core:
        core = self.machines[name].core
        assert core is not None
        return core

    def ask_restart(self, name: str, within_s: float = RESTART_S) -> bool:
        """Ask for a restart; True if the agent has gone."""
        self._tell(self.machines[name], events.RestartRequested(within_s))
        for _ in range(1000):
            if self.machines[name].session is None:
                return True
            self.run(0.001)
        return False

    def restart(self, name: str, takes_s: float, within_s: float = RESTART_S) -> None:
        assert self.ask_restart(name, within_s), self.log
        self.run(takes_s)
        self.start(name, machine_boot=False)

    def kinds(self, name: str) -> list[str]:
        return [note.kind for note in self.machines[name].notes]


def formed(seed: int = 1, **arguments: bool) -> Restarting:
    world = Restarting(seed, **arguments)  # type: ignore[arg-type]
    world.form()
    world.forget_figures()
    for machine in world.machines.values():
        machine.notes.clear()
    return world


@pytest.mark.parametrize("takes_s", [0.3, 2.5, 4.5])
@pytest.mark.parametrize("strangers", [True, False])
def test_a_restart_of_the_active_agent_moves_nothing(takes_s: float, strangers: bool) -> None:
    world = formed(strangers=strangers)
    term = world.core("a").term
    world.restart("a", takes_s)
    world.run(3)
    assert active(world) == ["a"] and world.core("a").term == term, world.log
    assert world.none_longest == 0 and world.both == 0
    assert "peer_restarts" in world.kinds("b") and "hold" not in world.kinds("b"), "it waits, and knows for what"


@pytest.mark.parametrize("later_s", [0.0, 0.1, 0.2, 0.3, 0.4])
def test_where_the_kernel_refuses_the_long_lease_the_agent_stays(later_s: float) -> None:
    """A usual renewal that succeeds just afterwards is not taken for it: the agent would be gone for longer."""
    world = formed()
    world.run(later_s)
    a = world.machines["a"]
    a.refuses = True
    world._tell(a, events.RestartRequested(RESTART_S))
    world.run(0.05)
    a.refuses = False
    world.run(4)
    assert a.session is not None and active(world) == ["a"] and world.none_longest == 0, world.log
    assert "peer_restarts" not in world.kinds("b")


@pytest.mark.parametrize("isolated", [False, True])
def test_an_agent_that_does_not_come_back_in_time_is_relieved_then_and_not_before(isolated: bool) -> None:
    """Also where the passive cannot see whether the address is still answered."""
    world = formed()
    world.isolated = isolated
    world.run(1)
    assert world.ask_restart("a")
    left = world.now
    world.run(RESTART_S - 0.1)
    assert active(world) == [] and world.holders() == ["a"], world.log
    while not active(world) and world.now < left + RESTART_S + 2:
        world.run(0.01)
    assert active(world) == ["b"] and world.now - left < RESTART_S + 0.9, world.log
    assert world.both == 0
    world.isolated = False
    world.start("a", machine_boot=False)
    world.run(5)
    assert active(world) == ["b"] and world.both == 0, "the late one follows"


@pytest.mark.parametrize("late_s", [-0.05, -0.01, 0.0, 0.02, 0.1, 0.3, 0.6, 0.8])
@pytest.mark.parametrize("seed", range(3))
def test_an_agent_that_comes_back_just_when_its_time_is_over_holds_nothing_beside_the_other(
    seed: int, late_s: float
) -> None:
    world = formed(seed)
    world.restart("a", RESTART_S + late_s)
    world.run(5)
    assert len(active(world)) == 1 and world.both == 0 and world.serving() == active(world), world.log


def test_power_off_during_a_restart_is_not_waited_out() -> None:
    world = formed()
    assert world.ask_restart("a")
    world.run(1)
    world.power_off("a")
    off = world.now
    while not active(world) and world.now < off + 10:
        world.run(0.01)
    assert active(world) == ["b"] and world.now - off < 3.2, world.log


@pytest.mark.parametrize("fault", ["cables", "lan"])
def test_one_fault_during_a_restart_is_no_sign_of_death(fault: str) -> None:
    """No heartbeat can contradict it, so neither dead cables nor a silent LAN is believed alone."""
    world = formed()
    assert world.ask_restart("a")
    if fault == "cables":
        for port in ("sync0", "backup0"):
            world.set_carrier("b", port, False)
    else:
        world.isolated = True
    world.run(RESTART_S - 2)
    assert active(world) == [], world.log
    world.isolated = False
    world.start("a", machine_boot=False)
    world.run(3)
    assert active(world) == ["a"] and world.both == 0 and world.none_longest == 0, world.log


def test_a_restart_is_refused_where_the_other_gateway_does_not_confirm() -> None:
    """An older version does not know of restarts: nothing changes."""
    world = formed()
    world.machines["b"].frozen = True
    world._tell(world.machines["a"], events.RestartRequested(RESTART_S))
    world.run(1)
    assert not world.machines["a"].handovers[-1].ok and active(world) == ["a"], world.log
    world.machines["b"].frozen = False
    world.run(3)
    assert active(world) == ["a"] and not world.core("b").restart.peer_away() and world.both == 0
    world.power_off("a")
    world.run(0.3)
    assert active(world) == ["b"], "it waits for nothing any more"


def test_alone_an_agent_restarts_without_asking() -> None:
    world = formed()
    world.power_off("b")
    world.run(3)
    world.restart("a", world.timing.lease_s - 0.2)
    world.run(2)
    assert active(world) == ["a"] and world.none_longest == 0, world.log


def test_the_only_gateway_of_its_cluster_has_all_the_time_that_was_asked_for() -> None:
    world = Restarting(1)
    world.machines["b"].member = world.machines["a"].member = False
    world.start("a", claim=True)
    world.run(3)
    assert active(world) == ["a"] and not world.core("a").plan.peer
    world.forget_figures()
    world.restart("a", RESTART_S - 1)
    world.run(3)
    assert active(world) == ["a"] and world.none_longest == 0, world.log


@pytest.mark.parametrize("heard_again_s", [0.5, 3.0, 5.0])
@pytest.mark.parametrize("silent_s", [0.3, 1.0, 3.0, 4.0])
def test_nobody_is_made_to_wait_who_has_not_said_so(silent_s: float, heard_again_s: float) -> None:
    """The other gateway lives, unheard, and sees the address answer: it may take over after two leases."""
    world = formed()
    world.cut = ALL_PATHS
    world.run(silent_s)
    left = world.now
    assert world.ask_restart("a"), world.log
    world.run(heard_again_s)
    world.cut = set()
    world.run(12)
    assert active(world) == ["b"] and world.both < world.timing.lease_s + 0.6, world.log
    assert world.machines["a"].lease_until < left + world.timing.lease_s + 1
    world.start("a", machine_boot=False)
    world.run(5)
    assert len(active(world)) == 1 and world.serving() == active(world), world.log


@pytest.mark.parametrize("seed", range(4))
def test_every_goodbye_is_lost(seed: int) -> None:
    """Then the offer that was confirmed says how long the address may answer without a heartbeat."""
    world = formed(seed)

    def cut(_machine: Machine, effect: events.Effect) -> None:
        if isinstance(effect, events.Send) and effect.kind is Kind.BYE:
            world.cut = ALL_PATHS

    world.observers.append(cut)
    assert world.ask_restart("a") and world.cut
    world.observers.remove(cut)
    world.cut = set()
    world.run(RESTART_S - 1)
    assert active(world) == [] and world.both == 0, world.log
    world.start("a", machine_boot=False)
    world.run(4)
    assert active(world) == ["a"] and world.none_longest == 0


@pytest.mark.parametrize("seed", range(6))
def test_a_restart_under_loss(seed: int) -> None:
    world = formed(seed)
    world.loss = 0.2
    world.restart("a", 4.0)
    world.run(6)
    world.loss = 0.0
    world.run(3)
    assert active(world) == ["a"] and world.both == 0 and world.none_longest == 0, world.log


def test_a_second_death_of_the_new_agent_is_covered_by_the_same_lease() -> None:
    world = formed()
    world.restart("a", 1.0)
    world.run(0.02)  # heard by the other one, and not yet active again
    assert active(world) == []
    world.kill("a")
    world.run(2.5)
    assert active(world) == [] and world.holders() == ["a"] and world.core("b").phase is Phase.HOLDING, world.log
    world.start("a", machine_boot=False)
    world.run(3)
    assert active(world) == ["a"] and world.none_longest == 0 and world.both == 0


def test_a_killed_agent_after_a_restart_is_relieved_within_an_ordinary_lease() -> None:
    world = formed()
    world.restart("a", 3.0)
    world.run(3)
    world.kill("a")
    world.run(world.timing.lease_s + 0.8)
    assert active(world) == ["b"] and world.both == 0, world.log


@pytest.mark.parametrize(("silent", "broken"), [(False, False), (True, False), (False, True)])
def test_the_right_to_write_is_kept_first_and_a_database_that_does_not_answer_is_not_waited_for(
    silent: bool, broken: bool
) -> None:
    world = formed(data=True)
    world.machines["a"].database.silent, world.machines["a"].database.broken = silent, broken
    before = world.now
    assert world.ask_restart("a") and world.now - before < 0.5, world.log
    assert world.machines["a"].database.log[-1] == "KeepData", "no renewal shortens it again"
    assert ("data_not_kept" in world.kinds("a")) == (silent or broken)


def test_a_passive_agent_that_restarts_says_so() -> None:
    world = formed()
    world.restart("b", 2.0)
    world.run(3)
    assert active(world) == ["a"] and world.both == 0 and world.none_longest == 0, world.log
    assert "peer_restarts" in world.kinds("a") and "peer_stopped" not in world.kinds("a")


@pytest.mark.parametrize("follows", [True, False])
def test_writes_go_on_waiting_for_a_database_whose_agent_alone_restarts(follows: bool) -> None:
    """Its PostgreSQL confirms as before; if it does not, nobody waits for longer than usual."""
    world = formed(data=True)
    for _ in range(5):
        world.follow("a", True)
        world.run(0.2)
    assert world.machines["a"].database.synchronous
    assert world.ask_restart("b")
    for _ in range(10):
        world.follow("a", follows)
        world.run(0.2)
    assert world.machines["a"].database.synchronous == follows, world.log
    assert ("degraded" in world.kinds("a")) != follows
    world.start("b", machine_boot=False)
    for _ in range(15):
        world.follow("a", True)
        world.run(0.2)
    assert world.machines["a"].database.synchronous and active(world) == ["a"] and world.both == 0


def test_an_old_answer_does_not_stand_for_another_question() -> None:
    """A gateway that was ready to wait for a restart was not asked whether it takes over."""
    world = formed()
    core = world.core("a")
    world._tell(world.machines["a"], events.RestartRequested(RESTART_S))
    core.active.end_handover(False, "a test")
    world._tell(world.machines["a"], events.FailoverRequested(Motive.REQUEST))
    world.run(0.5)
    assert active(world) == ["b"] and world.both == 0 and world.none_longest < 0.02, world.log


# Numbers of reigns that run out ---------------------------------------------------------------------------------


def test_a_gateway_without_a_number_for_a_reign_stays_passive_and_says_so() -> None:
    world = formed()
    world.core("b").terms.above(MOST_TERM)
    world._tell(world.machines["a"], events.FailoverRequested(Motive.REQUEST))
    world.run(1)
    assert active(world) == ["a"] and not world.machines["a"].handovers[-1].ok
    world.power_off("a")
    world.run(10)
    assert active(world) == [] and world.kinds("b").count("terms_used_up") == 1, world.log
    world.power_on("a")
    world.run(8)
    assert active(world) == ["a"] and world.both == 0, "the other one has numbers left"


def test_the_last_number_is_used_and_nothing_wraps() -> None:
    world = formed()
    world.core("b").terms.above(MOST_TERM - 1)
    world._tell(world.machines["a"], events.FailoverRequested(Motive.REQUEST))
    world.run(1)
    assert active(world) == ["b"] and world.core("b").term.counter == MOST_TERM
    world._tell(world.machines["b"], events.FailoverRequested(Motive.REQUEST))
    world.run(1)
    assert active(world) == ["b"], "A has seen the last one"
    assert max(machine.clerk.ledger.reserved for machine in world.machines.values()) <= MOST_TERM


# A hold that an operator ends -----------------------------------------------------------------------------------


def holding() -> Restarting:
    """Return a world in which A serves, and B hears nothing but sees that A's address answers."""
    world = formed()
    world.cut = ALL_PATHS
    world.run(1)
    assert world.core("b").phase is Phase.HOLDING and active(world) == ["a"], world.log
    return world


def test_an_operator_ends_a_hold_and_it_is_recorded_who_did() -> None:
    world = holding()
    world._tell(world.machines["b"], events.TakeOverRequested("Ada"))
    world.run(3)
    assert world.machines["b"].handovers[-1].ok and active(world) == ["a", "b"], "what the operator was told"
    assert "double" in world.kinds("a"), "and is shown"
    note = next(note for note in world.machines["b"].notes if note.kind == "active")
    assert "Ada ended the wait" in note.text and "lan0: its address answers" in note.evidence
    world.cut = set()
    world.run(1)
    assert len(active(world)) == 1 and world.serving() == active(world), "healed: one stays"


def test_an_operator_ends_nothing_where_nothing_waits() -> None:
    world = formed()
    for name in "ab":
        world._tell(world.machines[name], events.TakeOverRequested("Ada"))
        assert not world.machines[name].handovers[-1].ok
    world = holding()
    world._tell(world.machines["b"], events.CloneHeard("lan0 (Ethernet)"))
    world._tell(world.machines["b"], events.TakeOverRequested("Ada"))
    assert not world.machines["b"].handovers[-1].ok and active(world) == ["a"]
    assert "identity" in world.machines["b"].handovers[-1].text


def test_a_gateway_that_waits_says_so_once_and_an_operator_ends_it_whenever() -> None:
    """It asks again each second, and waits while it asks."""
    world = formed()
    world._tell(world.machines["b"], events.MaintenanceSet(True))
    world.power_off("a")
    phases = set()
    world.run(0.5)
    for _ in range(4000):
        world.run(0.001)
        phases.add(world.core("b").phase)
    assert phases == {Phase.WAITING} and world.kinds("b").count("wait") == 1, world.log
    while world.core("b").passive.burst is None:
        world.run(0.001)
    world._tell(world.machines["b"], events.TakeOverRequested("Ada"))
    assert world.machines["b"].handovers[-1].ok and active(world) == ["b"], world.log


def test_a_second_wait_is_told_too() -> None:
    world = formed()
    world._tell(world.machines["b"], events.MaintenanceSet(True))
    for _ in range(2):
        world.power_off("a")
        world.run(2)
        world.power_on("a")
        world.run(5)
    assert world.kinds("b").count("wait") == 2, world.log


# The preferred gateway ----------------------------------------------------------------------------------------


def preferring(data: bool = False) -> Restarting:
    """Return a world in which A, the preferred one, was off and is back; B is active."""
    world = Restarting(seed=3, data=data)
    world.preferred = "a"
    world.form()
    fail(world, 1)
    world.forget_figures()
    return world


def fail(world: Restarting, off_s: float) -> None:
    """Let A lose its power for some time."""
    world.power_off("a")
    world.run(off_s)
    world.power_on("a")
    world.run(0.1)
    assert active(world) == ["b"], world.log


def returned_after(world: Restarting, most_s: float) -> float | None:
    """Return how long it takes until A is active, s; None if it is not in time."""
    began = world.now
    while world.now < began + most_s:
        world.run(0.1)
        if active(world) == ["a"]:
            return world.now - began
    return None


def test_the_preferred_gateway_gets_the_role_back_by_a_hand_over_after_its_delay() -> None:
    world = preferring()
    took = returned_after(world, 20)
    assert took is not None and DELAY_S + 3 < took < DELAY_S + 4.5, "boot hold, and the delay"
    assert world.both == 0 and world.none_longest < 0.02
    assert world.core("b").preference.left_s() is None


def test_without_a_preferred_gateway_nothing_returns() -> None:
    world = preferring()
    world.preferred = ""
    core = world.core("b")
    core.replan(world.plan("b"), world.now)
    assert returned_after(world, 20) is None


def test_the_delay_doubles_while_returns_do_not_last() -> None:
    """A gateway that reboots again and again must not take the role along each time (rule 19)."""
    world = preferring()
    waits = []
    for _ in range(3):
        waits.append(returned_after(world, 60))
        world.run(2)
        fail(world, 1)
    assert all(waits), waits
    first, second, third = (wait or 0.0 for wait in waits)
    assert second - first == pytest.approx(DELAY_S, abs=0.5) and third - second == pytest.approx(2 * DELAY_S, abs=0.5)
    world.core("b").preference.changed()
    assert world.core("b").preference.delay_s() == DELAY_S, "whoever changes the setting has looked"


def test_the_time_begins_anew_with_each_doubt() -> None:
    world = preferring()
    world.run(3 + DELAY_S - 1)
    assert world.core("b").preference.left_s()
    world.set_carrier("a", "lan0", False)
    world.run(0.5)
    assert world.core("b").preference.left_s() is None and "not healthy" in world.core("b").preference.why_not()
    world.set_carrier("a", "lan0", True)
    took = returned_after(world, 20)
    assert took is not None and took > DELAY_S + 4, "healthy again only after a while, and the delay"


def test_never_before_it_has_every_write() -> None:
    world = preferring(data=True)
    for _ in range(100):
        world.follow("b", False)
        world.run(0.2)
    assert active(world) == ["b"] and "every write" in world.core("b").preference.why_not()
    began = world.now
    while active(world) != ["a"] and world.now < began + 20:
        world.follow("b", True)
        world.run(0.2)
    assert active(world) == ["a"] and world.now - began > DELAY_S and world.both == 0, world.log


@pytest.mark.parametrize("name", ["a", "b"])
def test_never_during_maintenance(name: str) -> None:
    world = preferring()
    world._tell(world.machines[name], events.MaintenanceSet(True))
    assert returned_after(world, 15) is None
    world._tell(world.machines[name], events.MaintenanceSet(False))
    took = returned_after(world, 15)
    assert took is not None and took >= DELAY_S


def test_never_while_something_else_speaks_against_it() -> None:
    world = preferring()
    world._tell(world.machines["b"], events.ReturnBlocked("a renewal is under way"))
    assert returned_after(world, 15) is None
    assert world.core("b").preference.why_not() == "a renewal is under way"
    world._tell(world.machines["b"], events.ReturnBlocked(""))
    assert returned_after(world, 15) is not None


def test_an_operator_who_asked_for_the_other_gateway_keeps_it() -> None:
    world = preferring()
    assert returned_after(world, 20)
    world._tell(world.machines["a"], events.FailoverRequested(Motive.REQUEST))
    assert returned_after(world, 20) is None or active(world) == ["b"]
    assert active(world) == ["b"] and "operator" in world.core("b").preference.why_not(), world.log
    world.restart("b", 1.0)
    world.run(1)
    assert active(world) == ["b"]


def test_a_real_failure_ends_what_the_operator_asked_for() -> None:
    world = preferring()
    assert returned_after(world, 20)
    world._tell(world.machines["a"], events.FailoverRequested(Motive.REQUEST))
    world.run(1)
    assert world.core("b").preference.asked
    world._tell(world.machines["b"], events.HealthReport(Cause(CauseKind.DATABASE), True))
    world.run(0.5)
    assert active(world) == ["a"], world.log
    world._tell(world.machines["b"], events.HealthReport(Cause(CauseKind.DATABASE), False))
    world.run(6)
    world._tell(world.machines["b"], events.HealthReport(Cause(CauseKind.DATABASE), False))
    fail(world, 1)
    assert not world.core("b").preference.asked and returned_after(world, 40) is not None


def test_a_preferred_gateway_that_cannot_take_over_is_asked_less_and_less_often() -> None:
    world = preferring()
    world.machines["a"].refuses = True
    world.run(60)
    tries = [note for note in world.machines["b"].notes if "Became passive: the preferred" in note.text]
    assert 1 <= len(tries) <= 3 and active(world) == ["b"], world.log
    assert world.core("b").preference.delay_s() >= 4 * DELAY_S and world.both == 0
