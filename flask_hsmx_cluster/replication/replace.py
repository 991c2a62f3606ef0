"""Rows of shared tables replaced by the other gateway's, in one local transaction and in bulk.

Which keys: those that this gateway changed and the other one never had, and those that the other one has changed since
the fork. All other rows are equal already. The new rows come from one snapshot of the other gateway, taken at a known
position of its WAL, from where its changes are followed afterwards. That position is stored as the progress of the
subscription's origin by the same commit that replaces the rows: so a crash leaves either the old rows and the old
position, or the new rows and the new position.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from psycopg import sql

from .database import Connection
from .quarantine import FOUND_BY_COMPARISON, Source
from .reapply import CHANGED_ON_BOTH
from .tables import Key, Name, SharedTable, identifiers, local_columns, same_key
from .verify import CHUNK, Range, differing, digest, next_chunk, row_digests

#: Keys that are held in memory before they are written to a temporary table.
MOST_HELD: Final = 50_000
#: Rows that are fetched at once from the other gateway.
FETCH: Final = 10_000

_DIRTY: Final = """
SELECT ARRAY(SELECT key ->> name FROM unnest(%s::text[]) AS name) FROM hsmx_cluster.dirty_key
WHERE schema_name = %s AND table_name = %s AND key IS NOT NULL
"""
_DIRTY_TABLES: Final = b"""
SELECT schema_name, table_name, bool_or(key IS NULL) FROM hsmx_cluster.dirty_key GROUP BY 1, 2
"""
_UNIQUE: Final = b"""
SELECT bool_and(i.indexprs IS NULL AND i.indpred IS NULL), array_agg(DISTINCT a.attname::text)
FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)
WHERE i.indrelid = to_regclass(%s) AND (i.indisunique OR i.indisexclusion)
"""
_FORGET_DIRTY: Final = b"DELETE FROM hsmx_cluster.dirty_key WHERE schema_name = %s AND table_name = %s"


@dataclass
class _Table:
    """One table whose rows are being replaced.

    A key is *known* where its row is here, or this gateway has changed it. Any other one is simply added.
    """

    number: int
    shared: SharedTable
    local: tuple[str, ...]
    whole: bool = False
    #: Rows that are replaced, and rows that are new here.
    known: int = 0
    unknown: int = 0

    def __post_init__(self) -> None:
        self.raw, self.keys, self.new, self.saved, self.kept = (
            sql.Identifier("pg_temp", f"hsmx_{kind}_{self.number}") for kind in ("raw", "keys", "new", "saved", "kept")
        )

    @property
    def touched(self) -> sql.Composable:
        """SQL that is true for the rows ``t`` to replace."""
        if self.whole:
            return self.shared.condition
        return sql.SQL("{} AND EXISTS (SELECT FROM {} AS k WHERE k.known AND {})").format(
            self.shared.condition, self.keys, same_key(self.shared.key, "t", "k")
        )


class Replacement:
    """Collects keys, fetches their rows, and puts them in place; within a transaction of ``own``.

    :param own: connection to this gateway's database as a superuser, in a transaction.
    :param peer: connection to the other gateway's, in a transaction of the snapshot.
    :param tables: what the other gateway publishes.
    :raises SchemaMismatch: a table or column is missing here.
    """

    def __init__(self, own: Connection, peer: Connection, tables: Iterable[SharedTable]) -> None:
        self._own, self._peer = own, peer
        self._tables = {
            (shared.schema, shared.name): _Table(number, shared, local_columns(own, shared))
            for number, shared in enumerate(tables)
        }
        self._held: dict[Name, set[tuple[bool, Key]]] = {}
        self._count = 0
        self._raw: set[Name] = set()
        self.rows = 0

    def key_columns(self) -> dict[Name, tuple[str, ...]]:
        """Return the key of each table."""
        return {name: each.shared.key for name, each in self._tables.items()}

    def add(self, name: Name, key: Key | None, *, ours: bool) -> None:
        """Note a row to replace; None, or a table without key: all rows of the table.

        :param ours: this gateway changed it, not the other one.
        """
        table = self._tables[name]
        if key is None or not table.shared.key:
            table.whole = True
            return
        held = self._held.setdefault(name, set())
        before = len(held)
        held.add((ours, key))
        self._count += len(held) - before
        if self._count >= MOST_HELD:
            self._flush()

    def add_dirty(self) -> None:
        """Note what a quarantine has left to replace."""
        for schema, name, whole in self._own.execute(_DIRTY_TABLES).fetchall():
            table = self._tables.get((schema, name))
            if table is None:
                continue
            if whole:
                self.add((schema, name), None, ours=True)
            found = self._own.execute(_DIRTY, (list(table.shared.key), schema, name)).fetchall()
            for (key,) in found:
                if None not in key:
                    self.add((schema, name), tuple(key), ours=True)

    def add_differences(self, only: Collection[Name] | None = None) -> None:
        """Note every row that differs, by comparing tables in the snapshot; nobody may write here meanwhile.

        :param only: these tables; None: all.
        """
        for name, table in self._tables.items():
            if only is not None and name not in only:
                continue
            shared, mirror = table.shared, table.shared.as_peer()
            if not shared.key:
                if digest(self._own, mirror, Range()) != digest(self._peer, shared, Range()):
                    self.add(name, None, ours=True)
                continue
            after: Key | None = None
            while True:
                part, there = next_chunk(self._peer, shared, after, CHUNK)
                if digest(self._own, mirror, part) != there:
                    here = row_digests(self._own, mirror, part)
                    for key in differing(here, row_digests(self._peer, shared, part)):
                        self.add(name, key, ours=True)
                after = part.upto
                if after is None:
                    break

    def fetch(self) -> None:
        """Get the new rows of all keys noted."""
        self._flush()
        for name, table in self._touched():
            shared = table.shared
            self._run("CREATE TEMP TABLE {new} ON COMMIT DROP AS SELECT {columns} FROM {table} WITH NO DATA", table)
            if table.whole:
                self._copy(table, sql.SQL("SELECT {} FROM {} AS t").format(identifiers(shared.columns, "t"),
                                                                           shared.shared_rows))
            elif name in self._raw:
                self._sort_keys(table)
                if table.known:
                    self._fetch_keys(table, known=True)
            self._run("ANALYZE {new}", table)

    def _sort_keys(self, table: _Table) -> None:
        """Tell apart whose rows are here; in their order, so that neighbours are looked up and added together."""
        with self._index_first():
            self._run("CREATE TEMP TABLE {keys} ON COMMIT DROP AS SELECT {k_key}, k.ours, k.theirs, "
                      "k.ours OR t.here IS NOT NULL AS known FROM (SELECT {key}, bool_or(ours) AS ours, "
                      "bool_or(NOT ours) AS theirs FROM {raw} GROUP BY {key} ORDER BY {key}) AS k "
                      "LEFT JOIN (SELECT {key}, true AS here FROM {shared_rows} AS here) AS t ON {same}", table,
                      k_key=identifiers(table.shared.key, "k"), same=same_key(table.shared.key, "k", "t"),
                      shared_rows=table.shared.shared_rows)  # fmt: skip
        self._run("ANALYZE {keys}", table)
        counted = sql.SQL("SELECT count(*) FILTER (WHERE known), count(*) FILTER (WHERE NOT known) FROM {}")
        table.known, table.unknown = self._own.execute(counted.format(table.keys)).fetchone() or (0, 0)

    @contextmanager
    def _index_first(self) -> Iterator[None]:
        """A few keys of a large table: its index is the way, whatever the planner makes of a new temporary table."""
        for name in ("enable_hashjoin", "enable_mergejoin"):
            self._own.execute(f"SET LOCAL {name} = off".encode())
        yield
        for name in ("enable_hashjoin", "enable_mergejoin"):
            self._own.execute(f"SET LOCAL {name} = on".encode())

    def keep_bases(self) -> None:
        """Note in the quarantine what its changes were based on, now that the other gateway's rows are at hand.

        Where only this gateway changed a row, the other one's row is what it was at the fork. Where both did, nobody
        has that value any more, and the quarantined change will be shown as a conflict.
        """
        # PostgreSQL has no statistics of a quarantine that was just written, and would take it for empty.
        self._own.execute("SET LOCAL enable_nestloop = off")
        for _, table in self._touched():
            if table.whole or not table.shared.key:
                continue
            keys = sql.SQL(", ").join(
                sql.SQL("(q.key ->> {})::{} AS {}").format(sql.Literal(name), sql.SQL(type_name), sql.Identifier(name))
                for name, type_name in zip(table.shared.key, table.shared.key_types, strict=True)
            )
            self._run("CREATE TEMP TABLE {kept} ON COMMIT DROP AS SELECT q.id AS kept_id, "
                      "row_number() OVER (PARTITION BY q.batch, q.key ORDER BY q.id) = 1 AS is_first, {keys_of} "
                      "FROM hsmx_cluster.quarantine AS q WHERE q.schema_name = {schema} AND q.table_name = {name} "
                      "AND q.batch IN (SELECT batch FROM hsmx_cluster.dirty_key)", table, keys_of=keys)
            self._run("ANALYZE {kept}", table)
            same = same_key(table.shared.key, "kept", "k")
            self._run("UPDATE hsmx_cluster.quarantine AS q SET note = {both} FROM {kept} AS kept JOIN {keys} AS k "
                      "ON {same} WHERE k.ours AND k.theirs AND q.id = kept.kept_id AND q.note = ''", table, same=same)
            self._run("UPDATE hsmx_cluster.quarantine AS q SET old_row = {new_row} FROM {kept} AS kept "
                      "JOIN {keys} AS k ON {same} JOIN {new} AS n ON {same_new} "
                      "WHERE kept.is_first AND NOT k.theirs AND q.id = kept.kept_id "
                      "AND q.operation IN ('update', 'delete') AND q.old_row IS NULL",
                      table, same=same, same_new=same_key(table.shared.key, "kept", "n"))
        self._own.execute("SET LOCAL enable_nestloop = on")

    def keep_differences(self, batch: UUID, source: Source, only: Collection[Name] | None = None) -> int:
        """Put the rows that are about to be overwritten into quarantine, where no slot tells what happened to them.

        What a quarantine by slot has kept already is not kept again.

        :param only: of these tables; None: of all.
        """
        kept = 0
        for name, table in self._touched():
            if only is not None and name not in only:
                continue
            key = table.shared.key
            same = same_key(key, "n", "t") if key else sql.SQL("ROW(n.*)::text = ROW({})::text").format(
                identifiers(table.shared.as_peer().columns, "t"))
            kept += self._run(
                "INSERT INTO hsmx_cluster.quarantine (batch, source_node, term, xid, end_lsn, committed_at, "
                "schema_name, table_name, operation, key, new_row, old_row, note) "
                "SELECT {batch}, {node}, {term}, 0, pg_current_wal_lsn(), now(), {schema}, {name}, "
                "CASE WHEN n IS NULL THEN 'insert' ELSE 'update' END, {row_key}, {row}, "
                "CASE WHEN n IS NOT NULL THEN {new_row} END, {found} "
                "FROM (SELECT * FROM {table} AS t WHERE {touched}) AS t LEFT JOIN {new} AS n ON {same} "
                "WHERE (n IS NULL OR ROW({t_columns})::text <> ROW({n_columns})::text) "
                "AND NOT EXISTS (SELECT FROM hsmx_cluster.dirty_key AS d WHERE d.schema_name = {schema} "
                "AND d.table_name = {name} AND d.key = {row_key})",
                table, same=same, batch=sql.Literal(batch), node=sql.Literal(source.node),
                term=sql.Literal(source.term), row_key=_as_json(key or table.shared.columns, "t"),
                row=_as_json(table.shared.columns, "t"), found=sql.Literal(FOUND_BY_COMPARISON),
                t_columns=identifiers(table.shared.as_peer().columns, "t"),
                n_columns=identifiers(table.shared.columns, "n"),
            )  # fmt: skip
        return kept

    def apply(self) -> None:
        """Put the new rows in the place of the old ones.

        Rows that are gone, or whose unique values have changed, are deleted before any new one comes: such a value may
        have moved from row to row. The others are updated where they are, which touches the fewest pages.
        """
        self._own.execute("SET LOCAL session_replication_role = replica")
        with self._index_first():
            for _, table in self._touched():
                if not table.shared.key:
                    self._run("DELETE FROM {table} AS t WHERE {touched}", table)
                    self.rows += self._run(
                        "INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE SELECT {n_columns} FROM {new} AS n",
                        table)  # fmt: skip
                    continue
                if table.whole or table.known:
                    self._apply_by_key(table)
                if table.unknown:
                    self.rows += self._fetch_keys(table, known=False)
        for name in self._tables:
            self._own.execute(_FORGET_DIRTY, name)

    def _apply_by_key(self, table: _Table) -> None:
        key, mirror = table.shared.key, dict(zip(table.shared.columns, table.shared.as_peer().columns, strict=True))
        unique = [name for name in self._unique_columns(table) if name in mirror]
        stays = sql.SQL("{} AND ROW({})::text = ROW({})::text").format(
            same_key(key, "n", "t"), identifiers([mirror[name] for name in unique], "t"), identifiers(unique, "n")
        )
        same = same_key(key, "n", "t")
        self._run("CREATE INDEX ON {new} ({key})", table)
        self._run(
            "CREATE TEMP TABLE {saved} ON COMMIT DROP AS SELECT {key_and_local} FROM {table} WITH NO DATA", table
        )
        self._run(
            "WITH gone AS (DELETE FROM {table} AS t WHERE {touched} AND NOT EXISTS (SELECT FROM {new} AS n "
            "WHERE {stays}) RETURNING {t_key_and_local}) INSERT INTO {saved} SELECT * FROM gone", table, stays=stays,
        )  # fmt: skip
        self._run("CREATE INDEX ON {saved} ({key})", table)
        self._run("ANALYZE {saved}", table)
        others = [name for name in table.shared.columns if name not in key]
        if others:
            self.rows += self._run(
                "UPDATE {table} AS t SET ({others}) = ROW ({n_others}) FROM {new} AS n WHERE {same} "
                "AND ROW({t_mirrored})::text <> ROW({n_columns})::text", table, same=same,
                others=identifiers(others), n_others=identifiers(others, "n"),
                t_mirrored=identifiers(table.shared.as_peer().columns, "t"),
            )  # fmt: skip
        if table.local:
            self.rows += self._run(
                "INSERT INTO {table} ({columns}, {local}) OVERRIDING SYSTEM VALUE "
                "SELECT {n_columns}, {s_local} FROM {new} AS n JOIN {saved} AS s ON {saved_same}", table,
                saved_same=same_key(key, "n", "s"),
            )  # fmt: skip
        self.rows += self._run(
            "INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE SELECT {n_columns} FROM {new} AS n "
            "WHERE NOT EXISTS (SELECT FROM {shared_rows} AS t WHERE {same})", table, same=same,
            shared_rows=table.shared.shared_rows,
        )  # fmt: skip

    def _unique_columns(self, table: _Table) -> list[str]:
        """Return the columns whose values no two rows may share, alone or with others; all where that is not plain."""
        name = table.shared.identifier.as_string(self._own)
        plain, columns = self._own.execute(_UNIQUE, (name,)).fetchone() or (False, [])
        return list(columns) if plain else list(table.shared.columns)

    def _touched(self) -> list[tuple[Name, _Table]]:
        return [(name, table) for name, table in self._tables.items() if table.whole or name in self._raw]

    def _flush(self) -> None:
        """Write the keys that are held to temporary tables."""
        for name, held in self._held.items():
            table = self._tables[name]
            if name not in self._raw:
                self._raw.add(name)
                self._run("CREATE TEMP TABLE {raw} ON COMMIT DROP AS SELECT {key}, true AS ours FROM {table} "
                          "WITH NO DATA", table)
            statement = sql.SQL("COPY {} FROM STDIN").format(table.raw)
            with self._own.cursor() as cursor, cursor.copy(statement) as copy:
                for ours, key in held:
                    copy.write_row((*key, ours))
        self._held.clear()
        self._count = 0

    def _fetch_keys(self, table: _Table, *, known: bool) -> int:
        """Get the rows of a table by their keys, some thousands at once, without a look at each key here.

        :param known: those whose rows are to be replaced; else those that are added, straight to the table itself.
        :return: how many there are.
        """
        shared, rows = table.shared, 0
        into = None if known else sql.SQL("{} ({})").format(shared.identifier, identifiers(shared.columns))
        arrays = sql.SQL(", ").join(
            sql.SQL("array_agg({}::text)::text").format(sql.Identifier(name)) for name in shared.key
        )
        query = sql.SQL(
            "SELECT {} FROM (SELECT *, row_number() OVER () / {} AS part FROM {} WHERE known = {}) AS parted "
            "GROUP BY part"
        ).format(arrays, sql.Literal(FETCH), table.keys, sql.Literal(known))
        typed = sql.SQL(", ").join(
            sql.SQL("{0}::{1} AS {0}").format(sql.Identifier(name), sql.SQL(type_name))
            for name, type_name in zip(shared.key, shared.key_types, strict=True)
        )
        with self._own.cursor(f"hsmx_fetch_{table.number}_{known}") as cursor:
            cursor.itersize = 1
            cursor.execute(query)
            for keys in cursor:
                texts = sql.SQL(", ").join(sql.SQL("{}::text[]").format(sql.Literal(each)) for each in keys)
                rows += self._copy(table, sql.SQL(
                    "SELECT {} FROM (SELECT {} FROM unnest({}) AS texts ({})) AS k JOIN {} AS t ON {}"
                ).format(
                    identifiers(shared.columns, "t"), typed, texts, identifiers(shared.key), shared.shared_rows,
                    same_key(shared.key, "k", "t"),
                ), into)  # fmt: skip
        return rows

    def _copy(self, table: _Table, query: sql.Composed, into: sql.Composable | None = None) -> int:
        """Copy the result of a query on the other gateway to the table of new rows, as PostgreSQL writes it.

        :param into: another table, with its columns.
        :return: how many rows.
        """
        with self._peer.cursor() as there, self._own.cursor() as here:
            with (
                there.copy(sql.SQL("COPY ({}) TO STDOUT").format(query)) as source,
                here.copy(sql.SQL("COPY {} FROM STDIN").format(into or table.new)) as target,
            ):
                for block in source:
                    target.write(block)
            return here.rowcount

    def _run(self, statement: str, table: _Table, **more: sql.Composable) -> int:
        shared = table.shared
        names: dict[str, sql.Composable] = {
            "table": shared.identifier, "raw": table.raw, "keys": table.keys, "new": table.new, "saved": table.saved,
            "kept": table.kept,
            "key": identifiers(shared.key),
            "columns": identifiers(shared.columns), "n_columns": identifiers(shared.columns, "n"),
            "local": identifiers(table.local), "key_and_local": identifiers(shared.key + table.local),
            "t_key_and_local": identifiers(shared.key + table.local, "t"),
            "s_local": identifiers(table.local, "s"), "touched": table.touched,
            "schema": sql.Literal(shared.schema), "name": sql.Literal(shared.name),
            "both": sql.Literal(CHANGED_ON_BOTH), "new_row": _as_json(shared.columns, "n", shared.as_peer().columns),
            **more,
        }  # fmt: skip
        return self._own.execute(sql.SQL(statement).format(**names)).rowcount


def _as_json(columns: Collection[str], alias: str, sources: Collection[str] = ()) -> sql.Composed:
    """Return SQL for a row as the quarantine has it: each value as its type's output function writes it.

    :param sources: where the columns' values are, if not in the columns of the same names.
    """
    values = sql.SQL(", ").join(
        sql.SQL("CASE WHEN {0} IS NOT NULL THEN format('%s', {0}) END").format(sql.Identifier(alias, name))
        for name in sources or columns
    )
    return sql.SQL("jsonb_object({}::text[], ARRAY[{}]::text[])").format(sql.Literal(list(columns)), values)
