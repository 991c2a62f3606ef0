"""The frames of a membership: which are needed on which port, built once and kept."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..network.announce import FrameRequest, Frames, build_frames
from ..network.ports import Port, forwards_ipv6
from . import plan
from .membership import Membership


@dataclass(frozen=True)
class PortFrames:
    """What is sent on one port: for each virtual IP its frames, and probes of the reference addresses."""

    addresses: list[Frames] = field(default_factory=list)
    references: list[bytes] = field(default_factory=list)


class FrameBook:
    """Builds frames and remembers them. Building takes 0.5 s, so never on the loop's thread."""

    def __init__(self) -> None:
        self._known: dict[FrameRequest, Frames] = {}

    def frames(self, requests: list[FrameRequest]) -> list[Frames]:
        """Return the frames for each request.

        :raises NetworkError: scapy could not build them.
        """
        new = [one for one in dict.fromkeys(requests) if one not in self._known]
        if new:
            self._known.update(zip(new, build_frames(new), strict=True))
        return [self._known[one] for one in requests]

    def build(self, membership: Membership, ports: dict[str, Port]) -> dict[str, PortFrames]:
        """Return the frames of every virtual-IP port.

        :raises NetworkError: scapy could not build them.
        """
        addresses = {name: _address_requests(membership, ports[name]) for name in plan.ports_of(membership.settings)}
        references = {name: _reference_requests(membership, ports[name]) for name in addresses}
        self.frames([one for name in addresses for one in (*addresses[name], *references[name])])
        return {
            name: PortFrames(self.frames(addresses[name]), [one.probe for one in self.frames(references[name])])
            for name in addresses
        }


def _address_requests(membership: Membership, port: Port) -> list[FrameRequest]:
    virtual = plan.virtual_mac_of(membership.settings, port.name)
    return [
        FrameRequest(
            str(vip.address.ip),
            virtual if vip.virtual_mac else port.mac,
            vip.address.version == 6 and forwards_ipv6(port.name),
            port.mac,
        )
        for vip in membership.settings.virtual_ips
        if vip.port == port.name
    ]


def _reference_requests(membership: Membership, port: Port) -> list[FrameRequest]:
    """Ask for the references that lie in a subnet of the port."""
    networks = [address.network for address in plan.addresses_of(membership.settings)[port.name]]
    networks += [held.interface.network for held in port.addresses]
    return [
        FrameRequest(str(one), port.mac)
        for one in membership.settings.advanced.references
        if any(one in network for network in networks)
    ]
