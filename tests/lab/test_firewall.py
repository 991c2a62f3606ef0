"""Real packet rules: what the generated ones let in and what not, and a pair for which nothing else is open."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import psycopg
import pytest

from flask_hsmx_cluster.firewall.rules import Peer, rules, services
from flask_hsmx_cluster.firewall.text import TABLE, nftables
from sample_app.lab import Gateway, Lab, LabError, Namespace, form, wait_for_roles
from sample_app.machines import APP, Machines

from .hotel import connect, in_order, needs_postgres, same, sell, vouchers, wait_until

#: Refuses at once what no rule lets in, so that nothing has to be waited for.
CLOSED = """
table inet filter {
    chain input {
        type filter hook input priority 0; policy drop;
        iifname "lo" accept
        ct state established,related accept
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
        reject with icmpx admin-prohibited
    }
}
"""
TCP, UDP = (22, 80, 443, 873, 5432), (5555, 3780)
NEEDED = {"5.2.02": {80, 873, 5432, 5555, 3780}, "5.2.03": {80, 22, 5432, 5555, 3780},
          "mixed": {80, 22, 873, 5432, 5555, 3780}}  # fmt: skip
FIRMWARES = {"5.2.02": ["5.2.02", "5.2.02"], "5.2.03": ["5.2.03", "5.2.03"], "mixed": ["5.2.02", "5.2.03"]}


# The rules, on two machines on which nothing runs


class Listening:
    """Something listens on every port of a gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._tcp = [gateway.namespace.socket(socket.AF_INET6, socket.SOCK_STREAM) for _ in TCP]
        self._udp = {port: gateway.namespace.socket(socket.AF_INET6, socket.SOCK_DGRAM) for port in UDP}
        for each, port in zip(self._tcp, TCP, strict=True):
            each.bind(("::", port))
            each.listen()
        for port, one in self._udp.items():
            one.bind(("::", port))

    def close(self) -> None:
        for each in (*self._tcp, *self._udp.values()):
            each.close()

    def lets_in(self, machine: Namespace, source: str, target: str) -> set[int]:
        """Return the ports that a machine reaches from one of its addresses."""
        return {port for port in TCP if self._reaches(machine, source, target, port, socket.SOCK_STREAM)} | {
            port for port in UDP if self._reaches(machine, source, target, port, socket.SOCK_DGRAM)
        }

    def _reaches(self, machine: Namespace, source: str, target: str, port: int, kind: socket.SocketKind) -> bool:
        family = socket.AF_INET6 if ":" in source else socket.AF_INET
        with machine.socket(family, kind) as sender:
            sender.settimeout(20)
            sender.bind((source, 0))
            try:
                sender.connect((target, port))
                if kind == socket.SOCK_DGRAM:
                    own, there = sender.getsockname(), self._udp[port]
                    sender.send(b"are you there")
                    there.settimeout(0.05)
                    while True:  # the datagram arrives, or the answer that it was refused
                        with contextlib.suppress(TimeoutError):
                            if there.recvfrom(100)[1][1] == own[1]:
                                return True
                        sender.send(b"are you there")
            except OSError as error:
                assert not isinstance(error, TimeoutError), f"{source} to {target} port {port}: no answer at all"
                return False
        return True


@pytest.fixture(scope="module")
def bare() -> Iterator[tuple[Lab, Listening]]:
    with Lab(sync="switch", backup="switch", more={"sync0": ["fd00:99::{}/64"]}) as lab:
        lab.a.namespace.ip("addr add 10.99.0.77/24 dev sync0", "addr add fd00:99::77/64 dev sync0 nodad")
        lab.b.namespace.sysctl({"net/ipv4/icmp_ratelimit": 0, "net/ipv6/icmp/ratelimit": 0})
        with contextlib.closing(Listening(lab.b)) as listening:
            yield lab, listening


@pytest.mark.parametrize("version", FIRMWARES)
def test_the_peer_is_let_in_and_a_stranger_is_not(bare: tuple[Lab, Listening], version: str) -> None:
    lab, b = bare
    peers = [Peer(ip_address("10.99.0.1"), "sync"), Peer(ip_address("fd00:99::1"), "sync"),
             Peer(ip_address("10.98.0.1"), "backup"), Peer(ip_address("10.0.0.1"), "service")]  # fmt: skip
    text = nftables(rules(services(FIRMWARES[version], connections=True), peers))
    lab.b.namespace.run("nft", "flush", "ruleset")
    lab.b.namespace.run("nft", "-f", "-", stdin=CLOSED + text)
    gateway = lab.a.namespace
    for source, target in (("10.99.0.1", "10.99.0.2"), ("fd00:99::1", "fd00:99::2"), ("10.98.0.1", "10.98.0.2")):
        assert b.lets_in(gateway, source, target) == NEEDED[version], source
    assert b.lets_in(gateway, "10.0.0.1", "10.0.0.2") == {80, 5555}  # nothing is copied over the guests' network
    client = lab.client.run("ip", "-4", "-o", "addr", "show", "dev", "lan0").split()[3].split("/")[0]
    assert b.lets_in(lab.client, client, "10.0.0.2") == set()
    for source, target in (("10.99.0.77", "10.99.0.2"), ("fd00:99::77", "fd00:99::2")):
        assert b.lets_in(gateway, source, target) == set(), source


# A pair with nothing else open


def table(gateway: Gateway, name: str) -> str:
    with contextlib.suppress(LabError):
        return gateway.namespace.run("nft", "list", "table", "inet", name)
    return ""


@pytest.fixture(scope="module")
def pair() -> Iterator[Lab]:
    with (
        Lab(sync="switch", backup="switch", app=APP, postgres=True) as lab,
        contextlib.closing(Machines(lab)) as machines,
    ):
        for gateway in lab.gateways:
            gateway.environment["HSMX_CLUSTER_FIREWALL"] = "table"
        machines.start()
        for gateway in lab.gateways:  # before anything is formed
            wait_until(lambda: "policy drop" in table(gateway, "firmware_firewall"))  # noqa: B023
        form(lab)
        yield lab


def closed(gateway: Gateway) -> list[str]:
    found = gateway.call("preflight")
    assert {one["key"] for one in found["checked"]} >= {"firewall", "ports"}
    return [one["text"] for one in found["findings"] if one["key"] in ("port_closed", "ports_untried")]


@needs_postgres
def test_a_pair_works_with_nothing_else_open(pair: Lab) -> None:
    active = in_order(pair)
    passive = pair.other(active)
    with connect(active) as connection:
        number = sell(connection)
    wait_until(lambda: number in vouchers(passive))
    for gateway in pair.gateways:
        wait_until(lambda: closed(gateway) == [], lambda: str(closed(gateway)))  # noqa: B023
        assert TABLE in table(gateway, TABLE)
    active.call("failover")
    assert in_order(pair) is passive
    pair.faults.power_off(passive)
    wait_until(lambda: active.role() == "active")
    with connect(active) as connection:
        wait_until(lambda: sells(connection))
    pair.faults.power_on(passive)
    same(in_order(pair), passive)


def sells(connection: psycopg.Connection[tuple[Any, ...]]) -> bool:
    try:
        sell(connection)
    except psycopg.Error:
        return False
    return True


@needs_postgres
def test_a_closed_port_is_named_with_its_direction(pair: Lab) -> None:
    wait_for_roles(pair)
    shut = ("add table inet shut; add chain inet shut i { type filter hook input priority 0; };"
            'add rule inet shut i iifname "sync0" tcp dport 5432 reject with tcp reset')  # fmt: skip
    pair.b.namespace.run("nft", shut)
    try:
        seen = {gateway.name: closed(gateway) for gateway in pair.gateways}
    finally:
        pair.b.namespace.run("nft", "delete", "table", "inet", "shut")
    expected = ["Gateway A does not reach Gateway B at 10.99.0.2, TCP port 5432 (the database), over the sync link: "
                "connection refused."]  # fmt: skip
    assert seen == {"a": expected, "b": expected}


@needs_postgres
def test_what_the_kernel_lets_in_beyond_that_is_found(pair: Lab) -> None:
    assert pair.a.call("firewall")["findings"] == []
    pair.a.namespace.run("nft", "add table inet wide; add chain inet wide i { type filter hook input priority 0; };"
                                "add rule inet wide i ip saddr 10.99.0.0/24 tcp dport 22 accept")
    try:
        (found,) = pair.a.call("firewall")["findings"]
    finally:
        pair.a.namespace.run("nft", "delete", "table", "inet", "wide")
    assert found["key"] == "firewall_range" and "22/tcp (files) is open to 10.99.0.0/24" in found["text"]
    assert "10.99.0.2 or 10.98.0.2 or 10.0.0.2" in found["remedy"]


@needs_postgres
def test_our_own_table_comes_back_and_goes_with_the_cluster(pair: Lab) -> None:
    wait_for_roles(pair)
    for gateway in pair.gateways:
        mine, other = table(gateway, TABLE), pair.other(gateway).address("sync0").partition("/")[0]
        assert other in mine and "tcp dport 5432 drop" in mine and "udp dport 5555 drop" in mine
    pair.a.namespace.run("nft", "delete", "table", "inet", TABLE)
    wait_until(lambda: bool(table(pair.a, TABLE)))
    wait_until(lambda: "firewall_restored" in {one["kind"] for one in pair.a.call("events", limit=20)["events"]})
    active = wait_for_roles(pair)
    passive = pair.other(active)
    passive.call("leave")
    assert not table(passive, TABLE)
    wait_until(lambda: not table(active, TABLE))

