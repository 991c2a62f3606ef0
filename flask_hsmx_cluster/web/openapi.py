"""The REST API described for machines: OpenAPI 3.1, made of the routes themselves and the table of schemas."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from flask import Blueprint, Response, current_app, jsonify, request, url_for

from ..control import VERBS
from ..version import __version__
from . import schemas
from .access import needs
from .api import WRITE
from .query import path_of
from .schemas import Schema

#: What any request may be answered instead.
_ERRORS = {
    "403": "Not allowed, or it could have been made by another site.",
    "409": "Not possible now; the code `conflict` says that a change does not fit any more.",
    "422": "Checks failed: `findings` says which.",
    "502": "The other gateway or the kernel refused.",
    "503": "The agent does not run.",
}
_MALFORMED = {"400": "The body, or the query, is not what this path takes."}


def register(blueprint: Blueprint) -> None:
    """Add the request."""
    blueprint.add_url_rule("/api/openapi.json", "api_get_openapi", openapi, methods=["GET"])


@needs("view")
def openapi() -> Response:
    """Return the description."""
    return jsonify(document())


def routes() -> Iterator[tuple[str, str]]:
    """Yield path under ``api/`` and method of each route that the app has."""
    begin = f"{request.blueprint}.api_"
    for rule in current_app.url_map.iter_rules():
        if rule.endpoint.startswith(begin):
            methods = (rule.methods or set()) - {"HEAD", "OPTIONS"}
            yield from ((path_of(rule.rule), method) for method in sorted(methods))


def document() -> dict[str, Any]:
    """Return the description of every route."""
    paths: dict[str, dict[str, Any]] = {}
    for path, method in sorted(routes()):
        paths.setdefault(f"/{path}", {})[method.lower()] = _operation(path, method)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Cluster of two gateways", "version": __version__},
        "servers": [{"url": url_for(".api_get_openapi").removesuffix("/openapi.json")}],
        "paths": paths,
        "components": {"schemas": schemas.SCHEMAS},
    }


def _operation(path: str, method: str) -> dict[str, Any]:
    summary, answer, query = schemas.OPERATIONS[path, method]
    errors = {**_MALFORMED, **_ERRORS} if method == "POST" or query else _ERRORS
    content = {"application/json": {"schema": answer}}
    if "format" in query:
        content["text/csv"] = {"schema": schemas.TEXT}
    found: dict[str, Any] = {
        "summary": summary,
        "operationId": f"{method.lower()}-{re.sub('[^a-z]+', '-', path).strip('-')}",
        "parameters": [
            *({"name": name, "in": "path", "required": True, "schema": schemas.ARGUMENTS[name]}
              for name in re.findall(r"{(\w+)}", path)),
            *({"name": name, "in": "query", "schema": schema} for name, schema in query.items()),
        ],
        "responses": {
            "200": {"description": "Done.", "content": content},
            **{code: {"description": text, "content": {"application/json": {"schema": schemas.ref("Error")}}}
               for code, text in sorted(errors.items())},
            **({"404": {"description": "That is no id."}} if "{" in path else {}),
        },
    }  # fmt: skip
    if method == "POST":
        verb, types = WRITE[path]
        found["x-permission"] = "administer" if VERBS[verb].changes else "view"
        found["parameters"].append({
            "name": "X-HSMX-Cluster", "in": "header", "required": True, "schema": schemas.TEXT,
            "description": "Any value, or a CSRF token in X-CSRFToken instead.",
        })  # fmt: skip
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": _body(path, types)}}}
    else:
        found["x-permission"] = "view"
    return found


def _body(path: str, types: dict[str, type]) -> Schema:
    properties = {name: schemas.OF_PATH.get((path, name)) or schemas.ARGUMENTS[name] for name in types}
    optional = schemas.OPTIONAL | {name for where, name in schemas.OPTIONAL_UNDER if where == path}
    required = [name for name in types if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
