"""The page *Firewall rules for the other gateway*, and the same as REST."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify, request

from ..errors import ClusterError
from ..extension import firewall
from ..translate import gettext as _
from ..words import firewall as firewall_words
from . import pages
from .access import needs
from .answers import json_error
from .pages import Answer

#: The forms in which the rules are shown, and their titles.
_FORMS = ("nftables", "iptables")


def register(blueprint: Blueprint) -> None:
    """Add the page and the request."""
    blueprint.add_url_rule("/firewall", "firewall", page)
    blueprint.add_url_rule("/api/firewall", "api_get_firewall", api)


@needs("view")
def page() -> Answer:
    """Show the rules, and what lets in more."""
    status, named = pages.call("status"), _named()
    problem, told = None, None
    try:
        told = firewall(named)
    except ClusterError as error:
        if error.code == "agent_unavailable":
            raise
        problem = error
    shown = pages.page(
        "firewall", status=status, told=told, problem=problem, named=" ".join(named), say=firewall_words,
        texts=[(title, told[name]) for name, title in zip(_FORMS, (_("For nftables"), _("For iptables")), strict=True)]
        if told else [],
    )
    return shown, 200 if problem is None else 422


@needs("view")
def api() -> Response:
    """Return the same as JSON."""
    try:
        return jsonify(firewall(_named()))
    except ClusterError as error:
        return json_error(error)


def _named() -> list[str]:
    """Return the other gateway's addresses as far as the request names them: ``?peer=``, several or one list."""
    found: list[Any] = [one for text in request.args.getlist("peer") for one in text.replace(",", " ").split()]
    return [one[:64] for one in found[:8]]
