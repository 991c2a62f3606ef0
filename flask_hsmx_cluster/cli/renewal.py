"""``flask cluster renewal ...``: certificates of both gateways, and the guide through a renewal or an upgrade."""

from __future__ import annotations

from functools import partial

import click

from ..translate import gettext as _
from ..words import renewal as words
from .base import Json, call, cluster, command, print_json, say


@cluster.group("renewal")
def renewal() -> None:
    """Certificates and upgrades, one gateway after the other: the passive one goes first."""


_renewal_command = partial(command, group=renewal)


@_renewal_command
@click.option("--look", is_flag=True, help="Have both gateways look at their certificates first.")
def _status(look: bool, as_json: bool) -> None:
    """Show both gateways side by side, and what to do next."""
    _print(call("renewal_look" if look else "renewal"), as_json)


@_renewal_command
@click.argument("kind", type=click.Choice(words.KINDS), default="certificate")
def _begin(kind: str, as_json: bool) -> None:
    """Begin the renewal of the certificates, or an upgrade."""
    _print(call("renewal_begin", kind=kind), as_json)


@_renewal_command
def _end(as_json: bool) -> None:
    """End the renewal that is under way, finished or not."""
    answer = call("renewal_end")
    if as_json:
        return print_json(answer)
    return say(_("The renewal is ended. Nothing else was changed."))


def _print(told: Json, as_json: bool) -> None:
    if as_json:
        return print_json(told)
    if told["kind"] is not None:
        say(f"{words.title(told['kind'])}. {words.headline(told)[1]}")
        for step in words.steps(told):
            say(f"  {step.sign} {step.title}")
            for text in filter(None, (step.text, step.note)):
                say(f"      {text}")
            if step.key == "failover" and step.state == "now" and told["may_fail_over"]:
                say("      flask cluster failover")
        for finding in told["checks"]:
            say(f"  {'✕' if finding['blocking'] else '!'} {finding['text']} {finding['remedy']}".rstrip())
        if text := words.protocols(told):
            say(f"  {text}")
    names = [one["name"] for one in told["gateways"]]
    for at, name in enumerate(names):
        say(f"{name}:")
        for line in words.lines(told):
            cell = line.cells[at]
            say(f"  {line.label}: {f'{cell.sign} ' if cell.sign else ''}{cell.text}")
    return None
