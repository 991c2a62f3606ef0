"""The firmware's pages, in one blueprint."""

from __future__ import annotations

from flask import Blueprint, abort, redirect, request, url_for
from flask.typing import ResponseReturnValue

from ..access import current_user, permits

blueprint = Blueprint("firmware", __name__)

#: Pages that need no login.
_OPEN = {"firmware.login"}


@blueprint.before_request
def _guard() -> ResponseReturnValue | None:
    if request.endpoint in _OPEN:
        return None
    if current_user() is None:
        return redirect(url_for("firmware.login", next=request.full_path.rstrip("?")))
    if request.method not in ("GET", "HEAD", "OPTIONS") and request.endpoint != "firmware.logout":
        require_administrator()
    return None


def require_administrator() -> None:
    """Answer 403 unless the user may change things."""
    if not permits("administer"):
        abort(403, "Your user may look, but not change anything. Log in as an administrator.")


# The modules register their views when they are imported.
from . import certificates, hotel, interfaces, network, session, system  # noqa: E402, F401
