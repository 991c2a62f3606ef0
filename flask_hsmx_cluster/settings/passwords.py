"""What of the settings is never shown again: the passwords of their parts, for all that answer or ask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import Finding
from . import notify, notify_rules, pppoe, pppoe_rules
from .model import Settings


def masked(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings in dict form as they may be shown: without passwords."""
    return notify.masked(pppoe.masked(settings))


def filled(settings: Mapping[str, Any], present: Settings | None) -> dict[str, Any]:
    """Return settings in dict form where passwords that are left empty are the stored ones."""
    found = pppoe.filled(settings, present.pppoe if present else ())
    return notify.filled(found, present.notify if present else ())


def missing(settings: Settings) -> list[Finding]:
    """Return which passwords are missing; for the agent, which knows the stored ones."""
    return pppoe_rules.check_passwords(settings) + notify_rules.check_passwords(settings)
