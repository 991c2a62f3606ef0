"""What is told: one alarm or event, as it travels between policy, queue, the other gateway and the sender."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

#: ``raised``: an alarm is there. ``over``: it is not any more. ``passed``: it came and went before it could be told.
#: ``reminder``: it is still there. ``event``: something has happened. ``test``: somebody tries the way.
KINDS = ("raised", "over", "passed", "reminder", "event", "test")
SEVERITIES = ("info", "warning", "critical")
#: Longest text of one of them, characters.
LONGEST = 600


@dataclass(frozen=True)
class News:
    """One thing to tell.

    :param kind: one of :data:`KINDS`.
    :param ident: which alarm or event it is, alike on both gateways.
    :param key: the alarm's key, or the event's kind.
    :param gateway: name of the gateway that says it.
    :param severity: of the alarm or event: ``info``, ``warning`` or ``critical``.
    :param at: when it happened, ISO wall time.
    :param times: how often an alarm came since it was told last.
    :param id: of this news; a receiver that gets one twice knows by it.
    """

    kind: str
    ident: str
    key: str
    gateway: str
    severity: str
    text: str
    remedy: str = ""
    at: str = ""
    times: int = 1
    id: str = ""

    def named(self) -> News:
        """Return the news with an id."""
        return self if self.id else replace(self, id=uuid4().hex)

    def as_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> News:
        """Return news from its dict form, reduced to what is expected.

        :raises KeyError, TypeError, ValueError, AttributeError: it is none.
        """
        words = {key: clean(data[key]) for key in vars(cls("", "", "", "", "", "")) if key != "times"}
        if words["kind"] not in KINDS or words["severity"] not in SEVERITIES:
            raise ValueError("no news")
        times = data["times"]
        if type(times) is not int or not 0 < times < 10**6:
            raise ValueError("no news")
        return cls(**words, times=times)


def clean(value: object) -> str:
    """Return a text on one line, of signs that can be printed, and not too long.

    :raises TypeError: it is no text.
    """
    if not isinstance(value, str):
        raise TypeError("no text")
    return "".join(sign if sign.isprintable() else " " for sign in value[:LONGEST])


def at_least(severity: str, least: str) -> bool:
    """Return whether a severity is no less than another one."""
    return SEVERITIES.index(severity) >= SEVERITIES.index(least)
