"""The manual page ``howto/cluster``, sentence by sentence and in its order, on one running pair.

Each test has its sentence as its docstring; ``manual.txt`` has the page, and a unit test compares the two. The pair
begins as two standalone gateways of the older firmware with closed firewalls, and is formed by its pages alone
(``manual_pair.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from sample_app.lab import Gateway
from sample_app.lab.concentrator import Concentrator

from . import manual_checks as check
from .fields import fields
from .hotel import connect, needs_postgres, sell, vouchers, wait_until
from .manual_checks import name
from .manual_pair import (
    CLUSTER,
    ENDS,
    FIREWALL,
    SETTINGS,
    SINCE,
    VIRTUAL_IP,
    Pair,
    address,
    formed_pair,
    kernel_rules,
    on_port,
    open_firewall,
    rows,
    version,
)
from .manual_renewal import CERTIFICATES, Renewal, install, renew, shown
from .pages import Visitor

pytestmark = [needs_postgres, pytest.mark.usefixtures("lab")]

PLAN, NETWORKS, PPPOE = "/network/interfaces", f"{CLUSTER}networks", f"{CLUSTER}pppoe"
SECOND_IP, GUESTS, ALIAS = "10.5.0.100", "10.6.0.1", "10.0.0.7"
USER, PASSWORD = "hotel@provider.example", "a secret"
#: The manual's list, as the sample firmware's tables.
LOCAL = {"language", "licence", "performance", "certificate", "firewall_rule", "backup_settings", "backup"}


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with formed_pair() as pair:
        yield pair


@pytest.fixture(scope="module")
def lab(pair: Pair) -> Any:
    """What a failing test shows (``conftest.py``)."""
    return pair.lab


def test_the_cluster_module_creates_a_high_available_redundant_system(pair: Pair) -> None:
    """The cluster module creates a high available redundant system from two standalone HSMX gateways."""
    assert pair.forming.alone == {"a": "standalone", "b": "standalone"}
    active, passive = pair.both()
    desk = Visitor(pair.lab.client, VIRTUAL_IP)
    wait_until(lambda: check.sells(desk, active, "before"))
    pair.lab.faults.power_off(active)
    wait_until(lambda: check.sells(desk, passive, "after"))
    pair.machines.power_on(active)
    assert pair.both() == (passive, active)
    for gateway in pair.both():
        assert {"before", "after"} <= {row[4] for row in pair.open(gateway, "/vouchers").rows()[1:]}


def test_both_systems_need_to_be_in_a_healthy_state(pair: Pair) -> None:
    """Both systems need to be in a healthy state when forming them into a cluster."""
    seen = pair.forming
    assert seen.ill.status == 422 and "Gateway B: PostgreSQL cannot be reached" in seen.ill.text
    assert "Nothing was changed yet." in seen.ill.text and seen.refused == {"a": "active", "b": "standalone"}
    assert "This gateway has joined the cluster of Gateway A." in seen.joined.text


# Firewall


def test_we_need_to_open_a_few_ports_on_the_firewall(pair: Pair) -> None:
    """In order to properly function we need to open a few ports on the firewall for the other HSMX machine to
    access."""
    seen = pair.forming.closed
    assert seen.status == 422 and "Nothing was changed yet." in seen.text
    for port in ("TCP port 873", "TCP port 5432", "UDP port 5555"):
        assert f"{port}" in seen.text, seen.text
    assert pair.forming.joined.status == 200, "the same settings, and the ports are open"
    for gateway in pair.both():
        assert "✓ The ports between the gateways are open in both directions" in pair.check(gateway)


def test_we_refer_to_firewall(pair: Pair) -> None:
    """We refer for more information to Firewall."""
    for gateway in pair.both():
        page = pair.open(gateway).follow("The firewall of this gateway")
        assert page.url.endswith(FIREWALL) and "Who may speak to this gateway" in page.text
        more = {(row[0], row[1]) for row in page.follow("More about these rules").rows()[1:]}
        other = pair.lab.other(gateway)
        assert {(f"{port}/tcp", address(other, "sync0")) for port in (80, 5432)} <= more


def test_80_tcp(pair: Pair) -> None:
    """80/tcp"""
    check.let_in(pair, "tcp", 80, ("sync", "backup", "service"))
    check.missed(pair, "backup0", "tcp dport 80", "TCP port 80 (settings and pairing)")


def test_873_tcp_before_v5_2_03(pair: Pair) -> None:
    """873/tcp before v5.2.03"""
    check.let_in(pair, "tcp", 873, ("sync", "backup"))
    assert check.copied(pair, "Foyer 5.2.02") == "rsync"
    active, _passive = pair.both()
    listening = {line.split()[3] for line in active.namespace.run("ss", "-Hltn", "sport = :873").splitlines()}
    assert listening == {f"{address(active, port)}:873" for port in ("sync0", "backup0")}


def test_5432_tcp(pair: Pair) -> None:
    """5432/tcp"""
    check.let_in(pair, "tcp", 5432, ("sync", "backup"))
    check.missed(pair, "sync0", "tcp dport 5432", "TCP port 5432 (the database)")


def test_5555_udp(pair: Pair) -> None:
    """5555/udp"""
    check.let_in(pair, "udp", 5555, ("sync", "backup", "service"))
    check.missed(pair, "lan0", "udp dport 5555", "UDP port 5555")


def test_22_tcp_since_v5_2_03(pair: Pair) -> None:
    """22 / TCP since v5.2.03"""
    for gateway in pair.both():
        open_firewall(pair, gateway, "since 5.2.03")
    for gateway in reversed(pair.both()):  # the passive one first
        pair.restart(gateway, **version(SINCE))
        pair.both()
    check.let_in(pair, "tcp", 22, ("sync", "backup"))
    assert check.copied(pair, "Foyer 5.2.03") == "ssh"
    check.missed(pair, "sync0", "tcp dport 22", "TCP port 22 (files)")


def test_default_firewall_configuration_with_added_cluster_rules(pair: Pair) -> None:
    """Default firewall configuration with added cluster rules for"""
    default = {("icmp", "–"), ("tcp", "80"), ("tcp", "443"), ("udp", "53"), ("udp", "1812")}
    added = {"before 5.2.03": ("873", "22"), "5.2.03 and later": ("22", "873")}
    for part in pair.forming.rules.all("details"):
        title = next(part.all("summary")).text
        (own, other) = next(ports for words, ports in added.items() if words in title)
        shown = [[cell.text for cell in row.all("td")] for row in part.all("tr")][1:]
        assert {(row[1], row[2]) for row in shown if "not added yet" not in row[4]} == default
        new = {(row[1], row[2]) for row in shown if "not added yet" in row[4]}
        assert new == {("tcp", "80"), ("tcp", own), ("tcp", "5432"), ("udp", "5555")} and ("tcp", other) not in new
        added = {words: ports for words, ports in added.items() if words not in title}
    assert not added


def test_we_strongly_recommend_source_address_validation_preferably_single_addresses(pair: Pair) -> None:
    """We strongly recommend configuring source-address validation, to accomplish this modify every rule to include the
    Source IP, preferably using single addresses instead of whole IP ranges."""
    active, passive = pair.both()
    for gateway, other in ((active, passive), (passive, active)):
        known = {f"{address(other, port)}/32" for port in ENDS.values()}
        rules = [row for row in pair.open(gateway, FIREWALL).rows() if len(row) > 4 and row[4].startswith("Cluster:")]
        sources = {row[3] for row in rules}
        assert sources == known
    warning = "5432/tcp (the database) is open to 10.99.0.0/24"
    assert warning not in pair.open(active, f"{CLUSTER}firewall").text
    pair.open(active, FIREWALL).press(
        "Add the rule", action="allow", protocol="tcp", port="5432", source="10.99.0.0/24", note="too wide")
    page = pair.open(active, FIREWALL)
    assert "10.99.0.0/24 name one address" in {row[3] for row in page.rows() if len(row) > 4}
    wait_until(lambda: warning in pair.open(active, f"{CLUSTER}firewall").text)
    page.press("Delete the rule “too wide”")
    wait_until(lambda: warning not in pair.open(active, f"{CLUSTER}firewall").text)


# Enabling cluster mode


def test_enabling_cluster_mode_is_straight_forward(pair: Pair) -> None:
    """Enabling cluster mode is fairly straight-forward."""
    typed = {each["name"] for each in pair.forming.closed.all("input", "select") if each["name"]}
    assert not {field for field in typed if field.startswith(("vip", "heartbeat"))}, "the settings are entered once"
    for gateway in pair.both():
        page = pair.open(gateway)
        (tick,) = [each for each in page.all("input") if each["name"] == "enabled"]
        assert "checked" in tick.attributes
        asked = page.press("Save", enabled=False)
        assert asked.url.endswith("/leave") and "Leave the cluster?" in asked.text
    pair.both()


def test_browse_to_network_cluster_settings(pair: Pair) -> None:
    """Browse to Network / Cluster settings."""
    for visitor in (*pair.visitors.values(), Visitor(pair.lab.client, VIRTUAL_IP)):
        page = visitor.open("/")
        (group,) = [each for each in page.all("div") if [one.text for one in each.all("h2")] == ["Network"]]
        assert "Cluster settings" in [each.text for each in group.all("a")]
        page = page.follow("Cluster settings")
        assert page.url.endswith(CLUSTER) and "Network / Cluster settings" in page.text


def test_the_configuration_options(pair: Pair) -> None:
    """The configuration options are:"""
    for gateway in pair.both():
        titles = [each.text for each in pair.open(gateway).all("h2", "legend")]
        places = [titles.index(title) for title in ("Virtual IPs", "Synchronisation IP", "Network interface")]
        assert places == sorted(places)


def test_virtual_ip_always_attached_to_the_active_node(pair: Pair) -> None:
    """virtual ip: Here you can configure virtual IP's, the virtual IP addresses will always be attached to the active
    node so usually a virtual IP should be chosen on the network used to configure the gateway cluster."""
    offered = pair.forming.offered
    assert offered.value("vip0-port") == "lan0" and "because you reached this page at 10.0.0.1" in offered.text
    desk = Visitor(pair.lab.client, VIRTUAL_IP)
    for look in (pair.both, pair.fail_over):
        active, passive = look()
        assert active.holds(VIRTUAL_IP) and not passive.holds(VIRTUAL_IP)
        assert f"Served by {name(active)}" in desk.open("/").text


def test_specify_the_ip_sub_net_and_network_port(pair: Pair) -> None:
    """Specify the IP / sub-net and network port where this needs to be applied to."""
    active, passive = pair.both()
    for wrong, words in (("10.0.0.101", "prefix"), ("10.5.0.100/16", "in none of")):
        page = pair.open(active).press("Save", vip0_address=wrong)
        assert page.status == 422 and words in page.text and page.value("vip0-address") == wrong
    assert "lan0" in page.offered("vip0-port")
    assert page.press("Save", vip0_address=f"{VIRTUAL_IP}/24", vip0_port="").status == 422
    pair.save(active, vip0_address="10.0.0.101/24")
    try:
        wait_until(lambda: "10.0.0.101/32" in on_port(active, "lan0"))
        assert not active.holds(VIRTUAL_IP) and not passive.holds("10.0.0.101")
    finally:
        pair.save(passive, vip0_address=f"{VIRTUAL_IP}/24")
    wait_until(lambda: f"{VIRTUAL_IP}/32" in on_port(active, "lan0"))


def test_optionally_a_second_virtual_ip(pair: Pair) -> None:
    """Optionally a second virtual IP can be chosen."""
    active, passive = pair.both()
    assert pair.open(active).value("vip1-address") == ""
    pair.save(active, vip1_address=f"{SECOND_IP}/16", vip1_port="lan1", vip1_off_subnet=True)
    wait_until(lambda: f"{SECOND_IP}/16" in on_port(active, "lan1"))
    assert f"{VIRTUAL_IP}/32" in on_port(active, "lan0"), "the first one stays"
    assert not passive.holds(SECOND_IP)
    pair.lab.client.run("ping", "-c", "1", "-w", "10", SECOND_IP)


def test_synchronisation_ip_how_the_two_gateways_can_communicate(pair: Pair) -> None:
    """Synchronisation IP: Here you can configure how the two gateways can communicate with each other."""
    for gateway in pair.both():
        page, other = pair.open(gateway), pair.lab.other(gateway)
        assert (page.value("sync-mine-port"), page.value("sync-other-port")) == ("sync0", "sync0")
        assert page.value("sync-mine-address") == gateway.address("sync0")
        assert page.value("sync-other-address") == other.address("sync0")
        ends = f"{address(gateway, 'sync0')} ↔ {address(other, 'sync0')}"
        wait_until(lambda: ["sync " + ends, "✓ works"] in [row[:2] for row in pair.open(gateway).rows()])  # noqa: B023


def test_typically_a_dedicated_network_port_is_used(pair: Pair) -> None:
    """Typically a dedicated network port is used to interconnect clustered HSMX machines."""
    active, passive = pair.both()
    for gateway in (active, passive):
        assert {one for one in on_port(gateway, "sync0") if not one.startswith("fe80")} == {gateway.address("sync0")}
    pair.lab.faults.pull(passive, "lan")
    try:
        seen = {"sync": "up", "backup": "up", "service": "down"}
        wait_until(lambda: check.states(active) == seen, lambda: str(check.states(active)))
        with connect(active) as connection:
            number = sell(connection)
        assert number in vouchers(passive), "confirmed by both, without the guests' network"
    finally:
        pair.lab.faults.plug(passive, "lan")
    assert pair.both() == (active, passive)


def last_host(gateway: Gateway) -> str:
    """Return from where it has looked at the other's files last; a look that had begun may end after the cut."""
    return str(gateway.call("status")["files"]["trees"][0]["last"]["host"])


def test_this_interface_will_be_used_to_synchronize_all_data_a_backup_interface_can_be_configured(pair: Pair) -> None:
    """This interface will be used to synchronize all data between the two HSMX machines; a backup interface can be
    configured to avoid the network from becoming a single point of failure."""
    active, passive = pair.both()
    try:
        for link in ("sync0", "backup0"):
            if link == "backup0":
                pair.lab.faults.pull(passive, "sync")
            source = {address(passive, link)}
            wait_until(lambda: check.followers(active) == source, lambda: str(check.followers(active)))  # noqa: B023
            pair.settle()
            check.copied(pair, f"Foyer over {link}")
            wait_until(lambda: last_host(passive) == address(active, link), lambda: last_host(passive))  # noqa: B023
    finally:
        pair.lab.faults.plug(passive, "sync")
    assert pair.both() == (active, passive), "nothing moved because of it"


def test_configure_the_network_interfaces_first(pair: Pair) -> None:
    """Configure the network interfaces first in network ⇒ network settings."""
    page, answer = pair.forming.bare
    assert "No address yet: backup0" in page.text
    assert page.follow("Give it one in Network settings").url.endswith(SETTINGS)
    assert answer.status == 422
    assert "Gateway A has not the address 10.98.0.1 on backup0. Configure it in Network settings" in answer.text
    assert "No address yet: lan1." in pair.forming.offered.text
    for gateway in pair.both():
        assert pair.open(gateway, SETTINGS).value("addresses-backup0") == gateway.address("backup0")
        assert gateway.address("backup0") in on_port(gateway, "backup0")


def test_network_interface_the_entire_network_configuration_is_shared(pair: Pair) -> None:
    """Network interface: The entire network configuration is shared between the two gateways in the cluster."""
    active, passive = pair.both()
    typed = {"network_address": f"{GUESTS}/16", "network_port": "lan1"}
    page = pair.open(passive, NETWORKS).press("Add", "/add/network", **typed)
    assert page.status == 200, page.text
    page = page.press("Add", "/add/route", route_destination="10.77.0.0/16", route_via="10.6.0.9")
    assert page.status == 200, page.text
    wait_until(lambda: f"{GUESTS}/16" in on_port(active, "lan1"))
    wait_until(lambda: "10.77.0.0/16 via 10.6.0.9" in active.namespace.run("ip", "route"))
    for gateway in (active, passive):
        shown = pair.open(gateway, NETWORKS).text
        assert f"{GUESTS}/16" in shown and "10.77.0.0/16" in shown
    assert active.call("settings")["settings"] == passive.call("settings")["settings"]


@pytest.fixture(scope="module")
def provider(pair: Pair) -> Iterator[Concentrator]:
    with Concentrator(pair.lab, {USER: PASSWORD}).running() as provider:
        yield provider


def test_this_is_because_they_share_the_ip_aliases_pppoe_connections(pair: Pair, provider: Concentrator) -> None:
    """This is because they share the IP aliases / PPPoE connections."""
    active, passive = pair.both()
    page = pair.open(active, NETWORKS).press("Add", "/add/alias", alias_address=ALIAS, alias_port="lan0")
    assert page.status == 200, page.text
    page = pair.open(passive, PPPOE).press("Add", name="fibre", port="lan1", user=USER, password=PASSWORD)
    assert page.status == 200, page.text
    for gateway in (active, passive):
        assert f"{ALIAS}/32" in pair.open(gateway, NETWORKS).text
        assert f"{USER} on lan1" in pair.open(gateway, PPPOE).text


def test_they_are_activate_on_the_primary_node_only(pair: Pair, provider: Concentrator) -> None:
    """They are activate on the primary node only."""
    for look in (pair.both, pair.fail_over):
        active, passive = look()
        wait_until(lambda: active.holds(ALIAS) and check.dialled(active))  # noqa: B023
        assert not passive.holds(ALIAS) and not check.dialled(passive)


def test_you_have_to_configure_the_ips_of_the_other_gateway(pair: Pair) -> None:
    """This means there is one more step; you have to configure the IP's of the other gateway for interfaces that are
    already configured."""
    active, passive = pair.both()
    page = pair.open(active)
    assert page.value("interfaces-0-port") == "lan0", "it has an address here already"
    assert address(active, "lan0") in page.value("interfaces-0-mine")
    page = pair.save(active, interfaces_0_other="\n".join([*passive.addresses["lan0"], "10.0.0.22/24"]))
    assert f"lan0: {name(passive)} has" in page.text
    assert "10.0.0.22/24" in on_port(passive, "lan0") and not active.holds("10.0.0.22")
    page = pair.open(passive, SETTINGS)
    assert "10.0.0.22/24" in page.value("addresses-lan0")
    assert "Set on Cluster settings , for both gateways." in page.text


def test_a_small_icon_will_try_to_get_the_information_only_when_interface_names_are_identical(pair: Pair) -> None:
    """There is a small icon that will try to get the information from the other gateway, this only works properly when
    interface names are identical in both participants."""
    active, passive = pair.both()
    ports = ((active, "dmz0", "192.0.2.1/28"), (passive, "dmz1", "192.0.2.2/28"))
    for gateway, port, own in ports:
        gateway.namespace.ip(f"link add {port} type veth peer name far0", "link set far0 up", f"link set {port} up",
                             f"addr add {own} dev {port}")
    try:
        button = f"Fetch own addresses of {name(passive)}"
        page = pair.open(active)
        assert any(each.text == button and list(each.all("svg")) for each in page.all("button")), "an icon"
        row = next(row for row in range(9) if page.value(f"interfaces-{row}-port") == "lan0")
        page = page.press(button, **{f"interfaces-{row}-other": ""})
        assert "Filled in:" in page.text and "Nothing is saved yet." in page.text
        filled = {page.value(f"interfaces-{row}-port"): page.value(f"interfaces-{row}-other") for row in range(2)}
        assert set(filled["lan0"].split()) == {one for one in on_port(passive, "lan0") if "fe80" not in one}
        assert filled["dmz0"] == ""
        assert "dmz0 is only on this gateway." in page.text
        assert "dmz1 is only on the other gateway, or has no address here." in page.text
    finally:
        for gateway, port, _own in ports:
            gateway.namespace.ip(f"link del {port}")


# What is synchronized


def test_what_is_synchronized(pair: Pair) -> None:
    """What is synchronized"""
    active, passive = pair.both()
    assert "Every write is confirmed by both gateways." in pair.open(active).text
    assert f"This gateway follows {name(active)}" in pair.open(passive).text
    with connect(active) as connection:
        found = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    for gateway in (active, passive):
        page = pair.open(gateway).follow("What is shared")
        assert {f"public.{table}" for (table,) in found} <= {each.text for each in page.all("h2")}


def test_everything_is_shared_between_two_clustered_machines_except(pair: Pair) -> None:
    """Everything is shared between two clustered HSMX machines except:"""
    active, passive = pair.both()
    found = fields(active)
    shared = {one.table: one for one in found if one.kind in ("shared", "bulk")}
    assert {one.table for one in found} - set(shared) == LOCAL
    for field in shared.values():
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            field.change(passive)
        value = field.change(active)
        wait_until(lambda: field.read(passive) == value, lambda: f"{field} does not come")  # noqa: B023
    page = pair.open(passive, "/vouchers").press("Create vouchers", count="1", note="here")
    assert "This was not saved" in page.text
    assert "here" not in {row[4] for row in pair.open(active, "/vouchers").rows()[1:]}
    check.copied(pair, "Foyer for both")


@pytest.mark.parametrize("reading", ["wan", "lan"])
def test_all_interfaces_but_wan_interfaces(pair: Pair, reading: str) -> None:
    """All interfaces but WAN-interfaces (except for shared-IP on WAN-interfaces)"""
    if reading == "lan":
        check.with_the_other_reading(pair)
    active, passive = pair.both()
    both = "lan" if reading == "wan" else "wan"
    for kind in (both, "virtual", "alias"):
        noted = f"{kind} of both"
        assert "Saved." in pair.open(active, f"{PLAN}/{kind}/1").press("Save", note=noted).text
        wait_until(lambda: pair.open(passive, f"{PLAN}/{kind}/1").value("note") == noted)  # noqa: B023
        refused = pair.open(passive, f"{PLAN}/{kind}/1").press("Save", note="of the passive alone")
        assert "This was not saved" in refused.text
        assert pair.open(active, f"{PLAN}/{kind}/1").value("note") == noted
    notes = [{"note": "of the active"}, {"note": "of the passive"}]
    check.keeps_its_own(pair, f"{PLAN}/{reading}/1", "interface", notes)
    own = [{"addresses-lan1": "203.0.113.1/28"}, {"addresses-lan1": "203.0.113.2/28"}]
    check.keeps_its_own(pair, SETTINGS, "", own, button="Save and apply")
    for gateway, typed in zip((active, passive), own, strict=True):
        wait_until(lambda: typed["addresses-lan1"] in on_port(gateway, "lan1"))  # noqa: B023
    assert own[0]["addresses-lan1"] not in on_port(passive, "lan1")
    assert own[1]["addresses-lan1"] not in on_port(active, "lan1")


def test_language(pair: Pair) -> None:
    """Language"""
    check.keeps_its_own(pair, "/system/language", "language", [
        {"interface": "de", "date_format": "2026-12-31", "time_zone": "Europe/Berlin"},
        {"interface": "fr", "date_format": "31/12/2026", "time_zone": "Europe/Paris"}])


def test_license(pair: Pair) -> None:
    """License"""
    assert [row[1] for row in rows(pair.lab.a, "licence")] != [row[1] for row in rows(pair.lab.b, "licence")], "serials"
    check.keeps_its_own(pair, "/system/licence", "licence", [
        {"key": "-".join([5 * digit] * 5)} for digit in "AB"])
    check.never_sent(pair, "licence.key")


def test_performance(pair: Pair) -> None:
    """Performance"""
    check.keeps_its_own(pair, "/system/performance", "performance", [
        {"connections": "20000", "guest_mbit": "20"}, {"connections": "30000", "guest_mbit": "30"}])


def test_ssl_certificates(pair: Pair) -> None:
    """SSL Certificates"""
    active, passive = pair.both()
    for gateway, other in ((active, passive), (passive, active)):
        before = rows(other, "certificate"), pair.open(other, CERTIFICATES).text, shown(pair)
        with connect(gateway) as connection:
            connection.execute("UPDATE certificate SET fingerprint = md5(fingerprint)")
        assert install(pair, gateway) in pair.open(gateway, CERTIFICATES).text.replace(":", "").lower()
        pair.settle()
        assert (rows(other, "certificate"), pair.open(other, CERTIFICATES).text, shown(pair)) == before
    check.never_sent(pair, "server.pem")


@pytest.fixture(scope="module")
def renewal(pair: Pair) -> Renewal:
    return renew(pair)


def test_to_renew_install_on_the_passive_node_first_and_reboot(renewal: Renewal) -> None:
    """To renew SSL certificates while your cluster is running. Install the certificate on the passive node first and
    reboot that machine."""
    assert renewal.installed == renewal.old, "in force after the reboot only"
    assert renewal.rebooted == {**renewal.old, renewal.first.name: renewal.new[renewal.first.name]}
    assert renewal.active[0] is renewal.second, "the cluster is running"


def test_once_the_machine_accepted_his_certificate_make_your_cluster_fail_over(renewal: Renewal) -> None:
    """Once the machine accepted his SSL certificate (after reboot) make your cluster fail-over."""
    assert (renewal.too_early, renewal.offered) == (False, True)
    assert renewal.active[1] is renewal.first
    assert all(valid for _, valid in renewal.guests)
    at_the_virtual_ip = list(dict.fromkeys(one for one, _ in renewal.guests))
    assert at_the_virtual_ip == [renewal.old[renewal.second.name], renewal.new[renewal.first.name]]


def test_you_can_now_install_your_certificate_on_the_current_passive_node(renewal: Renewal) -> None:
    """You can now install your certificate on the current passive node."""
    assert renewal.active[2] is renewal.first, "it stays where it is"
    assert renewal.done == renewal.new and set(renewal.new.values()).isdisjoint(renewal.old.values())
    assert "Done: both gateways show their new certificates." in renewal.said


def test_firewall(pair: Pair) -> None:
    """Firewall"""
    active, passive = pair.both()
    for gateway, other, port in ((active, passive, "8001"), (passive, active, "8002")):
        before = rows(other, "firewall_rule"), pair.open(other, FIREWALL).text, kernel_rules(other)
        page = pair.open(gateway, FIREWALL).press(
            "Add the rule", action="allow", protocol="tcp", port=port, source="10.0.0.9", note=f"mine {port}")
        assert "The rule is added." in page.text and f"mine {port}" in page.text
        wait_until(lambda: f"dport {port} accept" in kernel_rules(gateway))  # noqa: B023
        pair.settle()
        assert (rows(other, "firewall_rule"), pair.open(other, FIREWALL).text, kernel_rules(other)) == before


def test_backups_and_its_settings(pair: Pair) -> None:
    """Backups and it's settings"""
    settings = [{"hour": "1", "keep": "5"}, {"hour": "2", "keep": "9"}]
    check.keeps_its_own(pair, "/system/backup", "backup_settings", settings)
    active, passive = pair.both()
    for gateway, other in ((active, passive), (passive, active)):
        before = rows(other, "backup"), check.backups(other), pair.open(other, "/system/backup").text
        page = pair.open(gateway, "/system/backup").press("Back up now")
        (made,) = check.backups(gateway)
        assert f"{made} is made." in page.text
        pair.settle()
        assert (rows(other, "backup"), check.backups(other), pair.open(other, "/system/backup").text) == before
    check.never_sent(pair, "backup/today.json")


