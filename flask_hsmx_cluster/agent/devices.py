"""What the agent's threads do with ports and devices outside of the heartbeat loop, over sockets of their own."""

from __future__ import annotations

import select
import time

from ..network.addresses import AddressLease, SharedRoute, placed
from ..network.netlink import RequestSocket
from ..network.ports import Port, read_ports
from ..network.virtual_mac import ensure_device, is_virtual, remove_device
from ..network.wire import AddressClaim, PortSocket
from ..shared_network_rules import router_of
from . import plan
from .membership import Membership


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
    index = {str(address.interface.ip): address.index for address in shared}
    routes = []
    for route in settings.routes:
        through = router_of(settings, route)
        if through is not None and str(through[1].ip) in index:
            source = through[1].ip
            routes.append(SharedRoute(route.destination, route.via, source, index[str(source)]))
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
