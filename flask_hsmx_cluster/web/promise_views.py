"""The page *What this pair promises*, and the same as REST."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify

from ..decision.bounds import Site
from ..errors import ClusterError
from ..words import promise as promise_words
from . import pages
from .access import needs
from .answers import json_error
from .pages import Answer


def register(blueprint: Blueprint) -> None:
    """Add the page and the request."""
    blueprint.add_url_rule("/promise", "promise", page)
    blueprint.add_url_rule("/api/promise", "api_get_promise", api)


@needs("view")
def page() -> Answer:
    """Show what each fault may cost with the present settings."""
    site, held = _present()
    return pages.page("promise", site=site, formed=held["formed"], promises=promise_words.promises(site),
                      say=promise_words)  # fmt: skip


@needs("view")
def api() -> Response:
    """Return the same as JSON."""
    try:
        site, held = _present()
    except ClusterError as error:
        return json_error(error)
    return jsonify(promise_words.as_dict(site, held["formed"]))


def _present() -> tuple[Site, dict[str, Any]]:
    status, held = pages.call("status"), pages.call("settings")
    return promise_words.site_of(status, held["settings"] if held["formed"] else None), held
