"""Leads a run: a pair in order, an episode of faults, healing, a verdict; and again, until the time is over."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import json
import subprocess
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import psycopg

from flask_hsmx_cluster.errors import ClusterError
from sample_app.lab import Gateway, LabError
from tests.bench.data_lab import server_of

from . import faults, stacks
from .bounds import CONVERGED_WITHIN_S
from .kinds import KINDS
from .record import FAULT, LOST, NUMBERED, WORKED, Record
from .schedule import Episode, Planned, episodes
from .site import Site, site
from .timeline import draw
from .verdict import Verdict, judge, reigns, title

#: What a fault that cannot be done, or undone, raises.
REFUSALS = (LabError, ClusterError, OSError, psycopg.Error, subprocess.SubprocessError)
#: What is watched of a pair in order before the first fault and after the healing, s.
BEFORE_S, AFTER_S = 1.0, 0.5
#: How often it is tried to make a pair.
_TRIES = 3
#: Names of lost writes that are kept.
_MOST_NAMES = 50


def run_episode(place: Site, episode: Episode) -> Record:
    """Do an episode's faults to a pair in order, heal it, and return what happened."""
    since = time.monotonic()
    time.sleep(BEFORE_S)
    active = place.active()
    gateways = {"active": active, "passive": place.lab.other(active), "both": active}
    record = Record()
    for fault, at, until, refused in _injected(place, episode, gateways):
        gateway = "" if KINDS[fault.kind].whole else gateways[fault.on].name
        record.add(FAULT, fault.kind, at, until, gateway=gateway, on=fault.on, amount=fault.amount, refused=refused)
    healed = time.monotonic()
    for _attempt in range(3):  # PostgreSQL may refuse to start while a disk is still being emptied
        try:
            faults.heal(place)
            break
        except REFUSALS as error:
            record.add(WORKED, "healing", healed, time.monotonic(), why=str(error)[-2000:])
    in_order, why = place.wait_until_in_order(CONVERGED_WITHIN_S)
    record.add(WORKED, "in order" if in_order else "not in order", healed, time.monotonic(), why=why)
    time.sleep(AFTER_S)
    at = time.monotonic()
    place.into(record, since)
    try:
        lost = place.lost()
    except psycopg.Error:
        lost = []  # its PostgreSQL does not answer: the pair is not in order, which is said already
    if lost:
        record.add(LOST, "lost", at, at, count=len(lost), names=lost[:_MOST_NAMES])
    record.begin(f"{NUMBERED} {episode.number}", since, at)
    return record


def _injected(
    place: Site, episode: Episode, gateways: dict[str, Gateway]
) -> Iterator[tuple[Planned, float, float, str]]:
    """Do and undo each fault at its time; yield each with when that was and what was refused, at its end."""
    start = time.monotonic()
    numbers = itertools.count()
    todo: list[tuple[float, int, Planned]] = [
        (start + fault.after_s, next(numbers), fault) for fault in episode.faults
    ]
    heapq.heapify(todo)
    begun: dict[Planned, tuple[float, str]] = {}
    while todo:
        due, _, fault = heapq.heappop(todo)
        time.sleep(max(0.0, due - time.monotonic()))
        at = time.monotonic()
        try:
            if fault in begun:
                faults.end(place, fault.kind, gateways[fault.on])
            else:
                faults.begin(place, fault.kind, gateways[fault.on], fault.amount)
            refused = ""
        except REFUSALS as error:
            refused = f"{type(error).__name__}: {error}"[-500:]
        if fault in begun:
            began, not_done = begun[fault]
            yield fault, began, time.monotonic(), not_done or (f"not undone: {refused}" if refused else "")
        else:
            begun[fault] = at, f"not done: {refused}" if refused else ""
            heapq.heappush(todo, (time.monotonic() + fault.lasts_s, next(numbers), fault))


class Run:
    """A run whose results lie in a directory, from where an interrupted one goes on.

    :param kinds: kinds of faults that are drawn; all by default.
    :param told: called with each episode's verdict, record and duration, s.
    """

    def __init__(
        self, seed: int, directory: Path, kinds: Collection[str] = tuple(KINDS),
        told: Callable[[Verdict, Record, float], None] = lambda *_: None, disks: bool = True,
    ) -> None:
        self.seed, self.directory, self._kinds, self._told, self._disks = seed, directory, kinds, told, disks
        directory.mkdir(parents=True, exist_ok=True)
        #: Each episode's record as JSON lines, one span a line.
        self.lines = directory / f"run-{seed}.jsonl"

    def go_on(self, first: int, seconds: float, most: int | None = None) -> None:
        """Run episodes from that number on until the time is over.

        :param most: end after so many.
        """
        wanted = itertools.islice(episodes(self.seed, self._kinds), first, None if most is None else first + most)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.ExitStack() as stack:
                if not self._use(self._made(stack), wanted, deadline):
                    return

    def _made(self, stack: contextlib.ExitStack) -> Site:
        """Return a new pair; a machine that is busy may take several tries."""
        for tries_left in range(_TRIES - 1, -1, -1):
            try:
                return stack.enter_context(site(self._disks))
            except REFUSALS:
                if not tries_left:
                    raise
        raise AssertionError

    def _use(self, place: Site, wanted: Iterator[Episode], deadline: float) -> bool:
        """Run episodes on a pair; return whether it takes a new one to go on."""
        reigned: dict[str, int] = {}
        for episode in wanted:
            began = time.monotonic()
            record = run_episode(place, episode)
            verdict = judge(record, reigned)
            reigned = {name: max(term, reigned.get(name, 0)) for name, term in reigns(record).items()}
            record.append_to(self.lines)
            if verdict.violations:
                self._keep(record, verdict, place, episode.number)
            self._told(verdict, record, time.monotonic() - began)
            if verdict.converged_s is None:
                self._look_at_everything(place)
                return True
            if time.monotonic() >= deadline:
                break
            # A person has looked: else the next move for health would wait, a minute first and then longer.
            if any(KINDS[fault.kind].moves_for_health for fault in episode.faults):
                with contextlib.suppress(*REFUSALS):
                    place.active().call("failover")
                place.wait_until_in_order(CONVERGED_WITHIN_S)
        self._look_at_everything(place)
        return False

    def _look_at_everything(self, place: Site) -> None:
        """Look for each write that a pair ever acknowledged; that nobody can be asked is a loss, too."""
        began = time.monotonic()
        try:
            lost = place.lost(everything=True)
        except psycopg.Error as error:
            lost = [f"{place.acknowledged} writes could not be looked for: {error}"]
        if lost:
            now = time.monotonic()
            record = Record()
            record.begin(f"the whole run until {now:.0f} s", began, now)
            record.add(WORKED, "in order", now, now)
            record.add(LOST, "lost", now, now, count=len(lost), names=lost[:_MOST_NAMES])
            record.append_to(self.lines)
            verdict = judge(record)
            self._keep(record, verdict, place, "end")
            self._told(verdict, record, 0.0)

    def _keep(self, record: Record, verdict: Verdict, place: Site, number: int | str) -> None:
        """Keep what a broken invariant is understood from: the picture, its lines, events and logs."""
        name = self.directory / f"broken-{self.seed}-{number}-{verdict.violations[0].invariant}"
        name.with_suffix(".svg").write_text(draw(record, f"Seed {self.seed}, {title(record)}"))
        name.with_suffix(".jsonl").unlink(missing_ok=True)
        record.append_to(name.with_suffix(".jsonl"))
        name.with_suffix(".txt").write_text("\n\n".join(known(gateway) for gateway in place.lab.gateways))


def known(gateway: Gateway) -> str:
    """Return what a gateway knew: status, events and the ends of its logs, with where its threads are."""
    stacks.ask(gateway)
    parts = [f"===== {gateway.node_name}"]
    for verb in ("status", "events"):
        try:
            parts.append(f"--- {verb}\n{json.dumps(gateway.call(verb), indent=1)}")
        except ClusterError as error:
            parts.append(f"--- {verb}: {error}")
    parts += [f"--- {name}\n{gateway.log(name)[-40000:]}" for name in ("agent", "web")]
    parts.append(f"--- postgres\n{server_of(gateway).log()[-8000:]}")
    return "\n".join(parts)
