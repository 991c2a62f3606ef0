"""What has happened to the data, as events."""

from __future__ import annotations

from typing import Any

import pytest

from flask_hsmx_cluster.agent.data.news import News, news

IDLE = {"step": "", "done": 0, "total": 0, "error": "", "under_way": False, "rejoined": None}
QUIET = {"under_way": False, "error": "", "began_at": "", "ended_at": "", "progress": None, "result": None}
REJOINED = {"ways": {"hsmx_cluster": "replace"}, "reasons": ["the slot was lost"], "kept": 3, "replaced": 1200,
            "seconds": 2.44}  # fmt: skip


def look(following: Any = None, quarantined: int = 0, verify: Any = None, kept_last: int = 0) -> dict[str, Any]:
    going, comparing = {**IDLE, **(following or {})}, {**QUIET, **(verify or {})}
    return {"following": going, "quarantined": quarantined, "kept_last": kept_last, "verify": comparing}


def between(before: dict[str, Any], now: dict[str, Any]) -> list[News]:
    assert news(now, now, "gw-b") == [], "what stays as it is is told once"
    return news(before, now, "gw-b")


def kinds(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    return [one.kind for one in between(before, now)]


def test_a_first_copy_has_a_beginning_and_an_end() -> None:
    copying = look({"step": "copies", "done": 10, "total": 1000, "under_way": True})
    assert kinds(look(), look({"step": "begins", "under_way": True})) == []
    assert kinds(look(), copying) == ["copy_begun"]
    (done,) = between(copying, look({"done": 1000, "total": 1000}))
    assert (done.kind, done.evidence) == ("copy_done", ("1,000 rows",))


def test_a_copy_that_was_over_between_two_looks_is_told_all_the_same() -> None:
    assert kinds(look(), look({"copying": True})) == ["copy_begun", "copy_done"]
    failed = look({"error": "The connection is gone.", "total": 1000})
    assert kinds(failed, look({"step": "copies", "total": 1000, "under_way": True})) == ["copy_begun"]


def test_a_copy_that_was_interrupted_is_not_done() -> None:
    copying = look({"step": "copies", "done": 10, "total": 1000, "under_way": True})
    (failed,) = between(copying, look({"error": "The connection is gone.", "total": 1000}))
    assert (failed.kind, failed.evidence) == ("follow_failed", ("The connection is gone.",))


def test_a_rejoin_is_told_with_its_figures() -> None:
    (one,) = between(look({"step": "rejoins", "under_way": True}), look({"rejoined": REJOINED}))
    assert one.kind == "rejoined" and one.text == "This gateway follows gw-b again, after 2.4 s"
    assert one.evidence == (
        "3 rows went to quarantine", "1,200 rows were fetched from the other gateway", "the slot was lost"
    )  # fmt: skip


def test_what_goes_to_quarantine_is_counted_what_leaves_it_is_not() -> None:
    (one,) = between(look(quarantined=2, kept_last=7), look(quarantined=3, kept_last=8))
    assert one.text.startswith("1 change that gw-b never had") and one.severity == "warning"
    assert kinds(look(quarantined=3), look(quarantined=0)) == []
    assert kinds(look(quarantined=3, kept_last=8), look(quarantined=9, kept_last=8)) == [], "these were taken back"


@pytest.mark.parametrize(
    ("outcome", "kind", "severity"),
    [
        ({"result": {"equal": True, "seconds": 1.0, "tables": [{"rows": 7}]}}, "verified", "info"),
        ({"result": {"equal": False, "seconds": 1.0, "tables": [
            {"table": "public.voucher", "rows": 7, "equal": False, "differing": [["8841"]]}]}},
         "verify_differs", "critical"),
        ({"error": "The database has gone."}, "verify_failed", "warning"),
    ],
)  # fmt: skip
def test_a_comparison_ends_in_one_of_three_ways(outcome: Any, kind: str, severity: str) -> None:
    under_way = look(verify={"under_way": True, "began_at": "2030-01-01T00:00:00+00:00"})
    ended = look(verify={"ended_at": "2030-01-01T00:00:09+00:00", **outcome})
    (one,) = between(under_way, ended)
    assert (one.kind, one.severity) == (kind, severity) and one.evidence
    assert kinds(look(), under_way) == []
