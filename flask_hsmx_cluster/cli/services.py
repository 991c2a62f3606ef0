"""``flask cluster services``: what follows the role beside addresses and data."""

from __future__ import annotations

from ..translate import gettext as _
from ..words import services as services_words
from .base import call, command, print_json, say


@command
def services(as_json: bool) -> None:
    """Say which services run on this gateway, and how its hooks went."""
    found = call("status")
    if as_json:
        return print_json(found["services"] or {})
    if found["cluster"] is None:
        return say(_("This gateway is not in a cluster."))
    said = services_words.describe(found)
    if said is None:
        return say(_("Nothing follows the role of this gateway: its firmware states no services and no hooks."))
    print_services(said)
    for row in said.rows:
        say(f"  {row.sign} {row.name}: {row.text}")


def print_services(said: services_words.ServicesWords | None) -> None:
    if said is not None:
        say(_("Services:") + f" {said.sign} {said.text} {said.remedy}".rstrip())
