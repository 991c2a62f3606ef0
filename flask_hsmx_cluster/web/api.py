"""The REST API: the agent's verbs as JSON, under the same permission as the pages.

A request that changes something must be JSON and carry the header ``X-HSMX-Cluster`` (any value) or a CSRF
token in ``X-CSRFToken``: another site's page can send neither without being asked by the browser first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response, jsonify, request
from flask_wtf.csrf import validate_csrf
from wtforms import ValidationError

from ..control import VERBS, read_json
from ..errors import ClusterError, RequestRefused
from ..extension import Action, state
from ..settings import model as settings
from .access import needs
from .answers import json_error

#: Longest request, bytes: settings, and what is said of them.
MAX_BODY = settings.MAX_SIZE + 64 * 1024

#: Path under ``/api``: the verb asked with GET.
_READ = {
    "status": "status", "settings": "settings", "ports": "ports", "peer-ports": "peer_ports", "events": "events",
    "renewal": "renewal",
    "data/verify": "verified",
}

#: Path under ``/api``: the verb called with POST, and the types of its arguments.
WRITE: dict[str, tuple[str, dict[str, type]]] = {
    "settings": ("propose", {"settings": dict, "base_revision": int}),
    "preflight": ("preflight", {"settings": dict}),
    "create": ("create", {"settings": dict}),
    "pairing-code": ("pairing_code", {}),
    "join": ("join", {"address": str, "code": str, "ends": dict}),
    "leave": ("leave", {"force": bool}),
    "replace": ("replace", {}),
    "data/verify": ("verify", {}),
    "data/quarantine/reapply": ("reapply", {"row_id": int, "overwrite": bool, "node": str, "seen": str}),
    "data/quarantine/discard": ("discard", {"ids": list, "node": str}),
    "data/quarantine/sweep": (
        "sweep", {"action": str, "ids": list, "upto": int, "node": str, "table": str, "batch": str}),
    "data/quarantine/sweep-stop": ("sweep_stop", {"node": str}),
    "data/aside/delete": ("aside_delete", {"name": str, "node": str}),
    "files/sync": ("files_sync", {}),
    "files/allow-deletions": ("files_allow", {"tree": str}),
    "failover": ("failover", {}),
    "take-over": ("take_over", {"by": str}),
    "agent/restart": ("restart", {"within_s": int}),
    "renewal/look": ("renewal_look", {}),
    "renewal/begin": ("renewal_begin", {"kind": str}),
    "renewal/end": ("renewal_end", {}),
    "pppoe": ("pppoe", {"name": str, "connect": bool}),
    "notify/test": ("notify_test", {"name": str}),
    "maintenance": ("maintenance", {"on": bool, "duration_s": int}),
    "resolve-conflict": ("resolve_conflict", {"keep": str}),
}


def register(blueprint: Blueprint) -> None:
    """Add one view for each path."""
    for path, verb in _READ.items():
        blueprint.add_url_rule(f"/api/{path}", f"api_get_{verb}", _reader(verb), methods=["GET"])
    for path, (verb, types) in WRITE.items():
        blueprint.add_url_rule(f"/api/{path}", f"api_post_{verb}", _writer(verb, types), methods=["POST"])


def _reader(verb: str) -> Callable[[], Response]:
    @needs("view")
    def view() -> Response:
        try:
            return jsonify(state().call(verb, **(_page() if verb == "events" else {})))
        except ClusterError as error:
            return json_error(error)

    view.__name__ = f"api_get_{verb}"
    return view


def _writer(verb: str, types: dict[str, type]) -> Callable[[], Response]:
    action: Action = "administer" if VERBS[verb].changes else "view"

    @needs(action)
    def view() -> Response:
        if not _sent_on_purpose():
            return json_error(RequestRefused(
                "The request could have been made by another site.",
                "Send JSON, with the header X-HSMX-Cluster or X-CSRFToken."), 403)
        try:
            return jsonify(state().call(verb, **_arguments(types)))
        except ClusterError as error:
            return json_error(error, 400 if isinstance(error, _Malformed) else None)

    view.__name__ = f"api_post_{verb}"
    return view


class _Malformed(RequestRefused):
    """The body is not what this path takes."""


def _sent_on_purpose() -> bool:
    if not request.is_json:
        return False
    if "X-HSMX-Cluster" in request.headers:
        return True
    try:
        validate_csrf(request.headers.get("X-CSRFToken"))
    except ValidationError:
        return False
    return True


def _arguments(types: dict[str, type]) -> dict[str, Any]:
    if (request.content_length or 0) > MAX_BODY:
        raise _Malformed(f"The body is longer than {MAX_BODY} bytes.")
    try:
        body = read_json(request.stream.read(MAX_BODY + 1) or b"{}")
    except ValueError:
        raise _Malformed("The body is not JSON.") from None
    if not isinstance(body, dict):
        raise _Malformed("The body is not a JSON object.")
    for name, value in body.items():
        if name not in types:
            raise _Malformed(f"There is no argument {name!r:.60}.", f"Known: {', '.join(types) or 'none'}.")
        if type(value) is not types[name]:
            raise _Malformed(f"The argument {name!r} must be a {types[name].__name__}.")
    if "settings" in body:
        settings.from_dict(body["settings"])
    return body


def _page() -> dict[str, Any]:
    """Return which events were asked for: ``?limit=`` (1 to 500) and ``?before=`` an id."""
    return {"limit": request.args.get("limit", 100, type=int), "before": request.args.get("before", None, type=int)}
