"""What a dead or deaf LAN shows, and what silence on such a port is worth."""

from __future__ import annotations

import pytest

from flask_hsmx_cluster.decision import events
from flask_hsmx_cluster.decision.model import Cause, CauseKind, Timing

from .world import ALL_PATHS, World, active


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
