"""Forms the lab's cluster as an operator does, with the command line."""

from __future__ import annotations

import time

from .gateway import Gateway
from .namespace import LabError
from .topology import Lab


def form(lab: Lab, *options: str, heartbeat_ms: int = 100, ipv6: bool = True, timeout_s: float = 20) -> None:
    """Create a cluster on gateway a, join it from b, and wait until a is active and b passive.

    :param options: more options for ``flask cluster create``.
    :param timeout_s: for the first copy of the data, too.
    """
    addresses = [f"{lab.virtual_ip}/24"] + ([f"{lab.virtual_ip6}/64"] if ipv6 else [])
    wan = [f"{lab.wan_ip}/24@wan0,off-subnet"] if lab.wan else []
    wanted = wan + [f"{address}@lan0{lab.virtual_ip_options}" for address in addresses]
    virtual_ips = [part for one in wanted for part in ("--virtual-ip", one)]
    created = lab.a.cli("create", *virtual_ips, *_ends(lab, lab.a), "--heartbeat-ms", str(heartbeat_ms), *options)
    lab.b.cli("join", lab.a.address("sync0").split("/")[0], created["code"], *_ends(lab, lab.b))
    wait_for_roles(lab, active=lab.a, timeout_s=timeout_s)


def roles(lab: Lab) -> dict[str, str]:
    """Return each gateway's role by its name; ``unreachable`` where no agent answers."""
    return {gateway.name: gateway.role() for gateway in lab.gateways}


def wait_for_roles(lab: Lab, active: Gateway | None = None, timeout_s: float = 20) -> Gateway:
    """Wait until exactly one gateway is active, its peer passive and ready to take over; return the active.

    :param active: which one it has to be; None if either will do.
    :raises LabError: not in time.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        for gateway in (active,) if active else lab.gateways:
            if gateway.role() == "active" and _ready(lab.other(gateway)):
                return gateway
        if time.monotonic() > deadline:
            logs = "\n".join(f"{each!r}:\n{each.log('agent')[-2000:]}" for each in lab.gateways)
            raise LabError(f"roles are {roles(lab)} after {timeout_s:.0f} s, wanted active: {active}\n{logs}")
        time.sleep(0.05)


def _ready(gateway: Gateway) -> bool:
    if gateway.role() != "passive":
        return False
    return bool(gateway.call("status")["readiness"]["ready"])


def _ends(lab: Lab, gateway: Gateway) -> list[str]:
    ends = {"sync": "sync0", "backup": "backup0", "service": "lan0"}
    return [part for kind, port in ends.items() if port in gateway.addresses
            for part in (f"--{kind}", f"{gateway.address(port)}@{port}")]
