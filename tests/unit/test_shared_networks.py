"""Subscriber networks, IP aliases and routes in the settings: form, rules, size, storage, older versions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_hsmx_cluster import ChecksFailed, models
from flask_hsmx_cluster.agent.membership import Key
from flask_hsmx_cluster.agent.node_store import NodeStore
from flask_hsmx_cluster.agent.revisions import model as revisions
from flask_hsmx_cluster.agent.revisions.model import Heads, Offer, Revision, RevisionRefused
from flask_hsmx_cluster.control import MAX_LINE, MAX_MESSAGE
from flask_hsmx_cluster.settings import rules
from flask_hsmx_cluster.settings.model import MAX_SIZE, Settings, from_dict, to_dict
from flask_hsmx_cluster.settings.networks import MAX_ADVERTISED, MAX_ALIASES, MAX_ROUTES, Alias, Network, Route

from .gateways import BEFORE_7, World, changed, in_memory, port
from .test_rules import GOOD, PORTS, A, B

KEY = Key(1, b"k" * 32)
GUESTS = Network(ip_interface("10.20.0.1/16"), "lan0.100", "guests")
GUESTS6 = Network(ip_interface("2001:db8:20::1/64"), "lan0.100", "guests")
PRINTER = Alias(ip_interface("10.0.0.7/32"), "lan0", "printers")
UPSTREAM = Route(ip_network("10.77.0.0/16"), ip_address("10.20.0.9"), "lan0.100")
UPSTREAM6 = Route(ip_network("::/0"), ip_address("2001:db8:20::9"))
VLAN = port("lan0.100", "")
WITH_VLAN = {node: [*ports, VLAN] for node, ports in PORTS.items()}
FULL = replace(GOOD, networks=(GUESTS, GUESTS6), aliases=(PRINTER,), routes=(UPSTREAM, UPSTREAM6))


def alias(text: str, name: str = "lan0", note: str = "") -> Alias:
    return Alias(ip_interface(text), name, note)


def found(settings: Settings, ports: Any = WITH_VLAN, blocking: bool = True) -> dict[str, str]:
    return {one.field: one.key for one in rules.check(settings, ports) if one.blocking is blocking}


ADVERTISED = replace(
    FULL, networks=(GUESTS, replace(GUESTS6, advertise="slaac", dns=ip_address("2001:db8:20::1")))
)


# The form


def test_router_advertisements_survive_their_dict_form_and_need_a_version_that_knows_them() -> None:
    assert from_dict(json.loads(json.dumps(to_dict(ADVERTISED)))) == ADVERTISED
    assert (ADVERTISED.protocol, FULL.protocol) == (4, 2)
    off = to_dict(replace(ADVERTISED, networks=(GUESTS, GUESTS6)))
    assert off == to_dict(FULL), "switched off they are what they were"


def test_they_survive_their_dict_form() -> None:
    assert from_dict(json.loads(json.dumps(to_dict(FULL)))) == FULL


def test_settings_without_them_are_what_they_were() -> None:
    """The digest of a revision that a former version stored and signed, as that version computed it."""
    revision = revisions.draft(None, GOOD, A, "A", "2026-01-01T00:00:00+00:00", KEY)
    assert revision.digest == "fcbabae5b0e58dccaa50479442c030db17df1d55d0884c772e47698b9ff46723"


@pytest.mark.parametrize(
    "wrong",
    [
        {"aliases": {"address": "10.0.0.7/32"}},
        {"aliases": "10.0.0.7/32"},
        {"aliases": [{"address": "10.0.0.7/32"}]},
        {"aliases": [{"address": 7, "port": "lan0"}]},
        {"aliases": [{"address": "10.0.0.7/32", "port": "lan0", "note": "a\nb"}]},
        {"aliases": [{"address": "10.0.0.7/32", "port": "lan0", "note": "x" * 129}]},
        {"aliases": [{"address": "10.0.0.7/32", "port": None}]},
        {"aliases": [["10.0.0.7/32", "lan0"]]},
        {"aliases": [{"address": "10.0.0.7/32", "port": "lan0"}] * (MAX_ALIASES + 1)},
        {"networks": [{"address": "10.0.0.999/24", "port": "lan0"}]},
        {"networks": [{"address": "10.20.0.1/16", "port": "lan0", "name": ["x"]}]},
        {"routes": [{"destination": "10.77.0.1/16", "via": "10.20.0.9"}]},
        {"routes": [{"destination": "10.77.0.0/16", "via": "10.20.0.9/16"}]},
        {"routes": [{"destination": "10.77.0.0/16", "via": "10.20.0.9", "port": 4}]},
        {"routes": [{"destination": "10.77.0.0/16", "via": "10.20.0.9"}] * (MAX_ROUTES + 1)},
        {"networks": None},
        {"networks": [{"address": "2001:db8::1/64", "port": "lan0", "advertise": "yes"}]},
        {"networks": [{"address": "2001:db8::1/64", "port": "lan0", "advertise": True}]},
        {"networks": [{"address": "2001:db8::1/64", "port": "lan0", "advertise": "slaac", "dns": "fe80::1%lan0"}]},
        {"networks": [{"address": "2001:db8::1/64", "port": "lan0", "advertise": "slaac", "dns": ["2001:db8::1"]}]},
    ],
)
def test_what_is_malformed_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ChecksFailed):
        from_dict({**to_dict(GOOD), **wrong})


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.sampled_from(["10.0.0.7/32", "::1", "lan0"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["address", "port", "note", "destination", "via", "name"]), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["networks", "aliases", "routes"]), JUNK))
def test_nothing_else_than_a_refusal_comes_of_junk(junk: dict[str, Any]) -> None:
    try:
        settings = from_dict({**to_dict(GOOD), **junk})
    except ChecksFailed:
        return
    assert all(one.text and one.text.endswith(".") for one in rules.check(settings, PORTS))


# The rules


@pytest.mark.parametrize(
    ("network", "field", "key"),
    [
        (replace(GUESTS, advertise="dhcp"), "advertise", "advertise"),
        (Network(ip_interface("2001:db8:20::1/60"), "lan0.100", advertise="stateless-dhcp"), "advertise", "advertise"),
        (replace(GUESTS6, dns=ip_address("2001:db8:20::1")), "dns", "dns"),
        (replace(GUESTS6, advertise="slaac", dns=ip_address("10.20.0.1")), "dns", "dns"),
        (replace(GUESTS6, advertise="slaac", dns=ip_address("ff02::1")), "dns", "dns"),
    ],
)
def test_advertisements_that_no_guest_could_use_are_refused(network: Network, field: str, key: str) -> None:
    assert found(replace(FULL, networks=(network,), routes=())) == {f"networks.0.{field}": key}


def test_advertised_networks_of_a_port_fit_into_a_packet() -> None:
    assert found(ADVERTISED) == {}
    wide = Network(ip_interface("2001:db8:30::1/60"), "lan0.100", advertise="dhcp")
    assert found(replace(FULL, networks=(wide,), routes=())) == {}, "DHCPv6 gives addresses in any network"
    many = tuple(
        Network(ip_interface(f"2001:db8:{at:x}::1/64"), "lan0.100", advertise="slaac")
        for at in range(1, MAX_ADVERTISED + 3)
    )
    assert found(replace(FULL, networks=many, routes=())) == {f"networks.{MAX_ADVERTISED}.advertise": "count"}


@pytest.mark.parametrize(
    ("destination", "via"), [("2001:db8:77::/64", "2001:db8:20::9%lan0"), ("2001:db8:77::%lan0/64", "2001:db8:20::9")])
def test_no_address_of_a_route_names_a_port(destination: str, via: str) -> None:
    """The kernel is not told one: nothing that comes in may bring it."""
    rows = [{"destination": destination, "via": via, "port": None}]
    with pytest.raises(ChecksFailed, match="cannot be read"):
        from_dict({**to_dict(FULL), "routes": rows})


@pytest.mark.parametrize("via", ["10.20.255.255", "10.20.0.0", "2001:db8:20::"])
def test_no_router_has_the_address_of_a_whole_network(via: str) -> None:
    route = Route(ip_network("10.77.0.0/16" if "." in via else "2001:db8:77::/64"), ip_address(via))
    assert found(replace(FULL, routes=(route,))) == {"routes.0.via": "via"}


def test_good_ones_have_no_findings() -> None:
    assert rules.check(FULL, WITH_VLAN) == []
    assert rules.check(FULL) == []


def test_an_address_is_entered_once() -> None:
    more = (alias("10.0.0.7/24"), alias("10.20.0.1/32", "lan0.100"), alias("10.0.0.100/32"))
    twice = replace(FULL, aliases=(PRINTER, *more))
    assert found(twice) == dict.fromkeys((f"aliases.{at}.address" for at in (1, 2, 3)), "duplicate")


def test_no_gateways_own_address_is_shared() -> None:
    assert found(replace(GOOD, aliases=(alias("10.0.0.2/32"),))) == {"aliases.0.address": "is_own"}
    assert found(replace(GOOD, networks=(Network(ip_interface("10.0.0.1/24"), "lan0"),))) == {
        "networks.0.address": "is_own"
    }


@pytest.mark.parametrize("text", ["10.9.0.77/24", "10.8.0.77/16", "10.20.3.3/24", "10.0.0.77/24"])
def test_a_network_is_on_one_port_only(text: str) -> None:
    more = replace(FULL, aliases=(), networks=(GUESTS, Network(ip_interface(text), "lan0.200")))
    ports = {node: [*ports, port("lan0.200", "")] for node, ports in WITH_VLAN.items()}
    assert found(replace(more, routes=()), ports) == {"networks.1.address": "subnet_overlap"}


def test_but_addresses_of_a_ports_own_network_are_fine_on_it() -> None:
    assert found(replace(GOOD, aliases=(alias("10.0.0.77/24"),), networks=())) == {}


def test_a_port_that_one_gateway_lacks_is_told_and_stops_nothing() -> None:
    one_lacks = {**WITH_VLAN, B: PORTS[B]}
    assert found(FULL, one_lacks) == {}
    assert found(FULL, one_lacks, blocking=False) == {"networks.0.port": "port_missing"}
    (finding,) = rules.check(FULL, one_lacks)
    assert finding.text == "B has no network port lan0.100: 10.20.0.1/16 would not be there while B is active."


def test_a_port_that_no_gateway_has_is_refused() -> None:
    assert found(FULL, PORTS) == {"networks.0.port": "port_missing"}


def test_no_client_is_on_the_cable_between_the_gateways() -> None:
    assert found(replace(GOOD, aliases=(alias("10.66.0.1/32", "sync0"),)), blocking=False) == {
        "aliases.0.port": "on_cable"
    }


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (alias("127.0.0.5/32"), "address"),
        (alias("fe80::5/64"), "address"),
        (alias("10.0.0.255/24"), "address"),
        (alias("10.0.0.7/32", "../etc"), "port"),
        (alias("10.0.0.7/32", "lan0 up"), "port"),
        (alias("10.0.0.7/32", "lan0", "x" * 65), "note"),
    ],
)
def test_each_field_is_checked(wrong: Alias, field: str) -> None:
    assert f"aliases.0.{field}" in found(replace(GOOD, aliases=(wrong,)))


@pytest.mark.parametrize(
    ("route", "field"),
    [
        (Route(ip_network("10.77.0.0/16"), ip_address("10.99.0.1")), "via"),
        (Route(ip_network("10.77.0.0/16"), ip_address("10.20.0.9"), "lan0"), "via"),
        (Route(ip_network("10.77.0.0/16"), ip_address("2001:db8:20::9")), "via"),
        (Route(ip_network("10.77.0.0/16"), ip_address("10.20.0.1")), "via"),
        (Route(ip_network("224.0.0.0/4"), ip_address("10.20.0.9")), "destination"),
        (Route(ip_network("10.77.0.0/16"), ip_address("10.20.0.9"), "a/b"), "port"),
    ],
)
def test_a_route_goes_through_a_shared_network(route: Route, field: str) -> None:
    assert f"routes.0.{field}" in found(replace(FULL, routes=(route,)))


def test_of_a_thousand_mistakes_the_first_few_are_told() -> None:
    wrong = replace(GOOD, aliases=tuple(alias("127.0.0.5/32") for _ in range(1000)))
    findings = rules.check(wrong, WITH_VLAN)
    assert len(findings) < 40
    assert "There are 990 more of this kind." in {one.text for one in findings}


# Size and storage


def many(count: int, note: str = "room 1234") -> Settings:
    addresses = (f"10.{50 + at // 65536}.{at // 256 % 256}.{at % 256}/32" for at in range(1, count + 1))
    return replace(GOOD, aliases=tuple(alias(text, "lan0", note) for text in addresses))


def test_two_thousand_aliases_fit_into_every_message() -> None:
    settings = many(MAX_ALIASES)
    assert found(settings) == {}
    head = Heads(revisions.draft(None, settings, A, "A", "now", KEY), ("0" * 64,) * revisions.MAX_LINEAGE)
    other = revisions.draft(head, replace(settings, routes=()), B, "B", "now", KEY)
    told = json.dumps(revisions.offer(replace(head, conflict=other)).to_dict())
    assert len(told) < MAX_MESSAGE
    assert 4 * MAX_MESSAGE / 3 + 1024 < MAX_LINE
    assert Offer.from_dict(json.loads(told), [KEY]).applied == head.applied


def test_the_longest_settings_allowed_fit_too() -> None:
    assert 2 * MAX_SIZE + 70 * revisions.MAX_LINEAGE + 4096 < MAX_MESSAGE
    assert found(many(MAX_ALIASES, "\u4e2d" * 60))["aliases"] == "too_large"


@pytest.fixture
def path() -> Iterator[Path]:
    with in_memory() as root:
        yield root / "node.sqlite"


def test_they_survive_a_restart(path: Path) -> None:
    store = NodeStore(path)
    heads = Heads(revisions.draft(None, ADVERTISED, A, "A", "now", KEY))
    store.save_heads(heads, [KEY])
    store.close()
    store = NodeStore(path)
    assert store.heads() == heads
    store.close()


def test_the_store_of_a_former_version_is_taken_over(path: Path) -> None:
    heads = Heads(revisions.draft(None, GOOD, A, "A", "now", KEY))
    store = NodeStore(path)
    store.save_heads(heads, [KEY])
    store.close()
    tables = ("revision_network", "revision_alias", "revision_route", "revision_advertised", "data_standing")  # later
    changed(path, *BEFORE_7, *(f"DROP TABLE {table}" for table in tables),
            "ALTER TABLE settings_revision DROP COLUMN stale_wait_s", "PRAGMA user_version = 1")
    store = NodeStore(path)
    assert store.heads() == heads
    store.save_heads(Heads(revisions.draft(heads, ADVERTISED, A, "A", "now", KEY)))
    store.close()
    assert changed(path, "PRAGMA user_version") == (models.SCHEMA_VERSION,)


# A mixed pair


def edited(world: World) -> tuple[dict[str, Any], int]:
    held = world.a.service.settings()
    return {**held["settings"], "aliases": [{"address": "10.0.0.7/32", "port": "lan0"}]}, held["revision"]


def test_both_gateways_hold_them(world: World) -> None:
    assert world.a.service.propose(*edited(world))["delivered"]
    assert world.b.service.settings()["settings"]["aliases"] == [{"address": "10.0.0.7/32", "port": "lan0", "note": ""}]


def test_a_gateway_of_a_former_version_is_to_be_updated_first(world: World) -> None:
    facts = world.a.store.peer()
    assert facts is not None
    world.a.store.set_peer(replace(facts, protocol=1))
    with pytest.raises(ChecksFailed, match="does not know all of these settings"):
        world.a.service.propose(*edited(world))
    assert "aliases" not in world.a.service.settings()["settings"]
    settings, revision = edited(world)
    del settings["aliases"]
    settings["advanced"]["heartbeat_ms"] = 200
    assert world.a.service.propose(settings, revision)["delivered"], "anything else can be changed"


def test_who_does_not_know_them_cannot_take_settings_over_without_them() -> None:
    """What a former version does when it is given such settings: it reads what it knows, and the signature is wrong."""
    told = revisions.draft(None, FULL, A, "A", "now", KEY).to_dict()
    for key in ("networks", "aliases", "routes"):
        del told["settings"][key]
    with pytest.raises(RevisionRefused) as refused:
        Revision.from_dict(told).verify([KEY])
    assert refused.value.reason == "signature"
