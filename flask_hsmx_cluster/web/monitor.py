"""What monitors and load balancers ask: ``/metrics``, ``/health`` and ``/role``.

They have no session: a token from the configuration, or the host's word that anybody may ask, stands in for one.
"""

from __future__ import annotations

import hmac
import threading
import time
from typing import Any

from flask import Blueprint, Response, current_app, jsonify, request

from ..errors import ClusterError
from ..extension import state
from . import metrics as format_of
from .access import monitored
from .answers import wants_json

_PLAIN = "text/plain; charset=utf-8"
#: Anybody may ask for health and role, if the host says so: the agent is asked once in this time, s. A flood of
#: them must leave room for the operator.
FRESH_S = 0.5
_KEPT = "hsmx_cluster_monitor"
_asking = threading.Lock()


def register(blueprint: Blueprint) -> None:
    """Add the endpoints."""
    blueprint.add_url_rule("/metrics", view_func=metrics)
    blueprint.add_url_rule("/health", view_func=health)
    blueprint.add_url_rule("/role", view_func=role)


def _has_token() -> bool:
    """Tell whether the request carries the configured token."""
    wanted = state().config.metrics_token
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    given = scheme.lower() == "bearer" and hmac.compare_digest(token.strip().encode(), wanted.encode())
    return bool(wanted) and given


def _is_public() -> bool:
    return state().config.public_health or _has_token()


@monitored(_has_token)
def metrics() -> Response:
    """Return this gateway's metrics; 503 without an agent."""
    try:
        return Response(format_of.text(state().call("status")), content_type=format_of.CONTENT_TYPE)
    except ClusterError as error:
        return Response(f"# {error.message}\n", 503, content_type=format_of.CONTENT_TYPE)


@monitored(_is_public)
def health() -> Response:
    """Return 200 if this gateway's agent runs, and the gateway does what its role asks of it; else 503."""
    node = _node()
    if node is None:
        return _answer(503, "unhealthy", healthy=False, why="the agent does not answer")
    why = "the cluster settings are not in force" if node["phase"] == "out_of_force" else ""
    if node["health"]:
        why = "; ".join(str(one["text"]) for one in node["health"])
    return _answer(503 if why else 200, "unhealthy" if why else "healthy", healthy=not why, why=why)


@monitored(_is_public)
def role() -> Response:
    """Return 200 on the active gateway, and 503 on any other."""
    node = _node()
    found = "unknown" if node is None else str(node["role"])
    return _answer(200 if found == "active" else 503, found, role=found)


def _node() -> dict[str, Any] | None:
    """Return what the status says of this gateway, as it was a moment ago at most; None without an agent."""
    kept = current_app.extensions
    with _asking:
        at, node = kept.get(_KEPT, (float("-inf"), None))
        if time.monotonic() - at >= FRESH_S:
            try:
                node = state().call("status")["node"]
            except ClusterError:
                node = None
            kept[_KEPT] = time.monotonic(), node
        found: dict[str, Any] | None = node
        return found


def _answer(code: int, word: str, **content: Any) -> Response:
    """Return a word, or JSON for who asks for it. Who is not known learns no more than that."""
    if wants_json():
        response = jsonify(content)
        response.status_code = code
        return response
    why = f": {content['why']}" if content.get("why") else ""
    return Response(f"{word}{why}\n", code, content_type=_PLAIN)
