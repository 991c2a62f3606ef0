"""A write of the host's that the guard refused, as this gateway stands by: a page with the way to the active one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from ipaddress import ip_interface
from typing import Any

from flask import Flask, Response, current_app, make_response, render_template, request, url_for
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from ..errors import ClusterError, NotActive
from ..extension import state
from ..signals import write_refused
from ..translate import gettext as _
from .answers import http_status, json_error, wants_json

log = logging.getLogger(__name__)

#: How the guard's errors are told from others: their SQLSTATE, and how their message begins.
SQLSTATE = "25006"
GUARD_SAYS = "This gateway is not the active one"

ErrorHandler = Callable[[Any], Any]


def is_refusal(error: BaseException) -> bool:
    """Return whether an error of SQLAlchemy, or of psycopg or psycopg2 itself, is the guard's."""
    original = getattr(error, "orig", None) or error
    code = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
    return code == SQLSTATE and str(original).startswith(GUARD_SAYS)


def refused_write(error: BaseException) -> Response | None:
    """Return the answer to a request whose write the guard refused; None if the error is another one.

    The host's session is rolled back: PostgreSQL has ended its transaction, and the host's layout may want to read.
    """
    if not is_refusal(error):
        return None
    _roll_back()
    refused = _in_words()
    write_refused.send(current_app._get_current_object(), active=refused.active)  # type: ignore[attr-defined]
    if request.is_json or wants_json():
        answer = json_error(refused)
    else:
        answer = make_response(_page(refused), http_status(refused))
    answer.headers["Cache-Control"] = "no-store"
    return answer


def register(app: Flask) -> None:
    """Show the page for refused writes, where the host has no handler of its own for these errors."""

    def handle(error: Exception) -> Any:
        answer = refused_write(error)
        if answer is not None:
            return answer
        handler = _host_handler(app, error, handle)
        if handler is None:
            raise error
        return app.ensure_sync(handler)(error)

    for kind in _kinds():
        if kind not in app.error_handler_spec[None][None]:
            app.register_error_handler(kind, handle)


def _kinds() -> Iterator[type[Exception]]:
    yield DBAPIError
    try:
        from psycopg.errors import ReadOnlySqlTransaction
    except ImportError:  # its C library is missing: then the host does not use it either
        return
    yield ReadOnlySqlTransaction


def _host_handler(app: Flask, error: Exception, ours: ErrorHandler) -> ErrorHandler | None:
    """Return the handler that would have got the error if ours were not there."""
    handlers = app.error_handler_spec[None][None]
    found = (handlers.get(kind) for kind in type(error).__mro__)
    return next((handler for handler in found if handler is not None and handler is not ours), None)


def _roll_back() -> None:
    session = getattr(state().database, "session", None)
    if session is None:
        return
    try:
        session.rollback()
    except SQLAlchemyError as error:
        log.warning("The session of a refused write cannot be rolled back: %s", error)


def _in_words() -> NotActive:
    try:
        status = state().call("status")
    except ClusterError:
        status = {"node": {"role": "unknown"}, "virtual_ips": []}
    if status["node"]["role"] == "active":
        return NotActive(
            _("This gateway is the active one, but its database does not accept changes at this moment. Nothing was "
              "saved."),
            _("Wait a few seconds, then do it again."))
    return NotActive(
        _("This gateway stands by: what both gateways share is changed on the active one. Nothing was saved."),
        _("Open the active gateway, and do it again there."),
        [_url(vip["address"]) for vip in status["virtual_ips"]])


def _url(address: str) -> str:
    ip = ip_interface(address).ip
    return f"http://[{ip}]/" if ip.version == 6 else f"http://{ip}/"


def _page(refused: NotActive) -> str:
    context = {"error": refused, "_": _, "stylesheet": _stylesheet()}
    layout = state().config.base_template
    try:
        return render_template("hsmx_cluster/not_active.html", hsmx_base=layout, **context)
    except Exception:  # the host's layout is any code, and may write, too
        log.warning("%s cannot be shown around the page of a refused write", layout, exc_info=True)
        return render_template("hsmx_cluster/not_active.html", hsmx_base="hsmx_cluster/base.html", **context)


def _stylesheet() -> str:
    """Return the URL of our style sheet, wherever the host has put the blueprint; empty if nowhere."""
    for endpoint, view in current_app.view_functions.items():
        if getattr(view, "hsmx_relay", None) == "peer":
            return url_for(f"{endpoint.rpartition('.')[0]}.static", filename="cluster.css")
    return ""
