"""Trying the ports between the two gateways for real: what a firewall closes is said with its direction and remedy."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import Finding
from ...firewall.check import USES
from ...firewall.rules import Service, Use, goes_over, services
from ...settings.values import text, whole
from ..config import AgentConfig
from ..peer.client import Route, reachable
from .checks import Facts

#: Most ports of one gateway that are tried.
MOST_SERVICES = 8
#: How the kernel says that nothing listens on a port, or that a firewall answers in its place.
REFUSED = "connection refused"


@dataclass(frozen=True)
class Trial:
    """What came of trying one port over one link.

    :param kind: of link.
    :param why: empty: it is open; else why not.
    """

    kind: str
    use: str
    port: int
    why: str


def try_ports(routes: Mapping[str, Route], some: Iterable[Service]) -> list[Trial]:
    """Try to connect to the TCP ports of the other gateway over each link, all at the same time: a second at most."""
    wanted = [(kind, route, one) for one in some if one.protocol == "tcp"
              for kind, route in routes.items() if goes_over(one.use, kind)]
    found: dict[int, str] = {}

    def attempt(number: int, route: Route, port: int) -> None:
        found[number] = reachable(route, port)

    threads = [
        threading.Thread(target=attempt, args=(number, route, one.port), name=f"try {one.port}", daemon=True)
        for number, (_kind, route, one) in enumerate(wanted)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    return [Trial(kind, str(one.use), one.port, found.get(number, "no answer in time"))
            for number, (kind, _route, one) in enumerate(wanted)]


def check_tried(
    trials: Iterable[Trial], routes: Mapping[str, Route], sender: str, receiver: str, config: AgentConfig
) -> Iterator[Finding]:
    """Which ports are closed in this direction?

    Nothing need listen for files where none are declared, and the rsync daemon listens in a cluster only.

    :param routes: as the sender has them.
    """
    idle = (Use.RSYNC,) if config.files else (Use.RSYNC, Use.SSH)
    for one in trials:
        if not one.why or one.kind not in routes or (one.use in idle and one.why == REFUSED):
            continue
        route, what = routes[one.kind], USES[Use(one.use)]
        yield Finding(
            "port_closed",
            f"{sender} does not reach {receiver} at {route.remote}, TCP port {one.port} ({what}), over the {one.kind} "
            f"link: {one.why}.",
            f"Let {route.local} reach TCP port {one.port} in the firewall of {receiver}; "
            "`flask cluster firewall rules` there prints the rule. See also whether the cable is in order, "
            "and the port's program runs.",
            f"links.{one.kind}", blocking=False,
        )


def check_files(routes: Mapping[str, Route], own: Facts, peer: Facts, config: AgentConfig) -> Iterator[Finding]:
    """While forming: can files go? All other ports are checked by what uses them.

    :param config: this gateway's; both have the same ports for files.
    """
    stated = config.stated_files
    some = services([own.firmware, peer.firmware], ssh=stated.ssh_port, rsync=stated.rsync_port)
    tried = try_ports(routes, [one for one in some if one.use in (Use.SSH, Use.RSYNC)])
    yield from check_tried(tried, routes, own.name, peer.name, config)


def check_heard(heard: Sequence[str], routes: Mapping[str, Route], port: int, sender: str, receiver: str
                ) -> Iterator[Finding]:  # fmt: skip
    """Over which links do heartbeats not arrive?

    :param heard: kinds of links over which the receiver hears the sender.
    :param routes: as the sender has them.
    """
    for kind, route in routes.items():
        if kind not in heard:
            yield Finding(
                "port_closed",
                f"Heartbeats from {sender} to {receiver} do not arrive at {route.remote}, UDP port {port}, over the "
                f"{kind} link.",
                f"Let {route.local} reach UDP port {port} in the firewall of {receiver}; "
                "`flask cluster firewall rules` there prints the rule. See also whether the cable is in order.",
                f"links.{kind}", blocking=False,
            )


# -- what the gateways tell each other ------------------------------------------------------------------------


def services_from(data: Any) -> list[Service]:
    """Return ports that the other gateway told.

    :raises ValueError: they are malformed.
    """
    if not isinstance(data, list) or len(data) > MOST_SERVICES:
        raise ValueError("ports are malformed")
    try:
        return [Service(Use(one["use"]), "udp" if one["protocol"] == "udp" else "tcp", whole(one["port"], 1, 65535))
                for one in data]
    except (KeyError, TypeError) as error:
        raise ValueError("ports are malformed") from error


def trials_from(data: Any) -> list[Trial]:
    """Return what came of the other gateway's trials.

    :raises ValueError: it is malformed.
    """
    if not isinstance(data, list) or len(data) > 3 * MOST_SERVICES:
        raise ValueError("trials are malformed")
    try:
        return [Trial(text(one["kind"]), str(Use(one["use"])), whole(one["port"], 1, 65535), text(one["why"]))
                for one in data]
    except (KeyError, TypeError) as error:
        raise ValueError("trials are malformed") from error
