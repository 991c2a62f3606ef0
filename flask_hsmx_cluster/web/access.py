"""Who may do what: each view declares the permission it needs, and one guard asks the host for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from flask import abort, current_app, request

from ..extension import Action, state

View = TypeVar("View", bound=Callable[..., Any])


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


def guard() -> None:
    """Refuse the request unless the host's permission callable says yes."""
    endpoint = request.endpoint or ""
    view = current_app.view_functions.get(endpoint)
    if getattr(view, "hsmx_relay", None) is not None:
        return
    may = getattr(view, "hsmx_may", None)
    if may is not None and may():
        return
    action: Action = "view" if endpoint.endswith(".static") else getattr(view, "hsmx_needs", "administer")
    if not state().allows(action):
        abort(403)


def excuse_from_host_csrf(endpoint: str | None, values: dict[str, Any] | None) -> None:
    """Keep a host-wide ``CSRFProtect`` off the extension's views, which see to it themselves.

    It would refuse the other gateway's messages and the REST API. This runs before its own check.
    """
    protection = current_app.extensions.get("csrf")
    if protection is not None and endpoint in current_app.view_functions:
        protection.exempt(current_app.view_functions[endpoint])
