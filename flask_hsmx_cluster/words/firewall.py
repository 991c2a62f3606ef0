"""What is said of the firewall, for pages and command line alike."""

from __future__ import annotations

from typing import Any

from ..translate import gettext as _


def use(rule: dict[str, Any]) -> str:
    """Return what a port is for."""
    return {
        "ssh": _("Files, over ssh"), "rsync": _("Files, over an rsync daemon"),
        "settings": _("Settings and pairing"), "database": _("Database"), "heartbeats": _("Heartbeats"),
        "connections": _("Guests' connections (conntrackd)"),
    }[rule["use"]]  # fmt: skip


def link(rule: dict[str, Any]) -> str:
    """Return over which link a rule's packets come; empty if that is not known."""
    return {"sync": _("synchronisation"), "backup": _("backup"), "service": _("service"), "": ""}[rule["link"]]


def versions(told: dict[str, Any]) -> str:
    """Return for which firmware the rules are."""
    own, peer = told["firmware"], told["peer_firmware"]
    ports = {rule["use"]: rule["port"] for rule in told["services"] if rule["use"] in ("ssh", "rsync")}
    if len(ports) > 1:
        text = _("This gateway runs firmware %(own)s, the other one %(peer)s.", own=own, peer=peer) if peer else _(
            "This gateway runs firmware %(own)s.", own=own)  # fmt: skip
        return text + " " + _("Files need port %(rsync)s before 5.2.03, and port %(ssh)s from then on: keep both until "
                              "both gateways are new. Then remove the rules for %(rsync)s.", **ports)  # fmt: skip
    if not peer:
        return _("These are the rules for firmware %(own)s on both gateways.", own=own)
    return _("Both gateways speak alike: firmware %(own)s here, %(peer)s there.", own=own, peer=peer)


def table(told: dict[str, Any]) -> str:
    """Return what the agent's own packet rules do; empty where there are none."""
    return {
        "off": "",
        "kept": _("The agent's own packet rules close what only the other gateway uses for everybody else."),
        "waits": _("The agent's own packet rules are not in place: there is no other gateway yet, or the kernel "
                   "refused them (see the alarms)."),
    }[told["table"]]  # fmt: skip


def closing(told: dict[str, Any]) -> str:
    """Return what is to be said of a kernel whose rules close nothing, or cannot be read; empty if all is well."""
    if told["closes"] is None:
        return _("This gateway's packet rules could not be read, so they were not checked. Is Debian's nftables "
                 "installed?")  # fmt: skip
    if told["closes"]:
        return ""
    return _("No packet rule of this gateway closes anything: whoever reaches it may try these ports. A firewall that "
             "drops what is not allowed, with the rules of this page in it, mends that.")  # fmt: skip
