"""The promise's page is what the decision code yields, and has every combination of evidence once."""

from __future__ import annotations

import re

import pytest

from flask_hsmx_cluster.decision.bounds import BOUNDS, Fault, Site, bound
from flask_hsmx_cluster.decision.model import Timing
from flask_hsmx_cluster.words import promise as words
from tests.promise.__main__ import DOCS
from tests.promise.drawing import drawing
from tests.promise.page import page
from tests.promise.questions import TABLES
from tests.promise.tables import Column, Table

AGAIN = "run `python -m tests.promise`"


def test_the_page_is_what_the_code_does() -> None:
    assert (DOCS / "promise.md").read_text() == page(), AGAIN


def test_the_drawing_is_that_of_the_timing() -> None:
    assert (DOCS / "promise.svg").read_text() == drawing(Timing()), AGAIN


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.title)
def test_each_combination_is_in_one_row(table: Table) -> None:
    rows = table.rows()
    for case in table.cases():
        fitting = [row for row in rows if row.fits(case)]
        assert len(fitting) == 1 and fitting[0].outcome == table.outcomes[case], case


def test_words_that_stand_for_states_with_different_outcomes_are_an_error() -> None:
    table = Table("Parity", "", (Column("number", {"small": (1, 2), "large": (10,)}),), lambda number: str(number % 2))
    with pytest.raises(ValueError, match="small"):
        table.rows()


def test_what_makes_no_difference_shares_a_row() -> None:
    yes_no = {"yes": (True,), "no": (False,)}
    columns = tuple(Column(name, yes_no) for name in "abc")
    table = Table("And", "", columns, lambda a, b, c: str(a and b))
    assert table.markdown().splitlines() == [
        "| a | b | it |", "| --- | --- | --- |", "| yes | yes | True |", "| yes | no | False |", "| no | – | False |",
    ]  # fmt: skip


def test_each_fault_has_a_bound_and_words() -> None:
    assert set(BOUNDS) == set(Fault) == {Fault(one.fault) for one in words.promises(Site(Timing()))}
    assert all(bound(fault, Site(Timing())).fault is fault for fault in Fault)


def test_slower_heartbeats_and_shared_data_cost_no_less() -> None:
    for fault in Fault:
        quick, slow = bound(fault, Site(Timing())), bound(fault, Site(Timing(interval_s=1.0, lease_s=4.0)))
        shared = bound(fault, Site(Timing(), data=True, services=True))
        assert quick.none_s <= slow.none_s and quick.two_s <= slow.two_s
        assert quick.none_s <= shared.none_s and quick.two_s <= shared.two_s


def test_times_in_words_are_never_too_short() -> None:
    assert [words.at_most(s) for s in (0.0, 0.2, 0.2001, 0.999, 1.0, 2.01, float("inf"))] == [
        "never", "0.20 s", "0.21 s", "1.00 s", "1.0 s", "2.1 s", "while it lasts",
    ]  # fmt: skip


def test_links_within_the_page_lead_somewhere() -> None:
    text = (DOCS / "promise.md").read_text()
    for name in set(re.findall(r"\]\(((?:\.\./)?[\w.-]+\.(?:md|svg))", text)):
        assert (DOCS / name).is_file(), name
