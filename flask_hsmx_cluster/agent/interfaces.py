"""This gateway's side of the section *Network interface*: its own addresses, brought in line with the settings.

By default the agent sets them, and sets them again after a boot. A firmware that manages addresses itself takes the
statement instead: the file ``own-addresses.json`` in the state directory, which the agent writes in either case.

    {"in_cluster": true, "ports": {"wan0": ["203.0.113.3/29"]}, "replaced": {"wan0": ["203.0.113.9/29"]}}

Only ports that it names are touched, and of their addresses only those that this section has set, or that were there
when it named the port first (``replaced``); never one with a lifetime, or one that nobody could enter. A new address
comes before an old one goes.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from ipaddress import ip_interface
from pathlib import Path
from typing import Any, Protocol

from ..errors import ClusterError, ConfigError, Finding, NetworkError
from ..network.own_addresses import OwnAddressHand
from ..settings.addressing import address_fault, own_addresses
from ..settings.interfaces import Interface, stated
from ..settings.model import Settings

log = logging.getLogger(__name__)

FILE = "own-addresses.json"
MAX_FILE = 256 * 1024
#: Former addresses of a port that are remembered.
MOST_REPLACED = 64
#: A firmware that sets the addresses itself is waited for at most this long, s: what comes next binds to them.
HOST_TIMEOUT_S = 2.0
#: New addresses that the wire is asked for, at most, and how long for each, s: the operator waits.
MOST_PROBED, PROBE_TIMEOUT_S = 8, 0.6
#: How often it is looked at meanwhile, s.
LOOK_EVERY_S = 0.05

Addresses = Mapping[str, tuple[Interface, ...]]
#: Takes port, address and a time in s; returns the MACs that answer.
Probe = Callable[[str, str, float], list[str]]
#: Takes kind, severity, text and evidence of an event.
Record = Callable[[str, str, str, list[str]], None]


class Hand(Protocol):
    """What sets addresses: :class:`~flask_hsmx_cluster.network.own_addresses.OwnAddressHand`."""

    def present(self) -> Addresses: ...

    def add(self, port: str, address: Interface) -> None: ...

    def remove(self, port: str, address: Interface) -> None: ...


@dataclass(frozen=True)
class Statement:
    """What was last put in force.

    :param in_cluster: False once this gateway has left: then its own network settings may say otherwise.
    :param replaced: what each port had when it was named first, and was given since.
    """

    in_cluster: bool = False
    ports: Addresses = field(default_factory=dict)
    replaced: Addresses = field(default_factory=dict)


class OwnAddresses:
    """Keeps this gateway's own addresses as the settings state them. Its caller holds the lock of the settings.

    :param by_host: the firmware sets them; the agent only states them.
    """

    def __init__(self, state_dir: str, record: Record, by_host: bool = False, hand: Hand | None = None) -> None:
        self._path = Path(state_dir) / FILE
        self.record = record
        self._by_host = by_host
        self._hand = hand or OwnAddressHand()
        self._statement = _read(self._path)
        self._trouble = ""

    @contextmanager
    def change(self, wanted: Addresses) -> Iterator[None]:
        """Set what is new, let the caller put the settings in force, then remove what was replaced.

        If the caller fails, all is as before.

        :raises NetworkError: the kernel refused a new address.
        :raises ConfigError: the firmware is to set them, and they cannot be written down for it.
        """
        if not self._differs(wanted):
            yield
            return
        former, before = self._statement, self._hand.present()
        statement = self._next(wanted, before)
        added = self._begin(statement, before)
        try:
            yield
        except BaseException:
            self._take_back(former, added, before)
            raise
        self._finish(statement)
        self.record(
            "own_addresses", "info", "This gateway's own addresses were changed in the cluster settings.",
            [f"{port}: {', '.join(map(str, addresses))}" for port, addresses in wanted.items()]
            + [f"{port}: left to this gateway's own network settings" for port in former.ports if port not in wanted],
        )

    def restore(self, wanted: Addresses | None) -> str:
        """Bring the kernel in line again, as after a boot, or when a port has come; return what was done, in words.

        :param wanted: as the settings in force state them; None outside of a cluster, as on a copy of the disk.
        """
        try:
            if wanted is None:
                self.leave()
                return "not in a cluster"
            if self._differs(wanted):  # a change was interrupted
                with self.change(wanted):
                    return "stated anew"
            return "nothing to do" if self._by_host or not wanted else self._mend()
        except ClusterError as error:
            return self._tell_trouble(error.message)

    def leave(self) -> None:
        """Note that this gateway is in no cluster any more. Its addresses stay as they are."""
        if self._statement.in_cluster:
            self._keep(replace(self._statement, in_cluster=False))

    # -- steps ------------------------------------------------------------------------------------------------

    def _differs(self, wanted: Addresses) -> bool:
        """Return whether something new is stated. A first statement that names no port takes nothing back."""
        return wanted != self._statement.ports if self._statement.in_cluster else bool(wanted)

    def _next(self, wanted: Addresses, present: Addresses) -> Statement:
        """Return the statement of what is wanted; it remembers what each port has, or was given in this cluster."""
        former = self._statement if self._statement.in_cluster else Statement()
        replaced = {
            port: tuple(dict.fromkeys((*former.replaced[port], *former.ports.get(port, ()))))[-MOST_REPLACED:]
            if port in former.replaced else tuple(one for one in present.get(port, ()) if not address_fault(one))
            for port in wanted
        }
        return Statement(True, wanted, replaced)

    def _begin(self, statement: Statement, before: Addresses) -> list[tuple[str, Interface]]:
        """Set what is new, or let the host do it; return what was set."""
        if self._by_host:
            self._keep(statement)
            self._wait_for_host(statement)
            return []
        added: list[tuple[str, Interface]] = []
        try:
            for port, address in _missing(statement, before):
                added.append((port, address))
                self._hand.add(port, address)
        except BaseException:
            self._take_back(self._statement, added, before)
            raise
        return added

    def _take_back(self, former: Statement, added: list[tuple[str, Interface]], before: Addresses) -> None:
        """Remove what was set. It may have replaced the same IPv6 address with another prefix length."""
        if self._by_host:
            self._keep(former)
        for port, address in added:
            with suppress(NetworkError):
                self._hand.remove(port, address)
            for twin in before.get(port, ()):
                if twin.version == 6 and twin.ip == address.ip:
                    with suppress(NetworkError):
                        self._hand.add(port, twin)

    def _finish(self, statement: Statement) -> None:
        """Write the statement down, and remove what was replaced. The settings are in force: nothing can go back."""
        if self._by_host:
            return
        self._statement = statement
        try:
            self._keep(statement)
            for port, address in _replaced(self._statement, self._hand.present()):
                self._hand.remove(port, address)
        except ClusterError as error:  # what is not written is found out at the next start, from the settings
            self._tell_trouble(error.message)

    def _mend(self) -> str:
        statement, present = self._statement, self._hand.present()
        missing, replaced = _missing(statement, present), _replaced(statement, present)
        for port, address in missing:
            self._hand.add(port, address)
        for port, address in replaced:
            self._hand.remove(port, address)
        if missing or replaced:
            self.record(
                "own_addresses_restored", "info", "This gateway's own addresses were set again.",
                [f"{address} on {port} was missing" for port, address in missing]
                + [f"{address} on {port} had come back" for port, address in replaced])
        if absent := sorted(statement.ports.keys() - present.keys()):
            return self._tell_trouble(f"There is no port {', '.join(absent)} on this gateway.")
        self._trouble = ""
        return "set again" if missing or replaced else "in place"

    def _tell_trouble(self, text: str) -> str:
        if text != self._trouble:
            self.record(
                "own_addresses_failed", "warning", "Not all of this gateway's own addresses could be set.", [text])
        self._trouble = text
        return f"waits: {text}"

    def _wait_for_host(self, statement: Statement) -> None:
        until = time.monotonic() + HOST_TIMEOUT_S
        while _missing(statement, self._hand.present()) and time.monotonic() < until:
            time.sleep(LOOK_EVERY_S)

    def _keep(self, statement: Statement) -> None:
        _write(self._path, statement)
        self._statement = statement


def check_new(
    settings: Settings, present: Settings, there: Settings, ports: Mapping[str, Sequence[Mapping[str, Any]]],
    probe: Probe,
) -> Iterator[Finding]:
    """Is an address that a gateway is to get somebody's already?

    :param present: the settings in force here; ``there``: those that the other gateway is known to have.
    :param ports: network ports by node id, of this gateway and, if it answers, of the other one.
    :param probe: asks the wire on this gateway's ports.
    """
    held = {str(address.ip): (node.node_id, port) for node in settings.nodes if node.node_id not in ports
            for port, addresses in stated(there.interfaces, node.node_id).items() for address in addresses}
    held |= {str(address.ip): (node, str(port["name"])) for node, each in ports.items() for port in each
             for address in own_addresses(port)}
    macs = {str(port["mac"]) for each in ports.values() for port in each}
    names = {node.node_id: node.name for node in settings.nodes}
    left = MOST_PROBED
    for one in settings.interfaces:
        for node, addresses in one.addresses.items():
            former = stated(present.interfaces, node).get(one.port, ())
            for ip in (str(address.ip) for address in addresses if address not in former):
                where = f"interfaces.{one.port}.{node}"
                owner, port = held.get(ip, (node, one.port))
                if owner != node and owner not in ports:
                    yield Finding(
                        "address_in_use",
                        f"{names[owner]}, which does not answer, may still have {ip} on {port}.",
                        "Wait until it answers, and has another address.", where,
                    )
                elif owner != node:
                    yield Finding(
                        "address_in_use", f"{names.get(owner, 'The other gateway')} still has {ip} on {port}.",
                        "Give that gateway another address first, save, and then enter this one.", where,
                    )
                elif ip not in held and left > 0:
                    left -= 1
                    strangers = [mac for mac in _asked(probe, one.port, ip) if mac not in macs]
                    if strangers:
                        yield Finding(
                            "address_in_use",
                            f"Another machine ({', '.join(strangers[:3])}) answers for {ip} on {one.port}.",
                            "Choose a free address, or take it away from that machine.", where,
                        )


def _asked(probe: Probe, port: str, address: str) -> list[str]:
    try:
        return probe(port, address, PROBE_TIMEOUT_S)
    except NetworkError:  # a port without a cable, or one that only the other gateway has
        return []


def _missing(statement: Statement, present: Addresses) -> list[tuple[str, Interface]]:
    """Return what is not there; a port that is missing can come later."""
    return [(port, address) for port, addresses in statement.ports.items() if port in present
            for address in addresses if address not in present[port]]


def _replaced(statement: Statement, present: Addresses) -> list[tuple[str, Interface]]:
    """Return what is there and was replaced."""
    return [(port, address) for port, addresses in statement.ports.items()
            for address in present.get(port, ()) if address in statement.replaced.get(port, ())
            and address not in addresses]


def _read(path: Path) -> Statement:
    """Return the statement of a file; an empty one where there is none that can be read."""
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            data = json.loads(file.read(MAX_FILE) or b"")
        return Statement(data["in_cluster"] is True, _addresses(data["ports"]), _addresses(data["replaced"]))
    except FileNotFoundError:
        return Statement()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        log.warning("%s cannot be read, the settings are asked instead: %s", path, error)
        return Statement()


def _without_waiting(path: str, flags: int) -> int:
    """Open a file; a pipe in its place is not waited for."""
    return os.open(path, flags | os.O_NONBLOCK)


def _addresses(data: Mapping[str, list[str]]) -> dict[str, tuple[Interface, ...]]:
    return {str(port): tuple(ip_interface(item) for item in items) for port, items in data.items()}


def _write(path: Path, statement: Statement) -> None:
    """Write a file so that a reader sees the old one or the new one. Whoever may use the control socket may read it."""

    def plain(addresses: Addresses) -> dict[str, Any]:
        return {port: list(map(str, each)) for port, each in addresses.items()}

    data = {"in_cluster": statement.in_cluster, "ports": plain(statement.ports), "replaced": plain(statement.replaced)}
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        with os.fdopen(handle, "w") as file:
            os.fchmod(handle, 0o640)
            with suppress(PermissionError):  # not a member of that group: the file keeps our own
                os.fchown(handle, -1, path.parent.stat().st_gid)
            json.dump(data, file)
            file.flush()
            os.fsync(handle)
        fresh.replace(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise ConfigError(
            f"The own addresses cannot be written to {path}: {error.strerror}.", "Is the disk full or read-only?"
        ) from None
