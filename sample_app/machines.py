"""The sample firmware on the lab's gateways: its environment, and its network daemon beside the lab's processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from .lab import Gateway, Lab
from .lab.privileges import GROUP, REPOSITORY, command
from .lab.sshd import PROGRAM as SSHD

APP = "sample_app.firmware:create_app"

#: The network daemon's user; like the agent's and the web app's, one that no Debian machine has.
NETWORK_UID = 61003


_FIRST_REQUEST = "import urllib.request; urllib.request.urlopen('http://127.0.0.1/login').read()"


def _addresses(gateway: Gateway) -> str:
    """Return a gateway's addresses on the links, for the other one's firewall."""
    kinds = {"sync0": "sync", "backup0": "backup", "lan0": "service"}
    return ",".join(f"{kinds[port]}={one.partition('/')[0]}" for port, addresses in gateway.addresses.items()
                    if port in kinds for one in addresses)


class Machines:
    """Starts the lab's gateways with the whole firmware on them.

    :param lab: an entered lab that was made with ``app=APP``, with or without PostgreSQL.
    """

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        for gateway in lab.gateways:
            gateway.environment |= {
                "HSMX_CLUSTER_NODE_NAME": f"Gateway {gateway.name.upper()}",
                "FIRMWARE_SERVICES": "yes",
                "FIRMWARE_OTHER_GATEWAY": _addresses(lab.other(gateway)),
                "FIRMWARE_STATE_DIR": str(gateway.directory / "home" / "firmware"),
                "FIRMWARE_NETWORK_RESULT": str(self._report(gateway)),
                "HSMX_CLUSTER_STATE_DIR": str(gateway.state),
            }
            gateway.serve_https()
            if SSHD.exists():  # files are pulled over ssh
                gateway.declare_files(portal=[])
                gateway.environment["FIRMWARE_PORTAL_DIR"] = str(gateway.files / "portal")
            folder = self._report(gateway).parent
            folder.mkdir(mode=0o750)
            os.chown(folder, NETWORK_UID, GROUP)

    def start(self) -> None:
        """Start everything on both gateways, and wait until they answer."""
        for gateway in self.lab.gateways:
            self._start_daemon(gateway)
        self.lab.start()
        for gateway in self.lab.gateways:  # The firmware makes its tables when it is first asked for a page.
            gateway.namespace.run(sys.executable, "-c", _FIRST_REQUEST)

    def power_on(self, gateway: Gateway) -> float:
        """Boot a gateway that was off; return when its cables had power, monotonic seconds."""
        at = self.lab.faults.power_on(gateway)
        self._start_daemon(gateway)
        return at

    def reboot(self, gateway: Gateway) -> None:
        """Restart a gateway's machine: all its processes end and start again."""
        self.lab.faults.reboot(gateway)
        self._start_daemon(gateway)

    def close(self) -> None:
        """End the network daemons."""
        for daemon in self._daemons.values():
            daemon.kill()
            daemon.wait()
        self._daemons.clear()

    def _start_daemon(self, gateway: Gateway) -> None:
        if before := self._daemons.pop(gateway.name, None):
            before.kill()
            before.wait()
        environment = [f"{key}={value}" for key, value in gateway.environment.items()]
        program = ["env", f"PYTHONPATH={REPOSITORY}", *environment, sys.executable, "-m",
                   "sample_app.firmware.network_daemon"]
        with (gateway.directory / "network.log").open("ab") as log:
            self._daemons[gateway.name] = gateway.namespace.popen(
                *command(NETWORK_UID, "-all,+net_admin", gateway.directory, program), output=log
            )

    @staticmethod
    def _report(gateway: Gateway) -> Path:
        return gateway.directory / "network" / "result.json"
