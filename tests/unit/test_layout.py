"""What one gateway writes can be stored on the other one, or it is said beforehand why not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_hsmx_cluster.errors import Finding
from flask_hsmx_cluster.replication.layout import Column, Layout, differences, fits_into

ID = Column("id", "bigint", required=True)
CODE = Column("code", "character varying(20)")
TABLE = "public.voucher"


def layout(*columns: Column, key: tuple[str, ...] = ("id",), constraints: tuple[str, ...] = ()) -> Layout:
    return Layout(TABLE, columns, key, constraints)


def found(active: Layout, passive: Layout) -> list[tuple[str, bool]]:
    """Return key and severity of what keeps gw-b from following gw-a."""
    findings = differences({TABLE: active}, {TABLE: passive}, "gw-a", "gw-b")
    assert all(one.text and one.remedy and "gw-" in one.text for one in findings)
    return [(one.key, one.blocking) for one in findings]


def only(findings: list[Finding]) -> Finding:
    (finding,) = findings
    return finding


def test_equal_tables_do_not_differ() -> None:
    assert found(layout(ID, CODE), layout(CODE, ID)) == []


def test_a_missing_table_names_the_gateway_that_is_migrated_first() -> None:
    finding = only(differences({TABLE: layout(ID)}, {}, "gw-a", "gw-b"))
    assert finding.key == "schema_table_missing" and finding.blocking
    assert finding.remedy.startswith("Run the firmware's migration on gw-b")
    assert differences({}, {TABLE: layout(ID)}, "gw-a", "gw-b") == [], "more is no harm"


def test_a_missing_column() -> None:
    finding = only(differences({TABLE: layout(ID, CODE)}, {TABLE: layout(ID)}, "gw-a", "gw-b"))
    assert finding.key == "schema_column_missing" and "no column code on gw-b" in finding.text
    assert finding.blocking and "migration on gw-b" in finding.remedy


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (Column("price", "integer"), [("schema_column_more", False)]),
        (Column("price", "integer", required=True, filled=True), [("schema_column_more", False)]),
        (Column("price", "integer", required=True), [("schema_column_required", True)]),
        (Column("price", "integer", travels=False, required=True, generated=True), []),
        (Column("note", "text", travels=False), []),
        (Column("note", "text", travels=False, required=True), [("schema_column_required", True)]),
    ],
)
def test_more_columns_on_the_passive(more: Column, expected: list[tuple[str, bool]]) -> None:
    assert found(layout(ID), layout(ID, more)) == expected


def test_a_column_that_is_kept_by_each_gateway_does_not_count_there() -> None:
    assert found(layout(ID, Column("note", "text", travels=False)), layout(ID)) == []


def test_types() -> None:
    assert found(layout(ID, CODE), layout(ID, Column("code", "text"))) == [("schema_column_differs", False)]
    assert found(layout(ID, Column("code", "text")), layout(ID, CODE)) == [("schema_column_differs", True)]


@pytest.mark.parametrize(
    ("narrow", "wide", "fits"),
    [
        ("integer", "bigint", True), ("bigint", "integer", False), ("bigint", "numeric", True),
        ("bigint", "numeric(4,0)", False), ("character varying(20)", "character varying(30)", True),
        ("character varying(30)", "character varying(20)", False), ("character varying(20)", "character varying", True),
        ("character varying", "character varying(20)", False), ("character varying(20)", "text", True),
        ("numeric(4,2)", "numeric", True), ("numeric(4,2)", "numeric(6,3)", False), ("text", "bytea", False),
        ("real", "double precision", True), ("integer", "text", False),
    ],
)  # fmt: skip
def test_which_types_take_every_value_of_another(narrow: str, wide: str, fits: bool) -> None:
    assert fits_into(narrow, wide) is fits


def test_computed_on_one_gateway_only() -> None:
    computed = Column("code", "character varying(20)", travels=False, filled=True, generated=True)
    assert found(layout(ID, CODE), layout(ID, computed)) == [("schema_column_differs", True)]
    assert found(layout(ID, computed), layout(ID, computed)) == []


def test_required_on_the_passive_only() -> None:
    required = Column("code", "character varying(20)", required=True)
    assert found(layout(ID, CODE), layout(ID, required)) == [("schema_column_required", False)]
    assert found(layout(ID, required), layout(ID, CODE)) == []


def test_keys() -> None:
    assert found(layout(ID, CODE), layout(ID, CODE, key=("code",))) == [("schema_key_differs", True)]
    assert found(layout(ID, CODE), layout(ID, CODE, key=())) == [("schema_key_differs", True)]
    assert found(layout(ID, CODE, key=()), layout(ID, CODE)) == []


def test_constraints_of_the_passive_only() -> None:
    unique = ("UNIQUE btree (code)",)
    assert found(layout(ID, CODE), layout(ID, CODE, constraints=unique)) == [("schema_constraint_more", False)]
    assert found(layout(ID, CODE, constraints=unique), layout(ID, CODE)) == []


def test_the_digest_is_of_what_must_agree() -> None:
    plain = layout(ID, CODE)
    assert plain.digest() == layout(CODE, ID).digest() == layout(ID, CODE, Column("x", "text", travels=False)).digest()
    assert plain.digest() != layout(ID).digest() and plain.digest() != layout(ID, CODE, key=("code",)).digest()


def test_a_layout_travels_unchanged() -> None:
    table = layout(ID, CODE, constraints=("CHECK ((id > 0))",))
    assert Layout.from_dict(json.loads(json.dumps(table.to_dict()))) == table


_JUNK = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text() | st.none())


@given(
    st.dictionaries(st.sampled_from(["name", "columns", "key", "constraints"]), _JUNK | st.lists(
        st.dictionaries(st.sampled_from(["name", "type", "travels", "required", "filled", "generated"]), _JUNK)))
)
def test_hostile_layouts_are_malformed_or_harmless(changes: dict[str, Any]) -> None:
    try:
        table = Layout.from_dict({**layout(ID, CODE).to_dict(), **changes})
    except ValueError:
        return
    table.digest()
    differences({table.name: table}, {table.name: layout(ID)}, "gw-a", "gw-b")
