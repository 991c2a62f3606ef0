"""Replacing a dead gateway: the survivor forgets it, keeps everything else, and shows a code for the new one."""

from __future__ import annotations

import pytest

from flask_hsmx_cluster.errors import PairingFailed, PeerUnavailable, RequestRefused

from .gateways import ENDS_OF_B, LAN_ADDRESS, World


def dead(world: World, name: str = "B") -> World:
    """Let a gateway be dead: no answer, no address."""
    world.cut = True
    world.gateways[name].hot.role = "standalone"
    return world


def test_the_survivor_keeps_its_settings_and_shows_a_code(world: World) -> None:
    dead(world)
    before = world.a.store.keys()
    answer = world.a.service.replace()
    assert answer["replaced"] == "B" and answer["code"] and answer["expires_in_s"] > 0
    settings = world.a.service.settings()["settings"]
    assert [node["name"] for node in settings["nodes"]] == ["A"]
    assert [vip["address"] for vip in settings["virtual_ips"]] == [f"{LAN_ADDRESS}/24"]
    assert world.a.hot.role == "active" and "replaced" in world.a.event_kinds()
    assert not set(before) & set(world.a.store.keys())
    assert world.a.store.peer() is None


def test_the_new_one_joins_with_the_code_and_the_dead_one_stays_out(world: World) -> None:
    dead(world)
    heads, keys = world.b.store.heads(), world.b.store.keys()
    code = world.a.service.replace()["code"]
    world.cut = False
    with pytest.raises(PeerUnavailable):
        world.b.service.peer_ports()  # it is switched on again
    assert world.a.service.status()["counters"]["peer_refused_unknown_key"]
    world.b.service.leave(force=True)  # stands for another machine, whose disk is empty
    world.b.service.join("10.9.0.1", code, ENDS_OF_B)
    assert [node["name"] for node in world.a.service.settings()["settings"]["nodes"]] == ["A", "B"]
    world.b.store.save_heads(heads, keys)  # a backup of the dead one's disk, put back
    with pytest.raises(PeerUnavailable):
        world.b.service.peer_ports()


def test_a_stranger_does_not_get_in_without_the_code(world: World) -> None:
    dead(world)
    world.a.service.replace()
    world.cut = False
    world.b.service.leave(force=True)
    with pytest.raises(PairingFailed):
        world.b.service.join("10.9.0.1", "7KQM-2XWP-9RTC-4HVN", ENDS_OF_B)


def test_refused_while_its_agent_answers(world: World) -> None:
    with pytest.raises(RequestRefused, match="B is not dead: its agent answers"):
        world.a.service.replace()
    assert len(world.a.service.settings()["settings"]["nodes"]) == 2


def test_refused_while_it_is_heard(world: World) -> None:
    dead(world)
    world.a.hot.path_states = {"sync": "down", "backup": "up"}
    with pytest.raises(RequestRefused, match="it is heard on backup"):
        world.a.service.replace()


def test_refused_while_the_virtual_ip_is_answered_by_it(world: World) -> None:
    world.cut = True  # the cables are cut, the other one serves
    world.a.hot.role, world.b.hot.role = "passive", "active"
    with pytest.raises(RequestRefused, match=f"something else answers at {LAN_ADDRESS}"):
        world.a.service.replace()
    assert world.a.store.peer() is not None


def test_nobody_to_replace(world: World) -> None:
    world.b.service.leave()
    with pytest.raises(RequestRefused, match="no other gateway"):
        world.a.service.replace()


def test_if_the_kernel_refuses_nothing_is_forgotten(world: World) -> None:
    dead(world)
    keys = world.a.store.keys()
    world.a.hot.refuse = "The kernel says no."
    with pytest.raises(Exception, match="kernel"):
        world.a.service.replace()
    assert world.a.store.keys() == keys and len(world.a.service.settings()["settings"]["nodes"]) == 2
