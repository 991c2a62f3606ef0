"""What participants are told of a change of role."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Situation:
    """The agent's last word; kept up to date by the process, read by whoever passes it on.

    :param reason: why the role changes, in words.
    :param term: number of the reign that begins or ends.
    :param released: no other gateway can still run what belongs to the active one only.
    """

    reason: str = ""
    term: int = 0
    released: bool = False
