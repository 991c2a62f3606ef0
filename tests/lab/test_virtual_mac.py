"""The virtual MAC: a device of its own for shared addresses, up only where they are held."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from flask_hsmx_cluster.agent.heartbeat.devices import lease_of
from flask_hsmx_cluster.agent.membership import Membership
from flask_hsmx_cluster.network.addresses import AddressLease, placed
from flask_hsmx_cluster.network.netlink import RequestSocket
from flask_hsmx_cluster.network.ports import prepare_port, read_ports
from flask_hsmx_cluster.network.virtual_mac import device_name, ensure_device, remove_device, virtual_mac
from flask_hsmx_cluster.settings.model import Node, Settings, VirtualIP
from flask_hsmx_cluster.settings.networks import Route
from sample_app.lab import ArpWatch, Gateway, Lab, Pinger, form, neighbour, wait_for_roles


def link(gateway: Gateway, name: str) -> dict[str, object]:
    found: list[dict[str, object]] = json.loads(gateway.namespace.run("ip", "-d", "-j", "link", "show"))
    return next((one for one in found if one["ifname"] == name), {})


def test_names_and_macs() -> None:
    assert virtual_mac("c", "lan0") == virtual_mac("c", "lan0") != virtual_mac("c", "lan1")
    assert int(virtual_mac("c", "lan0").split(":")[0], 16) & 3 == 2, "locally administered, unicast"
    assert device_name("lan0") == "vm-lan0"
    assert len(device_name("enp0s31f6np0123")) <= 15
    assert device_name("enp0s31f6np0123") != device_name("enp0s31f6np0124")


def test_the_device_is_up_only_while_the_address_is_held() -> None:
    with Lab() as lab, lab.a.namespace.entered():
        requests = RequestSocket()
        ports = {port.name: port for port in read_ports(requests)}
        mac = virtual_mac("cluster", "lan0")
        prepare_port("lan0")
        device = ensure_device(requests, ports["lan0"], mac)
        assert ensure_device(requests, ports["lan0"], mac).index == device.index
        lease = AddressLease(requests, [placed(ip_interface("10.0.0.100/24"), ports["lan0"], device)], 2)
        assert "UP" not in link(lab.a, device.name)["flags"]  # type: ignore[operator]
        lease.hold()
        assert "UP" in link(lab.a, device.name)["flags"]  # type: ignore[operator]
        with Pinger(lab.client, "10.0.0.100") as pinger:
            pinger.wait_for_reply(0, 3)
        assert neighbour(lab.client, "10.0.0.100") == mac
        assert "fe80" not in lab.a.namespace.run("ip", "-6", "addr", "show", "dev", device.name)
        lease.release()
        assert "UP" not in link(lab.a, device.name)["flags"]  # type: ignore[operator]
        other = ensure_device(requests, ports["lan0"], virtual_mac("another", "lan0"))
        assert other.mac != mac
        remove_device(requests, other)
        remove_device(requests, other)
        assert not link(lab.a, device.name)
        requests.close()


def test_a_route_goes_by_the_device_that_has_the_routers_network() -> None:
    addresses = ("10.0.0.100/24", "fd00:0:0:1::100/64", "192.0.2.1/24")  # the port has its own in the first two
    routes = (("10.77.0.0/16", "10.0.0.9"), ("fd00:77::/64", "fd00:0:0:1::9"), ("10.78.0.0/16", "192.0.2.9"))
    settings = Settings(
        "c" * 32, (Node("a" * 32, "A"),),
        tuple(VirtualIP(ip_interface(one), "lan0", virtual_mac=True) for one in addresses), (),
        routes=tuple(Route(ip_network(to), ip_address(via)) for to, via in routes),
    )  # fmt: skip
    with Lab() as lab, lab.a.namespace.entered():
        requests = RequestSocket()
        ports = {port.name: port for port in read_ports(requests)}
        device = ensure_device(requests, ports["lan0"], virtual_mac("cluster", "lan0"))
        lease = lease_of(Membership("a" * 32, settings, 1, ()), requests, ports, {"lan0": device})
        lease.hold()
        lease.renew()
        assert lease.route_problem == ""
        told = lab.a.namespace.run("ip", "route") + lab.a.namespace.run("ip", "-6", "route")
        for (to, via), name in zip(routes, ("lan0", "lan0", device.name), strict=True):
            assert f"{to} via {via} dev {name} " in told
        lease.release()
        told = lab.a.namespace.run("ip", "route") + lab.a.namespace.run("ip", "-6", "route")
        assert not any(to in told for to, _via in routes)
        requests.close()


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(sync="switch", backup="switch") as lab:
        lab.virtual_ip_options = ",virtual-mac"
        lab.start()
        form(lab)
        yield lab


def test_a_fail_over_changes_no_neighbours_cache(lab: Lab) -> None:
    with Pinger(lab.client, lab.virtual_ip) as pinger, ArpWatch(lab.client, lab.virtual_ip) as arp:
        pinger.wait_for_reply(0, 3)
        mac = neighbour(lab.client, lab.virtual_ip)
        assert mac == link(lab.a, "vm-lan0")["address"] == link(lab.b, "vm-lan0")["address"]
        lab.a.call("failover")
        wait_for_roles(lab, lab.b)
        pinger.wait_for_reply(time.monotonic(), 3)
        assert neighbour(lab.client, lab.virtual_ip) == mac
        at = lab.faults.power_off(lab.b)
        pinger.wait_for_reply(at + 0.5, 3)
        assert lab.a.role() == "active"
        assert {answer.mac for answer in arp.answers()} == {mac}
        lab.faults.power_on(lab.b)
        wait_for_roles(lab, lab.a)


def test_killed_agent_with_a_virtual_mac(lab: Lab) -> None:
    lab.faults.kill_agent(lab.a)
    deadline = time.monotonic() + 2.5
    while lab.b.role() != "active" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert lab.b.role() == "active", lab.b.log("agent")[-1500:]
    assert lab.b.holds(lab.virtual_ip) and not lab.a.holds(lab.virtual_ip)
    with Pinger(lab.client, lab.virtual_ip) as pinger:
        pinger.wait_for_reply(0, 3)
