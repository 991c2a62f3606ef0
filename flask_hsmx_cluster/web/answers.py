"""How the agent's refusals become HTTP answers."""

from __future__ import annotations

from flask import Response, jsonify, request

from ..errors import ClusterError

#: HTTP status by error code.
HTTP_STATUS = {
    "agent_unavailable": 503,
    "conflict": 409,
    "findings": 422,
    "network": 502,
    "not_active": 409,
    "not_allowed": 403,
    "pairing": 403,
    "peer_unavailable": 502,
    "refused": 409,
}


def http_status(error: ClusterError) -> int:
    """Return the HTTP status for an error."""
    return HTTP_STATUS.get(error.code, 500)


def json_error(error: ClusterError, code: int | None = None) -> Response:
    """Return an error as JSON: ``{"error": {"code", "message", "remedy", ...}}``."""
    response = jsonify(error=error.as_dict())
    response.status_code = code or http_status(error)
    return response


def wants_json() -> bool:
    """Tell whether the request came from a program rather than from a person's browser."""
    return request.path.endswith(".json") or request.accept_mimetypes.best == "application/json"
