"""``flask cluster settings``: show them, or change some by ``KEY=VALUE``."""

from __future__ import annotations

import copy

import click

from ..editing import fields
from ..errors import ChecksFailed, Finding, RequestRefused
from ..translate import gettext as _
from ..words import cluster as words
from ..words import preference
from .base import Json, call, command, print_json, save, say

NUMBERS = (
    "heartbeat_ms", "ping_pongs", "lease_s", "boot_hold_s", "announce_refresh_s", "preferred_delay_min",
)  # fmt: skip


@command
@click.option("--set", "edits", multiple=True, metavar="KEY=VALUE",
              help="heartbeat_ms, ping_pongs, lease_s, boot_hold_s, announce_refresh_s, "
                   "stale_wait_s (or never), preferred (a gateway's name, or none), preferred_delay_min, references, "
                   "virtual_ip.1, "
                   "virtual_ip.2, or sync., backup., service. with a gateway's name. May be repeated.")
def _settings(edits: tuple[str, ...], as_json: bool) -> None:
    """Show the cluster's settings, or change some of them."""
    held = call("settings")
    if edits:
        if not held["formed"]:
            raise RequestRefused("This gateway is not in a cluster.", "Create one, or join one.")
        wanted = copy.deepcopy(held["settings"])
        for edit in edits:
            apply_edit(wanted, edit)
        return save(held, wanted, as_json)
    if as_json:
        return print_json(held)
    if not held["formed"]:
        return say(_("This gateway is not in a cluster."))
    for label, text in words.rows(held["settings"]).items():
        say(f"{label + ':':32} {text}")
    say(f"{_('Preferred gateway') + ':':32} {preference.setting(held['settings'])}")
    say(_("Revision %(n)s, saved on %(name)s.", n=held["revision"], name=held["author"]))
    return None


def apply_edit(wanted: Json, edit: str) -> None:
    """Change settings, given in dict form, as ``KEY=VALUE`` says.

    :raises ChecksFailed: the key does not exist, or the value does not fit it.
    """
    key, equals, value = edit.partition("=")
    key, value = key.strip(), value.strip()
    group, _dot, part = key.partition(".")
    try:
        if not equals:
            raise ValueError(_("Write KEY=VALUE."))
        if key in NUMBERS:
            wanted["advanced"][key] = int(value)
        elif key == "stale_wait_s":
            wanted["advanced"][key] = fields.stale_wait(value)
        elif key == "preferred":
            wanted["advanced"][key] = "" if value == "none" else _node_id(wanted, value)
        elif key == "references":
            wanted["advanced"][key] = [str(fields.reference(item)) for item in value.replace(",", " ").split()]
        elif key in ("virtual_ip.1", "virtual_ip.2"):
            kept = wanted["virtual_ips"]
            kept[int(part) - 1: int(part)] = [fields.virtual_ip(value)] if value else []
        elif group in ("sync", "backup", "service"):
            _set_end(wanted, group, part, value)
        else:
            raise ValueError(_("There is no such setting."))
    except ValueError as error:
        raise ChecksFailed([Finding(
            "malformed", f"{edit[:80]}: {error}", _("Write it as `flask cluster settings --help` says."))]) from None


def _node_id(wanted: Json, name: str) -> str:
    node_id: str | None = next((node["node_id"] for node in wanted["nodes"] if node["name"] == name), None)
    if node_id is None:
        raise ValueError(_("No gateway is called %(name)s.", name=name))
    return node_id


def _set_end(wanted: Json, kind: str, name: str, value: str) -> None:
    node_id = _node_id(wanted, name)
    link: Json = next((link for link in wanted["links"] if link["kind"] == kind), {"kind": kind, "ends": {}})
    link["ends"].pop(node_id, None)
    if value:
        link["ends"][node_id] = fields.end(value)
    others = [link for link in wanted["links"] if link["kind"] != kind]
    wanted["links"] = [*others, link] if link["ends"] else others
