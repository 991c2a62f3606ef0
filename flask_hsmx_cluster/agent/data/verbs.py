"""The verbs about the data of both gateways."""

from __future__ import annotations

from typing import Any

from ...errors import RequestRefused
from .desk import DataDesk


class DataVerbs:
    """Carried out by the desk, where the database is shared."""

    _desk: DataDesk | None

    def _shared(self) -> DataDesk:
        if self._desk is None or not self._desk.shared:
            raise RequestRefused(
                "This gateway's database is not shared.", "Make it ready: flask cluster database prepare"
            )
        return self._desk

    def verify(self) -> dict[str, Any]:
        return self._shared().verify()

    def verified(self) -> dict[str, Any]:
        return self._shared().verified()

    def quarantine(
        self,
        after: int = 0,
        limit: int = 50,
        node: str = "",
        table: str = "",
        state: str = "kept",
        whole: bool = False,
    ) -> dict[str, Any]:
        return self._shared().quarantine(after, limit, node, table, state, whole)

    def quarantine_row(self, row_id: int, node: str = "") -> dict[str, Any]:
        return self._shared().row(row_id, node)

    def discard(self, ids: list[int], node: str = "") -> dict[str, Any]:
        return self._shared().discard(ids, node)

    def reapply(self, row_id: int, overwrite: bool = False, node: str = "", seen: str = "") -> dict[str, Any]:
        return self._shared().reapply(row_id, overwrite, node, seen)
