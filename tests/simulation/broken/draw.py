"""Draws mutants: all that a stated set of cosmic-ray's operators can do to the decision code, in an order by lot."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

from cosmic_ray.ast import Visitor, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator

from .cores import DECISION, REPOSITORY, Mutant, changed_line

#: Conditions turned round, joined otherwise, or met at other times. What replaces a comparison by a nonsensical one
#: (``<`` by ``is``) is left out: any test finds that.
OPERATORS = (
    "AddNot",
    "NumberReplacer",
    "ReplaceAndWithOr",
    "ReplaceBinaryOperator_Add_Sub",
    "ReplaceBinaryOperator_Div_Mul",
    "ReplaceBinaryOperator_Mul_Div",
    "ReplaceBinaryOperator_Sub_Add",
    "ReplaceComparisonOperator_Eq_NotEq",
    "ReplaceComparisonOperator_GtE_Lt",
    "ReplaceComparisonOperator_Gt_LtE",
    "ReplaceComparisonOperator_IsNot_Is",
    "ReplaceComparisonOperator_Is_IsNot",
    "ReplaceComparisonOperator_LtE_Gt",
    "ReplaceComparisonOperator_Lt_GtE",
    "ReplaceFalseWithTrue",
    "ReplaceOrWithAnd",
    "ReplaceTrueWithFalse",
    "ReplaceUnaryOperator_Delete_Not",
)
#: Where decisions are made. What only passes words on (``events``, ``model``) is not mutated.
MODULES = ("active.py", "core.py", "data.py", "evidence.py", "health.py", "judge.py", "passive.py", "services.py")


def draw(seed: int, count: int) -> Iterator[Mutant]:
    """Yield ``count`` mutants, always the same of the same source.

    One is drawn at most once for a line that stands in a module once: else it would not be known again.
    """
    lots = []
    for module in MODULES:
        source = (REPOSITORY / DECISION / module).read_text()
        lines = [line.strip() for line in source.splitlines()]
        unique = {line for line, times in Counter(lines).items() if times == 1}
        for operator in OPERATORS:
            found = [lines[at - 1] for at in positions(source, operator)]
            lots += [(module, operator, n, line) for n, line in enumerate(found) if line in unique]
    random.Random(seed).shuffle(lots)
    for module, operator, occurrence, line in lots[:count]:
        source = (REPOSITORY / DECISION / module).read_text()
        after = changed_line(source, mutate_code(source, get_operator(f"core/{operator}")(), occurrence))
        yield Mutant(f"{module[:-3]}_{operator}_{occurrence}", f"{line} -> {after}", module, operator, line, after)


def positions(source: str, operator: str) -> list[int]:
    """Return the line of each occurrence of what an operator of cosmic-ray can mutate."""

    class Lines(Visitor):
        def __init__(self) -> None:
            self.found: list[int] = []
            self.operator = get_operator(f"core/{operator}")()

        def visit(self, node: Any) -> Any:
            self.found += [start[0] for start, _end in self.operator.mutation_positions(node)]
            return node

    lines = Lines()
    lines.walk(get_ast(source))
    return lines.found
