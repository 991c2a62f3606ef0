"""What the agent's threads do with ports and devices outside of the heartbeat loop, over sockets of their own."""

from __future__ import annotations

import select
import time
from collections.abc import Mapping, Sequence

from ...errors import NetworkError
from ...network.addresses import AddressLease, SharedRoute, placed
from ...network.announce import FrameRequest
from ...network.netlink import RequestSocket
from ...network.ports import Port, read_ports
from ...network.virtual_mac import ensure_device, is_virtual, remove_device
from ...network.wire import AddressClaim, PortSocket
from ...settings.network_rules import router_of
from ..membership import Membership
from . import plan
from .frames import FrameBook

#: Addresses asked for on a port in a second: ARP inspection disables it at 15 packets, and there are heartbeats' own
#: questions (rule 12).
PROBES_PER_S = 10
#: The last one's answer is waited for this long, s.
LAST_ANSWER_S = 0.5


def ports_now() -> list[Port]:
    """Return the machine's ports, over a socket of the caller's own."""
    requests = RequestSocket()
    try:
        return read_ports(requests)
    finally:
        requests.close()


def mac_of(port: Port) -> bytes:
    """Return the six bytes of a port's MAC."""
    return bytes.fromhex(port.mac.replace(":", ""))


def virtual_devices(membership: Membership, found: dict[str, Port]) -> dict[str, Port]:
    """Return the devices of virtual MACs, by port; they are made where they are missing."""
    macs = {name: plan.virtual_mac_of(membership.settings, name) for name in plan.ports_of(membership.settings)}
    macs = {name: mac for name, mac in macs.items() if name in found}
    requests = RequestSocket()
    try:
        return {name: ensure_device(requests, found[name], mac) for name, mac in macs.items() if mac}
    finally:
        requests.close()


def lease_of(
    membership: Membership, requests: RequestSocket, found: dict[str, Port], devices: dict[str, Port]
) -> AddressLease:
    """Return the lease of all shared addresses and routes whose ports this machine has."""
    settings = membership.settings
    shared = [
        placed(one.address, found[one.port], devices[one.port] if one.virtual_mac else None, one.alias)
        for one in plan.shared_of(settings)
        if one.port in found
    ]
    by_address = {address.interface.ip: address for address in shared}
    routes = []
    for route in settings.routes:
        through = router_of(settings, route)
        if through is not None and (address := by_address.get(through[1].ip)) is not None:
            # Beside an own address the router's network is on the port, not on the virtual MAC's device.
            beside_own = address.interface != through[1]
            index = found[address.port].index if beside_own else address.index
            routes.append(SharedRoute(route.destination, route.via, address.interface.ip, index))
    return AddressLease(requests, shared, settings.advanced.lease_s, routes)


def remove_virtual_devices(keep: set[str]) -> None:
    """Remove the devices that no address needs any more."""
    requests = RequestSocket()
    try:
        for port in read_ports(requests):
            if is_virtual(port) and port.name not in keep:
                remove_device(requests, port)
    finally:
        requests.close()


def look_for_one(book: FrameBook, port: str, address: str, timeout_s: float) -> list[str]:
    """Return the MACs that answer for an address on a port, as soon as there is one.

    :raises NetworkError: there is no such port, or it cannot be probed.
    """
    found = next((one for one in ports_now() if one.name == port), None)
    if found is None or not found.mac:
        raise NetworkError(f"There is no port {port} on this gateway.", "Choose one that exists.")
    frames = book.frames([FrameRequest(address, found.mac)])[0]
    wire = PortSocket(port, found.index, mac_of(found))
    try:
        return sorted(who_answers(wire, frames.probe, address, timeout_s))
    finally:
        wire.close()


def look_for(book: FrameBook, wanted: Mapping[str, Sequence[str]]) -> dict[tuple[str, str], list[str]]:
    """Return the MACs that answer for addresses, by port and address; a port that is not there is left out.

    :raises NetworkError: a port cannot be probed.
    """
    found = [port for port in ports_now() if port.name in wanted and port.mac]
    asked = {port.name: [FrameRequest(address, port.mac) for address in wanted[port.name]] for port in found}
    book.frames([request for some in asked.values() for request in some])  # in one process for all
    probes = {
        name: [(request.address, frames.probe) for request, frames in zip(some, book.frames(some), strict=True)]
        for name, some in asked.items()
    }
    wires: dict[str, PortSocket] = {}
    try:
        for port in found:
            wires[port.name] = PortSocket(port.name, port.index, mac_of(port))
        return {place: sorted(macs) for place, macs in ask_for_many(wires, probes).items()}
    finally:
        for wire in wires.values():
            wire.close()


def ask_for_many(
    wires: Mapping[str, PortSocket], probes: Mapping[str, Sequence[tuple[str, bytes]]]
) -> dict[tuple[str, str], set[str]]:
    """Ask once for each of many addresses, on all ports at the same time, at a pace that no switch minds.

    :param probes: addresses with the frames that ask for them, by port.
    :return: by port and address the MACs that answered, where one did.
    """
    found: dict[tuple[str, str], set[str]] = {}
    for at in range(max(map(len, probes.values()), default=0)):
        for port, some in probes.items():
            if at < len(some):
                wires[port].send(some[at][1])
        _gather(wires, probes, found, 1 / PROBES_PER_S)
    _gather(wires, probes, found, LAST_ANSWER_S)
    return found


def _gather(
    wires: Mapping[str, PortSocket],
    probes: Mapping[str, Sequence[tuple[str, bytes]]],
    found: dict[tuple[str, str], set[str]],
    seconds: float,
) -> None:
    asked = {(port, address) for port, some in probes.items() for address, _frame in some}
    by_descriptor = {wire.fileno(): port for port, wire in wires.items()}
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        for descriptor in select.select([*by_descriptor], [], [], left)[0]:
            port = by_descriptor[descriptor]
            for frame in wires[port].receive():
                if isinstance(frame, AddressClaim) and (port, frame.address) in asked:
                    found.setdefault((port, frame.address), set()).add(frame.mac.hex(":"))


def who_answers(wire: PortSocket, probe: bytes, address: str, timeout_s: float) -> set[str]:
    """Return the MACs that answer for an address, as soon as there is one."""
    found: set[str] = set()
    end = time.monotonic() + timeout_s
    while (left := end - time.monotonic()) > 0:
        wire.send(probe)
        wait_until = time.monotonic() + min(left, 0.2)
        while (wait := wait_until - time.monotonic()) > 0:
            if select.select([wire.fileno()], [], [], wait)[0]:
                found |= {
                    frame.mac.hex(":")
                    for frame in wire.receive()
                    if isinstance(frame, AddressClaim) and frame.address == address
                }
        if found:
            break
    return found
