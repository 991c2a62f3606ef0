"""Guests' connections through the gateways' address translation, and the passive gateway's own way out."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sample_app.lab import Conversation, Gateway, Lab, wait_for_roles
from tests.bench.connections import connections_told, move, pair_with_wan, shown_of

from ..waiting import within

_PATH = "/usr/sbin:/sbin:/usr/bin"
pytestmark = pytest.mark.skipif(
    not all(shutil.which(program, path=_PATH) for program in ("conntrackd", "conntrack")),
    reason="connection tracking is not installed (Debian: conntrackd, conntrack)",
)
_UPDATES = 9443


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with pair_with_wan(HSMX_CLUSTER_PASSIVE_INTERNET=f"{Lab.outside}:{_UPDATES}") as lab:
        server = lab.router.socket(socket.AF_INET, socket.SOCK_STREAM)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((lab.outside, _UPDATES))
        server.listen()
        threading.Thread(target=_update_server, args=(server,), daemon=True).start()
        yield lab
        server.shutdown(socket.SHUT_RDWR)
        server.close()


def _update_server(server: socket.socket) -> None:
    """Tell whoever connects from where it comes."""
    while True:
        try:
            found, (address, _) = server.accept()
        except OSError:
            return
        with found:
            found.sendall(address.encode())


def seen_from_outside(gateway: Gateway, lab: Lab) -> str:
    """Return the address from which the host outside sees a gateway; empty if it cannot be reached."""
    with gateway.namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
        client.settimeout(3)
        try:
            client.connect((lab.outside, _UPDATES))
            return client.recv(64).decode()
        except OSError:
            return ""


@pytest.mark.parametrize("how", ["request", "poweroff"])
def test_open_connections_survive(lab: Lab, how: str) -> None:
    active = connections_told(lab)
    survived, _ = move(lab, active, how)
    assert survived
    commit = shown_of(wait_for_roles(lab), "conntrack")["last_commit"]
    assert commit and commit["took_ms"] > 0


def test_a_frozen_agents_guests_keep_their_connections(lab: Lab) -> None:
    """Its kernel ends the lease, and with the address all that was masqueraded: the other gateway must not hear it."""
    active = connections_told(lab)
    other = lab.other(active)
    with Conversation(lab) as busy, Conversation(lab, silent=True) as silent:
        lab.faults.freeze_agent(active)
        try:
            assert within(10, lambda: other.role() == "active" and other.holds(lab.wan_ip))
            at = time.monotonic()
            silent.speak_from_outside()
            assert silent.survived(at) and busy.survived(at)
        finally:
            lab.faults.thaw_agent(active)


def test_a_conntrackd_that_was_killed_comes_back(lab: Lab) -> None:
    passive = lab.other(connections_told(lab))
    names = {pid: Path(f"/proc/{pid}/comm").read_text().strip() for pid in passive.namespace.pids()}
    daemon = min(pid for pid, name in names.items() if name == "conntrackd")  # the later ones ask it something
    os.kill(daemon, signal.SIGKILL)
    assert within(10, lambda: shown_of(passive, "conntrack")["state"] == "down")
    assert within(10, lambda: shown_of(passive, "conntrack")["state"] == "running")


def test_nobody_but_the_other_gateway_reaches_its_port(lab: Lab) -> None:
    passive = lab.other(connections_told(lab))
    own = passive.address("sync0").partition("/")[0]
    lab.client.ip(f"route replace {own}/32 via {passive.address('lan0').partition('/')[0]}")
    with lab.client.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.settimeout(0.5)
        stranger.connect((own, 3780))
        stranger.send(b"\0" * 64)
        with pytest.raises(TimeoutError):  # a closed port would be answered
            stranger.recv(64)
    assert shown_of(passive, "conntrack")["state"] == "running"


def test_the_passive_gateway_reaches_the_outside_through_the_active_one(lab: Lab) -> None:
    active = wait_for_roles(lab)
    passive = lab.other(active)
    assert within(15, lambda: shown_of(passive, "passive_internet").get("state") == "reachable")
    assert shown_of(passive, "passive_internet")["through_peer"]
    assert seen_from_outside(passive, lab) == lab.wan_ip
    assert shown_of(active, "passive_internet")["state"] == "lending"


def test_no_guest_goes_that_way(lab: Lab) -> None:
    passive = lab.other(wait_for_roles(lab))
    lan = passive.address("lan0").partition("/")[0]
    lab.client.ip(f"route replace {lab.outside}/32 via {lan}")
    try:
        with lab.client.socket(socket.AF_INET, socket.SOCK_STREAM) as guest:
            guest.settimeout(2)
            with pytest.raises(OSError):
                guest.connect((lab.outside, _UPDATES))
    finally:
        lab.client.ip(f"route del {lab.outside}/32 via {lan}")


def test_the_way_out_changes_sides_with_the_role(lab: Lab) -> None:
    active = wait_for_roles(lab)
    passive = lab.other(active)
    active.call("failover")
    assert wait_for_roles(lab) is passive
    routes = "proto 73"
    assert within(5, lambda: routes in active.namespace.run("ip", "route"))
    assert within(5, lambda: routes not in passive.namespace.run("ip", "route"))
    assert within(5, lambda: seen_from_outside(active, lab) == lab.wan_ip)
    assert seen_from_outside(passive, lab) == lab.wan_ip

    def lends(gateway: Gateway) -> bool:
        return "chain translated" in gateway.namespace.run("nft", "list", "ruleset")

    assert within(5, lambda: lends(passive) and not lends(active))
