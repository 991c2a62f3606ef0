"""Links change on a pair: how the agents reach each other while only one of them has the new addresses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from flask_hsmx_cluster.agent.heartbeat import plan
from flask_hsmx_cluster.agent.heartbeat.transport import UdpEnds
from flask_hsmx_cluster.agent.preflight import checks as preflight
from flask_hsmx_cluster.errors import ChecksFailed, PeerUnavailable

from .gateways import World

FORMER, NEW = ("10.9.0.{}", "10.8.0.{}"), ("10.7.0.{}", "10.6.0.{}")


@pytest.fixture
def world(world: World) -> World:
    """The two, with the new addresses on their ports already."""
    for gateway in (world.a, world.b):
        for port, address in zip(gateway.hot.own_ports[1:], NEW, strict=True):
            port["addresses"].append(f"{address.format(gateway.hot.number)}/24")
    return world


def change(world: World, name: str, addresses: tuple[str, str]) -> dict[str, Any]:
    """Put both links on other addresses."""
    service = world.gateways[name].service
    found = service.settings()
    numbers = {world.a.store.node_id: 1, world.b.store.node_id: 2}
    for link, address in zip(found["settings"]["links"], addresses, strict=True):
        for node_id, end in link["ends"].items():
            end["address"] = f"{address.format(numbers[node_id])}/24"
    return service.propose(found["settings"], found["revision"])


def links(world: World, name: str) -> list[str]:
    heads = world.gateways[name].store.heads()
    assert heads is not None
    own = world.gateways[name].store.node_id
    return [str(link.ends[own].address.ip) for link in heads.applied.settings.links]


def both_have(world: World, addresses: tuple[str, str]) -> bool:
    return all(links(world, name) == [one.format(number) for one in addresses] for name, number in (("A", 1), ("B", 2)))


@pytest.mark.parametrize("author", ["A", "B"])
def test_both_links_change_at_once(world: World, author: str) -> None:
    assert change(world, author, NEW)["delivered"] and both_have(world, NEW)
    assert change(world, author, FORMER)["delivered"] and both_have(world, FORMER)


@pytest.mark.parametrize(
    ("author", "restarted", "asks"), [("A", "", "A"), ("A", "A", "B"), ("A", "B", "A"), ("B", "", "A"), ("B", "A", "B")]
)
def test_one_that_was_absent_is_reached_by_the_links_that_it_knows(
    world: World, author: str, restarted: str, asks: str
) -> None:
    world.cut = True
    assert not change(world, author, NEW)["delivered"]
    if restarted:
        gateway = world.gateways[restarted]
        gateway.store.close()
        world.start(restarted, gateway.hot)
    world.cut = False
    service = world.gateways[asks].service
    service.on_peer_revision(99)  # its heartbeats name another one
    assert service._revisions.deliver() in ("adopted", "same"), "same: it adopted what it was asked to"
    assert both_have(world, NEW)


@pytest.mark.parametrize("lost", [1, 2, 3, 4])
def test_whatever_message_is_lost_they_come_together(world: World, lost: int) -> None:
    count = 0

    def tap(_to: str, _path: str, deliver: Callable[[], bytes]) -> bytes:
        nonlocal count
        count += 1
        answer = deliver()
        if count == lost:  # the answer: it was carried out
            raise PeerUnavailable("lost")
        return answer

    world.tap = tap
    change(world, "A", NEW)
    world.tap = lambda _to, _path, deliver: deliver()
    for name in "AB":
        hot = world.gateways[name].hot
        hot.revision_of_peer = world.gateways["B" if name == "A" else "A"].service.settings()["revision"]
        world.gateways[name].service.on_peer_revision(hot.revision_of_peer)
    world.a.service._revisions.deliver()
    assert both_have(world, NEW)
    assert not world.a.service.status()["cluster"]["pending"]


def test_heartbeats_go_over_the_former_ends_too_until_the_other_gateway_has_switched(world: World) -> None:
    world.cut = True
    change(world, "A", NEW)
    membership = world.a.hot.membership
    assert membership is not None
    paths = {path.name: (path.ends, path.former) for path in plan.udp_paths(membership, 5405)}
    assert paths["sync"] == (
        UdpEnds("sync0", "10.7.0.1", "10.7.0.2", 5405), UdpEnds("sync0", "10.9.0.1", "10.9.0.2", 5405)
    )
    world.cut = False
    world.b.service.on_peer_revision(99)
    world.b.service._revisions.deliver()
    membership = world.b.hot.membership
    assert membership is not None and [path.former for path in plan.udp_paths(membership, 5405)] == [None, None]


def test_a_link_over_which_nothing_passes_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "reachable", lambda route, _port: "no" if route.remote == "10.6.0.2" else "")
    with pytest.raises(ChecksFailed) as failed:
        change(world, "A", NEW)
    assert [finding.key for finding in failed.value.findings] == ["http_unreachable"]
    assert both_have(world, FORMER)


def test_a_virtual_ip_that_moves_is_no_strangers_because_a_gateway_answers_for_it(world: World) -> None:
    for gateway in (world.a, world.b):
        mac = f"02:00:00:00:03:0{gateway.hot.number}"
        gateway.hot.own_ports.append({**gateway.hot.own_ports[0], "name": "lan1", "mac": mac})
    settings = world.b.service.settings()
    settings["settings"]["virtual_ips"][0] |= {"port": "lan1", "off_subnet": True}
    world.b.hot.stranger = world.a.hot.mac
    assert world.b.service.propose(settings["settings"], settings["revision"])["delivered"]
    world.b.hot.stranger = "02:00:00:00:0f:01"
    settings["settings"]["virtual_ips"][0]["address"] = "10.0.0.111/24"
    with pytest.raises(ChecksFailed, match="Another machine"):
        world.b.service.propose(settings["settings"], settings["revision"] + 1)


def test_a_virtual_ip_does_not_move_to_a_port_without_a_carrier(world: World) -> None:
    for gateway in (world.a, world.b):
        dead = gateway is world.b
        gateway.hot.own_ports.append({**gateway.hot.own_ports[0], "name": "lan1", "carrier": not dead})
    settings = world.a.service.settings()
    settings["settings"]["virtual_ips"][0] |= {"port": "lan1", "off_subnet": True}
    with pytest.raises(ChecksFailed, match="The port lan1 of B has no carrier") as failed:
        world.a.service.propose(settings["settings"], settings["revision"])
    assert failed.value.findings[0].field == "virtual_ips.0.port"
    world.b.hot.own_ports[-1]["carrier"] = True
    assert world.a.service.propose(settings["settings"], settings["revision"])["delivered"]
