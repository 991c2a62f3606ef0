"""Addresses, ports and names changed on a running pair: no fail-over, no address on both, the data goes on."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from flask_hsmx_cluster.errors import ChecksFailed
from sample_app.lab import AddressWatch, Gateway, Lab, Pinger, wait_for_roles

from .hotel import connect, hotel, in_order, needs_postgres, sell, vouchers, wait_until

pytestmark = needs_postgres

OTHER, THIRD = "10.0.0.111", "10.5.0.100"
#: Own addresses that are there beside those of the links in use, as the firmware would have entered them.
MORE = {
    "sync0": ("10.97.0.{}/24",), "backup0": ("10.96.0.{}/24",), "lan1": ("10.5.0.{}/16",), "lan2": ("10.94.0.{}/24",),
}
Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with hotel(lans=3, more=MORE) as lab:
        edit(lab.a, lambda settings: settings["links"].pop())  # without the service link less overlaps
        in_step(lab)
        yield lab


def edit(gateway: Gateway, change: Change) -> dict[str, Any]:
    """Edit the settings on a gateway and save them there."""
    found = gateway.call("settings")
    settings = copy.deepcopy(found["settings"])
    change(settings)
    return gateway.call("propose", settings=settings, base_revision=found["revision"])


def link(kind: str, address: str, port: str) -> Change:
    """A change that puts a link on other addresses, perhaps of another port."""

    def change(settings: dict[str, Any]) -> None:
        ends = next(each for each in settings["links"] if each["kind"] == kind)["ends"]
        number = {node["node_id"]: node["name"] for node in settings["nodes"]}
        for node_id in ends:
            ends[node_id] = {"port": port, "address": address.format(1 if number[node_id] == "gateway-a" else 2)}

    return change


def virtual(*wanted: tuple[str, str]) -> Change:
    """A change to these virtual IPs, each with its port; the networks need not be the port's own."""

    def change(settings: dict[str, Any]) -> None:
        settings["virtual_ips"] = [
            {"address": address, "port": port, "off_subnet": True} for address, port in wanted
        ]

    return change


def both(*changes: Change) -> Change:
    def change(settings: dict[str, Any]) -> None:
        for each in changes:
            each(settings)

    return change


VIP = (f"{Lab.virtual_ip}/24", "lan0")
VIP6 = (f"{Lab.virtual_ip6}/64", "lan0")
LAN1 = (f"{THIRD}/16", "lan1")


ELSEWHERE = (link("sync", "10.97.0.{}/24", "sync0"), link("backup", "10.96.0.{}/24", "backup0"))
AS_FORMED = (link("sync", "10.99.0.{}/24", "sync0"), link("backup", "10.98.0.{}/24", "backup0"))


@contextmanager
def nothing_moves(lab: Lab, active: Gateway, *addresses: str, kept: tuple[str, ...] = ()) -> Iterator[None]:
    """The role stays where it is, in the same term; no address is on both, and those that are kept never go."""
    term = active.call("status")["node"]["term"]
    with AddressWatch(lab.a.namespace, lab.b.namespace) as watch:
        yield
        in_step(lab)
        assert wait_for_roles(lab) is active
        assert active.call("status")["node"]["term"] == term, [each.call("events") for each in lab.gateways]
        for address in (*addresses, *kept):
            assert watch.overlap_ms(lab.a.namespace, lab.b.namespace, address) == 0
        for address in kept:
            assert len(watch.held(active.namespace, address)) == 1, "it was never let go"
    with connect(active) as connection:
        number = sell(connection)
    wait_until(lambda: number in vouchers(lab.other(active)))


def in_step(lab: Lab) -> None:
    """Wait until both have the same settings in force, all their paths work, and the data is in order."""

    def done() -> bool:
        seen = [gateway.call("status") for gateway in lab.gateways]
        return len({(each["cluster"]["revision"], each["cluster"]["pending"]) for each in seen}) == 1 and all(
            path["state"] == "up" for each in seen for path in each["paths"]
        )

    wait_until(done, lambda: str([gateway.call("status")["paths"] for gateway in lab.gateways]))
    in_order(lab)


def data_host(gateway: Gateway) -> str:
    """Return the address over which a passive gateway's data comes in now."""
    with gateway.postgres_in_place().connect() as connection:
        row = connection.execute(
            "SELECT sender_host FROM pg_stat_wal_receiver UNION ALL SELECT split_part(split_part(subconninfo, 'host=', "
            "2), ',', 1) FROM pg_subscription WHERE subname = 'hsmx_cluster'"
        ).fetchone()
    return str(row[0]).split()[0] if row else ""


def test_virtual_ips_change_move_and_swap_entered_on_either_side(lab: Lab) -> None:
    active = in_order(lab)
    other = lab.other(active)
    with nothing_moves(lab, active, lab.virtual_ip, OTHER, kept=(lab.virtual_ip6,)):
        assert edit(active, virtual((f"{OTHER}/24", "lan0"), VIP6))["delivered"]
        wait_until(lambda: active.holds(OTHER) and not active.holds(lab.virtual_ip))
        with Pinger(lab.client, OTHER) as pinger:
            pinger.wait_for_reply(0)
    with nothing_moves(lab, active, lab.virtual_ip, OTHER, THIRD):
        assert edit(other, virtual(VIP, LAN1))["delivered"]
        wait_until(lambda: active.holds(THIRD))
        with Pinger(lab.client, THIRD) as pinger:
            pinger.wait_for_reply(0)
    with nothing_moves(lab, active, lab.virtual_ip, THIRD):
        assert edit(active, virtual((VIP[0], "lan1"), (LAN1[0], "lan0")))["delivered"]
        in_step(lab)
        for address, port in ((lab.virtual_ip, "lan1"), (THIRD, "lan0")):
            assert address in active.namespace.run("ip", "addr", "show", "dev", port)
    with nothing_moves(lab, active, lab.virtual_ip, lab.virtual_ip6):
        assert edit(other, virtual(VIP, VIP6))["delivered"]


def test_links_change_their_addresses_and_the_data_goes_on_over_them(lab: Lab) -> None:
    active = in_order(lab)
    other = lab.other(active)
    for where, change in (
        (active, link("sync", "10.97.0.{}/24", "sync0")),
        (other, link("sync", "10.94.0.{}/24", "lan2")),
        (other, both(link("sync", "10.99.0.{}/24", "sync0"), link("backup", "10.96.0.{}/24", "backup0"))),
        (active, link("backup", "10.98.0.{}/24", "backup0")),
    ):
        with nothing_moves(lab, active, kept=(lab.virtual_ip, lab.virtual_ip6)):
            assert edit(where, change)["delivered"]
            in_step(lab)
            sync = next(one for one in active.call("settings")["settings"]["links"] if one["kind"] == "sync")
            host = sync["ends"][active.call("status")["node"]["id"]]["address"].split("/")[0]
            wait_until(lambda host=host: data_host(other) == host, lambda: data_host(other))  # type: ignore[misc]


def test_every_link_and_the_port_of_the_virtual_ip_at_once(lab: Lab) -> None:
    """Nothing overlaps but what is kept of the former ends."""
    active = in_order(lab)
    with nothing_moves(lab, active, lab.virtual_ip, THIRD):
        assert edit(active, both(*ELSEWHERE, virtual(LAN1)))["delivered"]
    with nothing_moves(lab, active, lab.virtual_ip, THIRD):
        assert edit(lab.other(active), both(*AS_FORMED, virtual(VIP, VIP6)))["delivered"]


def test_a_gateway_that_was_off_takes_the_change_when_it_is_back(lab: Lab) -> None:
    """The active is killed meanwhile, too: what it knows of the former ends is on its disk."""
    active = in_order(lab)
    other = lab.other(active)
    lab.faults.stop_agent(other)
    assert not edit(active, both(*ELSEWHERE, virtual(LAN1)))["delivered"]
    lab.faults.kill_agent(active)
    with AddressWatch(lab.a.namespace, lab.b.namespace) as watch:
        active.start_agent()
        active.wait_until_ready(60)
        wait_until(lambda: active.role() == "active", timeout_s=60)
        other.start_agent()
        other.wait_until_ready(60)
        in_step(lab)
        assert wait_for_roles(lab) is active
        for address in (lab.virtual_ip, THIRD):
            assert watch.overlap_ms(lab.a.namespace, lab.b.namespace, address) == 0
    edit(active, both(*AS_FORMED, virtual(VIP, VIP6)))
    in_step(lab)


def test_what_cannot_work_is_refused_and_changes_nothing(lab: Lab) -> None:
    active = in_order(lab)
    other = lab.other(active)
    with nothing_moves(lab, active, kept=(lab.virtual_ip,)):
        spare = f"10.97.0.{2 if other is lab.b else 1}/24"
        other.namespace.ip(f"addr del {spare} dev sync0")
        with pytest.raises(ChecksFailed, match=r"has not the address 10\.97\.0"):
            edit(active, link("sync", "10.97.0.{}/24", "sync0"))
        other.namespace.ip(f"addr add {spare} dev sync0")
        lab.faults.pull(other, "lan2")
        with pytest.raises(ChecksFailed, match=r"cannot be reached at 10\.94\.0"):
            edit(active, link("sync", "10.94.0.{}/24", "lan2"))
        lab.faults.plug(other, "lan2")
        assert lab.a.call("settings")["settings"] == lab.b.call("settings")["settings"]


def test_ports_are_renamed_and_the_settings_follow(lab: Lab) -> None:
    active = in_order(lab)
    with nothing_moves(lab, active, kept=(lab.virtual_ip,)):
        for gateway in lab.gateways:
            gateway.namespace.ip("link set lan0 name wan0", "link set sync0 name cable0")
        with pytest.raises(ChecksFailed, match="no network port wan9"):
            edit(active, virtual((VIP[0], "wan9")))
        edit(active, both(link("sync", "10.99.0.{}/24", "cable0"), virtual((VIP[0], "wan0"), (VIP6[0], "wan0"))))
        in_step(lab)
