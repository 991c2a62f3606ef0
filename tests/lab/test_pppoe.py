"""PPPoE on a running pair and a real access concentrator: dialled where the role is, and never on both.

Where the kernel has no PPP the lab's stand-in for pppd dials (docs/pppoe.md).
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sample_app.lab import Gateway, Lab, form, wait_for_roles
from sample_app.lab.concentrator import Concentrator, pppd_on_this_kernel
from sample_app.lab.pppoe_watch import PPPoEWatch

USER, PASSWORD = "hotel@provider.example", 'a "secret" \\ #1'
FIBRE = {"name": "fibre", "port": "lan1", "user": USER, "password": PASSWORD}


@pytest.fixture(scope="module")
def provider(lab: Lab) -> Iterator[Concentrator]:
    with Concentrator(lab, {USER: PASSWORD}).running() as provider:
        yield provider


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(sync="switch", backup="switch", lans=2) as lab:
        for gateway in lab.gateways:
            gateway.environment["HSMX_CLUSTER_PPPD"] = pppd_on_this_kernel()
        lab.start()
        form(lab)
        yield lab


@pytest.fixture(scope="module", autouse=True)
def watch(lab: Lab, provider: Concentrator) -> Iterator[PPPoEWatch]:
    with PPPoEWatch.at(provider) as watch:
        propose(lab, [FIBRE])
        yield watch


def propose(lab: Lab, connections: list[dict[str, Any]]) -> None:
    held = lab.a.call("settings")
    lab.a.call("propose", settings={**held["settings"], "pppoe": connections}, base_revision=held["revision"])


def shown(gateway: Gateway) -> dict[str, Any]:
    rows = gateway.call("status")["pppoe"]
    return rows[0] if rows else {"state": "unknown", "text": ""}


def has_session(gateway: Gateway) -> bool:
    """Return whether its kernel has the address that the provider gave."""
    return "peer 10.60.0.1" in gateway.namespace.run("ip", "-4", "addr")


def wait(condition: Callable[[], bool], what: str, within_s: float = 20) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def wait_for_session(lab: Lab, gateway: Gateway) -> None:
    wait(lambda: has_session(gateway), f"{gateway} has no session: {shown(gateway)}")
    gateway.namespace.run("ping", "-c", "1", "-i", "0.2", "-w", "10", "10.60.0.1")  # until one is answered
    assert not has_session(lab.other(gateway))


def test_it_is_dialled_on_the_active_only(lab: Lab) -> None:
    active = wait_for_roles(lab)
    wait_for_session(lab, active)
    wait(lambda: shown(active)["state"] == "up", "it is not shown")
    wait(lambda: "not the active one" in shown(lab.other(active))["text"], "it is not shown on the passive")
    for gateway in lab.gateways:
        told = json.dumps([gateway.call(verb) for verb in ("status", "settings", "events")])
        assert "secret" not in told + gateway.log("agent") and not list((gateway.state / "pppoe").glob("*"))


@pytest.mark.parametrize("how", ["request", "power-off", "agent killed"])
def test_it_moves_with_the_role_and_is_never_on_both(lab: Lab, watch: PPPoEWatch, how: str) -> None:
    active = wait_for_roles(lab)
    wait_for_session(lab, active)
    other = lab.other(active)
    if how == "request":
        active.call("failover")
    elif how == "power-off":
        lab.faults.power_off(active)
    else:
        active.signal_agent(signal.SIGKILL)
    wait(lambda: other.role() == "active", "the role did not move")
    wait_for_session(lab, other)
    role_at = time.monotonic() - other.call("status")["node"]["since_s"]
    before, after = watch.engagements[-2:] if len(watch.engagements) > 1 else (None, watch.engagements[-1])
    print(f"{how}: up {(after.up_at or 0) - role_at:.2f} s after the role; a free line for "
          f"{after.began - before.last if before else -1:.2f} s")
    if how == "power-off":
        lab.faults.power_on(active)
    elif how == "agent killed":
        active.start_agent()
    assert wait_for_roles(lab) is other
    assert watch.engagements and not watch.overlaps()


def test_a_wrong_password_is_said_and_mended(lab: Lab) -> None:
    active = wait_for_roles(lab)
    propose(lab, [{**FIBRE, "password": "wrong"}])

    def alarms() -> list[str]:
        return [alarm["text"] for alarm in active.call("status")["alarms"] if alarm["key"] == "pppoe_fibre"]

    wait(lambda: any("refused user name and password" in text for text in alarms()), "no alarm")
    assert not has_session(active)
    propose(lab, [FIBRE])
    wait_for_session(lab, active)
    wait(lambda: not alarms(), "the alarm stays")


def test_an_operator_disconnects_and_connects_from_either_gateway(lab: Lab) -> None:
    active = wait_for_roles(lab)
    wait_for_session(lab, active)
    lab.other(active).call("pppoe", name="fibre", connect=False)
    wait(lambda: not has_session(active), "it is still there")
    active.call("pppoe", name="fibre", connect=True)
    wait_for_session(lab, active)
