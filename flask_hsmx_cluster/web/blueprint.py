"""The blueprint: puts views, REST API and the other gateway's endpoints together."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response

from ..extension import state
from ..translate import gettext, ngettext
from ..words import cluster as words
from . import (
    access,
    api,
    aside_views,
    data_api,
    data_views,
    files_views,
    firewall_views,
    interface_views,
    monitor,
    network_views,
    notify_views,
    openapi,
    peer,
    pppoe_views,
    promise_views,
    query,
    renewal_views,
    sweep_views,
    take_over_views,
    views,
)


def create_blueprint() -> Blueprint:
    """Return a new blueprint named ``hsmx_cluster``."""
    blueprint = Blueprint(
        "hsmx_cluster", __name__, template_folder="templates", static_folder="static", static_url_path="/static"
    )
    blueprint.url_value_preprocessor(access.excuse_from_host_csrf)
    blueprint.before_request(access.guard)
    blueprint.before_request(query.check)
    blueprint.after_request(_keep_to_ourselves)
    blueprint.context_processor(_template_names)
    for module in (
        views, data_views, sweep_views, aside_views, files_views, network_views, interface_views, firewall_views,
        pppoe_views, notify_views, renewal_views, promise_views, take_over_views, api, data_api, openapi, monitor,
        peer,
    ):  # fmt: skip
        module.register(blueprint)
    return blueprint


def _keep_to_ourselves(response: Response) -> Response:
    """Keep pages out of caches and out of other sites' frames, where a click could be lured onto a button."""
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("X-Frame-Options", "SAMEORIGIN")
    if response.direct_passthrough is False:
        response.headers.setdefault("Cache-Control", "no-store")
    return response


def _template_names() -> dict[str, Any]:
    found = state()
    return {
        "_": gettext,
        "ngettext": ngettext,
        "words": words,
        "hsmx_base": found.config.base_template,
        "network_settings_url": found.config.network_settings_url,
        "firewall_url": found.config.firewall_url,
    }
