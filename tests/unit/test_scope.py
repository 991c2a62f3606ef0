"""What is shared: rules, declarations, what is refused, and the form that travels."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import (
    JSON,
    Column,
    Computed,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    MetaData,
    Sequence,
    String,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
)

from flask_hsmx_cluster.errors import ConfigError
from flask_hsmx_cluster.replication import rules, scope
from flask_hsmx_cluster.replication.declare import read
from flask_hsmx_cluster.replication.rules import Local, Shared
from flask_hsmx_cluster.replication.scope import Scope, TableScope, condition_columns, mirror_trigger_sql

ROWS = "scope = 'shared'"


def numbered() -> Column[Any]:
    return Column("id", Integer, primary_key=True)


def table_of(*columns: Any, **info: Any) -> MetaData:
    metadata = MetaData()
    Table("t", metadata, *columns, info={"cluster": info["cluster"]} if info else {})
    return metadata


def read_one(*columns: Any, **info: Any) -> TableScope:
    return read(table_of(*columns, **info)).scope.tables[0]


def refused(metadata: MetaData, **options: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        read(metadata, **options)
    assert caught.value.remedy
    return caught.value.message


# ---- the rules ----


@pytest.mark.parametrize(("table", "kind"), [
    ("language", "local"), ("licence", "local"), ("license", "local"), ("performance", "local"),
    ("certificate", "local"), ("ssl_certificates", "local"), ("firewall_rule", "local"), ("Firewall", "local"),
    ("backup", "local"), ("backup_settings", "local"), ("alembic_version", "local"), ("wan_address", "local"),
    ("virtual_ip", "shared"), ("ip_alias", "shared"), ("pppoe_connection", "shared"), ("voucher", "shared"),
    ("portal_language_text", "shared"), ("guest", "shared"),
])
def test_the_manual_as_rules(table: str, kind: str) -> None:
    metadata = MetaData()
    Table(table, metadata, numbered())
    (found,) = read(metadata).scope.tables
    assert found.kind == kind
    assert found.why.startswith("rule: ") or found.why == rules.NOT_DECLARED


def test_own_addresses_of_wan_interfaces_are_local_rows() -> None:
    metadata = MetaData()
    Table("interface", metadata, Column("kind", String(8), primary_key=True), numbered())
    (found,) = read(metadata).scope.tables
    assert (found.kind, found.rows, found.key, found.truncates) == ("shared", "kind <> 'wan'", ("kind", "id"), False)


def test_the_other_reading_of_the_manual_keeps_lan_interfaces_on_their_machine() -> None:
    metadata = MetaData()
    Table("interface", metadata, Column("kind", String(8), primary_key=True), numbered())
    for table in ("lan_address", "wan_address", "voucher", "firewall_rule"):
        Table(table, metadata, numbered())
    found = {item.table: item for item in read(metadata, rules=rules.rules_where("lan")).scope.tables}
    assert found["interface"].rows == "kind <> 'lan'" and "LAN" in found["interface"].why
    assert {name: item.kind for name, item in found.items() if name != "interface"} == {
        "lan_address": "local", "wan_address": "shared", "voucher": "shared", "firewall_rule": "local"}


def test_a_rule_that_does_not_fit_a_table_is_refused_not_ignored() -> None:
    metadata = MetaData()
    Table("interface", metadata, numbered())
    message = refused(metadata)
    assert "public.interface" in message and "'kind'" in message and "WAN" in message
    assert read(metadata, {"interface": "shared"}).scope.tables[0].rows == ""


# ---- declarations ----


def test_a_declaration_beats_the_rules() -> None:
    metadata = MetaData()
    Table("language", metadata, numbered(), info={"cluster": "shared"})
    Table("voucher", metadata, numbered(), info={"cluster": Local("each desk sells its own")})
    found = {item.table: (item.kind, item.why) for item in read(metadata).scope.tables}
    assert found == {"language": ("shared", "declared"), "voucher": ("local", "declared: each desk sells its own")}


@pytest.mark.parametrize(("word", "kind"), [("shared", "shared"), ("bulk", "bulk"), ("local", "local"),
                                            (Shared(bulk=True), "bulk"), (Local(), "local")])
def test_words_and_objects(word: object, kind: str) -> None:
    assert read_one(numbered(), cluster=word).kind == kind
    named = read(None, {"radacct": word}).scope.tables[0]  # type: ignore[dict-item]
    assert (named.schema, named.table, named.kind, named.why) == ("public", "radacct", kind, "declared")


def test_tables_that_are_no_models() -> None:
    found = read(MetaData(), {"log.entry": Shared(rows=ROWS, key=("scope", "id"))}).scope.find("log", "entry")
    assert found is not None and found.rows == ROWS
    for wrong in (Shared(local=("a",)), Shared(mirrored=(("a", "b"),)), Shared(rows=ROWS), "yes", None, 7):
        assert "log.entry" in refused(MetaData(), declarations={"log.entry": wrong})


def test_a_table_is_declared_once() -> None:
    assert "public.t" in refused(table_of(numbered(), cluster="shared"), declarations={"t": "shared"})
    assert "twice" in refused(MetaData(), declarations={"t": "shared", "public.t": "local"})
    assert "7" in refused(MetaData(), declarations={7: "shared"})


def test_local_columns() -> None:
    columns = [numbered(), Column("name", String), Column("seen", Integer, info={"cluster": "local"}),
               Column("place", String), Column("twice", Integer, Computed("id * 2"))]
    assert read_one(*columns, cluster=Shared(local=("place",))).columns == ("id", "name")
    assert read_one(numbered(), Column("name", String, info={"cluster": "shared"})).columns == ()


def test_a_sequence_of_its_own_is_named_others_belong_to_columns() -> None:
    found = read_one(Column("id", Integer, Sequence("numbers", schema="log"), primary_key=True))
    assert found.sequences == ("log.numbers",)
    assert read_one(Column("id", Integer, Identity(), primary_key=True)).sequences == ()


# ---- what is refused ----


def scoped() -> Column[Any]:
    return Column("scope", String(6), primary_key=True)



@pytest.mark.parametrize(("columns", "declared", "words"), [
    ([Column("a", Integer)], "shared", ["key", "without primary key"]),
    ([Column("a", Integer)], "bulk", ["key", "without primary key"]),
    ([numbered(), Column("scope", String)], Shared(rows=ROWS), ["rows", "'scope'", "not in the table's key"]),
    ([numbered(), Column("scope", String), UniqueConstraint("scope", "id")], Shared(rows=ROWS, key=("scope", "id")),
     ["key", "'scope'", "may be empty"]),
    ([numbered(), Column("scope", String, nullable=False), UniqueConstraint("scope", "id")],
     Shared(rows=ROWS, key=("scope", "id")), ["rows", "(id)", "numbered by each gateway"]),
    ([numbered(), Column("scope", String, nullable=False)], Shared(rows=ROWS, key=("scope", "id")),
     ["key", "unique constraint"]),
    ([numbered(), Column("a", String, nullable=False), UniqueConstraint("a", deferrable=True)], Shared(key=("a",)),
     ["key", "unique constraint"]),
    ([numbered(), Column("a", String, nullable=False), Index("i", "a", unique=True, postgresql_where="a > 'b'")],
     Shared(key=("a",)), ["key", "unique constraint"]),
    ([numbered()], Shared(rows="id > 5", bulk=True), ["rows", "bulk"]),
    ([numbered()], Shared(rows="missing = 1"), ["rows", "'missing'"]),
    ([numbered()], Shared(rows="id = f(1)"), ["rows", "function"]),
    ([numbered()], Shared(rows="1 = 1"), ["rows", "no column"]),
    ([numbered()], Shared(local=("id",)), ["local", "'id'", "in the table's key"]),
    ([numbered()], Shared(local=("missing",)), ["local", "'missing'"]),
    ([numbered()], Shared(key=("missing",)), ["key", "'missing'"]),
    ([numbered()], Shared(local="id"), ["local", "tuple"]),  # type: ignore[arg-type]
    ([numbered()], Shared(mirrored=("a", "b")), ["mirrored", "pairs"]),  # type: ignore[arg-type]
    ([numbered()], "yes", ["'yes'"]),
    ([numbered()], {"rows": ROWS}, ["does not say"]),
    ([numbered(), Column("a", Integer, info={"cluster": "yes"})], "shared", ["t.a", "'yes'"]),
    ([numbered(), Column("a", Integer, info={"cluster": "shared"})], "local", ["t.a", "local"]),
    ([numbered(), Column("a", Integer, nullable=False)], Shared(local=("a",)), ["a:", "no default in the database"]),
    ([numbered(), Column("a", Integer, server_default="1", unique=True)], Shared(local=("a",)), ["a:", "unique"]),
    ([numbered(), Column("a", Integer), Column("b", String(9))], Shared(mirrored=(("a", "b"),)),
     ["mirrored", "INTEGER", "VARCHAR(9)"]),
    ([numbered(), Column("a", Integer), Column("b", Integer, nullable=False)], Shared(mirrored=(("a", "b"),)),
     ["mirrored", "may be empty"]),
    ([numbered(), Column("a", Text), Column("b", Text)], Shared(mirrored=(("a", "b"),)), ["mirrored", "long values"]),
    ([numbered(), Column("a", JSON), Column("b", JSON)], Shared(mirrored=(("a", "b"),)), ["mirrored", "long values"]),
    ([numbered(), Column("a", Integer, unique=True), Column("b", Integer)], Shared(mirrored=(("a", "b"),)),
     ["mirrored", "(a)", "swapped"]),
    ([numbered(), Column("a", Integer), Column("b", Integer, Computed("id"))], Shared(mirrored=(("a", "b"),)),
     ["mirrored", "not both stored"]),
    ([numbered(), Column("a", Integer)], Shared(mirrored=(("a", "a"),)), ["mirrored", "twice"]),
    ([numbered(), Column("a", Integer)], Shared(mirrored=(("a", "id"),)), ["mirrored"]),
    ([numbered(), Column("two words", Integer), Column("a", Integer)], Shared(local=("a",)), ["columns", "two words"]),
])
def test_what_would_stop_the_replication_is_refused(columns: list[Any], declared: object, words: list[str]) -> None:
    message = refused(table_of(*columns, cluster=declared))
    assert "public.t" in message
    for word in words:
        assert word in message


def test_good_ones_are_not_refused() -> None:
    assert read_one(scoped(), numbered(), cluster=Shared(rows=ROWS)).rows
    found = read_one(Column("id", Uuid, primary_key=True), Column("scope", String, nullable=False),
                     UniqueConstraint("scope", "id"), cluster=Shared(rows=ROWS, key=("scope", "id")))
    assert found.key == ("scope", "id")
    found = read_one(
        numbered(), Column("a", String(45), unique=True), Column("b", String(45), unique=True), Column("c", Integer),
        cluster=Shared(mirrored=(("a", "b"),), local=("c",)))
    assert (found.columns, found.mirrored) == (("id", "a", "b"), (("a", "b"),))


def two_tables(child: object, parent: object, *more: Any, key: tuple[Any, ...] = ()) -> MetaData:
    metadata = MetaData()
    Table("parent", metadata, *(key or (numbered(),)), info={"cluster": parent})
    Table("child", metadata, numbered(), *more, info={"cluster": child})
    return metadata


def reference() -> Column[Any]:
    return Column("parent_id", ForeignKey("parent.id"))


def test_a_shared_row_does_not_refer_to_a_local_table() -> None:
    message = refused(two_tables("shared", "local", reference()))
    assert "public.child" in message and "parent_id" in message and "public.parent" in message
    assert read(two_tables(Shared(local=("parent_id",)), "local", reference())).warnings == ()
    assert read(two_tables("shared", "shared", reference())).warnings == ()


@pytest.mark.parametrize(("child", "parent", "key"), [
    ("local", "shared", "reference_from_local"), ("shared", "bulk", "reference_to_bulk"),
])
def test_references_that_may_surprise(child: str, parent: str, key: str) -> None:
    (warning,) = read(two_tables(child, parent, reference())).warnings
    assert (warning.key, warning.blocking, warning.field) == (key, False, "public.child.parent_id")


def test_a_reference_to_a_table_of_some_shared_rows() -> None:
    def both(child: object) -> MetaData:
        metadata = MetaData()
        Table("parent", metadata, scoped(), numbered(),
              info={"cluster": Shared(rows=ROWS)})
        Table("child", metadata, scoped(), numbered(), Column("parent", Integer),
              ForeignKeyConstraint(["scope", "parent"], ["parent.scope", "parent.id"]), info={"cluster": child})
        return metadata

    (warning,) = read(both("shared")).warnings
    assert warning.key == "reference_to_rows" and ROWS in warning.text
    assert read(both(Shared(rows=ROWS))).warnings == ()


def test_a_unique_constraint_over_shared_and_local_rows_is_warned_about() -> None:
    metadata = table_of(scoped(), numbered(),
                        Column("address", String(45), unique=True), cluster=Shared(rows=ROWS))
    (warning,) = read(metadata).warnings
    assert warning.key == "unique_rows" and "address" in warning.text and "scope" in warning.remedy


# ---- conditions ----


@pytest.mark.parametrize(("condition", "columns"), [
    (ROWS, ("scope",)), ("NOT (Scope <> 'it''s') AND \"Kind\" IN (1, 2.5)", ("scope", "Kind")),
    ("a IS NOT NULL or b != false", ("a", "b")), ("a='x'AND b>=1", ("a", "b")),
])
def test_conditions(condition: str, columns: tuple[str, ...]) -> None:
    assert condition_columns(condition) == columns


@pytest.mark.parametrize("condition", [
    "a = 1; drop table t", "a = 1 -- b", "a /* b */ = 1", "a = f(1)", 'a = "f" (1)', "a) or (true", "(a = 1",
    "a = E'\\''", "a = 'x", "a = e'x'", "date '2020-01-01' = a", "a in (select b from c)", "a::text = 'x'",
    "a || b = 'x'", "a = $1", "a = $$x$$", "a.b = 1", "a = 1b", "a = '\\'", "a = 'x' 'y'", 'a = "', "a ~ 'x'",
    "a = 1\x00",
])  # fmt: skip
def test_conditions_that_could_do_more_than_compare(condition: str) -> None:
    with pytest.raises(ValueError):
        condition_columns(condition)


@given(st.text("ab()'\"; -*/\\$,=<>nNoOtTrR1.", max_size=30))
def test_a_condition_never_leaves_its_parentheses(condition: str) -> None:
    try:
        condition_columns(condition)
    except ValueError:
        return
    bare, inside = "", ""
    for character in condition:
        if inside:
            inside = "" if character == inside else inside
        elif character in "'\"":
            inside = character
        else:
            bare += character
    assert not inside
    assert not set(bare) & set(";\\*/-")
    depth = 0
    for character in bare:
        depth += {"(": 1, ")": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0


# ---- the form that travels ----

FULL = Scope((
    TableScope("public", "voucher", "shared", key=("id",), sequences=("numbers",), why="declared"),
    TableScope("public", "iface", "shared", rows=ROWS, key=("scope", "id"), columns=("scope", "id", "own", "peer"),
               mirrored=(("own", "peer"),), why="declared: own addresses"),
    TableScope("log", "accounting", "bulk", key=("session",)),
    TableScope("public", "licence", "local", why="rule: one machine"),
))


def test_travels_unchanged() -> None:
    assert Scope.from_json(FULL.to_json()) == FULL
    assert Scope.from_json(FULL.to_json().encode()) == FULL
    assert [item.table for item in FULL.shared()] == ["voucher", "iface", "accounting"]
    assert FULL.find("public", "accounting") is None


@pytest.mark.parametrize("change", [
    {"schema": "pg_catalog"}, {"schema": "hsmx_cluster"}, {"schema": "information_schema"}, {"schema": ""},
    {"schema": None}, {"table": 'x"; drop'}, {"table": "x" * 64}, {"table": "ü" * 32}, {"table": "two words"},
    {"table": "1st"}, {"table": ["x"]}, {"kind": "all"}, {"kind": ["shared"]}, {"kind": None}, {"rows": 7},
    {"rows": "id = pg_sleep(9)"}, {"rows": "other = 1"}, {"rows": "id = '" + "x" * 500 + "'"}, {"why": "a\nb"},
    {"why": "x" * 501}, {"why": None}, {"columns": ["a", "a"]}, {"columns": ["a"]}, {"columns": "id"},
    {"columns": {"id": 1}}, {"columns": [f"c{number}" for number in range(1601)]}, {"key": [["id"]]},
    {"mirrored": ["id"]}, {"mirrored": [["a"]]}, {"mirrored": [["a", "b", "c"]]}, {"mirrored": [["a", "id"]]},
    {"mirrored": [["a", "b"], ["b", "c"]]}, {"mirrored": [["a", "a"]]}, {"mirrored": [[{}, []]]},
    {"kind": "bulk", "rows": "id = 1"}, {"kind": "local", "rows": "id = 1"}, {"kind": "local", "columns": ["id"]},
    {"sequences": ["a.b.c"]}, {"sequences": [7]}, {"sequences": ["a'b"]}, {"unknown": 1},
])
def test_malformed_tables_are_refused(change: dict[str, object]) -> None:
    good = {"schema": "public", "table": "t", "kind": "shared", "key": ["id"]}
    assert Scope.from_json(json.dumps({"tables": [good]})).tables[0].key == ("id",)
    with pytest.raises(ConfigError) as caught:
        Scope.from_json(json.dumps({"tables": [{**good, **change}]}))
    assert caught.value.remedy and len(caught.value.message) < 400


@pytest.mark.parametrize("text", [
    "", "[]", "{", "null", "{}", '{"tables": 7}', '{"tables": [7]}', '{"tables": [{}]}', '{"tables": [], "more": 1}',
    "[" * 100_000, '{"tables": [' + "[" * 5000 + "]" * 5000 + "]}", b"\xff", b'{"tables": [{"schema": "\\ud800"}]}',
    '{"tables": [], "x": "' + " " * scope.MAX_JSON + '"}',
    json.dumps({"tables": [{"schema": "public", "table": "t", "kind": "local"}] * 2}),
    json.dumps({"tables": [{"schema": "public", "table": f"t{n}", "kind": "local"} for n in range(2001)]}),
])
def test_what_is_no_scope_is_refused(text: str | bytes) -> None:
    with pytest.raises(ConfigError):
        Scope.from_json(text)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["public", "shared", "local", "bulk", "id", ROWS]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2), max_leaves=8)
FIELDS = ("schema", "table", "kind", "rows", "columns", "mirrored", "key", "sequences", "why")


@given(st.lists(st.dictionaries(st.sampled_from(FIELDS), JSON_VALUES), max_size=3))
def test_nothing_hostile_gets_through(tables: list[dict[str, Any]]) -> None:
    base = {"schema": "public", "table": "t", "kind": "shared"}
    try:
        found = Scope.from_json(json.dumps({"tables": [{**base, **table} for table in tables]}))
    except ConfigError:
        return
    assert Scope.from_json(found.to_json()) == found
    for table in found.tables:
        for name in (table.schema, table.table, *table.key, *table.columns, *sum(table.mirrored, ())):
            assert name.replace("$", "_").isidentifier() and len(name.encode()) <= 63
        assert not table.rows or set(condition_columns(table.rows)) <= set(table.key)


# ---- mirrored ----


def test_a_row_as_the_other_gateway_stores_it() -> None:
    iface = FULL.tables[1]
    row = {"scope": "shared", "id": 7, "own": "10.0.0.1", "peer": "10.0.0.2"}
    assert iface.as_peer_sees(row) == {"scope": "shared", "id": 7, "own": "10.0.0.2", "peer": "10.0.0.1"}
    assert iface.as_peer_sees(iface.as_peer_sees(row)) == row


def test_the_trigger_swaps_and_is_for_the_apply_worker_only() -> None:
    statements = mirror_trigger_sql(FULL)
    text = "\n".join(statements)
    assert 'SELECT NEW."peer", NEW."own" INTO NEW."own", NEW."peer"' in text
    assert 'ALTER TABLE "public"."iface" ENABLE REPLICA TRIGGER hsmx_cluster_mirror' in text
    assert "ENABLE ALWAYS" not in text and "SECURITY DEFINER" not in text
    assert mirror_trigger_sql(Scope((replace(FULL.tables[1], mirrored=()),))) == ()
