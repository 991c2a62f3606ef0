"""The rules for the other gateway: which, as text, and whether anything lets in more."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import pytest

from flask_hsmx_cluster.errors import ConfigError
from flask_hsmx_cluster.firewall import check, kernel, text
from flask_hsmx_cluster.firewall.rules import MOST_PEERS, Peer, Rule, Use, peers_of, rules, services
from flask_hsmx_cluster.settings.model import from_dict

from ..web.fake_agent import OWN_ID, PEER_ID, cluster_settings

SYNC, BACKUP = Peer(ip_address("10.99.0.2"), "sync"), Peer(ip_address("fd00:98::2"), "backup")
SERVICE = Peer(ip_address("10.0.0.2"), "service")


def ports(*firmwares: str, **more: Any) -> list[str]:
    return [f"{one.port}/{one.protocol}" for one in services(firmwares, **more)]


# Which


def test_the_manuals_rules_before_and_since_5_2_03() -> None:
    assert ports("5.2.02", "5.2.02") == ["80/tcp", "873/tcp", "5432/tcp", "5555/udp"]
    assert ports("5.2.03", "5.2.03") == ["80/tcp", "5432/tcp", "5555/udp", "22/tcp"]


def test_a_mixed_pair_has_both_until_both_are_new() -> None:
    assert ports("5.2.02", "5.2.03") == ["80/tcp", "873/tcp", "5432/tcp", "5555/udp", "22/tcp"]
    assert ports("5.2.03", "5.2.02") == ["80/tcp", "873/tcp", "5432/tcp", "5555/udp", "22/tcp"]


@pytest.mark.parametrize(
    ("version", "expected"),
    [("5.2.03", {22}), ("5.2.3", {22}), ("v5.2.03-beta", {22}), ("5.2", {873}), ("5.10", {22}), ("6", {22}),
     ("5.2.02.9", {873}), ("4.9.99", {873}), ("2024-06", {22}), ("nightly", {22, 873}), ("", {22, 873}),
     ("9" * 5000, {22}), ("\u0665.2", {22, 873})],
)  # fmt: skip
def test_how_a_version_is_read(version: str, expected: set[int]) -> None:
    assert {one.port for one in services([version]) if one.use in (Use.SSH, Use.RSYNC)} == expected


def test_each_rule_has_one_source_and_what_is_copied_keeps_to_the_cables() -> None:
    found = rules(services(["5.2.03"], connections=True), [SYNC, BACKUP, SERVICE, SYNC])
    assert len(found) == len(set(found))
    by_source = {str(one.source): [] for one in found}  # type: dict[str, list[int]]
    for one in found:
        by_source[str(one.source)].append(one.service.port)
    assert by_source == {"10.99.0.2": [80, 5432, 5555, 22, 3780], "fd00:98::2": [80, 5432, 5555, 22, 3780],
                         "10.0.0.2": [80, 5555]}  # fmt: skip


def test_ports_of_the_configuration_are_taken_over() -> None:
    assert ports("5.2.03", http=8080, database=5433, heartbeats=6666) == ["8080/tcp", "5433/tcp", "6666/udp", "22/tcp"]


def test_the_addresses_are_the_other_gateways() -> None:
    settings = from_dict(cluster_settings())
    assert [(one.kind, str(one.address)) for one in peers_of(settings, OWN_ID)] == [
        ("sync", "192.168.254.2"), ("backup", "172.31.0.2")]  # fmt: skip
    assert [str(one.address) for one in peers_of(settings, PEER_ID)] == ["192.168.254.1", "172.31.0.1"]
    assert not list(peers_of(from_dict(cluster_settings(paired=False)), OWN_ID))
    assert len(settings.links) <= MOST_PEERS


# As text


def all_rules() -> tuple[Rule, ...]:
    return rules(services(["5.2.02", "5.2.03"], connections=True), [SYNC, BACKUP, SERVICE])


def test_as_text_for_nftables_and_iptables() -> None:
    nft, iptables = text.nftables(all_rules()), text.iptables(all_rules())
    assert nft.count("accept") == iptables.count("ACCEPT") == len(all_rules()) == 14
    assert "input ip saddr 10.99.0.2 tcp dport 873 accept" in nft
    assert "input ip6 saddr fd00:98::2 udp dport 5555 accept" in nft
    assert "iptables -I INPUT -s 10.99.0.2/32 -p tcp --dport 22 " in iptables
    assert "ip6tables -I INPUT -s fd00:98::2/128 -p tcp --dport 5432 " in iptables


def test_our_own_table_closes_what_only_the_other_gateway_uses() -> None:
    found = text.own_table(services(["5.2.02", "5.2.03"], connections=True), [SYNC.address, BACKUP.address])
    assert "tcp dport { 873, 5432 } drop" in found and "udp dport { 5555 } drop" in found
    for guests in ("80", " 22", "3780"):  # the portal, administrators, and what has a table of its own
        assert guests not in found
    assert "ip saddr { 10.99.0.2 } accept" in found and "ip6 saddr { fd00:98::2 } accept" in found


# Does anything let in more?


def judged(*allowed: check.Allowed) -> list[tuple[str, str]]:
    found = check.check(allowed, services(["5.2.03"]), [SYNC])
    return [(one.key, one.text + one.remedy) for one in found]


def host(**rule: Any) -> check.Allowed:
    return check.stated([{"protocol": "tcp", "port": 5432, **rule}])[0]


def test_single_addresses_are_in_order() -> None:
    assert judged(host(source="10.99.0.2"), host(source="10.99.0.2/32"), host(source="fd00::2")) == []


def test_a_range_and_a_missing_source_are_warned_about() -> None:
    ((key, said),) = judged(host(source="10.99.0.0/24", note="copy"))
    assert key == "firewall_range" and "5432/tcp (the database) is open to 10.99.0.0/24" in said
    assert "rule 1 (“copy”)" in said and "10.99.0.2" in said
    ((key, said),) = judged(host(source=""))
    assert key == "firewall_anybody" and "names no source address" in said and "10.99.0.2" in said


def test_rules_for_others_and_of_other_ports_are_not_the_clusters() -> None:
    assert judged(host(port=80, for_others=True), host(port=443), host(protocol="udp")) == []
    assert [key for key, _ in judged(host(port=80))] == ["firewall_anybody"]


@pytest.mark.parametrize(
    "rule", [{}, 7, None, {"protocol": "tcp"}, {"protocol": "icmp", "port": 1}, {"protocol": "tcp", "port": 0},
             {"protocol": "tcp", "port": "x"}, {"protocol": "tcp", "port": 22, "source": "everybody"}],
)  # fmt: skip
def test_a_rule_of_the_host_that_cannot_be_read_is_named(rule: Any) -> None:
    with pytest.raises(ConfigError, match="Rule 2"):
        check.stated([{"protocol": "tcp", "port": 22}, rule])


# What the kernel has. These need one, in a network namespace of their own.


needs_a_kernel = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("nft") is None, reason="needs root and Debian's nftables")


@pytest.fixture
def nft() -> Callable[[str], Any]:
    """Load rules into a namespace of their own, and return what ``nft -j`` says of them."""

    def load(commands: str) -> Any:
        script = "nft -f - && nft -j list ruleset"
        done = subprocess.run(["unshare", "--net", "sh", "-c", script], input=commands, capture_output=True, text=True)
        assert not done.returncode, done.stderr
        return json.loads(done.stdout)

    return load


def input_chain(*lines: str, policy: str = "drop", before: str = "") -> str:
    joined = "\n".join(lines)
    return (f"table inet filter {{\n{before}\nchain input {{\ntype filter hook input priority 0; policy {policy};\n"
            f"{joined}\n}}\n}}\n")


@needs_a_kernel
def test_all_texts_are_understood_by_nft(nft: Callable[[str], Any]) -> None:
    base = input_chain('iifname "lo" accept', "ct state established,related accept")
    listing = nft(base + text.nftables(all_rules()))
    found = kernel.allowed(listing)
    assert [(one.protocol, one.ports[0][0], str(one.sources[0].network_address)) for one in found] == [
        (one.service.protocol, one.service.port, str(one.source)) for one in all_rules()]  # fmt: skip
    assert list(check.check(found, services(["5.2.02", "5.2.03"], connections=True), [SYNC])) == []
    own = text.own_table(services(["5.2.02"]), [SYNC.address, BACKUP.address])
    assert kernel.closes(nft(f"table inet {text.TABLE} {{\n{own}\n}}"))


@needs_a_kernel
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("tcp dport 5432 accept", "firewall_anybody"),
        ("tcp dport { 22, 5432 } counter accept", "firewall_anybody"),
        ("tcp dport 5000-6000 accept", "firewall_anybody"),
        ('iifname "lan0" accept', "firewall_anybody"),
        ("meta l4proto { tcp, udp } th dport 5555 accept", "firewall_anybody"),
        ("ip saddr 10.99.0.0/30 udp dport 5555 accept", "firewall_range"),
        ("ip saddr { 10.99.0.2, 10.98.0.0/24 } tcp dport 5432 accept", "firewall_range"),
        ("ip saddr 10.99.0.2-10.99.0.9 tcp dport 5432 accept", "firewall_range"),
        ("ip saddr @friends tcp dport 5432 accept", "firewall_range"),
        ("ip6 saddr fd00::/64 tcp dport 22 accept", "firewall_range"),
        ("tcp dport 5432 ct state new accept", "firewall_anybody"),
        ("ct state { established, new } tcp dport 5432 accept", "firewall_anybody"),
        ("ip saddr != 10.99.0.66 tcp dport 5432 accept", "firewall_anybody"),
        ('iifname != "lan0" tcp dport 5432 accept', "firewall_anybody"),
        ("ip saddr 0.0.0.0/0 tcp dport 5432 ct state new accept", "firewall_range"),
        ("ip saddr 10.99.0.0/24 ct state new tcp dport 5432 accept", "firewall_range"),
        ("ip saddr 10.99.0.2 ct state new tcp dport 5432 accept", ""),
        ("ct state new,established ip6 saddr fd00::2 tcp dport 22 accept", ""),
        ("ip saddr 10.99.0.2 tcp dport 5432 accept", ""),
        ("ip saddr { 10.99.0.2, 10.98.0.2 } tcp dport { 22, 5432 } accept", ""),
        ("tcp dport 5432 drop", ""),
        ("tcp dport 443 accept", ""),
        ('iifname "lo" accept', ""),
        ("ct state established,related accept", ""),
        ("meta l4proto icmp accept", ""),
    ],
)
def test_what_a_rule_of_the_kernel_lets_in(nft: Callable[[str], Any], line: str, expected: str) -> None:
    listing = nft(input_chain(line, before="set friends { type ipv4_addr; flags interval; elements = { 10.0.0.0/8 } }"))
    wanted = [one for one in services(["5.2.03"]) if one.use is not Use.SETTINGS]
    keys = [one.key for one in check.check(kernel.allowed(listing), wanted, [SYNC])]
    assert keys == ([expected] if expected else [])


@needs_a_kernel
def test_other_hooks_and_tables_that_are_left_out(nft: Callable[[str], Any]) -> None:
    chain = "add table inet {0}; add chain inet {0} {1} {{ type filter hook {1} priority 0; }};"
    chain += "add rule inet {0} {1} tcp dport 5432 accept;"
    listing = nft(chain.format("filter", "output") + chain.format("mine", "input"))
    assert [one.where for one in kernel.allowed(listing)] == ["the packet rule in table inet mine, chain input"]
    assert kernel.allowed(listing, but=["mine"]) == []
    assert not kernel.closes(listing)


@pytest.mark.parametrize(
    "listing",
    [None, 7, [], {}, {"nftables": 1}, {"nftables": [1, None, {"rule": 1}, {"rule": {}}, {"chain": {"hook": []}}]},
     {"nftables": [{"rule": {"family": "inet", "table": "t", "chain": "c", "expr": [{"match": {}}, 7, {}]}}]},
     {"nftables": [{"rule": {"family": "inet", "table": "t", "chain": "c", "expr": [
         {"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": {"set": 3}}},
         {"accept": None}]}}]}],
)  # fmt: skip
def test_whatever_nft_may_print_is_borne(listing: Any) -> None:
    assert kernel.allowed(listing) == []
    assert not kernel.closes(listing)
