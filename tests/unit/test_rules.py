"""Checks of the whole form: one test per rule, IPv4 and IPv6."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_hsmx_cluster import ChecksFailed
from flask_hsmx_cluster.settings import addressing, rules
from flask_hsmx_cluster.settings.model import Advanced, Link, LinkEnd, Node, Settings, VirtualIP, from_dict, to_dict

from .gateways import port

A, B = "aa" * 16, "bb" * 16
PORTS = {
    A: [
        port("lan0", "", "10.0.0.1/24", "2001:db8::1/64"),
        port("sync0", "", "10.9.0.1/24"),
        port("bak0", "", "10.8.0.1/24"),
    ],
    B: [
        port("lan0", "", "10.0.0.2/24", "2001:db8::2/64"),
        port("sync0", "", "10.9.0.2/24"),
        port("bak0", "", "10.8.0.2/24"),
    ],
}


def link(kind: str, name: str, a: str, b: str = "") -> Link:
    ends = {A: LinkEnd(name, ip_interface(a))}
    if b:
        ends[B] = LinkEnd(name, ip_interface(b))
    return Link(kind, ends)  # type: ignore[arg-type]


SYNC = link("sync", "sync0", "10.9.0.1/24", "10.9.0.2/24")
BACKUP = link("backup", "bak0", "10.8.0.1/24", "10.8.0.2/24")
SERVICE = link("service", "lan0", "10.0.0.1/24", "10.0.0.2/24")
GOOD = Settings(
    "c" * 32,
    (Node(A, "A"), Node(B, "B")),
    (VirtualIP(ip_interface("10.0.0.100/24"), "lan0"), VirtualIP(ip_interface("2001:db8::100/64"), "lan0")),
    (SYNC, BACKUP, SERVICE),
    Advanced(references=(ip_address("10.0.0.254"),)),
)


def found(settings: Settings, blocking: bool = True) -> dict[str, str]:
    findings = rules.check(settings, PORTS)
    assert all(one.text.endswith(".") and one.remedy.endswith((".", "?")) for one in findings)
    return {one.field: one.key for one in findings if one.blocking is blocking}


def vip(text: str, name: str = "lan0", **more: bool) -> Settings:
    return replace(GOOD, virtual_ips=(VirtualIP(ip_interface(text), name, **more),))


def test_good_settings_have_no_findings() -> None:
    assert rules.check(GOOD, PORTS) == []
    assert rules.check(GOOD) == []


def test_a_cluster_of_one_is_good() -> None:
    one = replace(GOOD, nodes=GOOD.nodes[:1], links=(link("sync", "sync0", "10.9.0.1/24"),))
    assert rules.check(one, {A: PORTS[A]}) == []


@pytest.mark.parametrize(
    "text",
    [
        "10.0.0.0/24", "10.0.0.255/24", "0.0.0.0/24", "0.1.2.3/8", "127.0.0.1/8", "224.0.0.5/24", "255.255.255.255/32",
        "240.0.0.1/24", "10.0.0.5/0", "2001:db8::/64", "::/64", "::1/128", "ff02::1/64", "fe80::1/64",
        "::ffff:10.0.0.5/120", "2001:db8::5%lan0/64",
    ],
)  # fmt: skip
def test_addresses_that_no_host_can_have(text: str) -> None:
    assert found(vip(text, off_subnet=True)).get("virtual_ips.0.address") == "address"
    end = replace(GOOD, links=(Link("sync", {A: LinkEnd("sync0", ip_interface(text))}),), nodes=GOOD.nodes[:1])
    assert found(end).get(f"links.sync.{A}.address") in ("address", "address_missing")


@pytest.mark.parametrize(
    "text",
    [
        "10.0.0.0/31",
        "10.0.0.1/31",
        "10.0.0.7/32",
        "2001:db8::/127",
        "2001:db8::/128",
        "2001:db8::ffff/64",
        "169.254.3.4/16",
    ],
)
def test_point_to_point_and_host_prefixes_are_ordinary(text: str) -> None:
    assert addressing.address_fault(ip_interface(text)) == ""


@given(st.ip_addresses(), st.integers(0, 128))
def test_every_address_gets_an_answer(address: object, length: int) -> None:
    interface = ip_interface(f"{address}/{min(length, 32) if ':' not in str(address) else length}")
    assert isinstance(addressing.address_fault(interface), str)
    rules.check(vip(str(interface)), PORTS)


def test_a_virtual_ip_is_required_and_nobodys_own() -> None:
    assert found(replace(GOOD, virtual_ips=())) == {"virtual_ips.0.address": "virtual_ip_missing"}
    assert found(vip("10.0.0.2/24")) == {"virtual_ips.0.address": "virtual_ip_is_own"}
    assert found(vip("2001:db8::2/64")) == {"virtual_ips.0.address": "virtual_ip_is_own"}


def test_a_virtual_ip_lies_in_its_ports_subnet_or_the_box_is_ticked() -> None:
    assert found(vip("10.1.0.5/24")) == {"virtual_ips.0.address": "off_subnet"}
    assert found(vip("10.1.0.5/24", off_subnet=True)) == {}
    assert found(vip("2001:db8:1::5/64")) == {"virtual_ips.0.address": "off_subnet"}


def test_a_virtual_ip_twice() -> None:
    twice = replace(GOOD, virtual_ips=(GOOD.virtual_ips[0], VirtualIP(ip_interface("10.0.0.100/32"), "lan0")))
    assert found(twice) == {"virtual_ips.1.address": "duplicate"}


def test_ports_exist_on_both() -> None:
    assert found(vip("10.0.0.5/24", "eth9"))["virtual_ips.0.port"] == "port_missing"
    assert found(vip("10.0.0.5/24", "")) == {"virtual_ips.0.port": "port_missing"}
    assert found(vip("10.0.0.5/24", "no/../port")) == {"virtual_ips.0.port": "port_missing"}
    gone = replace(GOOD, links=(link("sync", "eth9", "10.9.0.1/24", "10.9.0.2/24"), BACKUP))
    assert found(gone) == {f"links.sync.{A}.port": "port_missing", f"links.sync.{B}.port": "port_missing"}


def test_addresses_exist_on_their_ports() -> None:
    other = replace(GOOD, links=(link("sync", "sync0", "10.9.0.1/24", "10.9.0.9/24"),))
    assert found(other) == {f"links.sync.{B}.address": "address_missing"}
    assert "Network settings" in rules.check(other, PORTS)[0].remedy


def test_a_sync_link_is_required() -> None:
    assert found(replace(GOOD, links=(BACKUP,))) == {"links.sync": "sync_missing"}
    assert found(replace(GOOD, links=(SYNC, SYNC)))["links.sync"] == "duplicate"


def test_every_link_ends_on_both_and_nowhere_else() -> None:
    assert found(replace(GOOD, links=(link("sync", "sync0", "10.9.0.1/24"),))) == {
        f"links.sync.{B}.port": "link_end_missing"
    }
    alone = replace(GOOD, nodes=GOOD.nodes[:1])
    assert found(alone)[f"links.sync.{B}"] == "link_end"


def test_links_use_different_ports_and_subnets() -> None:
    same_port = replace(GOOD, links=(SYNC, link("backup", "sync0", "10.8.0.1/24", "10.8.0.2/24")))
    assert found(same_port)[f"links.backup.{A}.port"] == "same_port"
    same_net = replace(GOOD, links=(SYNC, link("backup", "bak0", "10.9.0.11/16", "10.9.0.12/16")))
    assert found(same_net)[f"links.backup.{B}.address"] in ("same_subnet", "address_missing")
    assert "same_subnet" in {one.key for one in rules.check(same_net)}


def test_both_ends_of_a_link_fit_each_other() -> None:
    mixed = replace(GOOD, links=(link("sync", "sync0", "10.9.0.1/24", "2001:db8:9::2/64"),))
    assert "link_family" in {one.key for one in rules.check(mixed)}
    same = replace(GOOD, links=(link("sync", "sync0", "10.9.0.1/24", "10.9.0.1/24"),))
    assert "duplicate" in {one.key for one in rules.check(same)}
    routed = replace(GOOD, links=(link("sync", "sync0", "10.9.0.1/24", "10.7.0.2/24"),))
    assert {one.key: one.blocking for one in rules.check(routed)} == {"link_routed": False}


def test_a_virtual_ip_on_a_cable_is_warned_about() -> None:
    settings = vip("10.9.0.100/24", "sync0")
    assert found(settings, blocking=False) == {"virtual_ips.0.port": "virtual_ip_on_cable"}


def test_a_network_on_two_ports() -> None:
    settings = vip("10.9.0.100/24", off_subnet=True)
    assert found(settings) == {"virtual_ips.0.address": "subnet_overlap"}


@pytest.mark.parametrize(
    ("changed", "field", "key"),
    [
        (Advanced(heartbeat_ms=49), "advanced.heartbeat_ms", "bounds"),
        (Advanced(heartbeat_ms=5001, lease_s=30), "advanced.heartbeat_ms", "bounds"),
        (Advanced(ping_pongs=2), "advanced.ping_pongs", "bounds"),
        (Advanced(lease_s=31), "advanced.lease_s", "bounds"),
        (Advanced(boot_hold_s=0), "advanced.boot_hold_s", "bounds"),
        (Advanced(announce_refresh_s=101), "advanced.announce_refresh_s", "bounds"),
        (Advanced(stale_wait_s=-1), "advanced.stale_wait_s", "bounds"),
        (Advanced(stale_wait_s=86401), "advanced.stale_wait_s", "bounds"),
        (Advanced(heartbeat_ms=1000, lease_s=3), "advanced.lease_s", "lease_too_short"),
        (Advanced(heartbeat_ms=5000, lease_s=6), "advanced.lease_s", "lease_too_short"),
    ],
)
def test_timing(changed: Advanced, field: str, key: str) -> None:
    assert found(replace(GOOD, advanced=changed)) == {field: key}


@pytest.mark.parametrize("wait_s", [None, 0, 86400])
def test_a_gateway_with_older_data_may_wait_for_ever(wait_s: int | None) -> None:
    wanted = replace(GOOD, advanced=Advanced(stale_wait_s=wait_s))
    assert found(wanted) == {} and from_dict(to_dict(wanted)) == wanted


def test_longest_heartbeat_with_a_lease_that_fits() -> None:
    assert found(replace(GOOD, advanced=Advanced(heartbeat_ms=1000, lease_s=4))) == {}
    assert rules.detection_ms(GOOD) == 175


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("10.0.0.100", "reference_is_own"), ("10.0.0.2", "reference_is_own"), ("10.8.0.2", "reference_is_own"),
        ("192.0.2.1", "reference_off_link"), ("127.0.0.1", "address"), ("::", "address"), ("224.0.0.1", "address"),
        ("2001:db8:5::1", "reference_off_link"),
    ],
)  # fmt: skip
def test_references(text: str, key: str) -> None:
    settings = replace(GOOD, advanced=Advanced(references=(ip_address(text),)))
    assert found(settings) == {"advanced.references.0": key}


def test_a_reference_twice() -> None:
    settings = replace(GOOD, advanced=Advanced(references=(ip_address("10.0.0.9"),) * 2))
    assert found(settings) == {"advanced.references.1": "duplicate"}


def test_names_and_ids() -> None:
    assert found(replace(GOOD, nodes=(Node(A, "gw"), Node(B, "GW ")))) == {"nodes.1.name": "node_name"}
    assert found(replace(GOOD, nodes=(Node(A, " "), Node(B, "B")))) == {"nodes.0.name": "node_name"}
    assert "nodes.1.node_id" in found(replace(GOOD, nodes=(Node(A, "A"), Node("x", "B"))))
    assert found(replace(GOOD, nodes=()))["nodes"] == "node_count"


def test_unreadable_addresses_of_a_port_are_left_out() -> None:
    assert addressing.own_addresses({"addresses": ["junk", "10.0.0.1/24"]}) == [ip_interface("10.0.0.1/24")]
    assert addressing.own_addresses({}) == []


def test_one_end_before_joining() -> None:
    def key(end: LinkEnd) -> list[tuple[str, str]]:
        return [(one.key, one.field) for one in rules.check_end(PORTS[B], "B", "sync", end)]

    assert key(LinkEnd("sync0", ip_interface("10.9.0.2/24"))) == []
    assert key(LinkEnd("sync9", ip_interface("10.9.0.2/24"))) == [("port_missing", "ends.sync.port")]
    assert key(LinkEnd("", ip_interface("10.9.0.2/24"))) == [("port_missing", "ends.sync.port")]
    assert key(LinkEnd("sync0", ip_interface("10.9.0.0/24"))) == [("address", "ends.sync.address")]
    assert key(LinkEnd("sync0", ip_interface("10.9.0.3/24"))) == [("address_missing", "ends.sync.address")]


@pytest.mark.parametrize("name", ["heartbeat_ms", "ping_pongs", "lease_s", "boot_hold_s", "announce_refresh_s"])
@pytest.mark.parametrize("number", [10**400, -(10**400)])
def test_numbers_beyond_all_bounds_are_refused_in_words(name: str, number: int) -> None:
    data = to_dict(GOOD)
    data["advanced"][name] = number
    with pytest.raises(ChecksFailed):
        from_dict(data)
