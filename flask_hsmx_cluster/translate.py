"""Translation of what people read: by Flask-Babel where the host has it, else plain English."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from flask import current_app


def gettext(text: str, **values: object) -> str:
    """Return the text in the reader's language, with ``%(name)s`` filled in."""
    if current_app and "babel" in current_app.extensions and (domain := _domain()) is not None:
        return str(domain.gettext(text, **values))
    return text % values if values else text


def ngettext(one: str, many: str, number: int, **values: object) -> str:
    """Return the text for a number in the reader's language; ``%(n)s`` is the number."""
    values = {"n": f"{number:,}", **values}
    if current_app and "babel" in current_app.extensions and (domain := _domain()) is not None:
        return str(domain.ngettext(one, many, number, **values))
    return (one if number == 1 else many) % values


@cache
def _domain() -> Any:
    try:
        from flask_babel import Domain  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return None
    return Domain(translation_directories=[str(Path(__file__).parent / "translations")], domain="hsmx_cluster")
