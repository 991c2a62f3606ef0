"""The verbs about certificates and upgrades."""

from __future__ import annotations

from typing import Any

from ...renewal.guide import Kind
from .side import RenewalSide


class RenewalVerbs:
    """How both gateways are renewed, one after the other."""

    _renewal: RenewalSide

    def renewal(self) -> dict[str, Any]:
        return self._renewal.status()

    def renewal_look(self) -> dict[str, Any]:
        return self._renewal.look_now()

    def renewal_begin(self, kind: Kind) -> dict[str, Any]:
        return self._renewal.begin(kind)

    def renewal_end(self) -> dict[str, Any]:
        return self._renewal.end()
