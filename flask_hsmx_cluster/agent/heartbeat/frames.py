"""The frames of a membership: which are needed on which port, built once and kept."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...network.announce import FrameRequest, Frames, build_frames
from ...network.ports import Port, forwards_ipv6
from ..membership import Membership
from . import plan


@dataclass(frozen=True)
class PortFrames:
    """What is sent on one port.

    :param addresses: for each virtual IP and network its frames.
    :param probes: ask for the addresses by which the port is watched.
    :param references: ask for the reference addresses.
    :param aliases: for each IP alias its frames.
    """

    addresses: list[Frames] = field(default_factory=list)
    probes: list[bytes] = field(default_factory=list)
    references: list[bytes] = field(default_factory=list)
    aliases: list[Frames] = field(default_factory=list)


class FrameBook:
    """Builds frames and remembers them. Building takes 0.5 s and more, so never on the loop's thread."""

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
        """Return the frames of every port with a shared address.

        :raises NetworkError: scapy could not build them.
        """
        by_port = plan.shared_by_port(membership.settings)
        watched = plan.watched_of(membership.settings)
        wanted: dict[str, tuple[list[FrameRequest], ...]] = {}
        for name in by_port:
            if name not in ports:
                continue
            ask = _Requests(membership, ports[name])
            few = [ask.frames(one) for one in by_port[name] if not one.alias]
            many = [ask.frames(one) for one in by_port[name] if one.alias]
            probes = [ask.frames(one) for one in watched.get(name, ())]
            wanted[name] = (few, probes, ask.references(), many)
        self.frames([one for groups in wanted.values() for group in groups for one in group])
        return {
            name: PortFrames(
                self.frames(few),
                [one.probe for one in self.frames(probes)],
                [one.probe for one in self.frames(references)],
                self.frames(many),
            )
            for name, (few, probes, references, many) in wanted.items()
        }


class _Requests:
    """Asks for the frames of one port."""

    def __init__(self, membership: Membership, port: Port) -> None:
        self._membership, self._port = membership, port
        self._virtual = plan.virtual_mac_of(membership.settings, port.name)
        # Guests who are told that their router is none forget it; where it is advertised, the advertisement says so.
        advertised = port.name in plan.advertised_of(membership.settings)
        self._router = advertised or bool(forwards_ipv6(port.name))

    def frames(self, one: plan.Shared) -> FrameRequest:
        mac = self._virtual if one.virtual_mac else self._port.mac
        router = one.address.version == 6 and self._router
        return FrameRequest(str(one.address.ip), mac, router, self._port.mac)

    def references(self) -> list[FrameRequest]:
        """Ask for the references that lie in a subnet of the port."""
        settings = self._membership.settings
        networks = [one.address.network for one in plan.shared_by_port(settings)[self._port.name] if not one.alias]
        networks += [held.interface.network for held in self._port.addresses if held.valid_s is None]
        return [
            FrameRequest(str(one), self._port.mac)
            for one in settings.advanced.references
            if any(one in network for network in networks)
        ]
