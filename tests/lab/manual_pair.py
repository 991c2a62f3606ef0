"""Two gateways with the sample firmware, formed into a cluster by their pages as the manual says, and what was seen."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import MappingProxyType

from psycopg import sql

from sample_app.lab import Gateway, Lab, roles, wait_for_roles
from sample_app.lab.concentrator import pppd_on_this_kernel
from sample_app.machines import APP, Machines

from .hotel import connect, in_order, sell, vouchers, wait_until
from .pages import Page, Visitor

CLUSTER, FIREWALL, SETTINGS = "/network/cluster/", "/system/firewall", "/network/settings"
VIRTUAL_IP = Lab.virtual_ip
ENDS = MappingProxyType({"sync": "sync0", "backup": "backup0", "service": "lan0"})
BEFORE, SINCE = "5.2.02", "5.2.03"


@dataclass
class Forming:
    """What was seen on the way: none of it can be seen once there is a cluster.

    :param alone: both gateways' roles before anything was done.
    :param bare: the page *Create a cluster* while the backup port had no address, and the answer to what it sent.
    :param offered: the same page once it had one.
    :param rules: the *Firewall* page before the cluster's rules were added.
    :param closed: the answer to a join while the firewalls were closed.
    :param ill: the answer to a join while a database was down.
    :param refused: both gateways' roles after that.
    :param joined: the answer to the join that was good.
    """

    alone: dict[str, str] = field(default_factory=dict)
    bare: list[Page] = field(default_factory=list)
    offered: Page = field(init=False)
    rules: Page = field(init=False)
    closed: Page = field(init=False)
    ill: Page = field(init=False)
    refused: dict[str, str] = field(default_factory=dict)
    joined: Page = field(init=False)


class Pair:
    """A formed pair and its visitors."""

    def __init__(self, lab: Lab, machines: Machines) -> None:
        self.lab, self.machines = lab, machines
        self.visitors = {gateway.name: Visitor(lab.client, address(gateway, "lan0")) for gateway in lab.gateways}
        self.forming = Forming()

    def open(self, gateway: Gateway, path: str = CLUSTER) -> Page:
        """Return a page of a gateway, reached by its own address."""
        page = self.visitors[gateway.name].open(path)
        assert page.status == 200, page.text
        return page

    def both(self) -> tuple[Gateway, Gateway]:
        """Return the active and the passive gateway of a pair in order."""
        active = in_order(self.lab)
        return active, self.lab.other(active)

    def fail_over(self) -> tuple[Gateway, Gateway]:
        """Press the button; return the new active and the new passive gateway."""
        active, passive = self.both()
        page = self.open(active).press("Fail over")
        assert page.status == 200 and "is active now" in page.text, page.text
        assert self.both() == (passive, active)
        return passive, active

    def save(self, gateway: Gateway, **typed: str | bool) -> Page:
        """Save the cluster settings on a gateway, and demand that they are in force on both."""
        page = self.open(gateway).press("Save", **typed)
        assert page.status == 200 and "in force on both gateways" in page.text, page.text
        return page

    def check(self, gateway: Gateway) -> str:
        """Press *Check without saving*; return what the page says."""
        return self.open(gateway).press("Check without saving").text

    def code(self, page: Page) -> str:
        """Return the pairing code that a page shows."""
        return next(each for each in page.all("p") if each["class"] == "hsmx-code").text

    def join(self, gateway: Gateway, code: str) -> Page:
        """Let a gateway join the other one with a code; return the answer, whatever it is."""
        ends = {f"{kind}_{part}": value for kind, port in ENDS.items()
                for part, value in (("port", port), ("address", gateway.address(port)))}  # fmt: skip
        page = self.open(gateway).follow("Join a cluster")
        return page.press("Join the cluster", address=address(self.lab.other(gateway), "sync0"), code=code, **ends)

    def settle(self) -> None:
        """Wait until the passive gateway has all that the active one has written so far, and more."""
        active, passive = self.both()
        with connect(active) as connection:
            number = sell(connection)
        wait_until(lambda: number in vouchers(passive))

    def restart(self, gateway: Gateway, **environment: str) -> None:
        """End a gateway's agent and web app, and start them with another environment."""
        gateway.environment |= environment
        gateway.stop_web()
        self.lab.faults.stop_agent(gateway)
        gateway.start_web()
        gateway.start_agent()
        gateway.wait_until_ready()


def address(gateway: Gateway, port: str) -> str:
    return gateway.address(port).partition("/")[0]


@contextlib.contextmanager
def formed_pair() -> Iterator[Pair]:
    """Start two standalone gateways with the older firmware, closed firewalls and no address on the backup port."""
    with (
        Lab(sync="switch", backup="switch", app=APP, postgres=True, lans=2) as lab,
        contextlib.closing(Machines(lab)) as machines,
    ):
        for gateway in lab.gateways:
            del gateway.environment["FIRMWARE_OTHER_GATEWAY"]
            gateway.environment |= version(BEFORE) | {"HSMX_CLUSTER_PPPD": pppd_on_this_kernel()}
        machines.start()
        for gateway in lab.gateways:
            gateway.namespace.ip("addr flush dev backup0")
        pair = Pair(lab, machines)
        _form(pair)
        yield pair


def version(number: str) -> dict[str, str]:
    return {"FIRMWARE_VERSION": number, "HSMX_CLUSTER_FIRMWARE_VERSION": number}


def _form(pair: Pair) -> None:
    lab, seen = pair.lab, pair.forming
    seen.alone = roles(lab)
    _create_with(pair, lambda page: seen.bare.append(page))
    for gateway in lab.gateways:
        _give_addresses(pair, gateway)
    seen.offered = pair.open(lab.a).follow("Create a cluster")
    code_page = _create(pair, seen.offered)
    code = pair.code(code_page)
    seen.closed = pair.join(lab.b, code)
    for gateway in lab.gateways:
        open_firewall(pair, gateway)
    pair.open(lab.b, "/vouchers")
    lab.b.postgres_in_place().stop()
    seen.ill = pair.join(lab.b, code)
    seen.refused = roles(lab)
    lab.b.postgres_in_place().start()
    pair.open(lab.b, "/vouchers")  # its web app has noticed nothing
    seen.joined = pair.join(lab.b, code)
    assert wait_for_roles(lab, timeout_s=40) is lab.a
    in_order(lab)


def _create_with(pair: Pair, look: Callable[[Page], None]) -> None:
    page = pair.open(pair.lab.a).follow("Create a cluster")
    look(page)
    look(_create(pair, page))


def _create(pair: Pair, page: Page) -> Page:
    ends = {f"{kind}_mine_{part}": value for kind, port in ENDS.items()
            for part, value in (("port", port), ("address", pair.lab.a.address(port)))}  # fmt: skip
    typed = {"vip0_address": f"{VIRTUAL_IP}/24", "vip0_port": "lan0", "heartbeat_ms": "100", "boot_hold_s": "1"}
    return page.press("Create the cluster", **typed, **ends)


def _give_addresses(pair: Pair, gateway: Gateway) -> None:
    page = pair.open(gateway, SETTINGS).press("Save and apply", addresses_backup0=gateway.address("backup0"))
    assert page.status == 200, page.text
    wait_until(lambda: gateway.holds(address(gateway, "backup0")), lambda: gateway.namespace.run("ip", "addr"))


def open_firewall(pair: Pair, gateway: Gateway, kind: str = "before 5.2.03") -> None:
    """Add the rules for the other gateway with the button of the *Firewall* page, and wait until they are in force."""
    other = pair.lab.other(gateway)
    page = pair.open(gateway, FIREWALL)
    if any(each["id"] == "peer" for each in page.all("input")):  # it does not know them yet
        known = " ".join(address(other, port) for port in ENDS.values())
        page = pair.forming.rules = page.press("Show the rules", peer=known)
    page = page.press(f"Add the cluster's rules ({kind})")
    assert "rules are added" in page.text, page.text
    wait_until(lambda: address(other, "backup0") in kernel_rules(gateway), lambda: kernel_rules(gateway))


def kernel_rules(gateway: Gateway) -> str:
    """Return the firmware's rules as the kernel has them."""
    return gateway.namespace.run("nft", "list", "table", "inet", "firmware_firewall")


def rows(gateway: Gateway, table: str) -> list[tuple[object, ...]]:
    """Return all rows of a table of the firmware's."""
    with connect(gateway) as connection:
        return connection.execute(sql.SQL("SELECT * FROM {} ORDER BY 1, 2").format(sql.Identifier(table))).fetchall()


def on_port(gateway: Gateway, port: str) -> set[str]:
    """Return the addresses that a kernel has on a port, with prefix lengths."""
    shown = json.loads(gateway.namespace.run("ip", "-j", "addr", "show", "dev", port))
    return {f"{one['local']}/{one['prefixlen']}" for one in shown[0]["addr_info"]}
