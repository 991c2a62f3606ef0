"""What is shared of every table and every field, and why: for a person who wants to look it up."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from sqlalchemy import Column, MetaData, Table

from ..errors import Finding
from .declare import Declared, draws_from_sequence, name_of, type_text
from .rules import NOT_DECLARED
from .scope import Kind, TableScope

FieldKind = Literal["shared", "bulk", "local", "mirrored", "computed"]


@dataclass(frozen=True)
class FieldCoverage:
    """What is shared of one column.

    :param kind: as its table, or ``mirrored``, or ``computed``: each gateway computes it from shared columns.
    :param key: whether it is part of what identifies a row on both gateways.
    :param why: the reason, unless it is that of the table.
    """

    name: str
    type: str
    kind: FieldKind
    key: bool
    why: str


@dataclass(frozen=True)
class TableCoverage:
    """What is shared of one table.

    :param declared: False where neither the host nor a rule says anything about the table.
    :param rows: SQL condition of the shared rows; empty: all of them.
    :param fields: empty where the table is no model: then all its columns are shared, or none.
    """

    name: str
    kind: Kind
    declared: bool
    rows: str
    why: str
    fields: tuple[FieldCoverage, ...]


@dataclass(frozen=True)
class Coverage:
    """What is shared of a whole database.

    :param replicable: whether the database is one that can be replicated, PostgreSQL.
    """

    replicable: bool
    tables: tuple[TableCoverage, ...]
    warnings: tuple[Finding, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Return how many tables are shared, bulk, local; and not declared."""
        counts = {kind: sum(table.kind == kind for table in self.tables) for kind in ("shared", "bulk", "local")}
        return {**counts, "not_declared": sum(not table.declared for table in self.tables)}

    def as_dict(self) -> dict[str, Any]:
        """Return the form that the command line prints as JSON."""
        return {**asdict(self), "counts": self.counts}


def cover(metadata: MetaData | None, declared: Declared, *, replicable: bool) -> Coverage:
    """Return what is shared of each table, sorted by name."""
    models = {name_of(table): table for table in metadata.tables.values()} if metadata is not None else {}
    return Coverage(
        replicable, tuple(_table(found, models.get(found.name)) for found in declared.scope.tables), declared.warnings)


def _table(found: TableScope, model: Table | None) -> TableCoverage:
    fields = () if model is None else tuple(_field(found, column) for column in model.columns)
    return TableCoverage(found.name, found.kind, found.why != NOT_DECLARED, found.rows, found.why, fields)


def _field(found: TableScope, column: Column[Any]) -> FieldCoverage:
    kind, why = _kind(found, column)
    return FieldCoverage(column.name, type_text(column), kind, column.name in found.key, why)


def _kind(found: TableScope, column: Column[Any]) -> tuple[FieldKind, str]:
    if found.kind == "local":
        return "local", ""
    if column.computed is not None:
        return "computed", "each gateway computes it"
    if found.columns and column.name not in found.columns:
        return "local", "declared: each gateway has its own"
    if (other := found.swapped(column.name)) != column.name:
        return "mirrored", f"it is {other} on the other gateway"
    if draws_from_sequence(column):
        return found.kind, "numbered; at a fail-over the numbers go on behind the other gateway's"
    return found.kind, ""
