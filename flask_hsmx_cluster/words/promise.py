"""What a pair promises, in words: each fault, what it may cost, and what nobody can promise. It decides nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..decision.bounds import Bound, Fault, Site, bound, relieved_s
from ..decision.model import NEVER
from ..settings.model import Advanced, from_dict
from ..settings.timing import timing_of
from ..translate import gettext as _


@dataclass(frozen=True)
class Promise:
    """What one fault may cost.

    :param fault: its key.
    :param none, two: the longest outage, and the longest time with two gateways on one address.
    :param why: what happens meanwhile.
    """

    fault: str
    title: str
    none: str
    two: str
    why: str
    bound: Bound

    @property
    def endless(self) -> bool:
        return self.bound.two_s == NEVER

    def as_dict(self) -> dict[str, Any]:
        """Return it for programs; null: as long as the fault lasts."""
        def ms(seconds: float) -> int | None:
            return None if seconds == NEVER else math.ceil(round(seconds * 1000, 6))

        return {"fault": self.fault, "title": self.title, "none_ms": ms(self.bound.none_s),
                "two_ms": ms(self.bound.two_s), "why": self.why}  # fmt: skip


def site_of(status: Mapping[str, Any] | None, settings: Mapping[str, Any] | None) -> Site:
    """Return what the bounds depend on: of this gateway's cluster, or of one with the usual timing."""
    advanced = from_dict(settings).advanced if settings else Advanced()
    told = status or {}
    return Site(timing_of(advanced), data=told.get("data") is not None, services=told.get("services") is not None)


def promises(site: Site) -> list[Promise]:
    """Return all of them, the most frequent ones first, those that nobody can keep last."""
    found = []
    for fault, (title, why) in _texts(site).items():
        cost = bound(fault, site)
        found.append(Promise(fault.value, title, at_most(cost.none_s), at_most(cost.two_s), why, cost))
    return found


def at_most(seconds: float) -> str:
    """Return a bound as people read it, rounded up: ``never``, ``0.2 s``, ``while it lasts``."""
    if seconds == NEVER:
        return _("while it lasts")
    if seconds == 0:
        return _("never")
    tenths = math.ceil(round(seconds * (100 if seconds < 1 else 10), 6))
    return f"{tenths / 100:.2f} s" if seconds < 1 else f"{tenths / 10:.1f} s"


def conditions() -> list[str]:
    """Return what the bounds count on."""
    return [
        _("Both gateways are healthy, and neither has started within the last seconds or is in maintenance."),
        _("One thing breaks at a time. A frame that is lost by chance costs some milliseconds more."),
        _("The machines are not overloaded: a gateway that gets no processor time answers later."),
        _("A move because of ill health comes at most once in 60 s, doubling; a request of yours ends that wait."),
    ]


def limits() -> list[str]:
    """Return what no pair can promise without a third party, and what ours does there."""
    return [
        _("If nothing at all passes between the two gateways, not over the cables and not over the guests' network, "
          "and both reach guests, then neither can tell whether the other one is dead. No system of two can: it needs "
          "a third party that says who may serve."),
        _("This pair goes on serving then, on both. One wire that is left is enough to prevent it: a cable, or the "
          "guests' network. When they hear each other again, the gateway that served guests stays, an alarm says so, "
          "and what the other one wrote is kept aside in quarantine for you to look at."),
    ]  # fmt: skip


def _texts(site: Site) -> dict[Fault, tuple[str, str]]:
    served_s = f"{relieved_s(site.timing):.1f}"
    return {
        Fault.REQUEST: (
            _("You ask for a fail-over, begin maintenance, or reboot the active gateway in good order"),
            _("The active gateway gives the addresses up first, then the other one takes them.")),
        Fault.POWER_OFF: (
            _("The active gateway loses its power"),
            _("The other one hears nothing, asks on every path at once, and takes over.")),
        Fault.POWER_OFF_DIRECT: (
            _("The same, with a cable straight from one gateway to the other"),
            _("The cable goes dead with it: the other one asks at once.")),
        Fault.POWER_BLINK: (
            _("The same, but its machine is back before the other one has missed it"),
            _("It has nothing any more and listens first. The other one asks its kernel, and takes over.")),
        Fault.POWER_OFF_AFTER_STALL: (
            _("The same, within an hour after its machine had stood still for a moment"),
            _("A virtual machine that is paused looks like a dead one, so it is given more time.")),
        Fault.LAN_CABLE: (
            _("The active gateway's cable to the guests is pulled"),
            _("It hands over to the healthier gateway.")),
        Fault.DEAD_LAN: (
            _("That cable is in, but nothing gets out: wrong VLAN, broken switch"),
            _("The passive gateway asks for the address all the time, and says that nobody answers.")),
        Fault.DEAF_LAN: (
            _("That cable is in and what it sends arrives, but nothing comes in"),
            _("The other one still hears it there, so it takes more unanswered questions until it is sure.")),
        Fault.AGENT_DEAD: (
            _("The active gateway's agent dies or hangs, and its machine lives"),
            _("Guests are served on, for at most %(time)s s. Then its kernel drops the addresses, and the other "
              "gateway takes them.", time=served_s)),
        Fault.AGENT_THAWED: (
            _("It hangs, and goes on in the moment in which its lease has run out"),
            _("It gives the addresses up and listens first. The other one hears it again, and gives it that time.")),
        Fault.PAUSE: (
            _("The active gateway's whole machine stands still, and goes on later"),
            _("The other one has taken over by then. With the next message one of the two gives way.")),
        Fault.DATABASE: (
            _("The active gateway's PostgreSQL dies"),
            _("Guests are served on. It is found within 1 s, or 3 s if it hangs; what is written meanwhile fails or "
              "waits. Then the role is handed over.")),
        Fault.CABLES: (
            _("The sync and backup cables are cut, both or in one direction"),
            _("The guests' network still shows that the other gateway lives. Nothing moves.")),
        Fault.PASSIVE: (
            _("Any of this happens to the passive gateway"),
            _("Nothing moves. A write waits for it for at most 0.6 s.")),
        Fault.BOOT_TOGETHER: (
            _("Both gateways start at the same time"),
            _("Counted from the start of the later agent: both listen first, then one of them claims.")),
        Fault.BOOT_ALONE: (
            _("One gateway starts, and the other one is gone"),
            _("Counted from the start of its agent. If its data may be older than the other one's it first waits as "
              "long as “wait with older data” says.")),
        Fault.SILENCED: (
            _("Every heartbeat between the two is filtered, but guests reach both"),
            _("An answer on the guests' network alone can be forged: it counts for two leases, then both serve.")),
        Fault.ISOLATION: (
            _("Nothing at all passes between the two, and both reach guests"),
            _("Neither can tell whether the other one is dead: both serve.")),
        Fault.HEALED: (
            _("They hear each other again after that"),
            _("The one that served guests stays, the other one gives way.")),
    }  # fmt: skip


def as_dict(site: Site, formed: bool) -> dict[str, Any]:
    """Return all of it for programs."""
    return {
        "formed": formed,
        "heartbeat_ms": round(site.timing.interval_s * 1000),
        "lease_s": site.timing.lease_s,
        "promises": [one.as_dict() for one in promises(site)],
        "conditions": conditions(),
        "limits": limits(),
    }
