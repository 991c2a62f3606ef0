"""Whether guests' open TCP connections through the gateways' address translation survive a fail-over: 1 yes, 0 no.

There are two at each fail-over. On one both ends send every 5 ms; it is the one whose stall is measured. The other
one is silent until the role has moved, and then the host outside speaks first: the gateway cannot guess where to. A
run is a fail-over on request and a power-off through a switch; ``tcp_survived`` is 1 if all four connections survived.
``..._without`` is the same without conntrackd.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from sample_app.lab import Conversation, Gateway, Lab, LabError, form, wait_for_roles

from .results import Results
from .stages import Figures, Run

#: How long after a fail-over the busy connection is watched, s.
_STALL_S = 2.0
_HOW = ("request", "poweroff")


def _units(suffix: str) -> dict[str, str]:
    each = {f"tcp_survived_{how}{suffix}": "1=yes" for how in _HOW}
    return {f"tcp_survived{suffix}": "1=yes", **each, **{f"tcp_stall_{how}{suffix}": "ms" for how in _HOW}}


UNITS = {**_units(""), **_units("_without")}


@contextlib.contextmanager
def pair_with_wan(conntrack: str = "on", **environment: str) -> Iterator[Lab]:
    """A formed pair whose way to the outside comes and goes with the shared address of the WAN.

    :param conntrack: ``HSMX_CLUSTER_CONNTRACK`` of both; ``environment``: more of it.
    """
    with Lab(sync="switch", backup="switch", wan=True) as lab:
        for gateway in lab.gateways:
            gateway.environment |= {"HSMX_CLUSTER_CONNTRACK": conntrack, **environment}
        lab.start()
        form(lab, ipv6=False)
        held = lab.a.call("settings")
        way_out = [{"destination": "0.0.0.0/0", "via": lab.wan_router}]
        lab.a.call("propose", settings={**held["settings"], "routes": way_out}, base_revision=held["revision"])
        while "default" not in lab.a.namespace.run("ip", "route"):
            time.sleep(0.05)
        yield lab


def shown_of(gateway: Gateway, participant: str) -> dict[str, Any]:
    """Return what a gateway shows of something that follows its role; empty while that is not known."""
    services = gateway.call("status")["services"] or {}
    return dict(services.get(participant, {}))


def connections_told(lab: Lab, timeout_s: float = 30) -> Gateway:
    """Wait until the passive gateway knows of the active one's connections as they are; return the active."""
    deadline = time.monotonic() + timeout_s
    while True:
        active = wait_for_roles(lab, timeout_s=timeout_s)
        shown = [shown_of(gateway, "conntrack") for gateway in (active, lab.other(active))]
        if all(each and each["state"] == "running" and each["entries"] for each in shown):
            return active
        if time.monotonic() > deadline:
            raise LabError(f"connection tracking is not under way: {shown}")
        time.sleep(0.1)


def move(lab: Lab, active: Gateway, how: str) -> tuple[bool, float]:
    """Let the role move under two open connections; return whether both survived, and the stall of one in ms."""
    with Conversation(lab) as busy, Conversation(lab, silent=True) as silent:
        if busy.seen_from != lab.wan_ip:
            raise LabError(f"the host outside sees {busy.seen_from}, not the shared address {lab.wan_ip}")
        time.sleep(0.5)
        if how == "poweroff":
            at = lab.faults.power_off(active)
        else:
            at = time.monotonic()
            active.call("failover")
        time.sleep(_STALL_S)
        silent.speak_from_outside()
        survived = busy.survived(at + _STALL_S) and silent.survived(at)
        stall_ms = busy.stall_ms(at, _STALL_S)
    if how == "poweroff":
        lab.faults.power_on(active)
    return survived, stall_ms


@contextlib.contextmanager
def _ready(conntrack: bool) -> Iterator[Run]:
    with pair_with_wan("on" if conntrack else "off") as lab:
        suffix = "" if conntrack else "_without"
        ready = connections_told if conntrack else wait_for_roles

        def run() -> Figures:
            figures = {}
            for how in _HOW:
                survived, stall_ms = move(lab, ready(lab), how)
                figures[f"tcp_survived_{how}{suffix}"] = float(survived)
                if survived:
                    figures[f"tcp_stall_{how}{suffix}"] = stall_ms
            figures[f"tcp_survived{suffix}"] = min(figures[f"tcp_survived_{how}{suffix}"] for how in _HOW)
            return figures

        yield run


def measure(results: Results, cases: Sequence[str], runs: int) -> None:
    """Run what is missing of the wanted cases."""
    for conntrack, suffix in ((True, ""), (False, "_without")):
        case = f"tcp_survived{suffix}"
        if set(cases) & set(_units(suffix)) and results.count(case) < runs:
            with _ready(conntrack) as run:
                while results.count(case) < runs:
                    figures = run()
                    results.add(figures)
                    shown = ", ".join(f"{name} {value:.1f}" for name, value in figures.items())
                    print(shown, file=sys.stderr, flush=True)
