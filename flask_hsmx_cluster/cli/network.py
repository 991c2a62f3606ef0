"""``flask cluster network ...``: subscriber networks, IP aliases and routes that live on the active gateway only."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import IO

import click

from .. import network_lists
from ..errors import ChecksFailed, Finding, RequestRefused
from ..translate import gettext as _
from .base import Json, call, cluster, command, print_json, save, say


@cluster.group("network")
def network() -> None:
    """Subscriber networks, IP aliases and routes: they live on the active gateway only."""


_network_command = partial(command, group=network)


@_network_command
@click.option("--filter", "text", default="", help="Only those in which this text occurs.")
def _list(text: str, as_json: bool) -> None:
    """List networks, aliases and routes."""
    found = network_lists.entries(_held()["settings"], text)
    if as_json:
        return print_json({"entries": [vars(one) for one in found]})
    titles = {"networks": _("network"), "aliases": _("alias"), "routes": _("route")}
    for one in found:
        words = _("via %(router)s", router=one.words) if one.key == "routes" else one.words
        say(f"{titles[one.key]:8} {one.address:28} {one.port:15} {words}".rstrip())
    if not found:
        say(_("There is none."))
    return None


@_network_command
@click.argument("address", metavar="ADDRESS/PREFIX")
@click.argument("port")
@click.option("--name", default="", help="What people call it.")
def add(address: str, port: str, name: str, as_json: bool) -> None:
    """Add a subscriber network: the gateway's ADDRESS in it, and the PORT, alike on both gateways."""
    row = _typed("networks.address", lambda: network_lists.network(address, port, name))
    _save(lambda settings: network_lists.added(settings, "networks", [row]), as_json)


@_network_command
@click.argument("address", metavar="ADDRESS[/PREFIX]")
@click.argument("port")
@click.option("--note", default="", help="What it is for.")
def add_alias(address: str, port: str, note: str, as_json: bool) -> None:
    """Add an IP alias: one more ADDRESS of the active gateway, on PORT."""
    row = _typed("aliases.address", lambda: network_lists.alias(address, port, note))
    _save(lambda settings: network_lists.added(settings, "aliases", [row]), as_json)


@_network_command
@click.argument("file", type=click.File())
@click.option("--port", default="", help="Port of the lines that name none.")
def import_aliases(file: IO[str], port: str, as_json: bool) -> None:
    """Add many IP aliases from FILE (- for the input): a line is ADDRESS[/PREFIX][@PORT] and a note."""
    rows = network_lists.aliases(file.read(network_lists.MAX_LIST + 1), port)
    _save(lambda settings: network_lists.added(settings, "aliases", rows), as_json)


@_network_command
@click.argument("destination", metavar="NETWORK/PREFIX")
@click.argument("via", metavar="ROUTER")
@click.option("--port", default="", help="Port of the router's network, if it is not clear.")
def add_route(destination: str, via: str, port: str, as_json: bool) -> None:
    """Add a route to a network behind a ROUTER in one of the shared networks."""
    row = _typed("routes.destination", lambda: network_lists.route(destination, via, port))
    _save(lambda settings: network_lists.added(settings, "routes", [row]), as_json)


@_network_command
@click.argument("names", nargs=-1, required=True, metavar="ADDRESS|NETWORK/PREFIX...")
def remove(names: tuple[str, ...], as_json: bool) -> None:
    """Remove networks and aliases by their addresses, routes by their networks."""
    _save(lambda settings: network_lists.removed(settings, names), as_json)


def _held() -> Json:
    held = call("settings")
    if not held["formed"]:
        raise RequestRefused("This gateway is not in a cluster.", "Create one, or join one.")
    return held


def _typed(field: str, read: Callable[[], Json]) -> Json:
    try:
        return read()
    except ValueError as error:
        raise ChecksFailed([Finding("malformed", str(error), field=field)]) from None


def _save(edit: Callable[[Json], Json], as_json: bool) -> None:
    held = _held()
    save(held, edit(held["settings"]), as_json)
