"""Each hard case has scenarios, each scenario exists, and what neither simulator nor chaos shows has a reason."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from tests.simulation.hard_cases import HARD_CASES, HardCase

TESTS = Path(__file__).parents[1]
KINDS = TESTS / "chaos" / "kinds.py"


@cache
def functions(module: Path) -> set[str]:
    return {each.name for each in ast.parse(module.read_text()).body if isinstance(each, ast.FunctionDef)}


@cache
def kinds() -> set[str]:
    """Return the kinds of faults that the driver of the lab knows."""
    return {
        key.value
        for each in ast.parse(KINDS.read_text()).body
        if isinstance(each, ast.AnnAssign) and ast.unparse(each.target) == "KINDS" and isinstance(each.value, ast.Dict)
        for key in each.value.keys
        if isinstance(key, ast.Constant)
    }


@pytest.mark.parametrize("case", HARD_CASES, ids=lambda case: case.key)
def test_each_scenario_exists(case: HardCase) -> None:
    assert case.scenarios and case.title and case.rule
    for scenario in case.scenarios:
        module, _, name = scenario.partition("::")
        assert name.startswith("test_") and name in functions(TESTS / module), scenario


@pytest.mark.parametrize("case", HARD_CASES, ids=lambda case: case.key)
def test_each_is_simulated_and_in_chaos_or_it_is_said_why_not(case: HardCase) -> None:
    simulated = any(scenario.startswith("simulation/") for scenario in case.scenarios)
    assert simulated is not bool(case.not_simulated), "a scenario of the simulator, or a reason, and not both"
    assert bool(case.chaos) is not bool(case.not_in_chaos), "a kind of fault, or a reason, and not both"


def test_no_case_comes_twice() -> None:
    keys = [case.key for case in HARD_CASES]
    assert len(set(keys)) == len(keys)


def test_each_kind_of_fault_is_one_of_the_drivers() -> None:
    named = {kind for case in HARD_CASES for kind in case.chaos}
    assert not KINDS.exists() or named <= kinds()
