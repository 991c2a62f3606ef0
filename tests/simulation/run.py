"""One run: a pair, a seed's faults or a list of them, and whether everything held."""

from __future__ import annotations

import contextlib
import json
import logging
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from flask_hsmx_cluster.decision.model import Timing

from .faults import Fault, draw_faults, inject, settle_s
from .invariants import GUEST_WAITS_S, Checks, Violation
from .world import World

#: A gateway that starts alone with older data waits this long in simulations, s.
STALE_WAIT_S = 10.0
#: Crystals are this exact.
DRIFT = 200e-6


@dataclass(frozen=True)
class Case:
    """What is run. ``data`` and ``services`` say what the pair shares; ``faults`` None: drawn from the seed."""

    seed: int
    minutes: float = 10.0
    heartbeat_ms: int = 100
    data: bool = True
    services: bool = True
    lease_s: float = 2.0
    faults: tuple[Fault, ...] | None = None

    @classmethod
    def of_seed(cls, seed: int, minutes: float, heartbeat_ms: int) -> Case:
        """Return what a seed runs: some pairs share a database, some have services, some neither.

        :param heartbeat_ms: 0: one between 100 ms and 1 s, that the seed chooses.
        """
        dice = random.Random(f"case {seed}")
        heartbeat_ms = heartbeat_ms or (100, 200, 300, 500, 1000)[seed % 5]
        return cls(seed, minutes, heartbeat_ms, dice.random() < 0.6, dice.random() < 0.4)

    def timing(self) -> Timing:
        lease_s = max(self.lease_s, 4 * self.heartbeat_ms / 1000)
        return Timing(interval_s=self.heartbeat_ms / 1000, lease_s=lease_s, stale_wait_s=STALE_WAIT_S)

    def drawn(self) -> Case:
        """Return the same case with its faults."""
        if self.faults is not None:
            return self
        faults = draw_faults(self.seed, self.minutes * 60, self.timing(), self.data, self.services)
        return replace(self, faults=tuple(faults))

    def write(self, path: Path, about: str = "") -> None:
        found = {"about": about, **asdict(self), "faults": [one.as_dict() for one in self.drawn().faults or ()]}
        path.write_text(json.dumps(found, indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Case:
        found = json.loads(path.read_text())
        found.pop("about", None)
        return cls(**{**found, "faults": tuple(Fault(**one) for one in found["faults"])})


@dataclass
class Outcome:
    """What came of a run.

    :param seconds: simulated; ``faults``: injected, by kind; ``longest``: two, two_parted, none, in s.
    :param digest: of every effect, with its time, and of every datagram.
    """

    seed: int
    seconds: float
    faults: Counter[str]
    violations: list[Violation]
    digest: str
    effects: int
    reigns: int
    longest: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {
            "seed": self.seed, "seconds": round(self.seconds, 1), "faults": dict(sorted(self.faults.items())),
            "violations": [one.as_dict() for one in self.violations], "digest": self.digest,
            "effects": self.effects, "reigns": self.reigns,
            "longest": {name: round(value, 4) for name, value in self.longest.items()},
        }  # fmt: skip


def lossy(seed: int, minutes: float, loss: float = 0.2, jitter_s: float = 0.05) -> Case:
    """Return a case in which datagrams are lost and late from beginning to end, and nothing else happens."""
    lasts = minutes * 60
    faults = (Fault(0.5, "loss", lasts=lasts, how=loss), Fault(0.5, "jitter", lasts=lasts, how=jitter_s))
    return Case(seed, minutes, data=seed % 2 == 1, services=False, faults=faults)


def run(case: Case, wall_factor: float = 1.0) -> Outcome:
    """Run a case until its time is over, or something does not hold.

    :param wall_factor: by which the steps of wall clocks are other ones; nothing may depend on it.
    """
    case = case.drawn()
    with quiet():
        return _run(case, wall_factor)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What the shipped code logs of faults is no news here."""
    log = logging.getLogger("flask_hsmx_cluster")
    before = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(before)


def _run(case: Case, wall_factor: float) -> Outcome:
    assert case.faults is not None
    world = World(case.seed, case.timing(), data=case.data, services=case.services, replicates=case.data)
    for machine in world.machines.values():
        machine.clocks.rate = 1 + world.dice.uniform(-DRIFT, DRIFT)
        machine.clocks.boot(world.dice.uniform(5, 1e6))
    world.wall_factor = wall_factor
    world.form()
    checks = Checks(world, world.now)
    injected: Counter[str] = Counter()
    for episode in episodes(case.faults, settle_s(world.timing, case.data)):
        _play(world, checks, episode, injected, settle_s(world.timing, case.data))
        if checks.violations:
            break
    else:
        world.run(max(0.0, checks.began + case.minutes * 60 - world.now))
        checks.whole()
    return Outcome(
        case.seed, world.now - checks.began, injected, checks.violations, world.digest.hexdigest(), world.effects,
        len(world.reigns), checks.longest,
    )  # fmt: skip


def episodes(faults: Sequence[Fault], apart_s: float) -> list[list[Fault]]:
    """Divide faults into groups with quiet between them."""
    found: list[list[Fault]] = []
    end = float("-inf")
    for fault in sorted(faults, key=lambda one: one.at):
        if not found or fault.at > end + apart_s:
            found.append([])
        found[-1].append(fault)
        end = max(end, fault.at + fault.lasts)
    return found


def _play(world: World, checks: Checks, episode: list[Fault], injected: Counter[str], settle: float) -> None:
    """Wait until an episode begins, let it happen, and look whether the pair is whole after it."""
    reigns = len(world.reigns)
    world.run(max(0.0, checks.began + episode[0].at - world.now - 1e-4))
    checks.nothing_moved(reigns)
    world.forget_figures()
    world.watch()
    braked, stalled, serving = checks.braked(), checks.stalled(), "".join(world.serving())
    for fault in episode:
        world.at(max(0.0, checks.began + fault.at - world.now), _begin, world, checks, fault, injected)
    end = max(fault.at + fault.lasts for fault in episode)
    _until(world, checks, checks.began + end + settle)
    if checks.violations:
        return
    checks.whole()
    checks.longest["none"] = max(checks.longest["none"], world.none_longest)
    if len(episode) == 1:
        checks.at_passive(episode[0], serving, len(world.reigns) - reigns)
    if len(episode) == 1 and not braked:
        checks.single(episode[0], serving, stalled)
    whole_at, reigns = world.now, len(world.reigns)
    if not checks.violations:
        _until(world, checks, world.now + min(GUEST_WAITS_S, 2.9))
        checks.guests_are_served(whole_at - GUEST_WAITS_S)
        checks.nothing_moved(reigns)


def _begin(world: World, checks: Checks, fault: Fault, injected: Counter[str]) -> None:
    injected[fault.kind] += 1
    world.recent.append(f"{world.now:.6f} -- {fault.kind} {fault.who} {fault.which} {fault.how} for {fault.lasts} s")
    inject(world, fault)
    checks.faults_changed()
    world.at(fault.lasts, _ended, world, checks, fault)


def _ended(world: World, checks: Checks, fault: Fault) -> None:
    world.recent.append(f"{world.now:.6f} -- {fault.kind} {fault.who} has ended")
    checks.faults_changed()


def _until(world: World, checks: Checks, end: float) -> None:
    """Let time pass, but no longer than until something does not hold."""
    while world.now < end and not checks.violations:
        world.run(min(2.0, end - world.now))
