"""The lease of many addresses: what is sent to the kernel when, without a kernel."""

from __future__ import annotations

import errno
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest

from flask_hsmx_cluster.agent.heartbeat import plan
from flask_hsmx_cluster.errors import NetworkError
from flask_hsmx_cluster.network.addresses import ALIAS_TURNS, AddressLease, SharedAddress, SharedRoute, placed
from flask_hsmx_cluster.network.netlink import kernel_address
from flask_hsmx_cluster.network.ports import HeldAddress, Port
from flask_hsmx_cluster.settings.model import Settings
from flask_hsmx_cluster.settings.networks import Alias, Network

from .test_rules import GOOD

NEW, GONE, NEW_ROUTE, NO_ROUTE = 20, 21, 24, 25
ROUTE = SharedRoute(ip_network("10.77.0.0/16"), ip_address("10.20.0.9"), ip_address("10.20.0.1"), 3)


class Kernel:
    """Takes batches; ``refusals`` are errno values by kind of message."""

    def __init__(self) -> None:
        self.batches: list[list[tuple[int, str]]] = []
        self.refusals: dict[int, int] = {}
        self.lifetimes: list[int | None] = []  #: of the last batch with addresses, s

    def transact(self, batch: list[bytearray], tolerate: frozenset[int] = frozenset()) -> int:
        new = [kernel_address(memoryview(message)[16:]) for message in batch if message[4] == NEW]
        self.lifetimes = [address.valid_s for address in new if address] or self.lifetimes
        told = [(message[4], _address(message)) for message in batch]
        self.batches.append(told)
        failed = [self.refusals[kind] for kind, _address in told if kind in self.refusals]
        if set(failed) - tolerate:
            raise NetworkError("The kernel refused an address")
        return len(failed)

    def take(self) -> list[tuple[int, str]]:
        told, self.batches = [one for batch in self.batches for one in batch], []
        return told


def _address(message: bytearray) -> str:
    found = kernel_address(memoryview(message)[16:]) if message[4] in (NEW, GONE) else None
    return found.address if found else ""


def lease_of(kernel: Any, aliases: int = 10, routes: tuple[SharedRoute, ...] = (ROUTE,)) -> AddressLease:
    many = [SharedAddress(ip_interface(f"10.50.0.{at + 1}/32"), "lan0", 2, alias=True) for at in range(aliases)]
    few = [SharedAddress(ip_interface(text), "lan0", 2) for text in ("10.0.0.100/24", "fd00::1/64")]
    return AddressLease(kernel, [*many, *few], 2, routes)


def test_all_are_taken_the_few_first_and_routes_last() -> None:
    kernel = Kernel()
    lease_of(kernel).hold()
    told = kernel.take()
    assert [address for _kind, address in told[:3]] == ["10.0.0.100", "fd00::1", "10.50.0.1"]
    assert [kind for kind, _address in told] == [NEW] * 12 + [NEW_ROUTE]
    assert len({address for kind, address in told if kind == NEW}) == 12


def test_a_renewal_has_the_few_and_each_alias_in_turn() -> None:
    kernel = Kernel()
    lease = lease_of(kernel)
    lease.renew()
    assert len(kernel.take()) == 13, "the first one takes all: new addresses may be among them"
    turns = []
    for _ in range(ALIAS_TURNS):
        lease.renew()
        told = kernel.take()
        assert [address for _kind, address in told[:2]] == ["10.0.0.100", "fd00::1"] and told[-1][0] == NEW_ROUTE
        turns.append({address for _kind, address in told[2:-1]})
    assert len(set.union(*turns)) == sum(len(turn) for turn in turns) == 10


def test_a_release_goes_backwards_and_takes_routes_away_first() -> None:
    kernel = Kernel()
    lease = lease_of(kernel)
    lease.hold()
    kernel.take()
    lease.release()
    told = kernel.take()
    assert told[0][0] == NO_ROUTE and {kind for kind, _address in told[1:]} == {GONE}
    assert told[-1][1] == "10.0.0.100", "the others of its network are not moved up into its place one by one"
    lease.renew()
    assert len(kernel.take()) == 13


def test_a_longer_lease_is_for_all_and_for_once() -> None:
    kernel = Kernel()
    lease = lease_of(kernel, routes=())
    lease.hold()
    kernel.take()
    lease.hold_for(17)
    assert kernel.lifetimes == [17] * 12 and len(kernel.take()) == 12
    lease.renew()
    assert set(kernel.lifetimes) == {2}


@pytest.mark.parametrize("number", [errno.ENETUNREACH, errno.EINVAL])
def test_a_route_keeps_no_address_off(number: int) -> None:
    kernel = Kernel()
    lease = lease_of(kernel)
    kernel.refusals[NEW_ROUTE] = number
    lease.hold()
    assert lease.route_problem
    kernel.refusals.clear()
    lease.renew()
    assert not lease.route_problem


def test_addresses_that_the_kernel_refuses_are_an_error() -> None:
    kernel = Kernel()
    kernel.refusals[NEW] = errno.EPERM
    with pytest.raises(NetworkError):
        lease_of(kernel).hold()
    kernel.refusals[NEW] = errno.ENODEV
    with pytest.raises(NetworkError, match="every address"):
        lease_of(kernel, routes=()).hold()


def test_an_expiring_lease_takes_no_own_network_along() -> None:
    own = HeldAddress(ip_interface("10.0.0.1/24"), None)
    leased = HeldAddress(ip_interface("10.20.0.1/16"), 2)
    lan = Port("lan0", 2, "02:00:00:00:00:01", "ethernet", 1500, True, (own, leased))
    assert str(placed(ip_interface("10.0.0.7/24"), lan).interface) == "10.0.0.7/32"
    assert str(placed(ip_interface("10.20.0.1/16"), lan).interface) == "10.20.0.1/16", "what is leased is not own"


# By which addresses the gateways watch each other


def watched(settings: Settings) -> dict[str, list[str]]:
    return {port: [str(one.address.ip) for one in shared] for port, shared in plan.watched_of(settings).items()}


def test_a_port_is_watched_by_its_virtual_ips_else_by_its_first_network_else_by_its_first_alias() -> None:
    settings = replace(
        GOOD,
        networks=(Network(ip_interface("10.20.0.1/16"), "lan1"), Network(ip_interface("10.21.0.1/16"), "lan0")),
        aliases=tuple(
            Alias(ip_interface(f"10.5{at % 3}.0.{at // 3 + 1}/32"), f"lan{at % 3}") for at in range(300)
        ),
    )
    assert watched(settings) == {
        "lan0": ["10.0.0.100", "2001:db8::100"], "lan1": ["10.20.0.1"], "lan2": ["10.52.0.1"]
    }


def test_a_heartbeat_has_room_for_the_watched_ports() -> None:
    networks = tuple(Network(ip_interface(f"10.{at + 20}.0.1/16"), f"lan0.{at}") for at in range(100))
    found = plan.ports_of(replace(GOOD, networks=networks))
    assert found[0] == "lan0" and len(found) == 8
    assert len(plan.shared_by_port(replace(GOOD, networks=networks))) == 101, "the others carry their addresses, too"
