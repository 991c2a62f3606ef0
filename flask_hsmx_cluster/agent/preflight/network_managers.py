"""What else configures the shared ports, or does not as it should: for preflight, the status, and as a periodic job."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ...errors import Finding
from ...network.clock import boot_time_s
from ...network.managers import Manager, find_managers
from ...network.netlink import RequestSocket
from ...network.ports import forwards_ipv6, read_ports
from ...settings.model import Settings
from ..heartbeat import plan

WATCH_EVERY_S = 60.0
_DOCS = "docs/networks.md has the lines to write."
_REMEDIES = {
    "systemd-networkd": f"Put KeepConfiguration=yes into the port's .network file, on both gateways; {_DOCS}",
    "NetworkManager": f"Make the port one of its unmanaged-devices, on both gateways; {_DOCS}",
}


def managers_of(settings: Settings, root: Path = Path("/")) -> list[Manager]:
    """Return what else configures the ports with shared addresses, or lists these addresses."""
    wanted = plan.shared_by_port(settings)
    requests = RequestSocket()
    try:
        indices = {port.name: port.index for port in read_ports(requests) if port.name in wanted}
    finally:
        requests.close()
    return find_managers(indices, {str(one.address.ip) for one in plan.shared_of(settings)}, root)


def check_managers(managers: Sequence[Manager], routes: bool) -> Iterator[Finding]:
    """Does anything else take away shared addresses, or add them?

    :param routes: there are shared routes.
    """
    for one in managers:
        if one.removes:
            what = "addresses and routes" if routes and one.removes_routes else "addresses"
            yield Finding(
                "port_managed",
                f"{one.name} manages {_few(one.removes)} and takes away {what} that it has not set.",
                _REMEDIES.get(one.name, _DOCS),
                "virtual_ips.0.port",
                blocking=False,
            )
        if one.lists:
            yield Finding(
                "address_listed",
                f"The files of {one.name} list {_few(one.lists)}: both gateways would have it after a boot.",
                f"Remove it there, on both gateways: the cluster sets it where it belongs. {_DOCS}",
                "virtual_ips.0.address",
                blocking=False,
            )


def check_forwarding(settings: Settings) -> Iterator[Finding]:
    """Would this gateway forward what guests send it because of its router advertisements?"""
    for name in plan.advertised_of(settings):
        if forwards_ipv6(name) is False:
            yield Finding(
                "not_forwarding",
                f"{name} does not forward IPv6: guests there are told that this gateway is no router.",
                "Let the firmware set net.ipv6.conf.all.forwarding to 1 on this gateway.",
                blocking=False,
            )


class ManagersWatch:
    """Looks again every minute, for the alarms and the list of jobs."""

    def __init__(self) -> None:
        self._findings: dict[str, tuple[Finding, float]] = {}

    def look(self, settings: Settings | None) -> str:
        """Look, and return in words what else configures the network."""
        if settings is None:
            self._findings.clear()
            return "not in a cluster"
        managers, now = managers_of(settings), boot_time_s()
        found = (*check_managers(managers, bool(settings.routes)), *check_forwarding(settings))
        findings = {one.text: one for one in found}
        self._findings = {text: (one, self._findings.get(text, (one, now))[1]) for text, one in findings.items()}
        return "; ".join(_words(one) for one in managers) or "nothing else configures the network"

    def alarms(self) -> list[tuple[Finding, float]]:
        """Return what was found last, each with the boot time since which it was, s."""
        return list(self._findings.values())


def _words(one: Manager) -> str:
    if one.removes:
        return f"{one.name} manages {_few(one.removes)}, and takes foreign addresses away"
    if one.lists:
        return f"{one.name} lists {_few(one.lists)}"
    if one.managed:
        return f"{one.name} manages {_few(one.managed)}, and leaves foreign addresses"
    return f"{one.name} leaves the shared ports alone"


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
