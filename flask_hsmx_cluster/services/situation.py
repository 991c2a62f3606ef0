"""What a hook is told of a change of role."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Situation:
    """The agent's last word; kept up to date by the process, read by whoever passes it on.

    :param reason: why the role changes, in words.
    :param term: number of the reign that begins or ends.
    """

    reason: str = ""
    term: int = 0
