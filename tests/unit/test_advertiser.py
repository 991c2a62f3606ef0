"""Router advertisements: their bytes, when they are sent, and who says a last word."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address, IPv6Network, ip_address, ip_interface
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import (
    ICMPv6ND_RA,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptRDNSS,
    ICMPv6NDOptSrcLLAddr,
)

from flask_hsmx_cluster.agent.heartbeat import advertiser as module
from flask_hsmx_cluster.agent.heartbeat import plan
from flask_hsmx_cluster.agent.heartbeat import session as session_module
from flask_hsmx_cluster.agent.heartbeat.advertiser import (
    ANSWER_WITHIN_S,
    APART_S,
    AT_ONCE,
    FIRST,
    FIRST_EVERY_S,
    LEAST_S,
    MOST_S,
    OTHERS_KEPT,
    AdvertisedPort,
    Advertiser,
)
from flask_hsmx_cluster.decision.model import NEVER
from flask_hsmx_cluster.network.router_advertisement import (
    PREFERRED_S,
    ROUTER_LIFETIME_S,
    VALID_S,
    Advertisement,
    OtherRouter,
    Prefix,
    Solicitation,
    encode,
    parse,
    virtual_link_local,
)
from flask_hsmx_cluster.settings.networks import Network

from .test_rules import GOOD
from .test_session import core_at, session_of

MAC = bytes.fromhex("020000000001")
GUESTS, STAFF = IPv6Network("2001:db8:5::/64"), IPv6Network("2001:db8:6::/64")
TOLD = Advertisement((Prefix(GUESTS, True),), dns=(IPv6Address("2001:db8:5::1"),))
SOURCE = IPv6Address("fe80::5")


class Wire:
    """Keeps what is sent: port's index, router lifetime, and the preferred lifetimes of its networks."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, int, dict[str, int]]] = []
        self.heard: list[Solicitation | OtherRouter] = []
        self.listens: list[int] = []
        self.problem = ""

    def fileno(self) -> int:
        return -1

    def close(self) -> None: ...

    def listen(self, index: int) -> None:
        self.listens.append(index)

    def solicit(self, index: int) -> None:
        assert index in self.listens, "the answer is to be heard"

    def send(self, message: bytes, source: IPv6Address, index: int) -> str:
        assert source == SOURCE
        if not self.problem:
            found = ICMPv6ND_RA(message)
            prefixes = {}
            option = found.payload
            while option:
                if isinstance(option, ICMPv6NDOptPrefixInfo):
                    prefixes[option.prefix] = option.preferredlifetime
                option = option.payload
            self.sent.append((index, found.routerlifetime, prefixes))
        return self.problem

    def receive(self) -> list[Solicitation | OtherRouter]:
        heard, self.heard = self.heard, []
        return heard


def port(index: int = 2, told: Advertisement = TOLD) -> AdvertisedPort:
    return AdvertisedPort(told, SOURCE, index, f"lan{index}", index, MAC)


@pytest.fixture
def forwarding(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    answer = SimpleNamespace(on=True)
    monkeypatch.setattr(module, "forwards_ipv6", lambda name: answer.on)
    return answer


def run(advertiser: Advertiser, now: float, until: float) -> list[float]:
    """Let the loop turn whenever something is due; return when it was."""
    times = []
    while (due := advertiser.deadline()) <= until:
        now = max(now, due)
        times.append(now)
        advertiser.step(now)
    return times


# Bytes


def test_an_advertisement_is_what_another_parser_reads() -> None:
    told = Advertisement(
        (Prefix(GUESTS, True), Prefix(IPv6Network("2001:db8:7::/56"), False), Prefix(STAFF, True, ended=True)),
        managed=True, other=True, dns=(IPv6Address("2001:db8:5::1"), IPv6Address("2001:db8:5::2")),
    )  # fmt: skip
    found = ICMPv6ND_RA(encode(told, MAC, ROUTER_LIFETIME_S))
    assert (found.type, found.code, found.chlim, found.M, found.O) == (134, 0, 64, 1, 1)
    assert (found.routerlifetime, found.reachabletime, found.retranstimer) == (ROUTER_LIFETIME_S, 0, 0)
    assert found[ICMPv6NDOptSrcLLAddr].lladdr == MAC.hex(":")
    first = found[ICMPv6NDOptPrefixInfo]
    second = first.payload
    third = second.payload
    assert [(one.prefix, one.prefixlen, one.L, one.A, one.validlifetime, one.preferredlifetime)
            for one in (first, second, third)] == [
        ("2001:db8:5::", 64, 1, 1, VALID_S, PREFERRED_S),
        ("2001:db8:7::", 56, 1, 0, VALID_S, PREFERRED_S),
        ("2001:db8:6::", 64, 1, 1, VALID_S, 0),
    ]  # fmt: skip
    servers = third.payload
    assert isinstance(servers, ICMPv6NDOptRDNSS)
    assert (servers.lifetime, servers.dns) == (ROUTER_LIFETIME_S, ["2001:db8:5::1", "2001:db8:5::2"])
    assert not servers.payload


def test_the_largest_one_fits_into_a_packet() -> None:
    networks = [IPv6Network((at << 64, 64)) for at in range(32)]
    dns = tuple(IPv6Address(at) for at in range(1, 17))
    assert len(encode(Advertisement(tuple(Prefix(one, True) for one in networks), dns=dns), MAC, 0)) <= 1500 - 40


def test_a_ports_router_is_the_same_on_both_gateways_and_another_one_elsewhere() -> None:
    one = virtual_link_local("cluster", "lan0")
    assert one == virtual_link_local("cluster", "lan0") and one.ip.is_link_local and one.network.prefixlen == 64
    assert len({one, virtual_link_local("cluster", "lan1"), virtual_link_local("another", "lan0")}) == 3


@given(st.binary(max_size=64))
def test_whatever_comes_in_is_understood_or_left_out(data: bytes) -> None:
    parse(data, "fe80::9", 2)
    parse(bytes((134, 0)) + data, "fe80::9", 2)


def test_no_router_speaks_from_elsewhere() -> None:
    message = encode(TOLD, MAC, 600)
    assert parse(message, "fe80::9", 2) == OtherRouter(2, "fe80::9", 600)
    assert parse(message, "2001:db8::9", 2) is None
    assert parse(message[:15], "fe80::9", 2) is None
    assert parse(bytes((133, 0)) + bytes(6), "::", 2) == Solicitation(2)


# From settings


def test_networks_of_a_port_are_told_in_one() -> None:
    networks = (
        Network(ip_interface("2001:db8:5::1/64"), "lan0", advertise="slaac", dns=ip_address("2001:db8:5::1")),
        Network(ip_interface("2001:db8:6::1/64"), "lan0", advertise="dhcp", dns=ip_address("2001:db8:5::1")),
        Network(ip_interface("2001:db8:7::1/64"), "lan1", advertise="stateless-dhcp"),
        Network(ip_interface("2001:db8:8::1/64"), "lan2"),
        Network(ip_interface("10.20.0.1/16"), "lan3"),
    )
    settings = replace(GOOD, networks=networks)
    assert plan.advertised_of(settings) == {
        "lan0": Advertisement(
            (Prefix(GUESTS, True), Prefix(STAFF, False)), managed=True, dns=(IPv6Address("2001:db8:5::1"),)
        ),
        "lan1": Advertisement((Prefix(IPv6Network("2001:db8:7::/64"), True),), other=True),
    }
    link_local = {one.port: one.address for one in plan.shared_of(settings) if one.address.is_link_local}
    assert link_local == {name: virtual_link_local(GOOD.cluster_id, name) for name in ("lan0", "lan1", "lan2")}
    assert all(not one.address.is_link_local for some in plan.watched_of(settings).values() for one in some)


# When


def test_the_new_active_gateway_advertises_at_once_and_then_ever_more_rarely(forwarding: SimpleNamespace) -> None:
    wire = Wire()
    advertiser = Advertiser({"lan2": port()}, wire)
    assert wire.listens == [2] and advertiser.deadline() == NEVER
    advertiser.start(1000.0)
    times = run(advertiser, 1000.0, 1000.0 + 10 * MOST_S)
    assert times[:FIRST] == [1000.0 + at * FIRST_EVERY_S for at in range(FIRST)]
    gaps = [later - one for one, later in zip(times[FIRST - 1 :], times[FIRST:], strict=False)]
    assert gaps and all(LEAST_S <= gap <= MOST_S for gap in gaps)
    assert wire.sent == [(2, ROUTER_LIFETIME_S, {"2001:db8:5::": PREFERRED_S})] * len(times)
    assert ROUTER_LIFETIME_S >= 3 * MOST_S, "two that are lost take no router away"


@pytest.mark.parametrize("after", [0.0, 1.0, 2.9, 100.0])
def test_guests_who_ask_are_answered_soon_and_not_too_often(forwarding: SimpleNamespace, after: float) -> None:
    wire = Wire()
    advertiser = Advertiser({"lan2": port(), "lan3": port(3)}, wire)
    advertiser.start(1000.0)
    last = run(advertiser, 1000.0, 1000.0 + FIRST * FIRST_EVERY_S)[-1]
    wire.sent.clear()
    for at in range(50):  # a whole school class
        wire.heard = [Solicitation(2), Solicitation(9)]
        advertiser.receive(last + after + at / 1000)
    (answered,) = run(advertiser, last + after, last + after + LEAST_S / 2)
    assert [index for index, _lifetime, _networks in wire.sent] == [2]
    assert max(after, APART_S) <= answered - last <= max(after + 0.05 + ANSWER_WITHIN_S, APART_S)


def test_a_passive_gateway_answers_nobody(forwarding: SimpleNamespace) -> None:
    wire = Wire()
    advertiser = Advertiser({"lan2": port()}, wire)
    wire.heard = [Solicitation(2)]
    advertiser.receive(1000.0)
    assert advertiser.deadline() == NEVER
    advertiser.start(1000.0)
    advertiser.step(1000.0)
    wire.heard = [Solicitation(2)]
    advertiser.receive(1010.0)
    advertiser.stop()
    advertiser.step(2000.0)
    assert len(wire.sent) == 1 and advertiser.deadline() == NEVER


def test_many_ports_take_several_turns(forwarding: SimpleNamespace) -> None:
    wire = Wire()
    advertiser = Advertiser({f"lan{at}": port(at) for at in range(100)}, wire)
    advertiser.start(1000.0)
    advertiser.step(1000.0)
    assert len(wire.sent) == AT_ONCE and advertiser.deadline() == 1000.0
    run(advertiser, 1000.0, 1001.0)
    assert [index for index, *_rest in wire.sent] == list(range(100))


def test_a_gateway_that_does_not_forward_is_no_router(forwarding: SimpleNamespace) -> None:
    wire = Wire()
    advertiser = Advertiser({"lan2": port()}, wire)
    forwarding.on = False
    advertiser.start(1000.0)
    advertiser.step(1000.0)
    forwarding.on = True
    advertiser.step(1000.0 + FIRST_EVERY_S)
    assert [lifetime for _index, lifetime, _networks in wire.sent] == [0, ROUTER_LIFETIME_S]


def test_what_the_kernel_refuses_is_tried_again_and_told(forwarding: SimpleNamespace) -> None:
    wire = Wire()
    advertiser = Advertiser({"lan2": port()}, wire)
    wire.problem = "Network is down"
    advertiser.start(1000.0)
    advertiser.step(1000.0)
    assert advertiser.deadline() == 1000.0 + APART_S
    assert [one.key for one in advertiser.alarms(1001.0)] == ["advertise_lan2"]
    assert advertiser.as_dicts(1001.0)[0]["last_s"] is None
    wire.problem = ""
    advertiser.step(1000.0 + APART_S)
    assert not list(advertiser.alarms(1004.0))
    (told,) = advertiser.as_dicts(1005.0)
    assert (told["since_s"], told["last_s"], told["networks"]) == (2.0, 2.0, ["2001:db8:5::/64"])


# The last word


def active(wire: Wire, *ports: AdvertisedPort) -> Advertiser:
    advertiser = Advertiser({one.device: one for one in ports}, wire)
    advertiser.start(1000.0)
    run(advertiser, 1000.0, 1000.0 + FIRST * FIRST_EVERY_S)
    wire.sent.clear()
    return advertiser


def test_a_role_that_is_passed_on_takes_no_router_away(forwarding: SimpleNamespace) -> None:
    wire = Wire()
    advertiser = active(wire, port())
    advertiser.stop()
    advertiser.take_leave()
    assert not wire.sent


def test_who_ends_with_nobody_to_follow_takes_leave_and_ends_no_network(forwarding: SimpleNamespace) -> None:
    wire = Wire()
    advertiser = active(wire, port(), port(3))
    advertiser.take_leave()
    assert wire.sent == [(2, 0, {}), (3, 0, {})] and advertiser.deadline() == NEVER


@pytest.mark.parametrize(("heard_s", "leaves"), [(None, True), (0.3, False), (30.0, True)])
def test_a_gateway_that_ends_asks_whether_the_other_one_is_there(
    forwarding: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, heard_s: float | None, leaves: bool
) -> None:
    monkeypatch.setattr(session_module, "boot_time_s", lambda: 2000.0)
    wire, core = Wire(), core_at(1000.0)
    session = session_of(core)
    session.advertiser = active(wire, port())
    core.peer_at = None if heard_s is None else 2000.0 - heard_s
    session.take_leave()
    assert bool(wire.sent) is leaves


def test_changed_settings_take_leave_of_what_is_gone_only(forwarding: SimpleNamespace) -> None:
    wire = Wire()
    both = replace(TOLD, prefixes=(*TOLD.prefixes, Prefix(STAFF, True)))
    former = active(wire, port(2), port(3), port(4, both))
    now = 1000.0 + FIRST * FIRST_EVERY_S
    last_words, wire = wire.sent, Wire()
    advertiser = Advertiser({"lan2": port(2), "lan4": port(4), "lan5": port(5)}, wire)
    advertiser.succeed(former, now)
    assert last_words == [(3, 0, {"2001:db8:5::": 0})], "at once, while the address is held"
    run(advertiser, now, now + FIRST * FIRST_EVERY_S)
    lan4 = (4, ROUTER_LIFETIME_S, {"2001:db8:5::": PREFERRED_S, "2001:db8:6::": 0})
    lan5 = (5, ROUTER_LIFETIME_S, {"2001:db8:5::": PREFERRED_S})
    assert sorted(wire.sent, key=str) == [lan4] * FIRST + [lan5] * FIRST, "lan2 goes on as it was"
    wire.sent.clear()
    run(advertiser, now, now + 2 * MOST_S)
    assert {str(networks) for index, _lifetime, networks in wire.sent if index == 4} == {str(lan5[2])}, "told"


def test_the_last_advertised_network_that_goes_is_taken_leave_of(forwarding: SimpleNamespace) -> None:
    wire = Wire()
    Advertiser({}, None).succeed(active(wire, port()), 1100.0)
    assert wire.sent == [(2, 0, {"2001:db8:5::": 0})]


def test_a_passive_gateways_changed_settings_say_nothing(forwarding: SimpleNamespace) -> None:
    wire = Wire()
    advertiser = Advertiser({}, wire)
    advertiser.succeed(Advertiser({"lan2": port()}, wire), 1000.0)
    assert not wire.sent


# Other routers


def test_another_router_is_told_until_it_falls_silent(forwarding: SimpleNamespace) -> None:
    wire = Wire()
    advertiser = Advertiser({"lan2": port()}, wire)

    def hear(address: str, lifetime_s: int, now: float) -> None:
        wire.heard = [OtherRouter(2, address, lifetime_s), OtherRouter(9, address, lifetime_s)]
        advertiser.receive(now)

    def keys(now: float) -> list[str]:
        return [one.key for one in advertiser.alarms(now)]

    hear(str(SOURCE), 600, 1000.0)
    assert not keys(1000.0), "the other gateway"
    hear("fe80::9", 600, 1000.0)
    assert keys(1000.0) == ["other_router_lan2"] and not keys(1601.0)
    hear("fe80::9", 9000, 2000.0)
    assert keys(3000.0) and not keys(4000.0), "however long it says"
    hear("fe80::9", 600, 5000.0)
    hear("fe80::9", 0, 5001.0)
    assert not keys(5001.0)
    for at in range(1000):
        hear(f"fe80::1:{at:x}", 600, 6000.0)
    told: Any = advertiser.as_dicts(6000.0)[0]["other_routers"]
    assert len(told) == OTHERS_KEPT
