"""The verbs about files that both gateways have."""

from __future__ import annotations

from typing import Any

from ...errors import RequestRefused
from .side import FilesSide


class FilesVerbs:
    """Carried out where the firmware declares files."""

    _files: FilesSide | None

    def _declared_files(self) -> FilesSide:
        if self._files is None:
            raise RequestRefused("This gateway declares no files.", "Set HSMX_CLUSTER_FILES.")
        return self._files

    def files_sync(self) -> dict[str, Any]:
        return self._declared_files().sync_now()

    def files_allow(self, tree: str) -> dict[str, Any]:
        return self._declared_files().allow(tree)
