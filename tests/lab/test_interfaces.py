"""Own addresses of both gateways, set from one of them: the other one's kernel has them, and keeps them over a boot."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from sample_app.lab import Gateway, Lab, Sweeper, form, wait_for_roles

from ..waiting import within

#: What each gateway's own boot script gives lan1, the WAN port here.
BOOT = {"a": "203.0.113.1/28", "b": "203.0.113.9/28"}
WAN, WAN6 = "203.0.113.3/28", "2001:db8:9::3/64"
#: Another address in the same network, and the same one with another prefix length.
LATER, LATER6 = "203.0.113.4/28", "2001:db8:9::3/80"
#: A route of the machine's own through the WAN's network.
ROUTE, ROUTER = "198.51.100.0/24", "203.0.113.14"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    lab = Lab(sync="switch", backup="switch", lans=2)
    for gateway in lab.gateways:
        gateway.addresses = {**gateway.addresses, "lan1": (BOOT[gateway.name],)}
    with lab:
        lab.start()
        form(lab)
        yield lab


def kernel(gateway: Gateway, port: str = "lan1") -> list[str]:
    """Return the permanent addresses that a kernel has on a port, sorted."""
    shown = json.loads(gateway.namespace.run("ip", "-j", "addr", "show", "dev", port))
    return sorted(f"{one['local']}/{one['prefixlen']}" for one in shown[0]["addr_info"]
                  if one["scope"] == "global" and one["valid_life_time"] == 2**32 - 1)


def node(gateway: Gateway) -> str:
    return str(gateway.call("status")["node"]["id"])


def entry(port: str, sides: dict[Gateway, list[str]]) -> dict[str, Any]:
    return {"port": port, "addresses": {node(gateway): each for gateway, each in sides.items()}}


def propose(gateway: Gateway, *interfaces: dict[str, Any], **changes: Any) -> dict[str, Any]:
    held = gateway.call("settings")
    wanted = {**held["settings"], "interfaces": list(interfaces), **changes}
    return gateway.call("propose", settings=wanted, base_revision=held["revision"])


def test_one_gateway_sets_the_other_ones_and_reads_its_kernel(lab: Lab) -> None:
    wait_for_roles(lab, lab.a)
    answer = propose(lab.a, entry("lan1", {lab.b: [WAN, WAN6]}))
    assert answer["delivered"] and kernel(lab.b) == sorted([WAN, WAN6])
    assert kernel(lab.a) == [BOOT["a"]], "never copied onto the other one"
    told = lab.a.cli("network", "interfaces")
    assert [(one["gateway"], one["present"], one["ok"]) for one in told["read_back"]] == [
        ("gateway-b", [WAN, WAN6], True)]
    assert "default via 10.0.0.254" in lab.b.namespace.run("ip", "route")


def test_it_is_there_again_after_a_boot_and_what_the_boot_script_set_is_not(lab: Lab) -> None:
    lab.faults.power_off(lab.b)
    lab.faults.power_on(lab.b, start=False)
    assert kernel(lab.b) == [BOOT["b"]], "what the machine's own configuration says"
    lab.b.start()
    assert within(15, lambda: kernel(lab.b) == sorted([WAN, WAN6]))
    wait_for_roles(lab, lab.a)


def test_the_new_one_comes_before_the_old_one_goes_and_routes_stay(lab: Lab) -> None:
    lab.b.namespace.ip(f"route add {ROUTE} via {ROUTER} dev lan1", "addr add 192.0.2.77/24 dev lan1")
    log = lab.directory / "monitor"
    with log.open("wb") as output:
        monitor = lab.b.namespace.popen("ip", "-o", "monitor", "address", output=output)
        try:
            assert within(5, lambda: _watches(lab, log))
            assert propose(lab.a, entry("lan1", {lab.b: [LATER, LATER6]}))["delivered"]
            assert within(5, lambda: "Deleted" in log.read_text() and WAN in log.read_text())
        finally:
            monitor.kill()
            monitor.wait()
    seen = [("gone" if line.startswith("Deleted") else "set", address)
            for line in log.read_text().splitlines() for address in (LATER, WAN) if address in line]
    assert ("gone", LATER) not in seen and seen.index(("set", LATER)) < seen.index(("gone", WAN)), seen
    assert kernel(lab.b) == sorted([LATER, LATER6, "192.0.2.77/24"]), "what it neither set nor replaced is left alone"
    assert f"{ROUTE} via {ROUTER} dev lan1" in lab.b.namespace.run("ip", "route")
    lab.b.namespace.ip("addr del 192.0.2.77/24 dev lan1")


def _watches(lab: Lab, log: Any) -> bool:
    """Tell whether the monitor hears of addresses by now: make it hear of one."""
    lab.b.namespace.ip("addr add 127.0.0.9/8 dev lo", "addr del 127.0.0.9/8 dev lo")
    return "127.0.0.9" in log.read_text()


def test_what_somebody_removes_comes_back(lab: Lab) -> None:
    lab.b.namespace.ip("addr flush dev lan1")
    assert within(12, lambda: kernel(lab.b) == sorted([LATER, LATER6]))


def test_the_active_gateways_own_address_moves_below_its_virtual_ip(lab: Lab) -> None:
    """The address of a path, changed on a live pair: no fail-over, and the virtual IP answers all the time."""
    active = wait_for_roles(lab, lab.a)
    links = active.call("settings")["settings"]["links"]
    before = active.call("status")["node"]["term"]
    for link in links:
        if link["kind"] == "service":
            link["ends"][node(active)]["address"] = "10.0.0.11/24"
    wanted = [entry("lan0", {active: ["10.0.0.11/24", "fd00:0:0:1::1/64"]}), entry("lan1", {lab.b: [LATER, LATER6]})]
    with Sweeper(lab.client, [lab.virtual_ip]) as sweeper:
        sweeper.wait_for_replies(0)
        at = time.monotonic()
        assert propose(active, *wanted, links=links)["delivered"]
        assert within(10, lambda: all(
            path["state"] == "up" for each in lab.gateways for path in each.call("status")["paths"]))
        sweeper.wait_for_replies(time.monotonic())
        assert max(sweeper.outages_ms(at).values()) < 1000, "well within a lease"
    assert kernel(active, "lan0") == ["10.0.0.11/24", "fd00:0:0:1::1/64"]
    assert active.holds(lab.virtual_ip) and active.call("status")["node"]["term"] == before
    assert "default via 10.0.0.254" in active.namespace.run("ip", "route")


def test_ports_of_other_names_are_told_and_not_filled(lab: Lab) -> None:
    for gateway, name, address in ((lab.a, "dmz0", "192.0.2.1/28"), (lab.b, "dmz1", "192.0.2.2/28")):
        gateway.namespace.ip(f"link add {name} type veth peer name far0", "link set far0 up", f"link set {name} up",
                             f"addr add {address} dev {name}")
    told = lab.a.cli("network", "fetch-interfaces")
    assert told["filled"] == {"lan0": ["10.0.0.2/24", "fd00:0:0:1::2/64"]}
    assert told["unmatched"] == ["dmz0 is only on this gateway.",
                                 "dmz1 is only on the other gateway, or has no address here."]
    assert kernel(lab.b, "lan0") == ["10.0.0.2/24", "fd00:0:0:1::2/64"]
