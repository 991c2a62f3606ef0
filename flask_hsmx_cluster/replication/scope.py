"""What two gateways share: tables, rows and columns, as data that the agent and the replicator can be handed.

Pure: no database, no Flask, no SQLAlchemy. :mod:`.declare` makes a :class:`Scope` from the host's declarations.
Whatever a :class:`TableScope` holds was checked when it was made, so that it may stand in SQL: names are plain
identifiers, and a row condition consists of columns of the key, literals and comparisons only.

**Mirrored columns.** Two columns hold the same fact of either gateway: ``own_ip`` of gateway A is ``peer_ip`` on
gateway B. Logical replication cannot rename columns. So both are published under their names, and a trigger on the
subscriber swaps them (:func:`mirror_trigger_sql`). It is enabled for the replica role only: it fires in the apply
worker, in the first copy, and in a session that sets ``session_replication_role = replica`` to write the other
gateway's rows, and never for the host's own writes. Both gateways have it, always; the direction of the replication
decides where it works. It is sound under three conditions, which are checked:

- no mirrored column is in the key, because a row is looked up before the trigger runs;
- both columns have the same type and may be empty alike, and every unique constraint holds for the swapped columns too;
- a value is never stored out of line, because an update does not send an unchanged one, and the trigger would swap what
  was swapped before. Long types are refused, and the columns' storage is set to PLAIN.

Whoever reads such a row on one gateway for the other uses :meth:`TableScope.swapped`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from ..errors import ConfigError

Kind = Literal["shared", "bulk", "local"]

#: Most tables of a scope.
MAX_TABLES = 2000
#: Most columns named for a table: PostgreSQL's own limit.
MAX_COLUMNS = 1600
#: Longest row condition and longest reason, characters.
MAX_TEXT = 500
#: Longest JSON form, characters.
MAX_JSON = 4 * 1024 * 1024
#: Name of the trigger that swaps mirrored columns.
MIRROR_TRIGGER = "hsmx_cluster_mirror"

_NAME = re.compile(r"[^\W\d][\w$]*")
#: Bytes of a name: longer ones PostgreSQL cuts off.
_MAX_NAME = 63
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<quoted>"[^"\x00]+")
    | (?P<name>[^\W\d][\w$]*)
    | (?P<literal>'(?:[^'\\\x00]|'')*'|[0-9]+(?:\.[0-9]+)?(?![\w$]))
    | (?P<operator><>|!=|<=|>=|=|<|>)
    | (?P<mark>[(),])
    )""",
    re.VERBOSE,
)
_WORDS = {"and", "or", "not", "in", "is", "null", "true", "false"}


@dataclass(frozen=True)
class TableScope:
    """What of one table is shared.

    :param schema: the table's schema in PostgreSQL, for example ``public``.
    :param table: the table's name.
    :param kind: ``shared``: a commit waits for both gateways. ``bulk``: shared, may lag. ``local``: not shared.
    :param rows: SQL condition of the shared rows over columns of ``key``; empty: all rows.
    :param columns: columns that travel, if some do not; empty: all.
    :param mirrored: pairs of columns of which each gateway's first is the other one's second.
    :param key: columns that identify a row on both gateways; empty: the primary key, as the database has it.
    :param sequences: sequences that feed the table without belonging to one of its columns, as ``name`` or
        ``schema.name``. Those that belong to a column (serial, identity) are found in the database's catalogue.
    :param why: the reason in words.
    :raises ConfigError: a value is malformed, or they contradict each other; names table and field.
    """

    schema: str
    table: str
    kind: Kind
    rows: str = ""
    columns: tuple[str, ...] = ()
    mirrored: tuple[tuple[str, str], ...] = ()
    key: tuple[str, ...] = ()
    sequences: tuple[str, ...] = ()
    why: str = ""

    def __post_init__(self) -> None:
        self._check_names()
        if self.kind not in get_args(Kind):
            raise self.wrong("kind", f"{self.kind!r:.40} is not one of shared, bulk and local.")
        for name in ("rows", "why"):
            text = getattr(self, name)
            if not isinstance(text, str) or len(text) > MAX_TEXT or not text.isprintable():
                raise self.wrong(name, f"is not a line of at most {MAX_TEXT} characters.")
        if self.kind == "local" and (self.rows or self.columns or self.mirrored):
            raise self.wrong("kind", "a local table has no shared rows, columns or mirrored pairs.")
        if self.kind == "bulk" and self.rows:
            raise self.wrong("rows", "a bulk table has no condition for its rows.", "Share it whole, or not as bulk.")
        self._check_rows()
        self._check_columns()

    @property
    def name(self) -> str:
        """Return schema and table with a dot between them."""
        return f"{self.schema}.{self.table}"

    @property
    def truncates(self) -> bool:
        """Tell whether a TRUNCATE may travel: it ignores row conditions, and would take local rows with it."""
        return self.kind != "local" and not self.rows

    def swapped(self, column: str) -> str:
        """Return which column of the other gateway holds what this one holds here."""
        for one, other in self.mirrored:
            if column in (one, other):
                return other if column == one else one
        return column

    def as_peer_sees(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return a row of one gateway, by column, as the other gateway stores it."""
        return {self.swapped(column): value for column, value in row.items()}

    def wrong(self, field: str, problem: str, remedy: str = "Correct the declaration of this table.") -> ConfigError:
        """Return the error for a field of this table's declaration."""
        return ConfigError(f"Table {self.schema!s:.70}.{self.table!s:.70}, {field}: {problem}", remedy)

    def _check_names(self) -> None:
        check_name(self.schema, "schema")
        check_name(self.table, "table")
        if self.schema.startswith("pg_") or self.schema in ("information_schema", "hsmx_cluster"):
            raise self.wrong("schema", "this schema is not the host's.", "Leave its tables out of the models.")
        for field in ("columns", "key", "sequences", "mirrored"):
            if not isinstance(getattr(self, field), tuple) or len(getattr(self, field)) > MAX_COLUMNS:
                raise self.wrong(field, f"is not a tuple of at most {MAX_COLUMNS}.")
        for pair in self.mirrored:
            if not isinstance(pair, tuple) or len(pair) != 2:
                raise self.wrong("mirrored", "is not a tuple of pairs of columns.")
        for field, names in (("columns", self.columns), ("key", self.key), ("mirrored", sum(self.mirrored, ()))):
            for name in names:
                check_name(name, f"{self.name}, {field}")
            if len(set(names)) < len(names):
                raise self.wrong(field, "names a column twice.")
        for name in self.sequences:
            for part in name.split(".", 1) if isinstance(name, str) else (name,):
                check_name(part, f"{self.name}, sequences")

    def _check_rows(self) -> None:
        try:
            columns = condition_columns(self.rows) if self.rows else ()
        except ValueError as error:
            raise self.wrong(
                "rows", f"{error} in {self.rows!r:.80}.",
                "Use columns, literals, comparisons, IN, IS NULL, AND, OR, NOT and parentheses.") from None
        if self.rows and not columns:
            raise self.wrong("rows", "the condition names no column.")
        for column in columns:
            if column not in self.key:
                raise self.wrong(
                    "rows", f"the column {column!r} is not in the table's key, so that no UPDATE could be published "
                    f"({self.why or 'rows: ' + self.rows}).",
                    "Put it into the primary key, or declare the table otherwise: Shared(key=...) names a unique key.")

    def _check_columns(self) -> None:
        pairs = sum(self.mirrored, ())
        for field, names in (("key", self.key), ("mirrored", pairs)):
            for name in names:
                if self.columns and name not in self.columns:
                    raise self.wrong(field, f"the column {name!r} does not travel.", "Do not declare it local.")
        for name in pairs:
            if name in self.key:
                raise self.wrong("mirrored", f"the column {name!r} is in the table's key.", "Give it another key.")


@dataclass(frozen=True)
class Scope:
    """What two gateways share of one database."""

    tables: tuple[TableScope, ...] = ()

    def __post_init__(self) -> None:
        if len(self.tables) > MAX_TABLES:
            raise ConfigError(f"A scope has at most {MAX_TABLES} tables.", "Leave tables out of the models.")
        names = [table.name for table in self.tables]
        twice = next((name for name in names if names.count(name) > 1), "") if len(set(names)) < len(names) else ""
        if twice:
            raise ConfigError(f"Table {twice} is declared twice.", "Declare it once.")

    def shared(self) -> tuple[TableScope, ...]:
        """Return the tables that are shared, bulk ones included."""
        return tuple(table for table in self.tables if table.kind != "local")

    def find(self, schema: str, table: str) -> TableScope | None:
        """Return the scope of a table, or None if nothing is known of it."""
        return next((found for found in self.tables if (found.schema, found.table) == (schema, table)), None)

    def digests(self) -> dict[str, str]:
        """Return what stands for the declaration of each shared table, by its name. Reasons count for nothing."""
        return {table.name: digest({**asdict(table), "why": ""}) for table in self.shared()}

    def to_json(self) -> str:
        """Return the form in which the scope travels to the agent and the replicator."""
        return json.dumps({"tables": [asdict(table) for table in self.tables]}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Scope:
        """Return the scope from its JSON form; anything malformed raises :class:`ConfigError`."""
        try:
            if len(text) > MAX_JSON:
                raise ValueError(f"longer than {MAX_JSON} characters")
            data = json.loads(text)
            if not isinstance(data, dict) or set(data) != {"tables"} or not isinstance(data["tables"], list):
                raise ValueError("not a list of tables")
            if len(data["tables"]) > MAX_TABLES:
                raise ValueError(f"more than {MAX_TABLES} tables")
            return cls(tuple(_table(item) for item in data["tables"]))
        except (TypeError, ValueError, RecursionError) as error:
            raise ConfigError(
                f"The scope cannot be read: {error!s:.200}", "Restart the agent with `flask cluster agent`."
            ) from None


def digest(data: Any) -> str:
    """Return 12 hex digits that stand for data of JSON's kinds."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:12]


def _table(item: Any) -> TableScope:
    if not isinstance(item, dict):
        raise ValueError("a table is not an object")
    return TableScope(**{name: _tuples(value) for name, value in item.items()})


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def check_name(name: object, what: str) -> None:
    """Raise unless the name is a plain SQL identifier of at most 63 bytes.

    :param what: what is named, for the message.
    :raises ConfigError: it is not.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name.encode(errors="replace")) > _MAX_NAME:
        raise ConfigError(
            f"{what}: {name!r:.80} is not a name of letters, digits, _ and $ of at most {_MAX_NAME} bytes.",
            "Rename it, or leave the table out of the models.")


def condition_columns(condition: str) -> tuple[str, ...]:
    """Return the columns that a row condition names.

    It may consist of columns, literals, comparisons, ``IN``, ``IS NULL``, ``AND``, ``OR``, ``NOT`` and parentheses:
    no function, cast, subquery or comment, so that it cannot do more than compare.

    :raises ValueError: it contains something else.
    """
    columns: dict[str, None] = {}
    depth = 0
    before = ""
    for kind, text in _tokens(condition):
        if text == "(":
            if before in ("name", "quoted"):
                raise ValueError("a function")
            depth += 1
        elif text == ")":
            depth -= 1
            if depth < 0:
                raise ValueError("a parenthesis too many")
        before = kind
        if kind in ("quoted", "name"):
            columns[text.strip('"') if kind == "quoted" else text.lower()] = None
    if depth:
        raise ValueError("an open parenthesis")
    return tuple(columns)


def _tokens(condition: str) -> Iterator[tuple[str, str]]:
    """Yield kind and text of each token. Two values in a row are refused: ``E'...'`` and ``date '...'`` among them."""
    condition = condition.rstrip()
    start, before = 0, ""
    while start < len(condition):
        found = _TOKEN.match(condition, start)
        if found is None:
            raise ValueError(f"{condition[start:start + 20].strip()!r}")
        kind, text = str(found.lastgroup), found[str(found.lastgroup)]
        if kind == "name" and text.lower() in _WORDS:
            kind = "word"
        if kind in ("name", "quoted", "literal") and before in ("name", "quoted", "literal"):
            raise ValueError(f"{text!r} where an operator was expected")
        yield kind, text
        start, before = found.end(), kind


def mirror_trigger_sql(scope: Scope) -> tuple[str, ...]:
    """Return the SQL statements that make, or renew, the triggers that swap mirrored columns. See the module.

    They need the schema ``hsmx_cluster``, and a role that owns the tables. The functions run in the apply worker with
    the subscription's rights: they touch nothing but the row, and no name in them is looked up along a search path.
    """
    return tuple(statement for table in scope.shared() if table.mirrored for statement in _mirror(table))


def _mirror(table: TableScope) -> Iterator[str]:
    target = f"{_quoted(table.schema)}.{_quoted(table.table)}"
    function = f"hsmx_cluster.{_quoted('mirror_' + hashlib.sha256(table.name.encode()).hexdigest()[:16])}"
    columns = [_quoted(column) for pair in table.mirrored for column in pair]
    values = [_quoted(table.swapped(column)) for pair in table.mirrored for column in pair]
    swap = f"SELECT {', '.join('NEW.' + name for name in values)} INTO {', '.join('NEW.' + name for name in columns)}"
    yield (
        f"CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql"
        f" SET search_path = pg_catalog, pg_temp AS $mirror$ BEGIN {swap}; RETURN NEW; END $mirror$"
    )
    yield f"REVOKE ALL ON FUNCTION {function}() FROM PUBLIC"
    yield f"ALTER TABLE {target} " + ", ".join(f"ALTER COLUMN {name} SET STORAGE PLAIN" for name in columns)
    yield (
        f"CREATE OR REPLACE TRIGGER {MIRROR_TRIGGER} BEFORE INSERT OR UPDATE ON {target}"
        f" FOR EACH ROW EXECUTE FUNCTION {function}()"
    )
    yield f"ALTER TABLE {target} ENABLE REPLICA TRIGGER {MIRROR_TRIGGER}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
