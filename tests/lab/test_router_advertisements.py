"""Router advertisements on a running pair: to its guests both gateways are one router, which never goes away."""

from __future__ import annotations

import contextlib
import json
import socket
import tempfile
import time
from collections.abc import Iterator
from ipaddress import IPv6Address, ip_address, ip_interface
from typing import Any

import pytest

from flask_hsmx_cluster.agent.heartbeat.advertiser import FIRST_EVERY_S
from flask_hsmx_cluster.network.router_advertisement import (
    Advertisement,
    AdvertisingSocket,
    encode,
    virtual_link_local,
)
from sample_app.lab import Gateway, Lab, Pinger, form, wait_for_roles

from ..waiting import within
from .hotel import alarms, wait_until

GUESTS = {"address": "fd00:0:0:5::1/64", "port": "lan1", "name": "guests", "advertise": "slaac", "dns": "fd00:0:0:5::1"}
MAC = bytes.fromhex("020000000001")
SOLICITATION = bytes((133, 0, 0, 0, 0, 0, 0, 0))
BEYOND = "fd00:0:0:77::1"
#: The way there, and the router's way back through the virtual IP.
ROUTES = [{"destination": "fd00:0:0:77::/64", "via": "fd00:0:0:1::254", "port": "lan0"}]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(sync="switch", backup="switch", lans=2) as lab:
        lab.router.ip(f"addr add {BEYOND}/128 dev lo", f"route add fd00:0:0:5::/64 via {lab.virtual_ip6}")
        for gateway in lab.gateways:
            gateway.namespace.sysctl({"net/ipv6/conf/all/forwarding": 1})
        lab.start()
        form(lab)
        propose(lab, networks=[GUESTS], routes=ROUTES)
        yield lab


def propose(lab: Lab, **changes: object) -> None:
    active = wait_for_roles(lab)
    held = active.call("settings")
    active.call("propose", settings={**held["settings"], **changes}, base_revision=held["revision"])


def router(lab: Lab) -> str:
    cluster = lab.a.call("settings")["settings"]["cluster_id"]
    return str(virtual_link_local(cluster, "lan1").ip)


def default_routes(lab: Lab) -> list[str]:
    rows = json.loads(lab.client.run("ip", "-6", "-j", "route", "show", "default"))
    return [str(row.get("gateway")) for row in rows]


def own_address(lab: Lab) -> dict[str, Any]:
    """Return the address that the client has made itself; empty if it has none."""
    ports = json.loads(lab.client.run("ip", "-6", "-j", "addr", "show", "dev", "lan1", "scope", "global"))
    network = ip_interface(GUESTS["address"]).network
    found = [one for port in ports for one in port.get("addr_info", ()) if "local" in one]
    return next((one for one in found if ip_address(one["local"]) in network), {})


@contextlib.contextmanager
def watched(lab: Lab) -> Iterator[list[str]]:
    """What the client's kernel does to its default routes; filled at the end."""
    found: list[str] = []
    with tempfile.TemporaryFile() as output:
        monitor = lab.client.popen("ip", "-6", "monitor", "route", output=output)
        try:
            yield found
        finally:
            monitor.terminate()
            monitor.wait()
            output.seek(0)
            found += [line for line in output.read().decode().splitlines() if "default" in line]


def test_a_guest_gets_an_address_and_a_way_out(lab: Lab) -> None:
    wait_for_roles(lab)
    wait_until(lambda: default_routes(lab) == [router(lab)] and bool(own_address(lab)))
    with Pinger(lab.client, BEYOND) as pinger:
        pinger.wait_for_reply(time.monotonic())


@pytest.mark.parametrize("how", ["request", "power-off", "killed"])
def test_a_fail_over_takes_no_guests_router_away(lab: Lab, how: str) -> None:
    active, expected = wait_for_roles(lab), [router(lab)]
    other = lab.other(active)
    with watched(lab) as routes, Pinger(lab.client, BEYOND) as pinger:
        pinger.wait_for_reply(time.monotonic())
        if how == "request":
            active.call("failover")
        elif how == "power-off":
            lab.faults.power_off(active)
        else:
            lab.faults.kill_agent(active)
        wait_until(lambda: other.role() == "active" and status(other)["last_s"] is not None)
        pinger.wait_for_reply(time.monotonic())
        assert default_routes(lab) == expected
        if how == "power-off":
            lab.faults.power_on(active)
        elif how == "killed":
            active.start_agent()
            active.wait_until_ready()
        assert wait_for_roles(lab) is other
    assert not [line for line in routes if line.startswith("Deleted")]
    assert status(active)["since_s"] is None, "the passive one sends nothing"


def test_a_gateway_without_the_address_cannot_advertise(lab: Lab) -> None:
    """What an agent would do that was frozen, and does not know yet that its lease has ended."""
    passive = lab.other(wait_for_roles(lab))
    source = IPv6Address(router(lab))
    with passive.namespace.entered(), contextlib.closing(AdvertisingSocket()) as wire:
        assert wire.send(encode(Advertisement(), MAC, 0), source, socket.if_nametoindex("lan1"))
    assert default_routes(lab) == [router(lab)]


def test_a_guest_who_asks_is_answered_and_another_router_is_told(lab: Lab) -> None:
    active = wait_for_roles(lab)
    wait_until(lambda: status(active)["last_s"] > FIRST_EVERY_S + 1)  # from now on nothing comes by itself
    lab.client.run("ip", "-6", "route", "del", "default")
    (port,) = json.loads(lab.client.run("ip", "-6", "-j", "addr", "show", "dev", "lan1", "scope", "link"))
    own = next(IPv6Address(one["local"]) for one in port["addr_info"] if "local" in one)
    with lab.client.entered(), contextlib.closing(AdvertisingSocket()) as wire:
        index = socket.if_nametoindex("lan1")
        assert not wire.send(SOLICITATION, own, index)
        wait_until(lambda: default_routes(lab) == [router(lab)])
        assert not wire.send(encode(Advertisement(), MAC, 600), own, index)

    def told(gateway: Gateway) -> bool:
        return "other_router_lan1" in alarms(gateway) and status(gateway)["other_routers"] == [str(own)]

    assert within(5, lambda: all(told(gateway) for gateway in lab.gateways))
    with lab.client.entered(), contextlib.closing(AdvertisingSocket()) as wire:
        assert not wire.send(encode(Advertisement(), MAC, 0), own, index)
    assert within(5, lambda: "other_router_lan1" not in alarms(active))


def test_a_network_that_is_advertised_no_more_is_no_way_out(lab: Lab) -> None:
    propose(lab, networks=[{**GUESTS, "advertise": "", "dns": None}])
    wait_until(lambda: not default_routes(lab) and bool(own_address(lab).get("deprecated")))
    propose(lab, networks=[GUESTS])
    wait_until(lambda: default_routes(lab) == [router(lab)] and not own_address(lab).get("deprecated"))


def test_the_last_gateway_that_stops_takes_leave_and_nobody_advertises(lab: Lab) -> None:
    active = wait_for_roles(lab)
    lab.faults.power_off(lab.other(active))
    wait_until(lambda: "peer" in alarms(active))
    lab.faults.stop_agent(active)
    wait_until(lambda: not default_routes(lab))


def status(gateway: Gateway) -> dict[str, Any]:
    (found,) = gateway.call("status")["router_advertisements"]
    return dict(found)
