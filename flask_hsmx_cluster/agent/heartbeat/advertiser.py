"""Advertises the active gateway as the guests' router, and takes leave of them when nobody is their router any more.

To guests both gateways are one router: the same link-local address. So a gateway that passes its role on says nothing:
a last word with a lifetime of 0 would take the default route from guests, who have it from the other one by then. It is
said only when nobody serves after it: the network is advertised no more, or this gateway ends and hears no other one.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv6Address
from typing import Any, Protocol

from ...decision.model import NEVER
from ...network.ports import Port, forwards_ipv6
from ...network.router_advertisement import (
    ROUTER_LIFETIME_S,
    Advertisement,
    AdvertisingSocket,
    OtherRouter,
    Solicitation,
    encode,
    virtual_link_local,
)
from ...settings.model import Settings
from . import plan
from .devices import mac_of
from .status import Showing

#: Shortest and longest time between two unsolicited ones, s.
LEAST_S, MOST_S = 200.0, 600.0
#: After a take-over so many come at once and at this distance, s.
FIRST, FIRST_EVERY_S = 3, 4.0
#: An answer comes within this time, s, and never sooner than the other one after the one before.
ANSWER_WITHIN_S, APART_S = 0.5, 3.0
#: Ports served in one turn of the loop.
AT_ONCE = 32
#: Other routers remembered on a port, and how long a mute one is shown at most, s.
OTHERS_KEPT, OTHERS_MOST_S = 8, 1800.0


class Wire(Protocol):
    """See :class:`~flask_hsmx_cluster.network.router_advertisement.AdvertisingSocket`."""

    def fileno(self) -> int: ...

    def listen(self, index: int) -> None: ...

    def solicit(self, index: int) -> None: ...

    def send(self, message: bytes, source: IPv6Address, index: int) -> str: ...

    def receive(self) -> list[Solicitation | OtherRouter]: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class AdvertisedPort:
    """What is advertised on a port, and how.

    :param source: the virtual link-local address.
    :param index: the port's number; ``device``, ``device_index``, ``mac``: of what carries the address.
    """

    told: Advertisement
    source: IPv6Address
    index: int
    device: str
    device_index: int
    mac: bytes


@dataclass
class _Port:
    """How it goes on a port. Times are boot time in s.

    :param told: with the networks that have just ended, until guests have heard of that.
    :param first: how many are to come at a short distance still.
    """

    plan: AdvertisedPort
    told: Advertisement
    due: float = NEVER
    first: int = 0
    since: float | None = None
    last: float = -NEVER
    problem: str = ""
    others: dict[str, float] = field(default_factory=dict)


class Advertiser:
    """Lives on the loop's thread.

    :param ports: by name.
    :param wire: None where nothing is advertised.
    """

    def __init__(self, ports: Mapping[str, AdvertisedPort], wire: Wire | None) -> None:
        self._ports = {name: _Port(one, one.told) for name, one in ports.items()}
        self._names = {one.index: name for name, one in ports.items()}
        self._wire = wire
        self._active = False
        self._due = NEVER
        if wire is not None:
            for index in self._names:
                wire.listen(index)
                wire.solicit(index)  # who else is a router here is told soon, not in half an hour

    def fileno(self) -> int | None:
        return self._wire.fileno() if self._wire else None

    def close(self) -> None:
        if self._wire:
            self._wire.close()

    # The role -------------------------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """Advertise from now on: the addresses are in."""
        self._active = True
        for port in self._ports.values():
            port.due, port.first, port.since = now, FIRST, None
        self._arm()

    def stop(self) -> None:
        """Send nothing any more, not even a last word: the guests' router lives on, on the other gateway."""
        self._active = False
        for port in self._ports.values():
            port.due, port.since = NEVER, None
        self._arm()

    def take_leave(self) -> None:
        """Tell guests that they have no router here any more. To be called while the addresses are still held."""
        if self._active:
            self._say_farewell((port.plan, replace(port.plan.told, prefixes=())) for port in self._ports.values())
        self.stop()

    def succeed(self, former: Advertiser, now: float) -> None:
        """Go on after a change of settings. To be called while the former one has its socket and addresses still."""
        if not former._active:
            return
        self._active = True
        gone = []
        for name, before in former._ports.items():
            port = self._ports.get(name)
            if port is None:
                gone.append((before.plan, _ended(before.told, replace(before.plan.told, prefixes=()))))
            elif port.plan == before.plan:
                self._ports[name] = before
            else:
                port.told = _ended(before.told, port.plan.told)
                port.since, port.last, port.others = before.since, before.last, before.others
        former._say_farewell(gone)
        for port in self._ports.values():
            if port.due == NEVER:
                port.due, port.first = max(now, port.last + APART_S), FIRST
        self._arm()

    # The wire -------------------------------------------------------------------------------------------

    def deadline(self) -> float:
        """Return the boot time at which the next one is due, s."""
        return self._due

    def step(self, now: float) -> None:
        """Send what is due, of a few ports."""
        if now < self._due or self._wire is None:
            return
        for port in [port for port in self._ports.values() if port.due <= now][:AT_ONCE]:
            self._advertise(port, self._wire, now)
        self._arm()

    def receive(self, now: float) -> None:
        """Take what guests and other routers say."""
        for message in self._wire.receive() if self._wire else ():
            port = self._ports.get(self._names.get(message.index, ""))
            if port is None:
                continue
            if isinstance(message, OtherRouter):
                _note(port, message, now)
            elif self._active:
                answer = max(now + random.uniform(0, ANSWER_WITHIN_S), port.last + APART_S)
                port.due = min(port.due, answer)
        self._arm()

    def _advertise(self, port: _Port, wire: Wire, now: float) -> None:
        # Who does not forward is nobody's router, whatever the settings say: guests would lose their packets here.
        lifetime_s = ROUTER_LIFETIME_S if forwards_ipv6(port.plan.device) else 0
        told = encode(port.told, port.plan.mac, lifetime_s)
        port.problem = wire.send(told, port.plan.source, port.plan.device_index)
        if port.problem:
            port.due = now + APART_S
            return
        port.first -= port.first > 0
        port.last, port.since = now, now if port.since is None else port.since
        if port.first:
            port.due = now + FIRST_EVERY_S
        else:
            port.told, port.due = port.plan.told, now + random.uniform(LEAST_S, MOST_S)

    def _say_farewell(self, ports: Iterable[tuple[AdvertisedPort, Advertisement]]) -> None:
        for one, told in ports if self._wire else ():
            self._wire.send(encode(told, one.mac, 0), one.source, one.device_index)  # type: ignore[union-attr]

    def _arm(self) -> None:
        self._due = min((port.due for port in self._ports.values()), default=NEVER)

    # What people are shown ------------------------------------------------------------------------------

    def as_dicts(self, now: float) -> list[dict[str, Any]]:
        """Return the form of the control verb ``status``."""
        return [
            {
                "port": name,
                "address": str(port.plan.source),
                "networks": [str(one.network) for one in port.plan.told.prefixes],
                "since_s": None if port.since is None else round(now - port.since, 1),
                "last_s": None if port.since is None else round(now - port.last, 1),
                "problem": port.problem if self._active else "",
                "other_routers": [address for address, until in port.others.items() if until > now],
            }
            for name, port in self._ports.items()
        ]

    def alarms(self, now: float) -> Iterator[Showing]:
        """Yield what is to be looked at."""
        for name, port in self._ports.items():
            others = [address for address, until in port.others.items() if until > now]
            if others:
                yield Showing(
                    f"other_router_{name}", "warning",
                    f"Another router ({', '.join(others[:3])}) advertises itself on {name}: guests may use it instead.",
                    "Is it a gateway's own radvd or dnsmasq? Stop that. Else find it, or let the switch keep it off.",
                )  # fmt: skip
            if self._active and port.problem:
                yield Showing(
                    f"advertise_{name}", "warning", f"No router advertisement can be sent on {name}: {port.problem}.",
                    "Guests keep what they know for half an hour. Check the port.",
                )  # fmt: skip


def _note(port: _Port, router: OtherRouter, now: float) -> None:
    if router.address == str(port.plan.source):
        return  # the other gateway
    port.others = {address: until for address, until in port.others.items() if until > now}
    if router.lifetime_s == 0:
        port.others.pop(router.address, None)
    elif router.address in port.others or len(port.others) < OTHERS_KEPT:
        port.others[router.address] = now + min(router.lifetime_s, OTHERS_MOST_S)


def _ended(before: Advertisement, told: Advertisement) -> Advertisement:
    """Return what is told now, with the end of networks that were told before."""
    present = {one.network for one in told.prefixes}
    gone = tuple(replace(one, ended=True) for one in before.prefixes if one.network not in present)
    return replace(told, prefixes=(*told.prefixes, *gone))


def advertiser_of(settings: Settings, found: Mapping[str, Port], devices: Mapping[str, Port]) -> Advertiser:
    """Return the advertiser of the ports that this machine has.

    :param devices: of virtual MACs, by port.
    :raises NetworkError: there is something to advertise, and no socket for it.
    """
    ports = {}
    for name, told in plan.advertised_of(settings).items():
        if name in found:
            carrier = devices.get(name, found[name])
            source, mac = virtual_link_local(settings.cluster_id, name).ip, mac_of(carrier)
            ports[name] = AdvertisedPort(told, source, found[name].index, carrier.name, carrier.index, mac)
    return Advertiser(ports, AdvertisingSocket() if ports else None)
