"""PPPoE over fifty fail-overs: whether two gateways were ever engaged with the provider at once, and when it is back.

A pair and a real access concentrator; where the kernel has no PPP the lab's stand-in for pppd dials (docs/pppoe.md).
*Engaged* is a gateway from the first frame of its discovery to its PADT or, if it had no chance to send one, to its
last frame; ``discoveries_at_once`` counts the pairs of engagements of both gateways that overlap. ``pppoe_back_*`` is
the time from the role to the provider's agreement to an address.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Sequence

from sample_app.lab import Gateway, Lab, LabError, form, wait_for_roles
from sample_app.lab.concentrator import Concentrator, pppd_on_this_kernel
from sample_app.lab.pppoe_watch import Engagement, PPPoEWatch

from .results import Results

FAILOVERS = 50
#: How each of five in a row comes about.
WAYS = ("request", "power_off", "request", "agent_killed", "request")
UNITS = {"discoveries_at_once": "count", **{f"pppoe_back_{way}": "ms" for way in dict.fromkeys(WAYS)}}
USER, PASSWORD = "hotel", "secret"
#: Longest wait for anything, s.
PATIENCE_S = 90.0


def measure(results: Results, cases: Sequence[str]) -> None:
    """Run fifty fail-overs, unless that has been done."""
    if not set(cases) & set(UNITS) or results.count("discoveries_at_once"):
        return
    with Lab(sync="switch", backup="switch", lans=2) as lab:
        for gateway in lab.gateways:
            gateway.environment["HSMX_CLUSTER_PPPD"] = pppd_on_this_kernel()
        lab.start()
        form(lab)
        with Concentrator(lab, {USER: PASSWORD}).running() as provider, PPPoEWatch.at(provider) as watch:
            _connect(lab)
            try:
                for number in range(FAILOVERS):
                    way = WAYS[number % len(WAYS)]
                    back_ms = _fail_over(lab, watch, way)
                    results.add({f"pppoe_back_{way}": back_ms})
                    print(f"{number + 1}: pppoe_back_{way} {back_ms:.0f} ms", file=sys.stderr, flush=True)
            except LabError as error:
                results.add_failure("discoveries_at_once", str(error))
                print(f"discoveries_at_once: FAILED: {error}", file=sys.stderr)
                return
            for one, other in watch.overlaps():
                print(f"at once: {one} and {other}", file=sys.stderr)
            results.add({"discoveries_at_once": len(watch.overlaps())})


def _connect(lab: Lab) -> None:
    held = lab.a.call("settings")
    row = {"name": "fibre", "port": "lan1", "user": USER, "password": PASSWORD}
    lab.a.call("propose", settings={**held["settings"], "pppoe": [row]}, base_revision=held["revision"])


def _fail_over(lab: Lab, watch: PPPoEWatch, way: str) -> float:
    """Fail over once, and wait until all is well again. Returns when the connection was back after the role, ms."""
    active = wait_for_roles(lab, timeout_s=PATIENCE_S)
    other = lab.other(active)
    _wait(lambda: bool(active.call("status")["readiness"]["ready"]), "the pair is not ready")
    _wait(lambda: _up(watch) is not None and _mac(active) == _mac_of(watch), "the active has no session")
    _wait(lambda: bool(other.call("status")["pppoe"]), "the passive's dialler is not set up")
    if way == "request":
        active.call("failover")
    elif way == "power_off":
        lab.faults.power_off(active)
    else:
        active.signal_agent(signal.SIGKILL)
    _wait(lambda: other.role() == "active", "the role did not move")
    role_at = time.monotonic()
    _wait(lambda: _mac_of(watch) == _mac(other) and _up(watch) is not None, "the connection is not back")
    back_at = _up(watch)
    if way == "power_off":
        lab.faults.power_on(active)
    elif way == "agent_killed":
        active.start_agent()
    return ((back_at or 0.0) - role_at) * 1000


def _mac(gateway: Gateway) -> str:
    return gateway.namespace.run("cat", "/sys/class/net/lan1/address").strip()


def _last(watch: PPPoEWatch) -> Engagement | None:
    return watch.engagements[-1] if watch.engagements else None


def _mac_of(watch: PPPoEWatch) -> str:
    last = _last(watch)
    return last.mac if last else ""


def _up(watch: PPPoEWatch) -> float | None:
    last = _last(watch)
    return last.up_at if last else None


def _wait(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(what)
        time.sleep(0.025)  # the agent answers 50 questions a second
