"""``flask cluster promise``: what each fault may cost with the present settings."""

from __future__ import annotations

from ..translate import gettext as _
from ..words import promise as words
from .base import call, command, print_json, say


@command
def promise(as_json: bool) -> None:
    """Say how long nobody, or two gateways, may have the address when something breaks."""
    held = call("settings")
    site = words.site_of(call("status"), held["settings"] if held["formed"] else None)
    if as_json:
        return print_json(words.as_dict(site, held["formed"]))
    timing = site.timing
    if not held["formed"]:
        say(_("This gateway is not in a cluster. With the usual settings:"))
    say(_("Heartbeats each %(ms)s ms, a lease of %(s)s s. At the worst:",
          ms=f"{timing.interval_s * 1000:.0f}", s=f"{timing.lease_s:.0f}"))  # fmt: skip
    for one in words.promises(site):
        sign = "!" if one.endless else " "
        say(f"{sign} {one.title}")
        say("    " + _("nobody answers: %(none)s; two have the address: %(two)s", none=one.none, two=one.two))
        say(f"    {one.why}")
    for text in (*words.limits(), *words.conditions()):
        say(f"- {text}")
    return None
