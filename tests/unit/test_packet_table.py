"""The agent's own packet rules and the ports that it tries: two gateways in one process, a kernel that is made up."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from flask_hsmx_cluster.agent.packet_table import PacketTable
from flask_hsmx_cluster.agent.peer.client import Route
from flask_hsmx_cluster.agent.preflight import checks, ports
from flask_hsmx_cluster.config import Config
from flask_hsmx_cluster.errors import ConfigError, RequestRefused
from flask_hsmx_cluster.firewall.rules import services
from flask_hsmx_cluster.firewall.text import TABLE
from flask_hsmx_cluster.network import nftables
from flask_hsmx_cluster.network.nftables import ToolFailed

from .gateways import World, port

SERVICES = services(["5.2.03"])
PEER, OTHER = ip_address("10.9.0.2"), ip_address("10.8.0.2")


class Kernel:
    """Holds one table."""

    def __init__(self) -> None:
        self.body = ""
        self.refuses = ""
        self.commits = 0

    def listed(self, name: str) -> str:
        assert name == TABLE
        if self.refuses:
            raise ToolFailed(self.refuses, "Mend it.")
        return self.body and f"table {self.body}"

    def replace_table(self, name: str, body: str) -> None:
        self.commits += 1
        self.body = body


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


@pytest.fixture
def events() -> list[str]:
    return []


@pytest.fixture
def table(kernel: Kernel, events: list[str]) -> PacketTable:
    return PacketTable(True, lambda kind, *_: events.append(kind), kernel)


def test_it_is_set_once_and_removed_with_the_other_gateway(table: PacketTable, kernel: Kernel) -> None:
    assert table.keep(SERVICES, []) == "removed" and kernel.commits == 0
    assert table.keep(SERVICES, [PEER]) == "set" and "ip saddr { 10.9.0.2 } accept" in kernel.body
    assert table.kept and table.keep(SERVICES, [PEER]) == "in place" and kernel.commits == 1
    assert table.keep(SERVICES, [PEER, OTHER]) == "set" and "10.8.0.2" in kernel.body
    assert table.keep(SERVICES, []) == "removed" and kernel.body == "" and not table.kept
    assert table.keep(SERVICES, []) == "no other gateway yet" and kernel.commits == 3


def test_what_somebody_flushed_or_changed_comes_back_and_is_told(
    table: PacketTable, kernel: Kernel, events: list[str]
) -> None:
    table.keep(SERVICES, [PEER])
    whole = kernel.body
    for changed in ("", whole.replace("drop", "accept")):
        kernel.body = changed
        assert table.keep(SERVICES, [PEER]) == "set again" and kernel.body == whole
    assert events == ["firewall_restored"] * 2


def test_one_that_a_former_configuration_left_is_removed(kernel: Kernel) -> None:
    kernel.body = "left behind"
    assert PacketTable(False, lambda *_: None, kernel).keep(SERVICES, [PEER]) == "switched off"
    assert kernel.body == ""


def test_a_kernel_that_refuses_is_an_alarm_and_tried_again(table: PacketTable, kernel: Kernel) -> None:
    kernel.refuses = "nft is not installed."
    assert table.keep(SERVICES, [PEER]) == "waits: nft is not installed." and not table.kept
    ((key, severity, text, remedy),) = table.alarms()
    assert (key, severity, remedy) == ("firewall_table", "warning", "Mend it.") and "nft is not installed." in text
    kernel.refuses = ""
    assert table.keep(SERVICES, [PEER]) == "set" and table.alarms() == []


def test_addresses_that_are_about_to_be_tried_are_let_in_for_a_while(
    table: PacketTable, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    table.expect(["10.7.0.2", "fe80::1%lan0", "no address", 7, None, {}])
    table.expect({"not": "a list"})
    table.keep(SERVICES, [PEER])
    assert "{ 10.7.0.2, 10.9.0.2 }" in kernel.body and "fe80" not in kernel.body
    monkeypatch.setattr("flask_hsmx_cluster.agent.packet_table.boot_time_s", lambda: 1e12)
    table.keep(SERVICES, [PEER])
    assert "{ 10.9.0.2 }" in kernel.body


def test_however_many_addresses_are_told_few_are_kept(table: PacketTable, kernel: Kernel) -> None:
    for number in range(200):
        table.expect([f"10.7.{number}.{host}" for host in range(200)])
    table.keep(SERVICES, [PEER])
    assert kernel.body.count("10.7.") <= 16


# In a cluster


@pytest.fixture
def kernels(world: World) -> dict[str, Kernel]:
    """Let both gateways keep a table, and form the cluster anew."""
    found = {}
    for name, gateway in world.gateways.items():
        cluster = gateway.service._cluster
        found[name] = Kernel()
        cluster.table = PacketTable(True, gateway.store.record, found[name])
        cluster.keep_table()
    return found


def test_both_gateways_let_in_each_other_and_nobody_after_leaving(world: World, kernels: dict[str, Kernel]) -> None:
    assert "{ 10.8.0.2, 10.9.0.2 }" in kernels["A"].body and "{ 10.8.0.1, 10.9.0.1 }" in kernels["B"].body
    world.b.service.leave()
    assert kernels["B"].body == ""
    world.a.service._cluster.keep_table()
    assert kernels["A"].body == ""


def test_new_addresses_are_let_in_before_they_are_tried(
    world: World, kernels: dict[str, Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, bool, bool]] = []

    def look(route: Route, _port: int) -> str:
        seen.append((route.remote, "10.7.0.2" in kernels["A"].body, "10.7.0.1" in kernels["B"].body))
        return ""

    for number, gateway in ((1, world.a), (2, world.b)):
        gateway.hot.own_ports.append(port("new0", f"02:00:00:00:07:0{number}", f"10.7.0.{number}/24"))
    found = world.a.service.settings()
    for end in found["settings"]["links"][1]["ends"].values():
        end.update(port="new0", address=end["address"].replace("10.8.", "10.7."))
    monkeypatch.setattr(checks, "reachable", look)
    world.a.service.propose(found["settings"], found["revision"])
    assert seen == [("10.7.0.2", True, True)]
    assert "10.7.0.2" in kernels["A"].body and "10.7.0.1" in kernels["B"].body


# Rules and trials, as the agent tells them


def test_the_verb_tells_the_rules(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nftables, "ruleset", lambda: json.loads('{"nftables": []}'))
    told = world.a.service.firewall()
    assert {rule["source"] for rule in told["rules"]} == {"10.9.0.2", "10.8.0.2"}
    assert (told["firmware"], told["peer_firmware"], told["closes"], told["table"]) == ("5.3", "5.3", False, "off")
    assert {rule["source"] for rule in world.a.service.firewall(["fd00::2"])["rules"]} == {"fd00::2"}
    for wrong in ("10.0.0.0/24", "everybody", "ff02::1", "127.0.0.1", "fe80::1%lan0", ""):
        with pytest.raises(RequestRefused):
            world.a.service.firewall([wrong])


def test_a_kernel_that_cannot_be_read_is_said(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Any:
        raise ToolFailed("nft is not installed.")

    monkeypatch.setattr(nftables, "ruleset", refuse)
    told = world.a.service.firewall()
    assert told["closes"] is None and told["findings"] == []


@pytest.fixture
def heard(world: World) -> World:
    for gateway in (world.a, world.b):
        gateway.hot.path_states = {"sync": "up", "backup": "up"}
    return world


def texts(world: World, name: str = "A") -> list[str]:
    return [one["text"] for one in world.gateways[name].service.preflight()["findings"]]


def test_each_direction_is_tried_and_named(heard: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert texts(heard) == []

    def closed(route: Route, port: int) -> str:
        return "no answer in time" if (route.remote, port) == ("10.9.0.1", 22) else ""

    monkeypatch.setattr(ports, "reachable", closed)
    expected = "B does not reach A at 10.9.0.1, TCP port 22 (files), over the sync link: no answer in time."
    assert texts(heard, "A") == texts(heard, "B") == [expected]
    checked = {one["key"]: one["ok"] for one in heard.a.service.preflight()["checked"]}
    assert not checked["ports"] and checked["firewall"]


def test_where_nothing_listens_for_files_nothing_is_said(heard: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "reachable", lambda route, port: ports.REFUSED if port == 22 else "")
    assert texts(heard) == []


def test_heartbeats_that_do_not_arrive_are_named_with_their_direction(heard: World) -> None:
    heard.b.hot.path_states["backup"] = "down"
    (found,) = texts(heard)
    assert found.startswith("Heartbeats from A to B do not arrive at 10.8.0.2, UDP port 5555, over the backup link")


def test_without_the_other_gateway_one_direction_is_tried(heard: World) -> None:
    heard.cut = True
    (found,) = texts(heard)
    assert found.startswith("B could not be asked to try the ports of A")


@pytest.mark.parametrize("told", [None, 7, [7], [{}], [{"use": "ssh", "protocol": "tcp", "port": 0}], [{}] * 99,
                                  [{"use": "shell", "protocol": "tcp", "port": 22}]])  # fmt: skip
def test_ports_that_cannot_be_read_are_not_tried(told: Any) -> None:
    with pytest.raises(ValueError):
        ports.services_from(told)


def test_an_answer_that_cannot_be_read_is_said(heard: World, monkeypatch: pytest.MonkeyPatch) -> None:
    exchange = heard.b.service._exchange
    for answer in ({}, {"tried": 7}, {"tried": [], "services": [{}]}, {"tried": [], "services": [], "heard": 7}):
        exchange.handle("try_ports", lambda *_, answer=answer: answer)  # type: ignore[misc]
        assert any("its answer cannot be read" in text for text in texts(heard))


# Configuration


def test_the_key_says_table_or_off() -> None:
    values = {"HSMX_CLUSTER_FIREWALL_URL": "/fw", "HSMX_CLUSTER_FIRMWARE_VERSION": "5.2.03"}
    assert Config.load(values).firewall == "off" and Config.load(values).firewall_url == "/fw"
    assert Config.load({**values, "HSMX_CLUSTER_FIREWALL": "table"}).firewall == "table"
    with pytest.raises(ConfigError, match="HSMX_CLUSTER_FIREWALL"):
        Config.load({**values, "HSMX_CLUSTER_FIREWALL": "open"})


@pytest.mark.parametrize(
    ("url", "expected"),
    [(None, 5432), ("sqlite:///x", 5432), ("postgresql://u@h:5433/d", 5433), ("postgresql://u@/d?port=5434", 5434),
     ("postgresql://u@/d?port=x", 5432), ("nonsense", 5432)],
)  # fmt: skip
def test_the_databases_port(world: World, url: str | None, expected: int) -> None:
    assert replace(world.a.config, database_url=url).database_port == expected
