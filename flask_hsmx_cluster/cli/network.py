"""``flask cluster network ...``: what lives on the active gateway only, and the gateways' own addresses."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import IO

import click

from ..editing import interfaces as interface_table
from ..editing import networks as network_lists
from ..errors import ChecksFailed, ClusterError, Finding, RequestRefused
from ..settings.networks import ADVERTISE
from ..translate import gettext as _
from ..words import advertising
from .base import Json, call, cluster, command, print_json, propose, save, say


@cluster.group("network")
def network() -> None:
    """Subscriber networks, IP aliases and routes, live on the active gateway only; and own addresses of both."""


_network_command = partial(command, group=network)


@_network_command
@click.option("--filter", "text", default="", help="Only those in which this text occurs.")
def _list(text: str, as_json: bool) -> None:
    """List networks, aliases and routes."""
    found = network_lists.entries(_held()["settings"], text)
    if as_json:
        return print_json({"entries": [vars(one) for one in found]})
    advertises = any(one.advertise for one in found)
    sent = {one["port"]: one for one in call("status")["router_advertisements"]} if advertises else {}
    titles = {"networks": _("network"), "aliases": _("alias"), "routes": _("route")}
    for one in found:
        words = _("via %(router)s", router=one.words) if one.key == "routes" else one.words
        say(f"{titles[one.key]:8} {one.address:28} {one.port:15} {words}".rstrip())
        if one.advertise:
            state = advertising.state(sent.get(one.port))
            kind = advertising.kind(one.advertise)
            say("         " + _("router advertisements: %(kind)s; %(state)s", kind=kind, state=state))
    if not found:
        say(_("There is none."))
    return None


@_network_command
@click.argument("address", metavar="ADDRESS/PREFIX")
@click.argument("port")
@click.option("--name", default="", help="What people call it.")
@click.option("--advertise", type=click.Choice(ADVERTISE[1:]), help="Send router advertisements (IPv6).")
@click.option("--dns", default="", metavar="ADDRESS", help="DNS server that they tell.")
def add(address: str, port: str, name: str, advertise: str | None, dns: str, as_json: bool) -> None:
    """Add a subscriber network: the gateway's ADDRESS in it, and the PORT, alike on both gateways."""
    row = _typed("networks.address", lambda: network_lists.network(address, port, name, advertise or "", dns))
    _save(lambda settings: network_lists.added(settings, "networks", [row]), as_json)


@_network_command
@click.argument("address")
@click.argument("kind", type=click.Choice([*ADVERTISE[1:], "none"]))
@click.option("--dns", default="", metavar="ADDRESS", help="DNS server that they tell.")
def advertise(address: str, kind: str, dns: str, as_json: bool) -> None:
    """Set the router advertisements of the network in which the gateway has ADDRESS (IPv6).

    slaac: guests make their own addresses. stateless-dhcp: so they do, and ask DHCPv6 for the rest. dhcp: they ask
    DHCPv6 for addresses.
    """
    word = "" if kind == "none" else kind
    _save(lambda settings: _typed(
        "networks.advertise", lambda: network_lists.with_advertisements(settings, address, word, dns)), as_json)


@_network_command
@click.argument("address", metavar="ADDRESS[/PREFIX]")
@click.argument("port")
@click.option("--note", default="", help="What it is for.")
def add_alias(address: str, port: str, note: str, as_json: bool) -> None:
    """Add an IP alias: one more ADDRESS of the active gateway, on PORT."""
    row = _typed("aliases.address", lambda: network_lists.alias(address, port, note))
    _save(lambda settings: network_lists.added(settings, "aliases", [row]), as_json)


@_network_command
@click.argument("file", type=click.File(encoding="utf-8"))
@click.option("--port", default="", help="Port of the lines that name none.")
def import_aliases(file: IO[str], port: str, as_json: bool) -> None:
    """Add many IP aliases from FILE (- for the input): a line is ADDRESS[/PREFIX][@PORT] and a note."""
    try:
        text = file.read(network_lists.MAX_LIST + 1)
    except (UnicodeDecodeError, OSError):
        raise RequestRefused(_("The file cannot be read as text in UTF-8."), _("Is it another file?")) from None
    rows = network_lists.aliases(text, port)
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


@_network_command
def interfaces(as_json: bool) -> None:
    """Show the own addresses of both gateways: as they are to be, and as both kernels have them."""
    told = interface_table.report(_held(), call("ports")["ports"], *_peer_ports())
    if as_json:
        return print_json(told)
    for row in told["interfaces"]:
        say(f"{row['port']:15} {', '.join(row['mine']) or '–':40} {', '.join(row['other']) or '–'}")
    for one in told["read_back"]:
        say(f"{'✓' if one['ok'] else '✕'} {one['port']}: {one['gateway']} {one['text']}.")
    for text in told["unmatched"]:
        say(f"! {text}")
    if error := told["unanswered"]:
        say(f"! {error['message']} {error['remedy']}")
    return None


@_network_command
@click.argument("port")
@click.argument("gateway")
@click.argument("addresses", nargs=-1, metavar="[ADDRESS/PREFIX...]")
@click.option("--apart/--together", default=None, help="Need not the two be in one subnet on this port?")
def set_interface(
    port: str, gateway: str, addresses: tuple[str, ...], apart: bool | None, as_json: bool
) -> None:
    """Set the own ADDRESSES of a GATEWAY on PORT; without any they are left to its own network settings."""
    read = _typed(f"interfaces.{port}", lambda: {"addresses": interface_table.addresses(" ".join(addresses))})
    held = _held()
    node_id = next((one["node_id"] for one in held["settings"]["nodes"] if one["name"] == gateway), None)
    if node_id is None:
        names = ", ".join(one["name"] for one in held["settings"]["nodes"])
        raise ChecksFailed([Finding("malformed", _("No gateway is called %(name)s.", name=gateway),
                                    _("Name one of these: %(names)s.", names=names))])
    wanted = interface_table.with_addresses(held["settings"], port, {node_id: read["addresses"]}, apart)
    save(held, wanted, as_json)


@_network_command
def fetch_interfaces(as_json: bool) -> None:
    """Take the other gateway's present addresses over into the settings, for ports of identical names."""
    held, (peer_ports, error) = _held(), _peer_ports()
    if error is not None:
        raise error
    told = interface_table.report(held, call("ports")["ports"], peer_ports)
    peer_id = next(node["node_id"] for node in held["settings"]["nodes"] if node["node_id"] != held["node_id"])
    wanted, filled = held["settings"], {}
    for row in told["interfaces"]:
        if not row["other"] and (found := told["fetched"].get(row["port"])):
            filled[row["port"]] = found
            both = {held["node_id"]: list(row["mine"]), peer_id: found}
            wanted = interface_table.with_addresses(wanted, row["port"], both)
    if not as_json:
        for text in told["unmatched"]:
            say(f"! {text}")
    if not filled:
        return print_json({"filled": {}, "unmatched": told["unmatched"]}) if as_json else say(_("Nothing to fill in."))
    if as_json:
        answer = propose(held, wanted)
        return print_json({**answer, "filled": filled, "unmatched": told["unmatched"]})
    return save(held, wanted, as_json)


def _peer_ports() -> tuple[list[Json] | None, ClusterError | None]:
    """Ask the other gateway for its ports; return why not, where it does not answer."""
    try:
        return call("peer_ports")["ports"], None
    except ClusterError as error:
        return None, error


def _held() -> Json:
    held = call("settings")
    if not held["formed"]:
        raise RequestRefused("This gateway is not in a cluster.", "Create one, or join one.")
    return held


def _typed(field: str, read: Callable[[], Json]) -> Json:
    try:
        return read()
    except ValueError as error:
        raise ChecksFailed([Finding("malformed", str(error), _("Write it as `--help` says."), field)]) from None


def _save(edit: Callable[[Json], Json], as_json: bool) -> None:
    held = _held()
    save(held, edit(held["settings"]), as_json)
