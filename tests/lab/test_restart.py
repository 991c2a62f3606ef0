"""An agent restarts, as after an upgrade, and nobody notices; a gateway that was off or is damaged comes back."""

from __future__ import annotations

import ctypes
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from flask_hsmx_cluster.errors import ClusterError
from sample_app.lab import AddressWatch, Gateway, Lab, Pinger

from .hotel import Writers, hotel, in_order, needs_postgres, vouchers, wait_until

pytestmark = needs_postgres


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with hotel() as lab:
        yield lab


@contextmanager
def service_manager(gateway: Gateway) -> Iterator[None]:
    """Start the agent again when it has ended, once, as systemd does."""
    before = gateway.agent
    assert before is not None

    def start() -> None:
        before.wait()
        gateway.start_agent()

    thread = threading.Thread(target=start, daemon=True)
    thread.start()
    yield
    thread.join(15)
    gateway.wait_until_ready()


def term(gateway: Gateway) -> int:
    return int(gateway.call("status")["node"]["term"])


def kinds(gateway: Gateway) -> list[str]:
    return [event["kind"] for event in gateway.call("events", limit=10)["events"]]


@pytest.mark.parametrize("way", ["command", "signal"])
def test_the_active_agent_restarts_and_nobody_notices(lab: Lab, way: str) -> None:
    active = in_order(lab)
    passive, reign = lab.other(active), term(active)
    with (
        AddressWatch(lab.a.namespace, lab.b.namespace) as watch,
        Pinger(lab.client, lab.virtual_ip) as pinger,
        Writers(lab) as writers,
    ):
        pinger.wait_for_reply(0)
        at = time.monotonic()
        with service_manager(active):
            if way == "command":
                assert active.cli("agent", "restart", "--within-s", "60")["role"] in ("active", "passive")
            else:
                active.signal_agent(signal.SIGHUP)
        wait_until(lambda: active.role() == "active", lambda: active.log("agent")[-3000:])
        before = len(writers.acknowledged)
        wait_until(lambda: len(writers.acknowledged) > before + 50)
        pinger.wait_for_reply(time.monotonic())
        assert len(watch.held(active.namespace, lab.virtual_ip)) <= 1, "the address was never let go"
        assert not watch.held(passive.namespace, lab.virtual_ip)
        ping_ms = pinger.outage_ms(at)
    assert term(active) == reign and passive.role() == "passive", "the same reign"
    assert "peer_restarts" in kinds(passive)
    assert set(writers.acknowledged) <= vouchers(active)
    print(f"{way}: ping {ping_ms:.0f} ms, longest pause of writes {writers.longest_s * 1000:.0f} ms, "
          f"{len(writers.acknowledged)} writes")


def test_a_signal_that_the_kernel_hands_to_another_thread_ends_the_agent_too(lab: Lab) -> None:
    passive = lab.other(in_order(lab))
    agent = passive.agent
    assert agent is not None
    thread = next(int(one.name) for one in Path(f"/proc/{agent.pid}/task").iterdir() if int(one.name) != agent.pid)
    with service_manager(passive):
        assert ctypes.CDLL(None).tgkill(agent.pid, thread, signal.SIGTERM) == 0
        agent.wait(10)
    in_order(lab)


def test_an_agent_that_does_not_come_back_is_relieved_after_the_time_that_it_said(lab: Lab) -> None:
    active = in_order(lab)
    passive = lab.other(active)
    assert active.agent is not None
    with AddressWatch(lab.a.namespace, lab.b.namespace) as watch:
        at = time.monotonic()
        active.call("restart", within_s=5)
        active.agent.wait(15)
        active.agent = None
        wait_until(lambda: passive.role() == "active", lambda: passive.log("agent")[-3000:])
        assert time.monotonic() - at > 5, "not before"
        assert watch.overlap_ms(lab.a.namespace, lab.b.namespace, lab.virtual_ip, since=at) == 0
    active.start_agent()
    active.wait_until_ready()
    assert in_order(lab) is passive, "the late one follows"


def test_guests_that_send_half_requests_do_not_keep_a_gateway_from_joining_again(lab: Lab) -> None:
    """More of them than the web app has threads, before the passive gateway needs its answers."""
    active = in_order(lab)
    passive = lab.other(active)
    with ExitStack() as guests:
        lab.faults.power_off(passive)
        for _ in range(8):
            guest = guests.enter_context(lab.client.socket(socket.AF_INET, socket.SOCK_STREAM))
            guest.settimeout(5)
            guest.connect((lab.virtual_ip, 80))
            guest.sendall(b"POST /login HTTP/1.1\r\nHost: gat")
        lab.faults.power_on(passive)
        assert in_order(lab) is active


def told(gateway: Gateway) -> str:
    """Return what the agent says instead of its status."""
    try:
        gateway.call("status")
    except ClusterError as error:
        return f"{error.message} {error.remedy}"
    return ""


def test_a_gateway_with_a_damaged_store_is_no_member_says_so_and_begins_anew_on_request(lab: Lab) -> None:
    """The last test: the pair is none any more."""
    active = in_order(lab)
    passive = lab.other(active)
    lab.faults.kill_agent(passive)
    store = passive.state / "node.sqlite"
    store.with_name("node.sqlite-wal").unlink(missing_ok=True)
    store.write_bytes(store.read_bytes()[: store.stat().st_size // 2])
    passive.start_agent()
    wait_until(lambda: "is damaged" in told(passive), lambda: passive.log("agent")[-2000:])
    assert "flask cluster agent repair" in told(passive)
    assert not passive.holds(lab.virtual_ip) and active.role() == "active"
    with service_manager(passive):
        passive.cli("agent", "repair", "--yes")
    assert passive.role() == "standalone" and active.role() == "active"
    assert [one.name for one in passive.state.glob("node.sqlite.damaged-*")]
