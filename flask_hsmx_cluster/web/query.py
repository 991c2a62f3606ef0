"""What a program asks with GET is held against the description: nothing that it forbids is taken, bent or left out."""

from __future__ import annotations

import re
from typing import Any

from flask import Response, request

from ..errors import RequestRefused
from . import schemas
from .answers import json_error
from .schemas import Schema

_WHOLE = re.compile("-?[0-9]{1,19}")


def path_of(rule: str) -> str:
    """Return the path under ``api/`` of a route's rule, as the description writes it."""
    return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.partition("/api/")[2])


def check() -> Response | None:
    """Refuse a request of the REST API whose query is against its description."""
    endpoint = (request.endpoint or "").rpartition(".")[2]
    if request.method not in ("GET", "HEAD") or request.url_rule is None or not endpoint.startswith("api_"):
        return None
    _summary, _answer, query = schemas.OPERATIONS[path_of(request.url_rule.rule), "GET"]
    for name, schema in query.items():
        problem = _problem(request.args.getlist(name), schema)
        if problem:
            return json_error(RequestRefused(f"{name} {problem}."), 400)
    return None


def _problem(texts: list[str], schema: Schema) -> str:
    """Return what is wrong with a parameter, or nothing."""
    if schema["type"] != "array":
        if len(texts) > 1:
            return "may be given once"
        return next((_wrong(text, schema) for text in texts), "")
    if len(texts) > schema["maxItems"]:
        return f"may be given {schema['maxItems']} times"
    return next(filter(None, (_wrong(text, schema["items"]) for text in texts)), "")


def _wrong(text: str, schema: Schema) -> str:
    if schema["type"] == "integer":
        if not _WHOLE.fullmatch(text):
            return "must be a whole number"
        if int(text) < schema["minimum"]:
            return f"must be {schema['minimum']} at least"
        return f"must be {schema['maximum']} at most" if int(text) > schema["maximum"] else ""
    if len(text) > schema.get("maxLength", len(text)):
        return f"may have {schema['maxLength']} characters"
    allowed: list[Any] = schema.get("enum", [text])
    if text not in allowed:
        return f"must be one of {', '.join(map(repr, allowed))}"
    return "" if re.fullmatch(schema.get("pattern", ".*"), text, re.DOTALL) else "has a wrong form"
