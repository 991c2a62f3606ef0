"""Subscriber networks, aliases and routes on a running pair: they live where the role is, and nowhere else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from flask_hsmx_cluster.errors import ChecksFailed
from sample_app.lab import Gateway, Lab, LabError, Sweeper, form, wait_for_roles

from ..waiting import within
from .hotel import wait_until

GUESTS, GUESTS6, ALIAS, ALIAS6 = "10.5.0.1", "fd00:0:0:5::1", "10.0.0.7", "fd00:0:0:1::7"
ALL = (GUESTS, GUESTS6, ALIAS, ALIAS6)
SHARED = {
    "networks": [
        {"address": f"{GUESTS}/16", "port": "lan1", "name": "guests"},
        {"address": f"{GUESTS6}/64", "port": "lan1", "name": "guests"},
    ],
    "aliases": [{"address": f"{ALIAS}/32", "port": "lan0"}, {"address": f"{ALIAS6}/128", "port": "lan0"}],
    "routes": [
        {"destination": "10.77.0.0/16", "via": "10.5.255.50"},
        {"destination": "fd00:0:0:77::/64", "via": "fd00:0:0:5::50", "port": "lan1"},
    ],
}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(sync="switch", backup="switch", lans=2) as lab:
        lab.client.ip("addr add fd00:0:0:5::50/64 dev lan1 nodad")
        lab.start()
        form(lab)
        propose(lab, **SHARED)
        wait_for_roles(lab, lab.a)
        yield lab


@contextmanager
def watching(lab: Lab) -> Iterator[Callable[[float], None]]:
    """A client of both families; gives what waits until each address has answered after a time."""
    with ExitStack() as stack:
        sweepers = [stack.enter_context(Sweeper(lab.client, family)) for family in ((GUESTS, ALIAS), (GUESTS6, ALIAS6))]

        def wait(after: float) -> None:
            for sweeper in sweepers:
                sweeper.wait_for_replies(after)

        wait(0)
        yield wait


def propose(lab: Lab, **changes: object) -> dict[str, object]:
    held = lab.a.call("settings")
    return lab.a.call("propose", settings={**held["settings"], **changes}, base_revision=held["revision"])


def held(gateway: Gateway) -> list[str]:
    return [address for address in ALL if gateway.holds(address)]


def routes(gateway: Gateway) -> tuple[bool, bool]:
    """Return whether a gateway's kernel would use the IPv4 and the IPv6 route."""

    def used(address: str, router: str) -> bool:
        try:
            return f"via {router} " in gateway.namespace.run("ip", "route", "get", address)
        except LabError:  # there is no other one
            return False

    return used("10.77.0.1", "10.5.255.50"), used("fd00:0:0:77::1", "fd00:0:0:5::50")


def test_they_are_on_the_active_only_and_answer(lab: Lab) -> None:
    active = wait_for_roles(lab)
    assert within(5, lambda: held(active) == list(ALL) and routes(active) == (True, True))
    assert not held(lab.other(active)) and routes(lab.other(active)) == (False, False)
    with watching(lab):
        pass


@pytest.mark.parametrize("how", ["power-off", "request"])
def test_they_move_with_the_role(lab: Lab, how: str) -> None:
    active = wait_for_roles(lab)
    other = lab.other(active)
    with watching(lab) as wait:
        if how == "power-off":
            at = lab.faults.power_off(active)
        else:
            at = time.monotonic()
            active.call("failover")
        wait(at + 2)
    assert held(other) == list(ALL) and routes(other) == (True, True)
    if how == "power-off":
        lab.faults.power_on(active)
    assert wait_for_roles(lab) is other
    assert not held(active) and routes(active) == (False, False)


def test_a_frozen_agents_gateway_loses_them_and_keeps_its_own(lab: Lab) -> None:
    active = wait_for_roles(lab)
    lab.faults.freeze_agent(active)
    try:
        wait_until(lambda: not held(active) and routes(active) == (False, False), timeout_s=10)
        assert active.holds(active.address("lan0").split("/")[0])
        assert "default via 10.0.0.254" in active.namespace.run("ip", "route")
        other = lab.other(active)
        assert within(2, lambda: held(other) == list(ALL) and routes(other) == (True, True))
    finally:
        lab.faults.thaw_agent(active)
    assert wait_for_roles(lab) is lab.other(active)
    assert not held(active)


def test_what_somebody_removes_comes_back(lab: Lab) -> None:
    active = wait_for_roles(lab)
    active.namespace.ip("addr flush dev lan1", f"addr del {ALIAS}/32 dev lan0")
    assert within(2, lambda: held(active) == list(ALL) and routes(active) == (True, True))
    active.namespace.ip("route del 10.77.0.0/16 proto 72", "route del fd00:0:0:77::/64 proto 72")
    assert within(2, lambda: routes(active) == (True, True)), "with the next renewal"


def test_what_somebody_adds_on_the_passive_is_removed(lab: Lab) -> None:
    passive = lab.other(wait_for_roles(lab))
    passive.namespace.ip(f"addr add {ALIAS}/32 dev lan0", f"addr add {GUESTS}/16 dev lan1")
    assert within(2, lambda: not held(passive))


def test_changed_settings_take_and_give_without_a_gap_for_the_rest(lab: Lab) -> None:
    active = wait_for_roles(lab)
    with Sweeper(lab.client, [lab.virtual_ip, GUESTS]) as sweeper:
        sweeper.wait_for_replies(0)
        at = time.monotonic()
        propose(lab, aliases=[{"address": f"{ALIAS6}/128", "port": "lan0"}, {"address": "10.0.0.8/24", "port": "lan0"}])
        assert within(5, lambda: active.holds("10.0.0.8") and not active.holds(ALIAS))
        time.sleep(0.5)
        assert max(sweeper.outages_ms(at).values()) < 1000, "well within a lease"
    propose(lab, **SHARED)
    assert within(5, lambda: held(active) == list(ALL) and not active.holds("10.0.0.8"))


def test_addresses_that_the_client_has_are_refused_beside_their_rows(lab: Lab) -> None:
    wait_for_roles(lab)
    free, used, used6 = "10.0.0.9", "10.0.0.50", "fd00:0:0:1::50"
    rows = [{"address": address, "port": "lan0"} for address in (f"{free}/32", f"{used}/32", f"{used6}/128")]
    with pytest.raises(ChecksFailed) as failed:
        propose(lab, aliases=[*SHARED["aliases"], *rows])
    assert [(one.key, one.field) for one in failed.value.findings] == [
        ("address_in_use", "aliases.3.address"), ("address_in_use", "aliases.4.address")
    ]


def test_a_port_that_one_gateway_lacks_is_told_and_its_network_comes_with_it(lab: Lab) -> None:
    wait_for_roles(lab)
    vlan = {"address": "10.66.0.1/24", "port": "lan0.100", "name": "staff"}

    def alarms() -> list[str]:
        return [alarm["key"] for alarm in lab.b.call("status")["alarms"]]

    lab.a.namespace.ip("link add lan0.100 type veth peer name far0", "link set far0 up", "link set lan0.100 up")
    propose(lab, networks=[*SHARED["networks"], vlan])
    assert within(5, lambda: "missing_lan0.100" in alarms())
    assert lab.a.role() in ("active", "passive") and within(12, lambda: lab.a.holds("10.66.0.1")), "the whole one leads"
    lab.b.namespace.ip("link add lan0.100 type veth peer name far0", "link set far0 up", "link set lan0.100 up")
    assert within(10, lambda: "missing_lan0.100" not in alarms())
    propose(lab, **SHARED)
    assert within(5, lambda: not lab.a.holds("10.66.0.1"))
