"""What is known of a certificate. Pure: reading one from the wire is :mod:`.look`'s."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Validity = Literal["valid", "expired", "not_yet"]
Severity = Literal["warning", "critical"]

DAY_S = 86400
#: A certificate that ends within so many days is an alarm.
WARNING_DAYS, CRITICAL_DAYS = 30, 7
#: Names of a certificate that are kept, and characters of each.
MOST_NAMES, MOST_CHARACTERS = 20, 253


@dataclass(frozen=True)
class Certificate:
    """A certificate as a server shows it.

    :param fingerprint: SHA-256, 64 hex digits.
    :param names: for whom it is: its alternative names, or else its common name.
    :param not_before: from when it is good, s since 1970.
    :param not_after: until when.
    """

    fingerprint: str
    names: tuple[str, ...]
    issuer: str
    not_before: int
    not_after: int

    def validity(self, now: float) -> Validity:
        """Return whether it is good.

        :param now: s since 1970.
        """
        if now < self.not_before:
            return "not_yet"
        return "valid" if now <= self.not_after else "expired"

    def days_left(self, now: float) -> int:
        """Return the whole days until it ends, negative once it has."""
        return int((self.not_after - now) // DAY_S)

    def severity(self, now: float) -> Severity | None:
        """Return how bad it is that it ends, or is not good yet; None: all is well."""
        if self.validity(now) != "valid" or self.not_after - now < CRITICAL_DAYS * DAY_S:
            return "critical"
        return "warning" if self.not_after - now < WARNING_DAYS * DAY_S else None

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "names": list(self.names)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Certificate:
        """Return it from its dict form.

        :raises ValueError: it is malformed.
        """
        try:
            names = tuple(data["names"])
            found = cls(data["fingerprint"], names, data["issuer"], data["not_before"], data["not_after"])
            texts, times = (*found.names, found.issuer), (found.not_before, found.not_after)
            fits = (
                re.fullmatch("[0-9a-f]{64}", found.fingerprint, re.ASCII)
                and len(found.names) <= MOST_NAMES
                and all(isinstance(one, str) and len(one) <= MOST_CHARACTERS and one.isprintable() for one in texts)
                and all(type(one) is int and abs(one) < 2**40 for one in times)
            )
        except (KeyError, TypeError):
            fits = None
        if not fits:
            raise ValueError("no certificate")
        return found
