"""Own addresses of both gateways: their form, their rules, the section's rows, and what the agents do to the kernel."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_hsmx_cluster import ChecksFailed
from flask_hsmx_cluster.agent.interfaces import FILE, check_new
from flask_hsmx_cluster.agent.membership import Key
from flask_hsmx_cluster.agent.node_store import NodeStore
from flask_hsmx_cluster.agent.preflight import checks as preflight
from flask_hsmx_cluster.agent.revisions import model as revisions
from flask_hsmx_cluster.agent.revisions.model import Heads
from flask_hsmx_cluster.editing import interfaces as interface_table
from flask_hsmx_cluster.editing.interfaces import Row
from flask_hsmx_cluster.errors import PeerUnavailable
from flask_hsmx_cluster.settings import interface_rules, rules
from flask_hsmx_cluster.settings.addressing import own_addresses
from flask_hsmx_cluster.settings.interfaces import MAX_ADDRESSES, MAX_INTERFACES, NetworkInterface
from flask_hsmx_cluster.settings.model import Settings, from_dict, to_dict
from flask_hsmx_cluster.settings.networks import Alias, Network

from .gateways import BEFORE_7, World, changed, in_memory, port, without_real_links
from .test_rules import GOOD, PORTS, A, B

KEY = Key(1, b"k" * 32)
WAN = {A: ("203.0.113.2/29", "2001:db8:9::2/64"), B: ("203.0.113.3/29", "2001:db8:9::3/64")}
WITH_WAN = {node: [*ports, port("wan0", "", *WAN[node])] for node, ports in PORTS.items()}


def own(name: str, a: str = "", b: str = "", apart: bool = False) -> NetworkInterface:
    sides = {node: tuple(ip_interface(item) for item in text.split()) for node, text in ((A, a), (B, b)) if text}
    return NetworkInterface(name, sides, apart)


def having(*interfaces: NetworkInterface, **more: Any) -> Settings:
    return replace(GOOD, interfaces=interfaces, **more)


def found(settings: Settings, ports: Any = WITH_WAN, blocking: bool = True) -> dict[str, str]:
    findings = rules.check(settings, ports)
    assert all(one.text.endswith(".") for one in findings)
    first = [one for one in reversed(findings) if one.blocking is blocking]
    return {one.field: one.key for one in first}


# The form


BOTH = having(own("wan0", " ".join(WAN[A]), " ".join(WAN[B]), apart=True), own("wan1", b="198.51.100.7/30"))


def test_they_survive_their_dict_form() -> None:
    assert from_dict(json.loads(json.dumps(to_dict(BOTH)))) == BOTH
    assert BOTH.protocol == 3 and GOOD.protocol == 1
    assert "interfaces" not in to_dict(GOOD), "so that the digest of older settings stays what it was"


@pytest.mark.parametrize("rows", [
    "wan0", [[]], [{"port": "wan0"}], [{"port": "wan0", "addresses": {A: "203.0.113.2/29"}}],
    [{"port": "wan0", "addresses": {A: ["nonsense"]}}], [{"port": "wan0", "addresses": {A: [1]}}],
    [{"port": "a\x00", "addresses": {A: ["203.0.113.2/29"]}}], [{"port": "x" * 129, "addresses": {A: ["1.2.3.4/8"]}}],
    [{"port": "wan0", "addresses": {A: ["203.0.113.2/29"]}, "apart": "yes"}],
    [{"port": "wan0", "addresses": {node: ["203.0.113.2/29"] for node in (A, B, "c")}}],
    [{"port": "wan0", "addresses": {A: ["203.0.113.2/29"] * (MAX_ADDRESSES + 1)}}],
    [{"port": f"wan{at}", "addresses": {A: ["203.0.113.2/29"]}} for at in range(MAX_INTERFACES + 1)],
])
def test_what_is_malformed_is_refused(rows: Any) -> None:
    with pytest.raises(ChecksFailed):
        from_dict({**to_dict(GOOD), "interfaces": rows})


def test_the_store_keeps_them_and_takes_over_one_of_the_former_version(tmp_path: Path) -> None:
    store = NodeStore(tmp_path / "node.sqlite", "A")
    store.identify("m", {})
    store.save_heads(Heads(revisions.draft(None, BOTH, A, "A", "now", KEY)))
    store.close()
    with closing(sqlite3.connect(tmp_path / "node.sqlite")) as database:
        assert database.execute("SELECT count(*) FROM revision_interface").fetchone() == (5,)
    store = NodeStore(tmp_path / "node.sqlite", "A")
    heads = store.heads()
    assert heads is not None and heads.applied.settings == BOTH
    store.save_heads(Heads(revisions.draft(None, GOOD, A, "A", "now", KEY)))
    store.close()
    changed(tmp_path / "node.sqlite", *BEFORE_7, "DROP TABLE revision_interface", "PRAGMA user_version = 6")
    store = NodeStore(tmp_path / "node.sqlite", "A")
    heads = store.heads()
    assert heads is not None and heads.applied.settings == GOOD
    store.close()


# The rules


def test_an_alias_is_not_what_was_entered_for_a_gateway_that_is_away() -> None:
    settings = having(own("lan0", b="10.0.0.2/24 10.0.0.7/24"), aliases=(Alias(ip_interface("10.0.0.7"), "lan0"),))
    findings = rules.check(settings, {A: PORTS[A]})
    assert {"aliases.0.address": "is_own"}.items() <= {one.field: one.key for one in findings if one.blocking}.items()


@pytest.mark.parametrize(("settings", "fields"), [
    (having(own("wan0", " ".join(WAN[A]), " ".join(WAN[B]))), {}),
    (having(own("wan0", b="203.0.113.4/29")), {}),
    # the same address on both, or twice on one
    (having(own("wan0", "203.0.113.2/29", "203.0.113.2/29")),
     {f"interfaces.wan0.{A}": "duplicate", f"interfaces.wan0.{B}": "duplicate"}),
    (having(own("wan0", b="203.0.113.3/29 203.0.113.3/29")), {f"interfaces.wan0.{B}": "duplicate"}),
    (having(own("wan0", b="203.0.113.2/29")), {f"interfaces.wan0.{B}": "duplicate"}),
    (having(own("wan0", b="10.9.0.1/32", apart=True)), {f"interfaces.wan0.{B}": "duplicate"}),
    # shared addresses
    (having(own("lan0", b="10.0.0.2/24 10.0.0.7/24 2001:db8::2/64"),
            aliases=(Alias(ip_interface("10.0.0.7"), "lan0"),)),
     {f"interfaces.lan0.{B}": "is_shared", "aliases.0.address": "is_own"}),
    # one subnet, or ticked
    (having(own("wan0", "203.0.113.2/29", "203.0.113.9/29")),
     {f"interfaces.wan0.{A}": "apart", f"interfaces.wan0.{B}": "apart"}),
    (having(own("wan0", "203.0.113.2/29", "203.0.113.9/29", apart=True)), {}),
    (having(own("wan0", "203.0.113.2/29", "203.0.113.3/28")),
     {f"interfaces.wan0.{A}": "apart", f"interfaces.wan0.{B}": "apart"}),
    (having(own("wan0", "203.0.113.2/29", "203.0.113.3/29 2001:db8:9::3/64")), {}),
    # no host's address
    (having(own("wan0", b="203.0.113.0/29", apart=True)), {f"interfaces.wan0.{B}": "address"}),
    (having(own("wan0", b="203.0.113.7/29", apart=True)), {f"interfaces.wan0.{B}": "address"}),
    (having(own("wan0", b="224.0.0.5/24", apart=True)), {f"interfaces.wan0.{B}": "address"}),
    (having(own("wan0", b="127.0.0.2/8", apart=True)), {f"interfaces.wan0.{B}": "address"}),
    (having(own("wan0", b="fe80::2/64", apart=True)), {f"interfaces.wan0.{B}": "address"}),
    (having(own("wan0", b="::1/128", apart=True)), {f"interfaces.wan0.{B}": "address"}),
    # no overlap with another port
    (having(own("wan0", b="10.0.0.9/16", apart=True)), {f"interfaces.wan0.{B}": "subnet_overlap"}),
    (having(own("wan0", b="203.0.113.3/29"), own("wan1", b="203.0.113.5/30", apart=True)),
     {f"interfaces.wan0.{B}": "subnet_overlap", f"interfaces.wan1.{B}": "port_missing"}),
    (having(own("wan0", b="10.20.0.9/24", apart=True), networks=(Network(ip_interface("10.20.0.1/16"), "lan0"),)),
     {f"interfaces.wan0.{B}": "subnet_overlap", "networks.0.address": "subnet_overlap"}),
    # ports
    (having(own("sync0", b="10.9.0.2/24")), {f"interfaces.sync0.{B}": "on_cable"}),
    (having(own("wan9", "192.0.2.1/30", "192.0.2.2/30")),
     {f"interfaces.wan9.{A}": "port_missing", f"interfaces.wan9.{B}": "port_missing"}),
    (having(own("../wan", b="192.0.2.2/30")), {f"interfaces.../wan.{B}": "port_missing"}),
    (having(own("wan0", b="203.0.113.3/29"), own("wan0", "203.0.113.2/29")), {"interfaces.wan0.": "duplicate"}),
    (having(NetworkInterface("wan0", {"cc" * 16: (ip_interface("203.0.113.4/29"),)})),
     {f"interfaces.wan0.{'cc' * 16}": "interface_node"}),
    # what depends on them
    (having(own("lan0", b="10.0.0.3/24 2001:db8::2/64")), {f"links.service.{B}.address": "address_missing"}),
])  # fmt: skip
def test_the_rules_of_own_addresses(settings: Settings, fields: dict[str, str]) -> None:
    assert found(settings) == fields


def test_each_port_is_read_a_few_times_only_however_many_addresses_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def counting(one: Any) -> Any:
        read.append(one.get("name", ""))
        return own_addresses(one)

    monkeypatch.setattr(interface_rules, "own_addresses", counting)
    many = [own(f"wan{at}", f"100.64.{at}.1/28", f"100.64.{at}.2/28") for at in range(MAX_INTERFACES)]
    x0 = {"name": "x0", "addresses": ["100.64.7.9/32"]}
    ports = {"x0": x0, **{one.port: {"name": one.port} for one in many}}
    told = interface_rules.check(having(*many), {A: ports, B: ports})
    assert {one.field for one in told} == {f"interfaces.wan7.{node}" for node in (A, B)}
    assert read.count("x0") <= 4


def test_a_gateway_whose_ports_are_not_known_can_be_entered() -> None:
    assert found(having(own("wan0", "203.0.113.2/29", "203.0.113.3/29")), {A: WITH_WAN[A]}) == {}


def test_another_network_than_the_other_gateway_has_now_is_told() -> None:
    assert found(having(own("wan0", b="198.51.100.3/29")), blocking=False) == {f"interfaces.wan0.{B}": "apart"}


# The section


def test_rows_are_ports_with_set_addresses_but_not_the_cables() -> None:
    ports = [*WITH_WAN[A], {**port("wan1", "", "192.0.2.7/24"), "leased": ["192.0.2.7/24"]}, port("free0", ""),
             {**port("ppp0", "", "192.0.2.9/32"), "kind": "ppp"}]
    settings = to_dict(having(own("wan0", b="203.0.113.4/29"), own("gone0", "192.0.2.1/30")))
    assert interface_table.rows(settings, A, ports) == [
        Row("lan0", ("10.0.0.1/24", "2001:db8::1/64"), (), False, False),
        Row("wan0", WAN[A], ("203.0.113.4/29",), False, True),
        Row("gone0", ("192.0.2.1/30",), (), False, True),
    ]
    assert interface_table.leased_ports(ports) == ["wan1"]


def test_a_port_with_more_addresses_than_can_be_entered_keeps_them_all() -> None:
    many = [f"203.0.113.{at}/24" for at in range(1, MAX_ADDRESSES + 2)]
    ports = [port("wan0", "", *many), port("wan1", "", *many[1:])]
    shown = interface_table.rows(to_dict(GOOD), A, ports)
    assert [row.port for row in shown] == ["wan1"] and interface_table.crowded_ports(ports) == ["wan0"]
    told = interface_table.fetched(to_dict(GOOD), A, B, ["wan0", "wan1"], ports)
    assert list(told.found) == ["wan1"] and told.unmatched == (
        "wan0 has more than 8 addresses on the other gateway: enter those that it is to keep.",)
    settings = to_dict(having(own("wan0", b=many[0])))
    (row,) = interface_table.rows(settings, A, ports[:1])
    assert row.mine == () and interface_table.entries(settings, A, B, [row], ports) == settings["interfaces"]


def test_what_is_only_shown_is_not_stated() -> None:
    settings, ports = to_dict(having(own("gone0", "192.0.2.1/30"))), WITH_WAN[A]
    lan = Row("lan0", ("10.0.0.1/24", "2001:db8::1/64"), (), False, False)
    wan = Row("wan0", WAN[A], ("203.0.113.3/29",), False, False)
    kept = {"port": "gone0", "addresses": {A: ["192.0.2.1/30"]}, "apart": False}
    typed = {"port": "wan0", "addresses": {A: list(WAN[A]), B: ["203.0.113.3/29"]}, "apart": False}
    assert interface_table.entries(settings, A, B, [lan, wan], ports) == [kept, typed]
    settings["interfaces"] = [kept, typed]
    emptied = [Row("wan0", (), (), False, True)]
    assert interface_table.entries(settings, A, B, emptied, ports) == [kept], "left to each gateway again"


def test_identical_and_partly_different_names() -> None:
    settings = to_dict(GOOD)
    theirs = [port("wan0", "", "203.0.113.3/29", "fe80::3/64", "junk"), port("lan0", ""),
              port("sync0", "", "10.9.0.2/24"), port("eth7", "", "192.0.2.9/24"), port("free7", ""),
              {**port("wan1", "", "192.0.2.7/24"), "leased": ["192.0.2.7/24"]}]
    told = interface_table.fetched(settings, A, B, ["wan0", "lan0", "wan1", "wan2", "bak0"], theirs)
    assert told.found == {"wan0": ("203.0.113.3/29",)}
    assert list(told.unmatched) == [
        "lan0 has no address on the other gateway.",
        "wan1 has its address from DHCP or a router on the other gateway: nothing to enter.",
        "wan2 is only on this gateway.",
        "bak0 is only on this gateway.",
        "eth7 is only on the other gateway, or has no address here.",
    ]


def test_hostile_names_fill_nothing_and_are_cut_short() -> None:
    nasty = ["<script>alert(1)</script>", "wan0\x1b[2J", "\u202ewan0", "x" * 100_000, "", "../../etc", "wan0 ", "WAN0"]
    theirs = [port(name, "", f"203.0.113.{at}/24") for at, name in enumerate(nasty, 3)]
    told = interface_table.fetched(to_dict(GOOD), A, B, ["wan0"], theirs)
    assert told.found == {} and told.unmatched[0] == "wan0 is only on this gateway."
    assert all(len(text) < 120 and text.isprintable() for text in told.unmatched)
    many = [port(f"port{at}", "", "203.0.113.3/24") for at in range(10_000)]
    told = interface_table.fetched(to_dict(GOOD), A, B, ["wan0"], many)
    assert told.found == {} and len(told.unmatched) == 21 and told.unmatched[-1] == "9,981 more are unmatched."
    twice = [port("wan0", "", "203.0.113.3/24"), port("wan0", "", "203.0.113.4/24")]
    told = interface_table.fetched(to_dict(GOOD), A, B, ["wan0"], twice)
    assert told.found == {} and "several times" in told.unmatched[0]


@given(st.lists(st.text(max_size=20)))
def test_only_identical_names_are_ever_filled(names: list[str]) -> None:
    told = interface_table.fetched(to_dict(GOOD), A, B, ["wan0", "lan0"],
                                   [port(name, "", "203.0.113.3/24") for name in names])
    assert set(told.found) == {name for name in ("wan0", "lan0") if names.count(name) == 1}


@pytest.mark.parametrize(
    "text", ["203.0.113.3", "203.0.113.3/99", "junk", "1.2.3.4/8 " * 9, "127.0.0.1/8", "fe80::1/64"])
def test_what_is_no_address_is_not_taken(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        interface_table.addresses(text)
    assert interface_table.addresses(" 203.0.113.3/29,2001:DB8::3/64\n") == ["203.0.113.3/29", "2001:db8::3/64"]


def test_reading_back_says_what_the_kernels_have() -> None:
    settings = to_dict(having(own("wan0", "203.0.113.2/29", "203.0.113.4/29")))

    def told(peer_ports: Any) -> list[tuple[str, bool, str]]:
        back = interface_table.read_back(settings, A, [port("wan0", "", "203.0.113.2/29")], peer_ports)
        return [(one.gateway, one.ok, one.text) for one in back]

    here = ("A", True, "has 203.0.113.2/29")
    assert told([port("wan0", "", "203.0.113.4/29")]) == [here, ("B", True, "has 203.0.113.4/29")]
    assert told(None)[1] == ("B", False, "has not answered: what it has is not known")
    assert told([])[1] == ("B", False, "has no such port now")
    assert told([port("wan0", "", "203.0.113.9/29")])[1] == (
        "B", False,
        "has 203.0.113.9/29; 203.0.113.4/29 is missing; 203.0.113.9/29 is not of these settings")


# Both gateways


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    without_real_links(monkeypatch)
    with in_memory() as path:
        world = World(path)
        for number, gateway in enumerate((world.a, world.b), 1):
            gateway.hot.own_ports.append(port("wan0", f"02:00:00:00:09:0{number}", f"203.0.113.{number}/29"))
        world.form()
        yield world
        world.close()


def propose(world: World, name: str, *rows: dict[str, Any]) -> dict[str, Any]:
    service = world.gateways[name].service
    held = service.settings()
    return service.propose({**held["settings"], "interfaces": list(rows)}, held["revision"])


def both(world: World) -> list[list[str]]:
    return [gateway.hot.own_ports[-1]["addresses"] for gateway in (world.a, world.b)]


def wan(world: World, **sides: str) -> dict[str, Any]:
    ids = {name: world.gateways[name].service.settings()["node_id"] for name in "AB"}
    return {"port": "wan0", "addresses": {ids[name.upper()]: [text] for name, text in sides.items()}}


def test_either_gateway_sets_the_other_ones(world: World) -> None:
    assert propose(world, "A", wan(world, b="203.0.113.4/29"))["delivered"]
    assert both(world) == [["203.0.113.1/29"], ["203.0.113.4/29"]]
    assert propose(world, "B", wan(world, a="203.0.113.5/29", b="203.0.113.4/29"))["delivered"]
    assert both(world) == [["203.0.113.5/29"], ["203.0.113.4/29"]], "one gateway's is never copied onto the other"
    assert "own_addresses" in world.a.event_kinds() and world.b.event_kinds().count("own_addresses") == 1


def test_what_is_no_address_of_the_other_gateway_stops_no_change(world: World) -> None:
    world.b.hot.own_ports[-1]["addresses"].append("nonsense")
    assert propose(world, "A", wan(world, a="203.0.113.5/29"))["delivered"]


def test_shared_addresses_are_placed_anew_when_an_own_one_beside_them_has_gone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shared address is a host's as long as the port has an own one in its network, which has the route."""
    hot, seen = world.a.hot, []
    apply = hot.apply
    monkeypatch.setattr(hot, "apply", lambda one: (seen.append(list(hot.own_ports[0]["addresses"])), apply(one)))
    for name in ("10.0.0.1/24 10.6.0.1/24", "10.6.0.1/24"):
        node = world.a.store.node_id
        row = {"port": "lan0", "addresses": {node: name.split()}, "apart": True}
        service = world.a.service
        held = service.settings()
        vips = [{**one, "off_subnet": True} for one in held["settings"]["virtual_ips"]]
        service.propose({**held["settings"], "interfaces": [row], "virtual_ips": vips}, held["revision"])
        assert seen[-1] == name.split()


def test_an_own_address_and_the_link_that_ends_on_it_change_together(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new address is not there to be tried before."""
    def reachable(route: Any, _port: int) -> str:
        own = [address for one in world.a.hot.own_ports for address in one["addresses"]]
        return "" if any(route.local == address.split("/")[0] for address in own) else "cannot assign"

    monkeypatch.setattr(preflight, "reachable", reachable)
    a, b = (world.gateways[name].store.node_id for name in "AB")
    service, interfaces = world.a.service, []
    for address in ("10.0.0.1/24", "10.0.0.11/24"):
        held = service.settings()
        links = [one for one in held["settings"]["links"] if one["kind"] != "service"]
        links.append({"kind": "service", "ends": {
            a: {"port": "lan0", "address": address}, b: {"port": "lan0", "address": "10.0.0.2/24"}}})
        wanted = {**held["settings"], "links": links, "interfaces": interfaces}
        assert service.propose(wanted, held["revision"])["delivered"]
        interfaces = [{"port": "lan0", "addresses": {a: ["10.0.0.11/24"]}}]
    assert world.a.hot.own_ports[0]["addresses"] == ["10.0.0.11/24"]


def test_what_one_gateway_cannot_do_is_tried_again(world: World) -> None:
    before = both(world)
    world.b.hand.refuse = "203.0.113.4/29"
    answer = propose(world, "A", wan(world, a="203.0.113.5/29", b="203.0.113.4/29"))
    assert not answer["delivered"] and both(world)[1] == before[1], "B says so, and it is tried again"
    world.b.hand.refuse = ""
    world.a.service.periodic_jobs()["deliver settings"][1]()
    assert both(world) == [["203.0.113.5/29"], ["203.0.113.4/29"]]


def test_an_address_that_somebody_has_is_refused(world: World) -> None:
    before = both(world)
    world.a.hot.stranger = "02:00:00:00:66:66"
    with pytest.raises(ChecksFailed, match="02:00:00:00:66:66") as refused:
        propose(world, "A", wan(world, b="203.0.113.4/29"))
    assert refused.value.findings[0].field.startswith("interfaces.wan0.")
    world.a.hot.stranger = world.b.hot.own_ports[-1]["mac"]
    with pytest.raises(ChecksFailed, match=r"B still has 203\.0\.113\.2 on wan0"):
        propose(world, "A", wan(world, a="203.0.113.2/29", b="203.0.113.4/29"))
    assert both(world) == before
    assert propose(world, "A", wan(world, b="203.0.113.4/29"))["delivered"], "the other gateway is no stranger"
    assert propose(world, "A", wan(world, a="203.0.113.2/29", b="203.0.113.4/29"))["delivered"], "free by now"


def test_a_gateway_of_a_former_version_is_to_be_updated_first(world: World) -> None:
    facts = world.a.store.peer()
    assert facts is not None
    world.a.store.set_peer(replace(facts, protocol=2))
    with pytest.raises(ChecksFailed, match="older version") as refused:
        propose(world, "A", wan(world, b="203.0.113.4/29"))
    assert refused.value.findings[0].remedy == "Update B first."


def test_nonsense_is_refused_and_changes_nothing(world: World) -> None:
    before = both(world)
    with pytest.raises(ChecksFailed):
        propose(world, "A", wan(world, a="203.0.113.5/29", b="203.0.113.5/29"))
    assert both(world) == before


def test_a_gateway_that_was_away_gets_its_own_later(world: World) -> None:
    world.cut = True
    assert not propose(world, "A", wan(world, b="203.0.113.4/29"))["delivered"]
    assert both(world)[1] == ["203.0.113.2/29"]
    world.cut = False
    world.a.service.periodic_jobs()["deliver settings"][1]()
    assert both(world)[1] == ["203.0.113.4/29"]


@pytest.mark.parametrize("steps", [1, 2])
def test_an_address_of_a_gateway_that_is_away_is_not_taken(world: World, steps: int) -> None:
    propose(world, "A", wan(world, b="203.0.113.4/29"))
    before = both(world)
    world.cut = True
    if steps == 2:
        assert not propose(world, "A", wan(world, b="203.0.113.3/29"))["delivered"]
    with pytest.raises(ChecksFailed, match=r"B, which does not answer, may still have 203\.0\.113\.4"):
        propose(world, "A", wan(world, a="203.0.113.4/29", b="203.0.113.3/29"))
    assert both(world) == before
    world.cut = False
    world.a.service.periodic_jobs()["deliver settings"][1]()
    if steps == 1:
        propose(world, "A", wan(world, b="203.0.113.3/29"))
    assert propose(world, "A", wan(world, a="203.0.113.4/29", b="203.0.113.3/29"))["delivered"]


def test_an_address_of_the_other_gateway_that_is_none_stops_no_change() -> None:
    ports = {B: [port("wan0", "02:00:00:00:09:02", "junk", "203.0.113.4/29")]}
    wanted = having(own("wan0", "203.0.113.5/29 203.0.113.4/29"))
    findings = list(check_new(wanted, GOOD, GOOD, ports, lambda *_: []))
    assert [one.text for one in findings] == ["B still has 203.0.113.4 on wan0."]


@pytest.mark.parametrize("names", [
    [f"port{at}" for at in range(10_000)], ["wan0\x1b[2J"], ["x" * 200], ["\u202ewan0"], ["\ud800"],
])
def test_names_that_no_gateway_of_ours_tells_are_not_passed_on(world: World, names: list[str]) -> None:
    world.b.hot.own_ports[:] = [port(name, "02:00:00:00:09:02", "203.0.113.2/29") for name in names]
    with pytest.raises(PeerUnavailable, match=r"cannot be read|not the other gateway"):
        world.a.service.peer_ports()


def test_the_one_that_leaves_keeps_them_and_the_other_forgets_them(world: World) -> None:
    propose(world, "A", wan(world, a="203.0.113.5/29", b="203.0.113.4/29"))
    world.b.service.leave()
    assert both(world) == [["203.0.113.5/29"], ["203.0.113.4/29"]]
    rest = world.a.service.settings()["settings"]["interfaces"]
    assert [list(one["addresses"].values()) for one in rest] == [[["203.0.113.5/29"]]]
    assert json.loads(Path(world.b.config.state_dir, FILE).read_text())["in_cluster"] is False


@pytest.mark.parametrize("how", ["a crash amid leaving", "a copied disk"])
def test_outside_of_a_cluster_the_statement_says_so(world: World, how: str) -> None:
    """The firmware may set what it states at each boot: on a copy it would be the other machine's."""
    propose(world, "A", wan(world, b="203.0.113.4/29"))
    before = both(world)
    service = world.b.service
    if how == "a copied disk":
        service._cluster.foreign = True
    else:
        world.b.store.forget_cluster()
    assert service.periodic_jobs()["own addresses"][1]() == "not in a cluster"
    assert json.loads(Path(world.b.config.state_dir, FILE).read_text())["in_cluster"] is False
    assert both(world) == before


def test_a_new_run_of_the_agent_sets_them_again(world: World) -> None:
    propose(world, "A", wan(world, b="203.0.113.4/29"))
    hot = world.b.hot
    hot.own_ports[-1]["addresses"] = ["203.0.113.2/29"]  # what the host's own configuration says
    world.b.store.close()
    world.start("B", hot)
    assert both(world)[1] == ["203.0.113.4/29"]
