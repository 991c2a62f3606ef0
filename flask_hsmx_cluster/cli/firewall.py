"""``flask cluster firewall ...``: what the other gateway needs, and whether anybody else gets it."""

from __future__ import annotations

import sys
from functools import partial

import click

from ..errors import Finding
from ..extension import firewall as told_of
from ..translate import gettext as _
from ..words import firewall as words
from .base import cluster, command, print_finding, print_json, say


@cluster.group("firewall")
def firewall() -> None:
    """What the other gateway needs of this one's firewall."""


_firewall_command = partial(command, group=firewall)
_PEERS = click.option("--peer", "peers", multiple=True, metavar="ADDRESS",
                      help="Address of the other gateway; default: those of the settings in force.")


@_firewall_command
@_PEERS
@click.option("--format", "form", type=click.Choice(["table", "nft", "iptables"]), default="table")
def _rules(peers: tuple[str, ...], form: str, as_json: bool) -> None:
    """Print the rules that let the other gateway in."""
    told = told_of(peers)
    if as_json:
        return print_json(told)
    if not told["rules"]:
        say(_("There is no other gateway yet: name its addresses with --peer."), err=True)
        sys.exit(1)
    if form != "table":
        return click.echo(told["nftables" if form == "nft" else "iptables"], nl=False)
    for rule in told["rules"]:
        say(f"{rule['port']}/{rule['protocol']:4} {rule['source']:40} {words.use(rule)}")
    return say(words.versions(told))


@_firewall_command
@_PEERS
def _check(peers: tuple[str, ...], as_json: bool) -> None:
    """Say which rules let in more than the other gateway; exit code 1 if there are any."""
    told = told_of(peers)
    if as_json:
        print_json({"findings": told["findings"], "closes": told["closes"], "table": told["table"]})
    else:
        for finding in told["findings"]:
            print_finding(Finding(**finding))
        for text in filter(None, (words.closing(told), words.table(told))):
            say(text)
        if not told["findings"]:
            say(_("No rule lets in more than single addresses."))
    if told["findings"]:
        sys.exit(1)
