"""The contenders, each as a pair of gateways in a lab: ours without and with data, and Debian's keepalived."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterator
from typing import Protocol

from sample_app.lab import Gateway, Lab, LabError, form, wait_for_roles
from sample_app.lab.topology import CableKind

from .data_lab import APP

_FIRST_REQUEST = "import urllib.request as r; r.urlopen('http://127.0.0.1/login')"


class Pair(Protocol):
    """A cluster of two that is under way; what differs between the contenders."""

    #: Whether the two share a database.
    data: bool
    lab: Lab
    addresses: tuple[str, ...]

    @staticmethod
    def case(name: str) -> str:
        """Return what a case of a scenario is called with this contender."""

    def ready(self) -> Gateway:
        """Wait until one gateway is active and the other would take over; return the active."""

    def request(self, active: Gateway) -> None:
        """Hand over, as an operator asks for it."""

    def terminate(self, gateway: Gateway) -> None:
        """End the daemon as a service manager does."""

    def kill(self, gateway: Gateway) -> None:
        """SIGKILL the daemon; the machine lives on."""

    def freeze(self, gateway: Gateway) -> None:
        """SIGSTOP the daemon."""

    def thaw(self, gateway: Gateway) -> None:
        """SIGCONT the daemon."""

    def restart(self, gateway: Gateway) -> None:
        """Start the daemon again on a machine that lives, if it does not run."""

    def power_on(self, gateway: Gateway) -> None:
        """Boot a machine that was without power."""


class Ours:
    """Two gateways with our agent, formed with the command line."""

    data = False
    #: How many networks with clients its lab has.
    lans = 1

    def __init__(self, lab: Lab, heartbeat_ms: int) -> None:
        self.lab = lab
        self.addresses: tuple[str, ...] = (lab.virtual_ip, lab.virtual_ip6)
        lab.start()
        if self.data:
            for gateway in lab.gateways:  # The firmware makes its tables when it is asked for something first.
                gateway.namespace.run("python3", "-c", _FIRST_REQUEST)
        # A lease lasts at least four heartbeats, and two seconds.
        form(lab, "--lease-s", str(max(2, 4 * heartbeat_ms // 1000)), heartbeat_ms=heartbeat_ms)

    @staticmethod
    def case(name: str) -> str:
        return name

    def ready(self) -> Gateway:
        return wait_for_roles(self.lab, timeout_s=40)

    def request(self, active: Gateway) -> None:
        active.cli("failover")

    def terminate(self, gateway: Gateway) -> None:
        self.lab.faults.stop_agent(gateway)

    def kill(self, gateway: Gateway) -> None:
        self.lab.faults.kill_agent(gateway)

    def freeze(self, gateway: Gateway) -> None:
        self.lab.faults.freeze_agent(gateway)

    def thaw(self, gateway: Gateway) -> None:
        self.lab.faults.thaw_agent(gateway)

    def restart(self, gateway: Gateway) -> None:
        if gateway.agent is None:
            gateway.start_agent()

    def power_on(self, gateway: Gateway) -> None:
        self.lab.faults.power_on(gateway)


class OursWithData(Ours):
    """The same with the sample firmware, whose database both gateways share.

    It is not ready before both confirm each write.
    """

    data = True

    @staticmethod
    def case(name: str) -> str:
        return f"{name}_data"


class Keepalived:
    """Two gateways with keepalived: VRRP version 3, unicast over the sync cable, no preemption, its other defaults.

    Its instance does not track the sync cable itself (``dont_track_primary``): with a direct cable it would else give
    up the address together with the peer that has died.
    """

    data = False
    lans = 1

    def __init__(self, lab: Lab, heartbeat_ms: int) -> None:
        if shutil.which("keepalived") is None:
            raise LabError("keepalived is not installed (Debian: keepalived)")
        self.lab = lab
        self.addresses: tuple[str, ...] = (lab.virtual_ip,)
        self._interval_s = heartbeat_ms / 1000
        for gateway in lab.gateways:
            (gateway.directory / "keepalived.conf").write_text(self._configuration(gateway))
            self.restart(gateway)

    @staticmethod
    def case(name: str) -> str:
        return f"keepalived_{name}"

    def ready(self) -> Gateway:
        deadline = time.monotonic() + 20 + 5 * self._interval_s
        # Whoever has just started becomes a backup that hears the master within this time.
        time.sleep(1 + 4 * self._interval_s)
        while True:
            holders = [gateway for gateway in self.lab.gateways if gateway.holds(self.lab.virtual_ip)]
            if len(holders) == 1:
                return holders[0]
            if time.monotonic() > deadline:
                raise LabError(f"keepalived: the address is on {holders}")
            time.sleep(0.1)

    def request(self, active: Gateway) -> None:
        self.terminate(active)

    def terminate(self, gateway: Gateway) -> None:
        self._signal(gateway, signal.SIGTERM)

    def kill(self, gateway: Gateway) -> None:
        # Stopped first: else the child hears of its parent's death, and leaves in good order before its own.
        self._signal(gateway, signal.SIGSTOP)
        self._signal(gateway, signal.SIGKILL)

    def freeze(self, gateway: Gateway) -> None:
        self._signal(gateway, signal.SIGSTOP)

    def thaw(self, gateway: Gateway) -> None:
        self._signal(gateway, signal.SIGCONT)

    def restart(self, gateway: Gateway) -> None:
        gateway.namespace.kill_all()
        if gateway.holds(self.lab.virtual_ip):  # Left behind by one that was killed; a person would see to it.
            gateway.namespace.ip(f"addr del {self.lab.virtual_ip}/24 dev lan0")
        files = {"-f": "keepalived.conf", "-p": "keepalived.pid", "-r": "vrrp.pid"}
        options = [part for option, name in files.items() for part in (option, str(gateway.directory / name))]
        for option in ("-p", "-r"):
            (gateway.directory / files[option]).unlink(missing_ok=True)
        gateway.agent = gateway.namespace.popen("keepalived", "-n", "-P", "-l", *options)

    def power_on(self, gateway: Gateway) -> None:
        self.lab.faults.power_on(gateway, start=False)
        self.restart(gateway)

    def _signal(self, gateway: Gateway, number: signal.Signals) -> None:
        for pid in gateway.namespace.pids():  # Parent and child; nothing else runs on the gateway.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _configuration(self, gateway: Gateway) -> str:
        own, peer = (each.address("sync0").split("/")[0] for each in (gateway, self.lab.other(gateway)))
        return f"""
            global_defs {{
                vrrp_version 3
            }}
            vrrp_instance gateway {{
                state BACKUP
                nopreempt
                interface sync0
                dont_track_primary
                virtual_router_id 51
                priority 150
                advert_int {self._interval_s:g}
                unicast_src_ip {own}
                unicast_peer {{
                    {peer}
                }}
                track_interface {{
                    lan0
                }}
                virtual_ipaddress {{
                    {self.lab.virtual_ip}/24 dev lan0
                }}
                {self._more()}
            }}
        """

    def _more(self) -> str:
        """Return more lines of its instance."""
        return ""


Contender = type[Ours] | type[OursWithData] | type[Keepalived]


@contextlib.contextmanager
def running(contender: Contender, sync: CableKind, heartbeat_ms: int) -> Iterator[Pair]:
    """A pair of a contender in a lab of its own.

    Both cables run the same way: a direct backup cable would tell of a power-off by its carrier at once.
    """
    firmware = {"app": APP, "postgres": True} if contender.data else {}
    with Lab(sync=sync, backup=sync, lans=contender.lans, **firmware) as lab:  # type: ignore[arg-type]
        yield contender(lab, heartbeat_ms)
