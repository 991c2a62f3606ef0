"""From the host's models and declarations to a :class:`~.scope.Scope`, with everything checked that would stop the
replication later.

Only SQLAlchemy's metadata is read, never a database. What cannot work is refused with a :class:`ConfigError` that names
table and field; what may surprise is a warning on the coverage page.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ForeignKeyConstraint, Index, MetaData, Table, UniqueConstraint, types
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import CompileError, NoReferenceError

from ..errors import ConfigError, Finding
from .rules import NOT_DECLARED, RULES, WORDS, Declaration, Local, Rule, Shared, declared_why, rule_for
from .scope import Scope, TableScope, condition_columns

#: Key of ``info`` under which tables and columns are declared.
INFO = "cluster"

#: Types whose values are never stored out of line.
_SHORT = (
    types.Boolean, types.Date, types.DateTime, types.Enum, types.Integer, types.Numeric, types.Time, types.Uuid,
    postgresql.CIDR, postgresql.INET, postgresql.MACADDR, postgresql.MACADDR8,
)  # fmt: skip
#: Longest text that is taken for short, characters.
_SHORT_TEXT = 255


@dataclass(frozen=True)
class Declared:
    """What the host's declarations amount to.

    :param warnings: what may surprise; ``field`` is the table, or table and column.
    """

    scope: Scope
    warnings: tuple[Finding, ...] = ()


def read(
    metadata: MetaData | None,
    declarations: Mapping[str, Declaration] | None = None,
    rules: tuple[Rule, ...] = RULES,
) -> Declared:
    """Return the scope of all tables of the metadata, and of those that are only declared.

    :param declarations: by ``table`` or ``schema.table``, for tables whose ``info`` says nothing.
    :raises ConfigError: a declaration is malformed or cannot work; names table and field.
    """
    left = {_full_name(name): _declaration(name, found) for name, found in (declarations or {}).items()}
    if len(left) < len(declarations or {}):
        raise ConfigError("The scope names a table twice, with and without its schema.", "Declare it once.")
    pairs = []
    for table in metadata.tables.values() if metadata is not None else ():
        pairs.append((table, _table_scope(table, *_resolve(table, left.pop(name_of(table), None), rules))))
    named = tuple(_unknown_table(name, found) for name, found in left.items())
    scope = Scope(tuple(sorted((*(found for _table, found in pairs), *named), key=lambda found: found.name)))
    warnings: list[Finding] = []
    for table, found in pairs:
        if found.kind != "local":
            _check_key(table, found)
            _check_local_columns(table, found)
            _check_mirrored(table, found)
            warnings.extend(_unique_warnings(table, found))
        warnings.extend(_reference_warnings(table, found, scope))
    return Declared(scope, tuple(warnings))


def schema_of(table: Table) -> str:
    """Return the schema that a table has in PostgreSQL."""
    return table.schema or "public"


def name_of(table: Table) -> str:
    """Return a table's schema and name with a dot between them."""
    return f"{schema_of(table)}.{table.name}"


def type_text(column: Column[Any]) -> str:
    """Return a column's type as PostgreSQL calls it."""
    try:
        return column.type.compile(dialect=postgresql.dialect())  # type: ignore[no-untyped-call, unused-ignore]
    except CompileError:
        return repr(column.type)


def draws_from_sequence(column: Column[Any]) -> bool:
    """Tell whether the database numbers the rows by this column."""
    if column.identity is not None or getattr(column.default, "is_sequence", False):
        return True
    return isinstance(column.table, Table) and column is column.table.autoincrement_column and not column.foreign_keys


# ---- reading declarations ----


def _full_name(name: object) -> str:
    if not isinstance(name, str):
        raise ConfigError(f"The scope names a table {name!r:.80}.", "Write its name as text: table or schema.table.")
    return name if "." in name else f"public.{name}"


def _declaration(table: str, found: object) -> Shared | Local:
    """Return a declaration in the form of an object.

    :raises ConfigError: it is neither one of the words nor an object.
    """
    if isinstance(found, str) and found in WORDS:
        return WORDS[found]
    if not isinstance(found, Shared | Local):
        raise ConfigError(
            f"Table {table}: {found!r:.80} does not say what is shared.",
            "Declare 'shared', 'bulk', 'local', Shared(...) or Local(...).")
    if isinstance(found, Shared):
        for field, names in (("key", found.key), ("local", found.local)):
            if not isinstance(names, tuple | list) or not all(isinstance(name, str) for name in names):
                raise ConfigError(f"Table {table}, {field}: is not a tuple of column names.",
                                  "A tuple of one has a comma: ('name',).")
        if not isinstance(found.mirrored, tuple | list) or any(
                not isinstance(pair, tuple | list) or [type(name) for name in pair] != [str, str]
                for pair in found.mirrored):
            raise ConfigError(f"Table {table}, mirrored: is not a tuple of pairs of column names.",
                              "A tuple of one pair has a comma: (('own_ip', 'peer_ip'),).")
    return found


def _resolve(
    table: Table, registered: Shared | Local | None, rules: tuple[Rule, ...]
) -> tuple[Shared | Local, str]:
    """Return what holds for a table, and why: the host's word first, then the rules; else it is shared."""
    if INFO in table.info and registered is not None:
        raise ConfigError(f"Table {name_of(table)} is declared by its info and by the scope of the extension.",
                          "Declare it in one place.")
    if INFO in table.info:
        registered = _declaration(name_of(table), table.info[INFO])
    if registered is not None:
        return registered, declared_why(registered)
    found = rule_for(table.name, rules)
    return (found, f"rule: {found.why}") if found is not None else (Shared(), NOT_DECLARED)


def _local_columns(table: Table, declared: Shared) -> set[str]:
    local = set(declared.local)
    for column in table.columns:
        if INFO in column.info and column.info[INFO] not in ("local", "shared"):
            raise ConfigError(f"Column {name_of(table)}.{column.name}: {column.info[INFO]!r:.80} is not what a column "
                              "may be declared as.", "Declare 'local' or 'shared'.")
        if column.info.get(INFO) == "local":
            local.add(column.name)
    return local


def _table_scope(table: Table, found: Shared | Local, why: str) -> TableScope:
    schema, key = schema_of(table), tuple(column.name for column in table.primary_key)
    if isinstance(found, Local):
        for column in table.columns:
            if column.info.get(INFO, "local") != "local":
                raise ConfigError(f"Column {name_of(table)}.{column.name} is not declared local, but its table is.",
                                  "Declare the table as Shared(local=(...)).")
        return TableScope(schema, table.name, "local", key=key, why=why)
    local = _local_columns(table, found)
    pairs = tuple((one, other) for one, other in found.mirrored)
    for field, names in (("key", found.key), ("local", sorted(local)), ("mirrored", sum(pairs, ()))):
        for name in names:
            if name not in table.columns:
                raise ConfigError(f"Table {name_of(table)}, {field}: there is no column {name!r:.80}.",
                                  "Use the column's name in the database.")
    for name in found.key or key:
        if name in local:
            raise _refuse(table, "local", f"the column {name!r} is in the table's key.", "A key is the same on both.")
    return TableScope(
        schema, table.name, "bulk" if found.bulk else "shared", rows=found.rows,
        columns=tuple(c.name for c in table.columns if c.name not in local and c.computed is None) if local else (),
        mirrored=pairs, key=tuple(found.key) or key, sequences=tuple(dict.fromkeys(_sequences(table))), why=why)


def _sequences(table: Table) -> Iterator[str]:
    for column in table.columns:
        if getattr(column.default, "is_sequence", False):
            sequence: Any = column.default
            yield f"{sequence.schema}.{sequence.name}" if sequence.schema else sequence.name


def _unknown_table(name: str, found: Shared | Local) -> TableScope:
    """Return the scope of a table whose columns are not known here."""
    schema, table = name.split(".", 1)
    why = declared_why(found)
    if isinstance(found, Local):
        return TableScope(schema, table, "local", why=why)
    if found.local or found.mirrored:
        raise ConfigError(f"Table {name}, {'local' if found.local else 'mirrored'}: its columns are not known.",
                          "Describe the table in the metadata: Table(name, metadata, Column(...), ...).")
    return TableScope(schema, table, "bulk" if found.bulk else "shared", rows=found.rows, key=tuple(found.key), why=why)


# ---- what would stop the replication later ----


def _refuse(table: Table, field: str, problem: str, remedy: str) -> ConfigError:
    return ConfigError(f"Table {name_of(table)}, {field}: {problem}", remedy)


def _unique_sets(table: Table, *, plain: bool = False) -> Iterator[frozenset[str]]:
    """Yield the columns of each unique constraint and index, the primary key included.

    :param plain: only those that may identify rows: neither partial nor over expressions nor deferrable.
    """
    if len(table.primary_key):
        yield frozenset(column.name for column in table.primary_key)
    for constraint in table.constraints:
        if isinstance(constraint, UniqueConstraint) and not (plain and constraint.deferrable):
            yield frozenset(column.name for column in constraint.columns)
    for index in table.indexes:
        if index.unique and not (plain and not _identifies(index)):
            yield frozenset(column.name for column in index.columns)


def _identifies(index: Index) -> bool:
    expressions = len(index.expressions) != len(index.columns)
    return not expressions and index.dialect_options["postgresql"]["where"] is None


def _check_key(table: Table, found: TableScope) -> None:
    if not found.key:
        raise _refuse(table, "key", "a shared table without primary key: no UPDATE or DELETE could be published.",
                      "Give it a primary key, or declare it local.")
    if found.key == tuple(column.name for column in table.primary_key):
        return
    if frozenset(found.key) not in _unique_sets(table, plain=True):
        raise _refuse(table, "key", f"({', '.join(found.key)}) is not the columns of a unique constraint.",
                      "Add UniqueConstraint(...) with exactly these columns, not deferrable.")
    for name in found.key:
        if table.columns[name].nullable:
            raise _refuse(table, "key", f"the column {name!r} may be empty.", "Make it NOT NULL.")


def _check_local_columns(table: Table, found: TableScope) -> None:
    for column in table.columns:
        if not found.columns or column.name in found.columns or column.computed is not None:
            continue
        fills_itself = column.server_default is not None or column.identity is not None
        if not column.nullable and not fills_itself:
            raise _refuse(table, column.name, "a local column that may not be empty and has no default in the "
                          "database: no row of the other gateway could be stored.",
                          "Make it nullable, or give it a server_default.")
        if fills_itself and any(column.name in names for names in _unique_sets(table)):
            raise _refuse(table, column.name, "a local column with a default in a unique constraint: two rows of the "
                          "other gateway could not be stored.", "Make it nullable without default.")


def _check_mirrored(table: Table, found: TableScope) -> None:
    uniques = set(_unique_sets(table))
    for pair in found.mirrored:
        one, other = (table.columns[name] for name in pair)
        both = f"{one.name}, {other.name}"
        if type_text(one) != type_text(other):
            raise _refuse(table, "mirrored", f"{both} have the types {type_text(one)} and {type_text(other)}.",
                          "Give both the same type.")
        if one.nullable != other.nullable:
            raise _refuse(table, "mirrored", f"only one of {both} may be empty.", "Make both nullable, or none.")
        if one.computed is not None or other.computed is not None:
            raise _refuse(table, "mirrored", f"{both} are not both stored.", "Do not compute them.")
        if not _is_short(one.type):
            raise _refuse(table, "mirrored", f"{both} may hold long values, which an update does not always carry.",
                          f"Use a type of bounded length, for example String({_SHORT_TEXT}).")
    for names in uniques:
        if frozenset(map(found.swapped, names)) not in uniques:
            raise _refuse(table, "mirrored", f"({', '.join(sorted(names))}) is unique, but not with the columns "
                          "swapped.", "Make both unique alike, or none.")


def _is_short(kind: types.TypeEngine[Any]) -> bool:
    if isinstance(kind, types.TypeDecorator):
        kind = kind.impl_instance
    if isinstance(kind, types.String) and not isinstance(kind, types.Enum):
        return kind.length is not None and kind.length <= _SHORT_TEXT
    return isinstance(kind, _SHORT)


def _unique_warnings(table: Table, found: TableScope) -> Iterator[Finding]:
    """A shared row of one gateway may collide with a local row of the other: that stops everything behind it."""
    telling = set(condition_columns(found.rows)) if found.rows else set()
    for names in sorted(_unique_sets(table), key=sorted):
        if telling <= names:
            continue
        if any(draws_from_sequence(table.columns[name]) for name in names):
            raise _refuse(
                table, "rows", f"({', '.join(sorted(names))}) is unique and numbered by each gateway: a shared row "
                "would meet a local one of the same number, and stop the replication.",
                f"Add {', '.join(sorted(telling - names))} to that key.")
        yield Finding(
            "unique_rows",
            f"Table {name_of(table)}: ({', '.join(sorted(names))}) is unique over shared and local rows together. A "
            "shared row that meets a local one of the other gateway stops the replication.",
            f"Add {', '.join(sorted(telling - names))} to that constraint.", found.name, blocking=False)


def _reference_warnings(table: Table, found: TableScope, scope: Scope) -> Iterator[Finding]:
    for constraint in sorted(table.foreign_key_constraints, key=lambda item: sorted(item.column_keys)):
        try:
            other = scope.find(schema_of(constraint.referred_table), constraint.referred_table.name)
        except NoReferenceError:
            continue  # to a table that is no model: SQLAlchemy itself will say so
        columns = [column.name for column in constraint.columns]
        if other is None or (found.columns and not set(columns) <= set(found.columns)):
            continue
        field, names = f"{found.name}.{columns[0]}", ", ".join(columns)
        if found.kind == "local":
            if other.kind != "local":
                yield Finding(
                    "reference_from_local",
                    f"Table {name_of(table)}, {names}: local rows refer to rows of {other.name}, which is shared. "
                    "Where the other gateway deletes such a row, the reference stays and points at nothing.",
                    "Look for such rows when you read the table.", field, blocking=False)
        elif other.kind == "local":
            raise _refuse(table, names, f"shared rows refer to {other.name}, which is local: on the other gateway they "
                          "would point at nothing, or at something else.",
                          f"Declare {other.name} shared, or this table or column local.")
        elif other.rows and not _same_rows(constraint, found, other):
            yield Finding(
                "reference_to_rows",
                f"Table {name_of(table)}, {names}: refers to {other.name}, of which only some rows are shared "
                f"({other.rows}). A reference to a local row points at nothing on the other gateway.",
                "Refer to shared rows only, or share the same rows of this table.", field, blocking=False)
        elif other.kind == "bulk" and found.kind == "shared":
            yield Finding(
                "reference_to_bulk",
                f"Table {name_of(table)}, {names}: refers to {other.name}, which is bulk and may lag behind. After a "
                "fail-over the row referred to may be missing.",
                "Share both alike.", field, blocking=False)


def _same_rows(constraint: ForeignKeyConstraint, found: TableScope, other: TableScope) -> bool:
    """Tell whether the rows that refer are shared by the same condition as the rows referred to."""
    renamed = {element.column.name: element.parent.name for element in constraint.elements}
    telling = condition_columns(other.rows)
    return found.rows == other.rows and all(renamed.get(name) == name for name in telling)
