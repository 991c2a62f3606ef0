"""Terms and reigns on a disk that refuses them for a while."""

from __future__ import annotations

from flask_hsmx_cluster.decision.model import Term

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
