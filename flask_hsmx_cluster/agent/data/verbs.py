"""The verbs about the data of both gateways."""

from __future__ import annotations

from typing import Any

from ...errors import RequestRefused
from .desk import DataDesk, sweep_choice


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
        batch: str = "",
        whole: bool = False,
    ) -> dict[str, Any]:
        return self._shared().quarantine(after, limit, node, table, state, batch, whole)

    def quarantine_row(self, row_id: int, node: str = "") -> dict[str, Any]:
        return self._shared().row(row_id, node)

    def quarantine_value(
        self, row_id: int, which: str, column: str, offset: int = 0, node: str = ""
    ) -> dict[str, Any]:
        return self._shared().value(row_id, which, column, offset, node)

    def discard(self, ids: list[int], node: str = "") -> dict[str, Any]:
        return self._shared().discard(ids, node)

    def sweep(
        self,
        action: str,
        ids: list[int] | None = None,
        upto: int = 0,
        node: str = "",
        table: str = "",
        batch: str = "",
    ) -> dict[str, Any]:
        return self._shared().sweep(action, sweep_choice(table, batch, ids or [], upto), node)

    def swept(self, node: str = "") -> dict[str, Any]:
        return self._shared().swept(node)

    def sweep_stop(self, node: str = "") -> dict[str, Any]:
        return self._shared().sweep_stop(node)

    def aside(self, node: str = "") -> dict[str, Any]:
        return self._shared().aside(node)

    def aside_delete(self, name: str, node: str = "") -> dict[str, Any]:
        return self._shared().aside_delete(name, node)

    def reapply(self, row_id: int, overwrite: bool = False, node: str = "", seen: str = "") -> dict[str, Any]:
        return self._shared().reapply(row_id, overwrite, node, seen)
