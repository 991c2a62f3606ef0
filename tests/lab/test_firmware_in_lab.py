"""The whole firmware on the lab's gateways: its network settings are really applied, by a process without root."""

from __future__ import annotations

import contextlib
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sample_app.firmware.network import STATED_FILE, Port, ports_from_ip, save_settings
from sample_app.forward import Forwarder, Target
from sample_app.lab import Gateway, Lab
from sample_app.lab.privileges import AGENT_UID, GROUP, WEB_UID
from sample_app.machines import APP, NETWORK_UID, Machines


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    with Lab(app=APP) as lab, contextlib.closing(Machines(lab)) as machines:
        machines.start()
        yield machines


def ports(gateway: Gateway) -> dict[str, Port]:
    shown = gateway.namespace.run("ip", "-json", "-details", "address", "show")
    return {port.name: port for port in ports_from_ip(json.loads(shown))}


def own(gateway: Gateway, port: str) -> set[str]:
    return set(ports(gateway)[port].own)


def wait_until(true: Callable[[], bool], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)


def save(gateway: Gateway, **changed: tuple[str, ...]) -> int:
    """Save network settings as the web app does, and return their revision."""
    state = Path(gateway.environment["FIRMWARE_STATE_DIR"])
    state.mkdir(exist_ok=True)
    os.chown(state, WEB_UID, GROUP)
    wanted = {name: port.own for name, port in ports(gateway).items()} | changed
    return save_settings(state, wanted).revision


def test_saved_addresses_are_set_and_old_ones_go_and_leases_stay(machines: Machines) -> None:
    gateway = machines.lab.a
    # The agent's kind of address: it has an end. And somebody else's, which the firmware never set.
    gateway.namespace.ip(
        "addr add 10.0.0.100/32 dev lan0 valid_lft 60 preferred_lft 60", "addr add 10.77.0.1/24 dev backup0"
    )
    save(gateway, sync0=("10.99.0.9/24", "fd00:99::9/64"), backup0=("10.98.0.1/24",))
    wait_until(lambda: own(gateway, "sync0") == {"10.99.0.9/24", "fd00:99::9/64"})
    assert ports(gateway)["lan0"].leased == ("10.0.0.100/32",)
    assert own(gateway, "backup0") == {"10.98.0.1/24", "10.77.0.1/24"}
    assert "default via" in gateway.namespace.run("ip", "route", "show")


def test_saved_addresses_survive_a_loss_of_power(machines: Machines) -> None:
    gateway = machines.lab.b
    save(gateway, sync0=("10.99.0.8/24",), lan0=("10.0.0.7/24",))
    wait_until(lambda: own(gateway, "sync0") == {"10.99.0.8/24"})
    machines.lab.faults.power_off(gateway)
    machines.power_on(gateway)
    wait_until(lambda: own(gateway, "sync0") == {"10.99.0.8/24"} and own(gateway, "lan0") == {"10.0.0.7/24"})
    assert "default via" in gateway.namespace.run("ip", "route", "show")
    gateway.wait_until_ready()


def test_what_the_agent_states_is_set_by_the_firmware(machines: Machines) -> None:
    gateway = machines.lab.b
    save(gateway, backup0=("10.98.0.2/24",))
    stated = gateway.state / STATED_FILE
    stated.write_text(json.dumps({"in_cluster": True, "ports": {"backup0": ["10.98.0.9/24"]}, "replaced": {}}))
    os.chown(stated, AGENT_UID, GROUP)
    stated.chmod(0o640)
    wait_until(lambda: own(gateway, "backup0") == {"10.98.0.9/24"})
    assert own(gateway, "sync0"), "other ports keep theirs"
    stated.unlink()
    wait_until(lambda: own(gateway, "backup0") == {"10.98.0.2/24"})


def test_a_port_that_is_not_there_is_reported(machines: Machines) -> None:
    gateway = machines.lab.b
    revision = save(gateway, eth9=("10.55.0.1/24",))
    result = Path(gateway.environment["FIRMWARE_NETWORK_RESULT"])
    wait_until(lambda: result.exists() and json.loads(result.read_text())["revision"] == revision)
    assert json.loads(result.read_text())["errors"] == ["eth9: there is no such port."]


def test_the_daemon_has_one_capability_and_is_not_root(machines: Machines) -> None:
    for pid in machines.lab.a.namespace.pids():
        if "network_daemon" in Path(f"/proc/{pid}/cmdline").read_text():
            status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
            assert status["Uid"].split()[0] == str(NETWORK_UID)
            assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 1 << 12  # CAP_NET_ADMIN
            return
    pytest.fail("no daemon runs")


def test_pages_are_reached_through_the_clients_network(machines: Machines) -> None:
    address = machines.lab.a.address("lan0").split("/")[0]
    forwarder = Forwarder(machines.lab.client, {18099: Target("A", address), 18098: Target("Nobody", "10.0.0.199")})
    forwarder.start()
    with contextlib.closing(forwarder):
        with urllib.request.urlopen("http://127.0.0.1:18099/login", timeout=5) as answer:
            assert b"Gateway A" in answer.read()
        with pytest.raises(urllib.error.HTTPError, match="502") as refused:
            urllib.request.urlopen("http://127.0.0.1:18098/", timeout=10)
        with refused.value as answer:
            assert b"Nobody does not answer" in answer.read()
