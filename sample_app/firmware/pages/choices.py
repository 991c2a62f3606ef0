"""Options of a selection whose titles differ from their values."""

from __future__ import annotations

from typing import Any

import wtforms


def titled(options: dict[Any, str]) -> list[Any]:
    """Return options as this WTForms wants them; from 3.3 on it has a class for them."""
    choice = getattr(wtforms, "SelectChoice", None)
    return [choice(value, title) if choice else (value, title) for value, title in options.items()]
