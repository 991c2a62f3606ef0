"""The REST API of the shared data, to be read; what changes something stands in :mod:`.api` with all other verbs."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, request

from ..errors import ClusterError
from ..extension import state
from .access import needs
from .answers import json_error
from .data_views import exported
from .pages import call


def register(blueprint: Blueprint) -> None:
    """Add one view for each path."""
    for path, view in (
        ("", data),
        ("/coverage", coverage),
        ("/quarantine", quarantine),
        ("/quarantine/export", export),
        ("/quarantine/<int:row_id>", quarantine_row),
        ("/quarantine/sweep", swept),
        ("/aside", aside),
    ):
        blueprint.add_url_rule(f"/api/data{path}", f"api_data_{view.__name__}", view, methods=["GET"])


@needs("view")
def data() -> Response:
    """Return the state of the shared data, and how much waits in quarantine."""
    try:
        return jsonify(call("status")["data"])
    except ClusterError as error:
        return json_error(error)


@needs("view")
def coverage() -> Response:
    """Return what is shared of every table and field."""
    return jsonify(state().coverage().as_dict())


@needs("view")
def quarantine() -> Response:
    """Return a page of rows."""
    try:
        return jsonify(call(
            "quarantine", node=request.args.get("node", ""), table=request.args.get("table", ""),
            state=request.args.get("state", "kept"), batch=request.args.get("batch", ""),
            after=request.args.get("after", 0, type=int), limit=request.args.get("limit", 50, type=int),
        ))  # fmt: skip
    except ClusterError as error:
        return json_error(error)


@needs("view")
def quarantine_row(row_id: int) -> Response:
    """Return one row with its values."""
    try:
        return jsonify(call("quarantine_row", row_id=row_id, node=request.args.get("node", "")))
    except ClusterError as error:
        return json_error(error)


@needs("view")
def swept() -> Response:
    """Return how far it is with many rows."""
    return _told("swept")


@needs("view")
def aside() -> Response:
    """Return what a gateway has put aside."""
    return _told("aside")


def _told(verb: str) -> Response:
    try:
        return jsonify(call(verb, node=request.args.get("node", "")))
    except ClusterError as error:
        return json_error(error)


@needs("view")
def export() -> Response:
    """Return all rows as a file, CSV or JSON."""
    try:
        return exported(request.args.get("format", "json"))
    except ClusterError as error:
        return json_error(error)
