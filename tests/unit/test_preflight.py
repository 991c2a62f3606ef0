"""Preflight's checks one by one; the whole of it in forming is in test_forming.py. Loopback only."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_hsmx_cluster.agent.peer.client import Route
from flask_hsmx_cluster.agent.preflight import checks as preflight
from flask_hsmx_cluster.agent.preflight import probing
from flask_hsmx_cluster.agent.preflight.checks import EchoWindow, Facts, Report
from flask_hsmx_cluster.errors import Finding, NetworkError
from flask_hsmx_cluster.settings.model import Link, LinkEnd, Node, Settings, VirtualIP
from flask_hsmx_cluster.settings.networks import MAX_NETWORKS

from ..waiting import within
from .gateways import port

A, B = "aa" * 16, "bb" * 16
MAC = "02:00:00:00:00:01"
VIP = VirtualIP(ip_interface("10.0.0.100/24"), "lan0")
SETTINGS = Settings(
    "c" * 32,
    (Node(A, "A"), Node(B, "B")),
    (VIP,),
    (
        Link("backup", {A: LinkEnd("b0", ip_interface("10.8.0.1/24")), B: LinkEnd("b0", ip_interface("10.8.0.2/24"))}),
        Link("sync", {A: LinkEnd("s0", ip_interface("10.9.0.1/24")), B: LinkEnd("s0", ip_interface("10.9.0.2/24"))}),
    ),
)
FACTS_A = Facts(A, "A", "5.3", "0.1", 1, 1, 80, 5555, 1000.0, False, (port("lan0", MAC), port("s0", "")))
FACTS_B = replace(FACTS_A, node_id=B, name="B")


def one(findings: Iterator[Finding]) -> Finding:
    (found,) = findings
    assert found.text and found.remedy
    return found


def nothing(findings: Iterator[Finding]) -> None:
    assert list(findings) == []


def test_disk_space(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 49 * 1024 * 1024})
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda path: usage())
    assert one(preflight.check_disk("/x")).key == "disk_space"
    usage.free = 51 * 1024 * 1024
    nothing(preflight.check_disk("/x"))


def test_heartbeat_port_in_use() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        taken = other.getsockname()[1]
        assert one(preflight.check_heartbeat_port(["127.0.0.1"], taken)).key == "heartbeat_port_in_use"
        nothing(preflight.check_heartbeat_port(["127.0.0.2", "192.0.2.1"], taken))
    nothing(preflight.check_heartbeat_port(["127.0.0.1"], taken))


def test_no_carrier() -> None:
    dead = [port("lan0", "", carrier=False), port("s0", "", carrier=False), port("b0", "")]
    before = list(preflight.check_carrier(SETTINGS, A, dead, joining=False))
    assert [(found.key, found.blocking) for found in before] == [("no_carrier", True), ("no_carrier", False)]
    assert all(found.blocking for found in preflight.check_carrier(SETTINGS, A, dead, joining=True))


def test_virtual_ip_in_use() -> None:
    assert one(probing.check_virtual_ips([(0, VIP)], lambda *_: ["02:66"])).key == "virtual_ip_in_use"
    nothing(probing.check_virtual_ips([(0, VIP)], lambda *_: []))


def _broken(port: str, address: str, timeout_s: float) -> list[str]:
    raise NetworkError("no such port", "choose one")


def test_a_port_that_cannot_be_probed() -> None:
    assert one(probing.check_virtual_ips([(1, VIP)], _broken)).field == "virtual_ips.1.port"
    assert one(preflight.check_same_network(SETTINGS, FACTS_A, _broken)).key == "probe_failed"


def test_same_network_means_the_creators_mac_answers() -> None:
    nothing(preflight.check_same_network(SETTINGS, FACTS_A, lambda *_: [MAC]))
    assert one(preflight.check_same_network(SETTINGS, FACTS_A, lambda *_: [])).key == "not_same_network"
    both = preflight.check_same_network(SETTINGS, FACTS_A, lambda *_: [MAC, "00:11:22:33:44:55"])
    assert one(both).key == "virtual_ip_in_use"
    virtual = replace(SETTINGS, virtual_ips=(replace(VIP, virtual_mac=True),))
    nothing(preflight.check_same_network(virtual, FACTS_A, lambda *_: ["02:aa:bb:cc:dd:ee"]))
    assert one(preflight.check_same_network(virtual, FACTS_A, lambda *_: ["00:11:22:33:44:55"]))


def test_already_in_cluster() -> None:
    nothing(preflight.check_membership(False, FACTS_B))
    assert "This gateway" in one(preflight.check_membership(True, FACTS_B)).text
    assert one(preflight.check_membership(False, replace(FACTS_B, in_cluster=True))).key == "already_in_cluster"


def test_versions() -> None:
    nothing(preflight.check_versions(FACTS_A, FACTS_B))
    newer = replace(FACTS_B, protocol=3, protocol_least=2)
    assert one(preflight.check_versions(FACTS_A, newer)).remedy == "Update A (firmware 5.3)."
    nothing(preflight.check_versions(FACTS_A, replace(FACTS_B, protocol=3)))
    differs = one(preflight.check_versions(FACTS_A, replace(FACTS_B, firmware="5.2")))
    assert differs.key == "firmware_differs" and not differs.blocking
    assert one(preflight.check_versions(FACTS_A, replace(FACTS_B, heartbeat_port=5556))).key == "heartbeat_ports_differ"


def test_clock_difference() -> None:
    nothing(preflight.check_clock(1004.0, FACTS_B))
    ahead = one(preflight.check_clock(900.0, FACTS_B))
    assert ahead.key == "clock_difference" and "100 s ahead" in ahead.text and not ahead.blocking
    assert "behind" in one(preflight.check_clock(1100.0, FACTS_B)).text


def test_port_names_differ() -> None:
    nothing(preflight.check_port_names(SETTINGS, FACTS_A, FACTS_B))
    other = replace(FACTS_B, ports=(port("eth0", ""),))
    found = one(preflight.check_port_names(SETTINGS, FACTS_A, other))
    assert found.key == "port_names_differ" and "eth0" in found.text
    assert "port_missing" not in {
        finding.key
        for finding in preflight.check_settings(SETTINGS, FACTS_A, other)
        if finding.field.startswith("virtual")
    }


def test_routes_in_order() -> None:
    routes = preflight.routes_between(SETTINGS, B, A)
    assert list(routes.items()) == [("sync", Route("10.9.0.2", "10.9.0.1")), ("backup", Route("10.8.0.2", "10.8.0.1"))]


def test_http_unreachable() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.2", 0))
        listener.listen()
        peer = replace(FACTS_B, http_port=listener.getsockname()[1])
        routes = {"sync": Route("127.0.0.1", "127.0.0.2"), "backup": Route("127.0.0.1", "127.0.0.3")}
        found = one(preflight.check_http(routes, peer))
    assert found.key == "http_unreachable" and found.field == f"links.backup.{B}.address" and "refused" in found.text


def test_heartbeats_are_judged_by_direction() -> None:
    routes = {"sync": Route("10.9.0.2", "10.9.0.1")}
    nothing(preflight.check_heartbeats(routes, 5555, "B", FACTS_A, ["sync"], ["sync"]))
    assert "from B to A" in one(preflight.check_heartbeats(routes, 5555, "B", FACTS_A, ["sync"], [])).text
    assert "from A to B" in one(preflight.check_heartbeats(routes, 5555, "B", FACTS_A, [], ["sync"])).text
    assert len(list(preflight.check_heartbeats(routes, 5555, "B", FACTS_A, [], []))) == 2


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_echo_windows_hear_each_other_over_real_sockets() -> None:
    number, token = _free_port(), b"t" * 32
    a = EchoWindow({"sync": Route("127.0.0.1", "127.0.0.2")}, number, token)
    b = EchoWindow({"sync": Route("127.0.0.2", "127.0.0.1")}, number, token)
    a.open()
    b.open()
    a.start(0.4)
    b.start(0.2)
    assert b.result() == ["sync"] and a.result() == ["sync"]


def test_echo_windows_hear_nobody_else() -> None:
    number = _free_port()
    window = EchoWindow({"sync": Route("127.0.0.1", "127.0.0.2")}, number, b"t" * 32)
    window.open()
    window.start(0.3)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind(("127.0.0.3", 0))  # right token, wrong address
        sender.sendto(b"t" * 32, ("127.0.0.1", number))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind(("127.0.0.2", 0))  # right address, wrong token
        sender.sendto(b"x" * 32, ("127.0.0.1", number))
    assert window.result() == []


def test_a_window_that_never_started_leaves_nothing_open() -> None:
    before = set(threading.enumerate())
    number = _free_port()
    window = EchoWindow(
        {"sync": Route("127.0.0.1", "127.0.0.2"), "backup": Route("192.0.2.1", "192.0.2.2")}, number, b""
    )
    window.open()
    assert window.result() == []
    nothing(preflight.check_heartbeat_port(["127.0.0.1"], number))
    assert within(10, lambda: set(threading.enumerate()) <= before)


def test_a_warning_leaves_a_check_passed() -> None:
    report = Report()
    report.add("clock", [Finding("clock_difference", "x", "y", blocking=False)])
    report.add("disk", [Finding("disk_space", "x", "y")])
    assert report.checked == {"clock": True, "disk": False} and len(report.blocking) == 1
    assert report.as_dict()["checked"][1] == {"key": "disk", "text": preflight.CHECKS["disk"], "ok": False}


def test_facts_travel_unchanged() -> None:
    assert Facts.from_dict(FACTS_A.to_dict()) == FACTS_A


@given(
    st.dictionaries(
        st.sampled_from(list(FACTS_A.to_dict())), st.none() | st.integers() | st.text() | st.lists(st.none())
    )
)
def test_hostile_facts_are_malformed_or_harmless(changes: dict[str, Any]) -> None:
    try:
        facts = Facts.from_dict({**FACTS_A.to_dict(), **changes})
    except ValueError:
        return
    assert len(facts.node_id) == 32 and 0 < facts.http_port < 65536 and len(facts.name) <= 128


def test_thousands_of_addresses_of_the_other_gateway_are_refused() -> None:
    ports = [port(f"p{at}", *[f"10.{at}.{one}.1/24" for one in range(100)]) for at in range(100)]
    with pytest.raises(ValueError, match="too many addresses"):
        preflight.ports_from(ports)
    assert len(preflight.ports_from(ports[:40])) == 40
    many = [port(f"lan0.{at}", "02:00:00:00:00:01") for at in range(preflight.MOST_PORTS + 1)]
    with pytest.raises(ValueError, match="malformed"):
        preflight.ports_from(many)
    assert len(preflight.ports_from(many[1:])) > MAX_NETWORKS + 256


def test_every_finding_is_in_the_table() -> None:
    root = Path(preflight.__file__).parents[2]
    sources = [root / "replication" / "layout.py", *(path for room in ("settings", "firewall", "renewal", "agent")
                                                     for path in (root / room).rglob("*.py"))]
    used = {key for source in sources for key in re.findall(r'Finding\(\s*"(\w+)"', source.read_text())}
    table = (root.parent / "docs" / "preflight.md").read_text()
    documented = set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE))
    assert used == documented
