"""The bench of chaos: its cases, and its figures beside the bounds."""

from __future__ import annotations

from pathlib import Path

from tests.bench import chaos
from tests.bench.results import Results
from tests.chaos.bounds import bound
from tests.chaos.kinds import KINDS


def test_each_kind_of_fault_has_its_cases() -> None:
    wanted = {"faults", "lost_acknowledged", "unconverged", "booting_together", "booting_together_s"}
    wanted |= {f"{figure}_{kind}" for kind in (*KINDS, "overlapping") for figure in ("two_holders", "none")}
    assert wanted <= set(chaos.UNITS)


def test_the_longest_times_stand_beside_their_bounds(tmp_path: Path) -> None:
    results = Results("chaos", chaos.UNITS, tmp_path / "figures.jsonl")
    for two_ms, none_ms in ((0, 130), (0, 170)):
        results.add({"two_holders_power_off": two_ms, "none_power_off": none_ms, "faults": 1})
    (_, row) = chaos.beside_bounds(results).splitlines()
    assert row.split() == ["power_off", "2", "0.0", "0", "170", f"{bound(['power_off']).none_ms:.0f}"]
