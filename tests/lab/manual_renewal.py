"""The certificates of a running pair renewed by its pages as the manual orders it, and what was seen at each step."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from sample_app.lab import Gateway

from .hotel import wait_until
from .manual_pair import CLUSTER, VIRTUAL_IP, Pair, address
from .pages import Page
from .wire import Visitor, fingerprint, read

CERTIFICATES, GUIDE = "/system/certificates", f"{CLUSTER}renewal"


@dataclass
class Renewal:
    """What was seen; certificates are their fingerprints, by gateway, as a client reads them on the wire.

    :param first: the gateway that was passive at the beginning; ``second``: the other one.
    :param old, installed, rebooted, done: what both showed at the beginning, after the first was installed, after the
        first reboot, and at the end.
    :param new: what was installed.
    :param too_early: whether the guide offered the fail-over before the first reboot; ``offered``: after it.
    :param active: who was active after each of the three steps.
    :param guests: what was shown at the virtual IP meanwhile, and whether each was valid.
    :param said: the guide's page at the end.
    """

    first: Gateway
    second: Gateway
    old: dict[str, str]
    too_early: bool = True
    offered: bool = False
    new: dict[str, str] = field(default_factory=dict)
    installed: dict[str, str] = field(default_factory=dict)
    rebooted: dict[str, str] = field(default_factory=dict)
    done: dict[str, str] = field(default_factory=dict)
    active: list[Gateway] = field(default_factory=list)
    guests: list[tuple[str, bool]] = field(default_factory=list)
    said: str = ""


def shown(pair: Pair) -> dict[str, str]:
    """Return the certificates on both gateways' HTTPS ports."""
    return {one.name: fingerprint(read(pair.lab.client, address(one, "lan0"))) for one in pair.lab.gateways}


def install(pair: Pair, gateway: Gateway) -> str:
    """Let a gateway's page make and install a certificate; return its fingerprint."""
    page = pair.open(gateway, CERTIFICATES).press("Make and install", days="365")
    assert "Reboot this gateway." in page.text, page.text
    found = re.search(r"not in force yet: ([0-9A-F:]+)", page.text)
    assert found is not None, page.text
    return found[1].replace(":", "").lower()


def offers_fail_over(page: Page) -> bool:
    (guide,) = [each for each in page.all("ol") if each["class"] == "hsmx-guide"]
    return any(each.text == "Fail over …" for each in guide.all("a"))


def renew(pair: Pair) -> Renewal:
    """Renew both certificates with the guide."""
    second, first = pair.both()
    seen = Renewal(first, second, shown(pair))
    with Visitor(pair.lab.client, VIRTUAL_IP) as guests:
        pair.open(second, GUIDE).press("Begin: Renew the certificates")
        seen.new[first.name] = install(pair, first)
        seen.installed, seen.too_early = shown(pair), offers_fail_over(pair.open(second, GUIDE))
        pair.machines.reboot(first)
        seen.active.append(pair.both()[0])
        wait_until(lambda: offers_fail_over(pair.open(second, GUIDE)), lambda: pair.open(second, GUIDE).text)
        seen.rebooted, seen.offered = shown(pair), True
        page = pair.open(second, GUIDE).follow("Fail over …").press("Fail over")
        assert "is active now" in page.text, page.text
        seen.active.append(pair.both()[0])
        seen.new[second.name] = install(pair, second)
        pair.machines.reboot(second)
        seen.active.append(pair.both()[0])
        wait_until(lambda: "Done: both gateways show" in pair.open(first, GUIDE).text)
    seen.done, seen.guests = shown(pair), guests.seen
    seen.said = pair.open(first, GUIDE).text
    pair.open(first, GUIDE).press("Close it")
    return seen
