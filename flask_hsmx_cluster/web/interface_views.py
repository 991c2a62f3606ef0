"""The section *Network interface* of the settings page, and what REST says of it."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify

from ..editing import interfaces as interface_table
from ..errors import ClusterError
from ..settings import interfaces
from ..translate import gettext as _
from . import interface_forms, pages
from .access import needs
from .answers import json_error
from .form_fields import Ports
from .forms import SettingsForm
from .pages import call

Json = dict[str, Any]


def register(blueprint: Blueprint) -> None:
    """Add what REST says of the section."""
    blueprint.add_url_rule("/api/interfaces", "api_get_interfaces", api_interfaces, methods=["GET"])


@needs("view")
def api_interfaces() -> Response:
    """Return the section with what both kernels have, and what fetching would fill in."""
    try:
        return jsonify(interface_table.report(call("settings"), pages.ports(), *_asked()))
    except ClusterError as error:
        return json_error(error)


def rows(held: Json, ports: Ports) -> Json:
    """Return the section's part of the data of a :class:`SettingsForm`."""
    return {"interfaces": interface_forms.data(_all(held, ports)[: interfaces.MAX_INTERFACES])}


def _all(held: Json, ports: Ports) -> list[interface_table.Row]:
    """Return all rows: first those that the settings name, which are never too many for the page."""
    found = interface_table.rows(held["settings"], held["node_id"], ports)
    return found if len(found) <= interfaces.MAX_INTERFACES else sorted(found, key=lambda row: not row.stated)


def stated(form: SettingsForm, held: Json, ports: Ports) -> Json:
    """Return the section's part of the settings, of what was typed. Call it on a valid form only."""
    typed = [row.form.row() for row in form.interfaces]
    found = interface_table.entries(held["settings"], held["node_id"], form.peer_id, typed, ports)
    return {interfaces.KEY: found} if found else {}


def fetch_into(form: SettingsForm, held: Json) -> list[tuple[str, str]]:
    """Fill the other gateway's column with its present addresses; return what became of it, as kind and words."""
    try:
        theirs = call("peer_ports")["ports"]
    except ClusterError as error:
        return [("warn", f"{error.message} {error.remedy}")]
    names = [row.form.port.data for row in form.interfaces]
    told = interface_table.fetched(held["settings"], held["node_id"], form.peer_id, names, theirs)
    return interface_forms.fill(form.interfaces, told) or [("warn", _("There is nothing to fill in."))]


def around(held: Json, ports: Ports, *, look: bool = False) -> Json:
    """Return what the section shows besides its fields.

    :param look: read back what both kernels have.
    """
    settings, node_id = held["settings"], held["node_id"]
    shown: Json = {
        "leased": interface_table.leased_ports(ports), "crowded": interface_table.crowded_ports(ports),
        "cables": interface_table.cables(settings, node_id),
        "left_out": len(_all(held, ports)[interfaces.MAX_INTERFACES :]),
    }  # fmt: skip
    if look:
        peer_ports, error = _asked()
        shown["read_back"] = interface_table.read_back(settings, node_id, ports, peer_ports)
        shown["unanswered"] = error
    return {"section": shown}


def _asked() -> tuple[Ports | None, ClusterError | None]:
    """Ask the other gateway for its ports; return why not, where it does not answer."""
    try:
        return call("peer_ports")["ports"], None
    except ClusterError as error:
        return None, error
