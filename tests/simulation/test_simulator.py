"""The simulator itself: a seed is a run to the byte, what fails shrinks, and hours of random faults break nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench.results import Results
from tests.bench.simulation import measure

from . import __main__ as command_line
from .faults import KINDS, Fault
from .hours import kept, one_seed, run_seeds, summary
from .invariants import INVARIANTS, NAMES, Violation
from .machine import SimulatedLease
from .run import Case, episodes, lossy, run
from .shrink import shrink
from .world import World

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.json"))
#: Seeds that the suite runs, and simulated minutes of each. At 100 ms and with more than one fault a minute.
SEEDS, MINUTES = range(1, 41), 10.0


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_breaks(seed: int) -> None:
    case = Case.of_seed(seed, MINUTES, 100).drawn()
    assert case.faults is not None and len(case.faults) >= MINUTES
    outcome = run(case)
    assert not outcome.violations, "\n".join([*outcome.violations[0].recent, str(outcome.violations[0].text)])
    assert outcome.seconds >= MINUTES * 60 and outcome.effects > 1000


@pytest.mark.parametrize("heartbeat_ms", [200, 500, 1000])
def test_nothing_breaks_with_slower_heartbeats(heartbeat_ms: int) -> None:
    for seed in range(1001, 1004):
        outcome = run(Case.of_seed(seed, MINUTES, heartbeat_ms))
        assert not outcome.violations, "\n".join([*outcome.violations[0].recent, str(outcome.violations[0].text)])


def test_a_lossy_network_moves_nothing() -> None:
    outcome = run(lossy(1, MINUTES))
    assert outcome.reigns == 1 and not outcome.violations


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_what_once_broke_holds(path: Path) -> None:
    outcome = run(Case.read(path))
    assert not outcome.violations, "\n".join([*outcome.violations[0].recent, str(outcome.violations[0].text)])


@pytest.mark.parametrize("seed", [1, 2])
def test_one_seed_reproduces_a_run_to_the_byte(seed: int) -> None:
    case = Case.of_seed(seed, 3.0, 100)
    first, second = run(case), run(case)
    assert first.digest == second.digest and first.as_dict() == second.as_dict()
    assert first.digest != run(Case.of_seed(seed + 1, 3.0, 100)).digest


@pytest.mark.parametrize("seed", [1, 2])
def test_no_effect_depends_on_the_wall_clock(seed: int) -> None:
    case = Case.of_seed(seed, 3.0, 100).drawn()
    assert case.faults is not None
    steps = tuple(Fault(one.at + 0.01, "wall_step", one.who, how=3600.0) for one in case.faults)
    stepped = Case(seed, 3.0, 100, case.data, case.services, faults=(*case.faults, *steps))
    digests = {run(stepped, wall_factor).digest for wall_factor in (0.0, 1.0, -7.5)}
    assert len(digests) == 1


@pytest.fixture
def kept_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken core: who gives the role up keeps the address until its lease ends."""
    monkeypatch.setattr(SimulatedLease, "release", lambda _self: None)


@pytest.mark.usefixtures("kept_addresses")
def test_a_broken_core_is_caught_and_its_faults_shrink_to_one(tmp_path: Path) -> None:
    case = next(case for case in (Case.of_seed(seed, 3.0, 100) for seed in range(1, 30)) if run(case).violations)
    found = shrink(case)
    assert found is not None
    small, name = found
    assert name == "two_holders" and small.faults is not None and len(small.faults) == 1
    small.write(tmp_path / "small.json", name)
    assert Case.read(tmp_path / "small.json") == small.drawn()
    assert command_line.main(["replay", str(tmp_path / "small.json")]) == 1


def test_the_command_line_says_what_came_of_a_seed(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["run", "--seed", "1", "--minutes", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["seed"] == 1 and found["violations"] == [] and found["seconds"] >= 60
    assert command_line.main(["run", "--seed", "1", "--minutes", "1"]) == 0
    assert "0 violations" in capsys.readouterr().out


def test_hours_go_on_where_they_were_interrupted(tmp_path: Path) -> None:
    state = tmp_path / "state.jsonl"
    first = run_seeds(60, 1.0, 1000, state, 1)
    state.write_text(state.read_text() + '{"seed": 7, "sec')  # cut short
    rows = run_seeds(120, 1.0, 1000, state, 1)
    assert len(first) == 1 and first[0] in rows and len({row["seed"] for row in rows}) == len(rows) == 2
    assert [row["seed"] for row in kept(state)] == [1, 2]
    assert summary(rows)["faults"] == sum(sum(row["faults"].values()) for row in rows)


def test_the_line_about_a_seed_that_failed_runs_what_was_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Heartbeats of 0 are drawn by the seed; both benches print the row's own, and its minutes."""
    row = one_seed(3, 0.25, 0)
    row["violations"] = [Violation(1.0, "two_holders", "").as_dict()]
    (state := tmp_path / "state.jsonl").write_text(json.dumps(row) + "\n")
    assert command_line.main(["hours", "--hours", "0", "--state", str(state)]) == 1
    printed = capsys.readouterr().out.splitlines()[-1]
    monkeypatch.setattr("tests.bench.simulation.run_seeds", lambda *_arguments: [row])
    results = Results("simulation", {"violations": ""}, tmp_path / "figures.jsonl")
    measure(results, ["violations"], 1, 1)
    assert results.failures == [printed]
    shrunk: list[Case] = []
    monkeypatch.setattr("tests.simulation.shrink.shrink_to_file", lambda case, _path: shrunk.append(case) or 0)
    command_line.main(printed.removeprefix("python -m tests.simulation ").split())
    assert shrunk == [Case.of_seed(3, 0.25, 0)] and shrunk[0].heartbeat_ms == row["heartbeat_ms"] == 500
    assert f"--minutes 0.25 --heartbeat-ms {row['heartbeat_ms']}" in printed


def test_every_kind_of_fault_is_drawn_and_every_invariant_has_a_name_of_its_own() -> None:
    drawn = {fault.kind for seed in SEEDS for fault in Case.of_seed(seed, MINUTES, 100).drawn().faults or ()}
    assert drawn == KINDS.keys()
    assert len(set(NAMES)) == len(INVARIANTS) and all(one.promise and one.bound for one in INVARIANTS)


def test_a_bad_wire_is_one_of_them_and_one_direction_or_all_as_in_older_files() -> None:
    world = World()
    for which, count in (("", 8), ("all", 8), ("cables", 4), ("sync", 2), ("sync one way", 1)):
        fault = Fault(0, "loss", "b", how=0.2, which=which)
        KINDS["loss"].begin(world, fault)
        assert sum(wire.loss == 0.2 for wire in world.wires.values()) == count
        assert (world.wires["sync", "b"].loss, world.loss) == (0.2, 0.0 if which else 0.2)
        KINDS["loss"].end(world, fault)
        assert not world.loss and not any(wire.loss for wire in world.wires.values())
    struck = [fault.which for seed in SEEDS for fault in Case.of_seed(seed, MINUTES, 100).drawn().faults or ()
              if fault.kind in ("loss", "jitter", "late", "duplicates", "reordering", "corruption")]  # fmt: skip
    assert 0.3 < struck.count("") / len(struck) < 0.7 and any(one.endswith(" one way") for one in struck)


def test_faults_that_overlap_are_one_episode() -> None:
    faults = [Fault(1, "kill", lasts=5), Fault(4, "freeze"), Fault(40, "kill")]
    assert [len(one) for one in episodes(faults, 20)] == [2, 1]
