"""Decision tables: every combination of evidence is tried, and what does not matter is left out."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

#: Any value of this column gives the same.
ANY = "–"


@dataclass(frozen=True)
class Column:
    """One kind of evidence.

    :param values: each value in words, and all the states of the code that these words stand for.
    """

    name: str
    values: dict[str, Sequence[Any]]


@dataclass(frozen=True)
class Row:
    """Cases with one outcome; a cell is the set of a column's values for which it is so."""

    cells: tuple[frozenset[str], ...]
    outcome: str

    def fits(self, case: Sequence[str]) -> bool:
        return all(value in cell for value, cell in zip(case, self.cells, strict=True))


@dataclass(frozen=True)
class Table:
    """A question that the code answers.

    :param decide: gets a state for each column, asks the code, and returns what it does, in words.
    :param outcome: the heading of what it does.
    """

    title: str
    text: str
    columns: tuple[Column, ...]
    decide: Callable[..., str]
    outcome: str = "it"

    def cases(self) -> Iterator[tuple[str, ...]]:
        """Yield every combination of values."""
        yield from itertools.product(*(column.values for column in self.columns))

    @cached_property
    def outcomes(self) -> dict[tuple[str, ...], str]:
        """What the code does in each case; words that stand for states with different outcomes are an error."""
        found = {}
        for case in self.cases():
            chosen = (column.values[value] for column, value in zip(self.columns, case, strict=True))
            outcomes = {self.decide(*state) for state in itertools.product(*chosen)}
            if len(outcomes) != 1:
                raise ValueError(f"{self.title}: {case} may be {outcomes}")
            found[case] = outcomes.pop()
        return found

    @property
    def states(self) -> int:
        """How many states of the code were tried."""
        number = 1
        for column in self.columns:
            number *= sum(len(states) for states in column.values.values())
        return number

    def rows(self) -> list[Row]:
        """Return few rows, disjoint and complete: values that make no difference share a cell."""
        return [Row(cells, outcome) for cells, outcome in self._rows(())]

    def _rows(self, case: tuple[str, ...]) -> list[tuple[tuple[frozenset[str], ...], str]]:
        if len(case) == len(self.columns):
            return [((), self.outcomes[case])]
        groups: dict[tuple[Any, ...], list[str]] = {}
        for value in self.columns[len(case)].values:
            groups.setdefault(tuple(self._rows((*case, value))), []).append(value)
        return [
            ((frozenset(values), *cells), outcome) for below, values in groups.items() for cells, outcome in below
        ]

    def markdown(self) -> str:
        """Return the table as Markdown; columns in which nothing matters are left out."""
        rows = self.rows()
        kept = [
            at for at, column in enumerate(self.columns) if any(len(row.cells[at]) < len(column.values) for row in rows)
        ]
        head = [*(self.columns[at].name for at in kept), self.outcome]
        lines = [f"| {' | '.join(head)} |", f"| {' | '.join('---' for _ in head)} |"]
        for row in rows:
            cells = []
            for at in kept:
                values = [value for value in self.columns[at].values if value in row.cells[at]]
                cells.append(ANY if len(values) == len(self.columns[at].values) else ", or ".join(values))
            lines.append(f"| {' | '.join(cells)} | {row.outcome} |")
        return "\n".join(lines)
