"""Terms on a disk that refuses them for a while, and reigns in memory."""

from __future__ import annotations

from flask_hsmx_cluster.decision.model import Term

from .machine import CLUSTER
from .world import World, active


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


def test_an_agent_goes_on_with_its_last_reign_whatever_the_disk(world: World) -> None:
    """Nothing of it waits for a full disk, where an earlier reign of the same boot would be found."""
    machine = world.machines["b"]
    world.fail_over("a")
    world.run(1)
    machine.clerk.ledger.full = True
    world.fail_over("b")
    world.run(1)
    world.fail_over("a")
    world.run(1)
    assert machine.core is not None
    last = machine.core.term
    world.kill("b")
    world.run(0.3)
    machine.start_agent()
    world.run(2)
    assert active(world) == ["b"] and machine.core.term == last and world.none_longest < 0.1, world.log


def test_an_agent_that_dies_at_once_after_its_claim_goes_on_with_that_one() -> None:
    """It had released a reign a moment before, and no disk is as fast as that."""
    world = World(seed=1)
    world.form()
    machine = world.machines["a"]
    first = machine.terms[-1]
    world.fail_over("a")
    while active(world) != ["b"]:
        world.run(0.001)
    world.fail_over("b")
    while active(world) != ["a"]:
        world.run(0.001)
    assert machine.core is not None and machine.core.term.counter > first.counter
    last = machine.core.term
    world.kill("a")
    world.run(0.3)
    machine.start_agent()
    world.run(2)
    assert active(world) == ["a"] and machine.core.term == last, world.log


def test_a_reign_whose_lease_is_over_is_no_longer_gone_on_with_and_its_term_not_used_again(world: World) -> None:
    """Its disk has taken no term since, and the gateway that knew of it is gone, too."""
    machine = world.machines["b"]
    world.fail_over("a")
    world.run(1)
    machine.clerk.ledger.full = True
    assert machine.core is not None
    machine.core.terms.above(500)
    world.fail_over("b")
    world.run(1)
    world.fail_over("a")
    world.run(1)
    last = machine.core.term.counter
    assert active(world) == ["b"] and last > 500
    machine.clerk.ledger.full = False
    world.kill("b")
    world.power_off("a")
    world.run(world.timing.lease_s + 2)
    machine.start_agent()
    world.run(70)
    assert active(world) == ["b"] and machine.core.term.counter > last, world.log


def test_a_reign_that_ended_with_its_lease_is_forgotten_when_the_agent_comes_back(world: World) -> None:
    machine = world.machines["b"]
    world.fail_over("a")
    world.run(1)
    world.kill("b")
    world.run(20)
    assert active(world) == ["a"] and machine.reigns.recall("b" * 32, CLUSTER) is not None
    machine.start_agent()
    world.run(5)
    assert active(world) == ["a"] and machine.reigns.recall("b" * 32, CLUSTER) is None
