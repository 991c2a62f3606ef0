"""What is said of the arbiter, for page and CLI. Like :mod:`.cluster` it decides nothing."""

from __future__ import annotations

from typing import Any

from ..translate import gettext as _
from . import cluster as words
from .traffic import Row


def describe(status: dict[str, Any]) -> Row | None:
    """Return what to say; None where there is no arbiter, or no cluster."""
    told = status.get("arbiter")
    if told is None or status["cluster"] is None:
        return None
    name, since, peer = _("Arbiter"), words.duration(told["since_s"]), (status["peer"] or {}).get("name", "")
    if told["word"] == "granted":
        return Row("warn", name, _("%(peer)s is not heard. The arbiter lets this gateway serve.", peer=peer))
    if told["word"] == "denied":
        text = _("%(peer)s is not heard. The arbiter lets it serve, and not this gateway.", peer=peer)
        return Row("warn", name, text)
    if told["answers"]:
        use = _("it is asked only if the two gateways do not hear each other.")
        return Row("ok", name, _("answers, for %(since)s now; %(use)s", since=since, use=use))
    if told["required"]:
        harm = _("A gateway that loses the other one now stops serving.")
    else:
        harm = _("Nothing depends on it as long as the two gateways hear each other.")
    text = _("has not answered for %(since)s (%(why)s). %(harm)s", since=since, why=told["text"], harm=harm)
    return Row("bad" if told["required"] else "warn", name, text)
