"""Asking on the wire whether anybody else has an address that is to be shared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from ...errors import Finding, NetworkError
from ...settings.addressing import Port
from ...settings.model import Settings, VirtualIP
from ...settings.networks import Alias, Network

PROBE_TIMEOUT_S = 0.6

#: Asks who answers for an address on a port, see :meth:`HotSide.probe_address`.
Probe = Callable[[str, str, float], list[str]]


def check_virtual_ips(virtual_ips: Sequence[tuple[int, VirtualIP]], probe: Probe) -> Iterator[Finding]:
    """Does anybody answer for a virtual IP that shall be ours?

    :param virtual_ips: each with its place in the settings.
    """
    for at, vip in virtual_ips:
        try:
            strangers = probe(vip.port, str(vip.address.ip), PROBE_TIMEOUT_S)
        except NetworkError as error:
            yield Finding(
                "probe_failed", f"{vip.port} cannot be probed: {error.message}", error.remedy, f"virtual_ips.{at}.port"
            )
            continue
        if strangers:
            yield in_use(at, vip, strangers)


def in_use(at: int, vip: VirtualIP, macs: Sequence[str]) -> Finding:
    return Finding(
        "virtual_ip_in_use",
        f"Another machine ({', '.join(macs[:3])}) answers for the virtual IP {vip.address.ip} on {vip.port}.",
        "Choose a free address, or take it away from that machine.",
        f"virtual_ips.{at}.address",
    )


def check_new_ports(
    settings: Settings, present: Settings, ports: Mapping[str, Sequence[Port]]
) -> Iterator[Finding]:
    """Has the port that a virtual IP moves to a carrier on both gateways? Else the move would end in a fail-over.

    :param ports: the gateways' ports as far as they are known, by node id.
    """
    former = {vip.port for vip in present.virtual_ips}
    for at, vip in enumerate(settings.virtual_ips):
        for node in settings.nodes if vip.port not in former else ():
            if any(port["name"] == vip.port and not port["carrier"] for port in ports.get(node.node_id, ())):
                yield Finding(
                    "no_carrier",
                    f"The port {vip.port} of {node.name} has no carrier.",
                    "Plug in its cable, and see whether the other end is on.",
                    f"virtual_ips.{at}.port",
                )


#: New addresses that are looked for on a port before they are saved. They take ten seconds.
MOST_PROBED = 100
#: Asks who answers for many addresses, see :meth:`HotSide.probe_addresses`.
ProbeMany = Callable[[Mapping[str, Sequence[str]]], Mapping[tuple[str, str], Sequence[str]]]


def check_shared(new: Sequence[tuple[str, Network | Alias]], probe: ProbeMany) -> Iterator[Finding]:
    """Does anybody answer for an address of a network, or an alias, that shall be ours?

    :param new: each with its place in the settings; of a port the first :data:`MOST_PROBED` are looked for.
    """
    wanted: dict[str, list[str]] = {}
    for _where, one in new:
        some = wanted.setdefault(one.port, [])
        if len(some) < MOST_PROBED:
            some.append(str(one.address.ip))
    if not wanted:
        return
    try:
        answered = probe(wanted)
    except NetworkError as error:
        text = f"The new addresses cannot be looked for: {error.message}"
        yield Finding("probe_failed", text, error.remedy, new[0][0])
        return
    for where, one in new:
        if macs := answered.get((one.port, str(one.address.ip))):
            yield Finding(
                "address_in_use",
                f"Another machine ({', '.join(macs[:3])}) answers for {one.address.ip} on {one.port}.",
                "Choose a free address, or take it away from that machine.",
                f"{where}.address",
            )


def unprobed(new: Sequence[tuple[str, Network | Alias]]) -> int:
    """Return how many new addresses :func:`check_shared` leaves out."""
    return sum(max(0, count - MOST_PROBED) for count in Counter(one.port for _where, one in new).values())
