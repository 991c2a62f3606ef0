"""The two public endpoints, through which the other gateway's agent reaches this one's.

The web app understands nothing of what passes: it hands opaque bytes to the agent, which alone has the keys.
Whatever is wrong is answered with a status and no text.
"""

from __future__ import annotations

import base64
import binascii

from flask import Blueprint, Response, request

from ..control import MAX_MESSAGE
from ..errors import ClusterError
from ..extension import state
from .access import relay
from .answers import http_status

_TYPE = "application/octet-stream"


def register(blueprint: Blueprint) -> None:
    """Add the endpoints."""
    blueprint.add_url_rule("/pair", view_func=pair, methods=["POST"])
    blueprint.add_url_rule("/peer", view_func=peer, methods=["POST"])


@relay("pair")
def pair() -> Response:
    """Relay a step of the pairing exchange."""
    return _relayed("pair", {})


@relay("peer")
def peer() -> Response:
    """Relay a sealed message of the other gateway, and say from where it came."""
    return _relayed("peer", {"address": request.remote_addr or ""})


def _relayed(verb: str, arguments: dict[str, str]) -> Response:
    if request.mimetype != _TYPE:
        return _empty(415)
    if (request.content_length or 0) > MAX_MESSAGE:
        return _empty(413)
    message = request.stream.read(MAX_MESSAGE + 1)
    if not message:
        return _empty(400)
    if len(message) > MAX_MESSAGE:
        return _empty(413)
    try:
        answer = state().call(verb, message=base64.b64encode(message).decode(), **arguments)["message"]
        return Response(base64.b64decode(answer, validate=True), mimetype=_TYPE)
    except ClusterError as error:
        return _empty(http_status(error))
    except (KeyError, TypeError, binascii.Error):
        return _empty(502)


def _empty(code: int) -> Response:
    return Response(b"", code, mimetype=_TYPE)
