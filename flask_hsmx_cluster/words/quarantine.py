"""What is said of the quarantine and of a comparison, for the page and for the CLI alike; and how it is exported."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..errors import ClusterError, DataConflict, Values
from ..translate import gettext as _
from ..translate import ngettext
from . import cluster as words

#: Columns of the CSV, in their order; a row's values are JSON within their cells.
COLUMNS = (
    "id", "text", "schema_name", "table_name", "operation", "committed_at", "kept_at", "state", "note", "key",
    "new_row", "old_row", "shortened", "source_node", "term", "end_lsn", "batch",
)  # fmt: skip
#: Longest value shown in a table, characters.
SHOWN = 300

#: The agent answers a bounded number of requests a second: between two pages of an export others must have theirs, s.
EXPORT_PAUSE_S = 0.02
#: How often a page is asked for, and the time between, s.
EXPORT_TRIES, EXPORT_RETRY_S = 5, 1.0

STATES = ("kept", "reapplied", "discarded", "")


@dataclass(frozen=True)
class Line:
    """One column of a row, in the cells of a table.

    :param cells: values as text; ``–`` where there is none.
    :param differs: they are not alike.
    """

    column: str
    cells: tuple[str, ...]
    differs: bool


def state(name: str) -> str:
    """Return the word for what became of a row."""
    return {
        "kept": _("waiting"), "reapplied": _("made again"), "discarded": _("discarded"), "": _("all"),
    }.get(name, name)


def operation(name: str) -> str:
    """Return the word for what was done to a row."""
    return {
        "insert": _("created"), "update": _("changed"), "delete": _("deleted"), "truncate": _("all rows removed"),
    }.get(name, name)


def count(number: int) -> str:
    """Return how many changes wait."""
    if not number:
        return _("Nothing waits in quarantine.")
    return ngettext("1 change waits.", "%(n)s changes wait.", number)


def changes(number: int) -> str:
    """Return a number of changes."""
    return ngettext("1 change", "%(n)s changes", number)


def moment(at: str) -> str:
    """Return a moment of the wall clock in this machine's time zone: ``2030-05-06 11:02:13``."""
    try:
        return f"{datetime.fromisoformat(at).astimezone():%Y-%m-%d %H:%M:%S}"
    except (ValueError, TypeError):
        return str(at)[:19]


def lines(row: dict[str, Any]) -> list[Line]:
    """Return a quarantined row: each column before and after the change."""
    old, new, key = row["old_row"], row["new_row"], row["key"]
    before = old if old is not None else (key if row["operation"] != "insert" else None)
    return side_by_side(before, new)


def conflict(found: DataConflict) -> list[Line]:
    """Return the quarantined value and the present one of each column."""
    return side_by_side(found.wanted, found.present)


def side_by_side(left: Values | None, right: Values | None) -> list[Line]:
    """Return two rows column by column, those that differ first."""
    columns = dict.fromkeys([*(left or {}), *(right or {})])
    found = []
    for column in columns:
        both = bool(left and right and column in left and column in right)
        differs = both and left is not None and right is not None and left[column] != right[column]
        found.append(Line(column, (_cell_of(left, column), _cell_of(right, column)), differs))
    return sorted(found, key=lambda line: not line.differs)


def _cell_of(row: Values | None, column: str) -> str:
    if row is None or column not in row:
        return "–"
    value = row[column]
    if value is None:
        return _("empty (NULL)")
    return words.visible(value if len(value) <= SHOWN else f"{value[: SHOWN - 1]}…")


# ---- comparing ----


@dataclass(frozen=True)
class Comparison:
    """How far a comparison is.

    :param done: of ``total`` rows of all tables.
    """

    text: str
    done: int
    total: int


def progress(state: dict[str, Any]) -> Comparison:
    """Return how far a comparison is that is under way."""
    step = state["progress"]
    if step is None:
        return Comparison(_("It begins."), 0, 0)
    text = _("Table %(n)s of %(tables)s, %(table)s: %(done)s of %(total)s rows of all tables.",
             n=step["tables_done"] + 1, tables=step["tables"], table=step["table"],
             done=f"{step['all_rows']:,}", total=f"{step['all_expected']:,}")
    if step.get("left_s") is not None:
        text += " " + _("About %(time)s left.", time=words.duration(step["left_s"]))
    return Comparison(text, step["all_rows"], step["all_expected"])


def outcome(table: dict[str, Any]) -> str:
    """Return what came of comparing one table."""
    if table["equal"]:
        return _("equal")
    found = []
    if number := table.get("differing_rows", len(table["differing"])):
        found.append(ngettext("1 row differs", "%(n)s rows differ", number))
    if table["incomplete"]:
        found.append(_("and more: it was left at that"))
    if table["unsettled"]:
        found.append(ngettext(
            "1 row was written all the time", "%(n)s rows were written all the time", table["unsettled"]))
    return ", ".join(found)


def own(table: dict[str, Any]) -> bool:
    """Tell whether a table is the cluster's own, of which people are told only if something is wrong."""
    return str(table["table"]).startswith("hsmx_cluster.")


# ---- many at once ----


@dataclass(frozen=True)
class Deed:
    """What can be done to many rows at once, in words.

    :param state: of the rows that it is done to.
    """

    state: str
    button: str
    question: str
    effect: str
    danger: bool


def deeds() -> dict[str, Deed]:
    """Return what can be done to many rows at once."""
    return {
        "reapply": Deed(
            "kept", _("Make all of these again …"), _("Make %(what)s again?"),
            _("Each is made on the active gateway, in the order in which they were made, and only if nobody has "
              "changed that row there meanwhile. What does not fit is left, and listed with the reason: nothing is "
              "overwritten."), danger=False),
        "discard": Deed(
            "kept", _("Discard all of these …"), _("Discard %(what)s?"),
            _("They are then not made again. They are still listed, as discarded, and still exported; they can be "
              "taken back."), danger=True),
        "restore": Deed(
            "discarded", _("Take all of these back …"), _("Take %(what)s back?"),
            _("They wait again, as if they had never been discarded."), danger=False),
    }  # fmt: skip


def choice(table: str, batch_at: str) -> str:
    """Return which rows are meant, beside their number; empty if all of them.

    :param batch_at: when those of one rejoin were kept.
    """
    found = [_("of the table %(table)s", table=table)] if table else []
    if batch_at:
        found.append(_("of the rejoin at %(at)s", at=moment(batch_at)))
    return ", ".join(found)


def sweep(state: dict[str, Any]) -> Comparison:
    """Return how far it is with many rows."""
    seen = state["done"] + state["unfit"]
    text = {"reapply": _("Changes are being made again"), "discard": _("Changes are being discarded"),
            "restore": _("Changes are being taken back")}[state["action"]]
    text = _("%(what)s: %(done)s of %(total)s.", what=text, done=f"{seen:,}", total=f"{state['total']:,}")
    if state["left_s"] is not None:
        text += " " + _("About %(time)s left.", time=words.duration(state["left_s"]))
    return Comparison(text, seen, state["total"])


def swept(state: dict[str, Any]) -> str:
    """Return what came of it."""
    text = {"reapply": _("%(what)s made again."), "discard": _("%(what)s discarded."),
            "restore": _("%(what)s taken back.")}[state["action"]] % {"what": changes(state["done"])}
    if state["unfit"]:
        text += " " + _("%(what)s did not fit: they still wait.", what=changes(state["unfit"]))
    if state["stopped"]:
        text += " " + _("It was stopped.")
    return text


def reason(kind: str) -> str:
    """Return why changes do not fit."""
    return {
        "changed": _("The row was changed on the active gateway, too"),
        "exists": _("The row exists on the active gateway with other values"),
        "gone": _("The row does not exist on the active gateway any more"),
        "unique": _("Another row has the same value where each must have its own"),
        "reference": _("Another row that it refers to is missing, or one refers to it"),
        "rule": _("A rule of the table forbids it"),
        "schema": _("The table has other columns now"),
        "database": _("The database refused it"),
        "refused": _("It is of a kind that is not made again"),
    }.get(kind, kind)


# ---- exporting ----


#: Returns a part of a value: of which row, ``key``, ``new_row`` or ``old_row``, which column, and from where.
Piece = Callable[[int, str, str, int], dict[str, Any]]


def every_row(
    ask: Callable[[int], dict[str, Any]], first: dict[str, Any], piece: Piece
) -> Iterator[dict[str, Any]]:
    """Yield the rows of all pages, whole. What is refused once is asked for again: what was written cannot be undone.

    :param ask: returns the page behind a row.
    :raises ClusterError: it is refused again and again.
    """
    found = first
    while True:
        yield from (_whole(row, piece) if row["shortened"] else row for row in found["rows"])
        if (after := found["after"]) is None:
            return
        found = _persist(ask, after)


def _whole(row: dict[str, Any], piece: Piece) -> dict[str, Any]:
    """Return a row with the values that were shortened."""
    values = {
        which: row[which] and {
            column: _value(row["id"], which, column, piece) if value and value.endswith("…") else value
            for column, value in row[which].items()
        }
        for which in ("key", "new_row", "old_row")
    }  # fmt: skip
    return {**row, **values, "shortened": False}


def _value(row_id: int, which: str, column: str, piece: Piece) -> str:
    parts: list[str] = []
    done, length = 0, 1
    while done < length:
        found = _persist(piece, row_id, which, column, done)
        if not found["text"]:
            break
        parts.append(found["text"])
        done, length = done + len(found["text"]), found["length"]
    return "".join(parts)


def _persist(ask: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    time.sleep(EXPORT_PAUSE_S)
    for tries_left in reversed(range(EXPORT_TRIES)):
        try:
            return ask(*arguments)
        except ClusterError:
            if not tries_left:
                raise
            time.sleep(EXPORT_RETRY_S)
    raise AssertionError("unreachable")


def as_csv(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yield rows as lines of CSV, the first with the columns' names."""
    yield _line(COLUMNS)
    for row in rows:
        yield _line(row.get(name) for name in COLUMNS)


def as_json(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yield rows as one JSON array, a row on each line."""
    before = "["
    for row in rows:
        yield f"{before}\n{json.dumps(row, ensure_ascii=False)}"
        before = ","
    yield "[]\n" if before == "[" else "\n]\n"


def _line(cells: Iterable[object]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(map(_text, cells))
    return line.getvalue()


def _text(value: object) -> str:
    """Return the text of one cell; a spreadsheet must not take a guest's text for a formula."""
    text = "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
