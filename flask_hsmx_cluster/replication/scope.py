"""What is shared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class TableScope:
    """One table.

    :param rows: SQL condition of the shared rows; empty: all of them.
    :param columns: the shared columns if some are not; empty: all.
    """

    schema: str
    table: str
    kind: Literal["shared", "bulk", "local"]
    rows: str = ""
    columns: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True)
class Scope:
    """All tables of the host's database."""

    tables: tuple[TableScope, ...]

    def shared(self) -> tuple[TableScope, ...]:
        """Return those that are not local."""
        return tuple(one for one in self.tables if one.kind != "local")
