"""Who may do what: each view declares the permission it needs, and one guard asks the host for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from flask import Response, abort, current_app, request

from ..errors import NotAllowed
from ..extension import Action, state
from .answers import json_error

View = TypeVar("View", bound=Callable[..., Any])

#: Longest form of a page, bytes: a pasted list of networks, encoded, and what stands beside it.
MAX_FORM = 1024 * 1024


def needs(action: Action) -> Callable[[View], View]:
    """Declare the permission that a view needs. A view that declares nothing needs ``administer``."""

    def declare(view: View) -> View:
        view.hsmx_needs = action  # type: ignore[attr-defined]
        return view

    return declare


def relay(name: str) -> Callable[[View], View]:
    """Declare a view as the other gateway's endpoint: public, because the agent judges what it relays."""

    def declare(view: View) -> View:
        view.hsmx_relay = name  # type: ignore[attr-defined]
        return view

    return declare


def monitored(may: Callable[[], bool]) -> Callable[[View], View]:
    """Declare a view that a monitor may ask.

    :param may: tells whether the configuration lets the request in; else who may view the pages may ask.
    """

    def declare(view: View) -> View:
        view.hsmx_needs = "view"  # type: ignore[attr-defined]
        view.hsmx_may = may  # type: ignore[attr-defined]
        return view

    return declare


def guard() -> Response | None:
    """Refuse the request unless the host's permission callable says yes, and what it brings is short enough."""
    endpoint = request.endpoint or ""
    view = current_app.view_functions.get(endpoint)
    if getattr(view, "hsmx_relay", None) is not None:
        return None
    may = getattr(view, "hsmx_may", None)
    if may is not None and may():
        return None
    action: Action = "view" if endpoint.endswith(".static") else getattr(view, "hsmx_needs", "administer")
    if not state().allows(action):
        if endpoint.rpartition(".")[2].startswith("api_"):  # its caller is a program
            return json_error(NotAllowed("You may not do this.", f"It needs the permission {action}."))
        abort(403)
    if request.method == "POST" and not _is_short():
        abort(413)
    return None


def _is_short() -> bool:
    """Tell whether a form may be read at all: whoever gives no length may send without end."""
    length = request.content_length
    return length <= MAX_FORM if length is not None else "Transfer-Encoding" not in request.headers


def excuse_from_host_csrf(endpoint: str | None, values: dict[str, Any] | None) -> None:
    """Keep a host-wide ``CSRFProtect`` off the extension's views, which see to it themselves.

    It would refuse the other gateway's messages and the REST API. This runs before its own check.
    """
    protection = current_app.extensions.get("csrf")
    if protection is not None and endpoint in current_app.view_functions:
        protection.exempt(current_app.view_functions[endpoint])
