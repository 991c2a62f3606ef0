"""The part of the firmware that may touch the network: ``python -m sample_app.firmware.network_daemon``.

Needs CAP_NET_ADMIN and nothing else. It follows the network settings file, sets this gateway's *own* addresses,
and removes only addresses that it set before. What the cluster settings state of a port comes first. An address with
a lifetime is somebody's lease, the cluster agent's, and is never touched. It also loads the rules of :mod:`.firewall`.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import time
from ipaddress import ip_interface
from pathlib import Path
from types import FrameType

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from . import network
from .config import from_environment
from .firewall import Enforcer, result_file

#: How often the settings file is looked at, s.
PERIOD_S = 0.2
#: How many (port, address) pairs are remembered as ours.
MAX_MANAGED = 256

log = logging.getLogger("firmware.network")

Address = tuple[str, str]


def plan(
    wanted: list[Address], present: list[network.Port], managed: list[Address]
) -> tuple[list[Address], list[Address]]:
    """Return which addresses to add and which to remove.

    :param managed: what was set before; nothing else is removed.
    """
    own = [(port.name, address) for port in present for address in port.own]
    return [item for item in wanted if item not in own], [
        item for item in own if item in managed and item not in wanted
    ]


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Return what tells one version of a file from another; the time of writing comes first."""
    try:
        found = os.stat(path, follow_symlinks=False)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _keep_secondaries(port: str) -> None:
    """Let a new address outlive the removal of an older one of its subnet: by default the kernel removes both."""
    with contextlib.suppress(OSError):
        Path("/proc/sys/net/ipv4/conf", port, "promote_secondaries").write_text("1")


class Daemon:
    """Applies every new revision of the settings once, and again at start.

    :param state: the directory with the settings file.
    :param result: the file to report in.
    :param stated: the file in which the cluster's agent states own addresses.
    """

    def __init__(self, state: Path, result: Path, stated: Path | None = None) -> None:
        self.state = state
        self.result = result
        self.stated = stated or state / network.STATED_FILE
        self._seen: list[tuple[int, int, int] | None] = [None, None]
        known = network.load_result(result)
        self.revision = known.revision if known else 0
        # At the very first start the permanent addresses that are there are the firmware's: the factory settings.
        factory = [] if known else [(port.name, item) for port in network.read_ports() for item in port.own]
        self.managed: list[Address] = list(known.managed) if known else factory

    def turn(self) -> bool:
        """Apply the settings if one of the two files has changed since the last turn; tell whether it had."""
        seen = [_stamp(path) for path in (self.state / network.SETTINGS_FILE, self.stated)]
        if seen == self._seen:
            return False
        self._seen = seen
        try:
            settings = network.load_settings(self.state)
        except network.NetworkSettingsError as error:
            self._report([str(error)])
            return True
        if settings is not None:
            self.revision = settings.revision
        ports = self._ports(settings)
        if ports is not None:
            self._report(self.apply(network.Settings(self.revision, ports)))
        return True

    def _ports(self, settings: network.Settings | None) -> dict[str, tuple[str, ...]] | None:
        """Return the addresses of all ports, of the two statements; None if there is none."""
        saved, written = self._seen
        stated = network.load_stated(self.stated)
        counts = written is not None and (stated.in_cluster or saved is None or written[0] > saved[0])
        first = stated.ports if counts else {}
        if settings is None and not first:
            return None
        # Where nobody has saved network settings, each other port keeps what it has.
        others = settings.ports if settings else {port.name: port.own for port in network.read_ports()}
        return {**others, **first}

    def apply(self, settings: network.Settings) -> list[str]:
        """Bring the kernel's own addresses in line with the settings; return what could not be done."""
        wanted = [(port, address) for port, addresses in settings.ports.items() for address in addresses]
        present = network.read_ports()
        known = {port.name for port in present}
        errors = [f"{port}: there is no such port." for port in settings.ports if port not in known]
        wanted = [item for item in wanted if item[0] in known]
        add, remove = plan(wanted, present, self.managed)
        self.managed = [*dict.fromkeys([*self.managed, *wanted])][-MAX_MANAGED:]
        with IPRoute() as kernel:
            # New ones first, so that a port is never without an address and keeps its routes.
            for port, address in add:
                errors += self._change(kernel, "add", port, address)
            for port, address in remove:
                _keep_secondaries(port)
                errors += self._change(kernel, "del", port, address)
            lost, _ = plan(add, network.read_ports(), [])
            if not errors:
                for port, address in lost:
                    errors += self._change(kernel, "add", port, address)
        return errors

    @staticmethod
    def _change(kernel: IPRoute, verb: str, port: str, address: str) -> list[str]:
        interface = ip_interface(address)
        index = kernel.link_lookup(ifname=port)
        if not index:
            return [f"{port}: there is no such port."]
        extra = {}
        if verb == "add" and interface.version == 4 and interface.network.prefixlen < 31:
            extra["broadcast"] = str(interface.network.broadcast_address)
        try:
            kernel.addr(
                verb, index=index[0], address=str(interface.ip), prefixlen=interface.network.prefixlen, **extra
            )
        except NetlinkError as error:
            return [f"{port}: {address} could not be {'set' if verb == 'add' else 'removed'}: {error.args[-1]}."]
        log.info("%s %s on %s", "set" if verb == "add" else "removed", address, port)
        return []

    def _report(self, errors: list[str]) -> None:
        for error in errors:
            log.warning("%s", error)
        network.write_whole(
            self.result,
            {"revision": self.revision, "errors": errors, "managed": [list(item) for item in self.managed]},
        )


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    config = from_environment()
    state: Path = config["FIRMWARE_STATE_DIR"]
    parser = argparse.ArgumentParser(prog="network_daemon", description="Apply the firmware's network settings.")
    parser.add_argument("--once", action="store_true", help="apply what is saved and end")
    once: bool = parser.parse_args().once
    daemon = Daemon(
        state, Path(config["FIRMWARE_NETWORK_RESULT"] or state / network.RESULT_FILE),
        Path(config["HSMX_CLUSTER_STATE_DIR"]) / network.STATED_FILE,
    )
    firewall = Enforcer(state, result_file(config))
    stopping: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        stopping.append(number)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    while not stopping:
        try:
            daemon.turn()
            firewall.turn()
        except OSError as error:
            log.error("%s", error)
        if once:
            break
        time.sleep(PERIOD_S)


if __name__ == "__main__":
    main()
