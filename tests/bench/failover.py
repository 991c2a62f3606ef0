"""How long the virtual IP is away, and on how many gateways it is, for each way in which a gateway fails.

*Outage*: the longest time between two answers to a client that pings every 2 ms, from the last one before the fault
on. *Two holders*: for how long both kernels had the address, or two MACs answered ARP for it, whichever was longer.

A case with ``_data`` at its end is the same with a PostgreSQL database that both gateways share, every commit confirmed
by both; its runs alternate with those without, so that the difference is what the data adds.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sample_app.lab import AddressWatch, ArpWatch, Gateway, LabError, Pinger
from sample_app.lab.privileges import AGENT_UID
from sample_app.lab.topology import CableKind

from .pairs import Contender, Keepalived, Ours, OursWithData, Pair, running
from .results import Results

Figures = dict[str, float]

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Scenario:
    """One way to measure.

    :param units: the cases that it gives, with their units.
    :param measure: what is done, once; gives one figure for each case.
    :param takes_long: a run takes about a minute.
    :param fresh: each run needs a pair that has not failed over before (a health fail-over holds back the next one).
    :param ours_only: does not concern keepalived.
    """

    units: dict[str, str]
    measure: Callable[[Pair], Figures]
    sync: CableKind = "switch"
    heartbeat_ms: int = 100
    takes_long: bool = False
    fresh: bool = False
    ours_only: bool = False

    def cases(self, contender: Contender) -> list[str]:
        """Return its cases; with data, all but the long ones, in which nothing fails over or should."""
        left_out = self.ours_only and issubclass(contender, Keepalived)
        concerns = not (left_out or (self.takes_long and contender.data))
        return [contender.case(case) for case in self.units] if concerns else []


# The scenarios


def _power_off(case: str, heartbeat_ms: int) -> Callable[[Pair], Figures]:
    def measure(pair: Pair) -> Figures:
        active = ready_pair(pair, heartbeat_ms)
        with _pinging(pair) as pinger:
            at = pair.lab.faults.power_off(active)
            outage_ms = _outage_ms(pinger, at, 1 + 5 * heartbeat_ms / 1000)
        pair.power_on(active)
        return {case: outage_ms}

    return measure


def _request(pair: Pair) -> Figures:
    active = ready_pair(pair)
    with _pinging(pair) as pinger:
        at = time.monotonic()
        pair.request(active)
        outage_ms = _outage_ms(pinger, at, 1)
    pair.restart(active)  # keepalived has to be stopped for it.
    return {"request": outage_ms}


def _sigterm(pair: Pair) -> Figures:
    active = ready_pair(pair)
    with _pinging(pair) as pinger:
        at = time.monotonic()
        pair.terminate(active)
        outage_ms = _outage_ms(pinger, at, 1)
    pair.restart(active)
    return {"sigterm": outage_ms}


def _lan_cable(pair: Pair) -> Figures:
    active = ready_pair(pair)
    with _pinging(pair) as pinger:
        at = pair.lab.faults.pull(active, "lan")
        outage_ms = _outage_ms(pinger, at, 1.5)
    pair.lab.faults.plug(active, "lan")
    return {"lan_cable": outage_ms}


def _kill9(pair: Pair) -> Figures:
    active = ready_pair(pair)
    with _pinging(pair) as pinger, _watching_holders(pair) as two_holders_ms:
        at = time.monotonic()
        pair.kill(active)
        outage_ms = _outage_ms(pinger, at, 5)
        figures = {"kill9": outage_ms, "kill9_two_holders": two_holders_ms(at)}
    pair.restart(active)
    return figures


def _frozen(pair: Pair) -> Figures:
    active = ready_pair(pair)
    with _pinging(pair) as pinger, _watching_holders(pair) as two_holders_ms:
        at = time.monotonic()
        pair.freeze(active)
        time.sleep(5)
        pair.thaw(active)
        outage_ms = _outage_ms(pinger, at, 1)
        return {"frozen": outage_ms, "frozen_two_holders": two_holders_ms(at)}


def _loss(pair: Pair) -> Figures:
    ready_pair(pair)
    with _counting_moves(pair) as moves:
        since = pair.lab.faults.loss(20)
        try:
            time.sleep(60)
        finally:
            pair.lab.faults.loss(0)
        return {"loss20_failovers": moves(since)}


def _busy(pair: Pair) -> Figures:
    ready_pair(pair)
    with _counting_moves(pair) as moves, pair.lab.faults.busy_for(loops=4) as since:
        time.sleep(30)
        return {"busy_failovers": moves(since)}


def agent_load(pair: Pair) -> Figures:
    ready_pair(pair)
    time.sleep(5)  # What a fail-over has left to do is not the agent's pace.
    began, before = time.monotonic(), [_processor_s(gateway) for gateway in pair.lab.gateways]
    time.sleep(60)
    took_s = time.monotonic() - began
    spent = [_processor_s(gateway) - then for gateway, then in zip(pair.lab.gateways, before, strict=True)]
    return {
        "agent_cpu_percent": 100 * max(spent) / took_s,
        "agent_rss_mb": max(_resident_mb(gateway) for gateway in pair.lab.gateways),
    }


SCENARIOS = (
    Scenario({"poweroff_switch_100ms": "ms"}, _power_off("poweroff_switch_100ms", 100)),
    Scenario({"request": "ms"}, _request),
    Scenario({"sigterm": "ms"}, _sigterm, ours_only=True),  # keepalived: the same as a request
    Scenario({"kill9": "ms", "kill9_two_holders": "ms"}, _kill9),
    Scenario({"frozen": "ms", "frozen_two_holders": "ms"}, _frozen),
    Scenario({"loss20_failovers": "count"}, _loss, takes_long=True),
    Scenario({"busy_failovers": "count"}, _busy, takes_long=True),
    Scenario({"agent_cpu_percent": "%", "agent_rss_mb": "MB"}, agent_load, takes_long=True, ours_only=True),
    Scenario({"lan_cable": "ms"}, _lan_cable, fresh=True),
    Scenario({"poweroff_direct_100ms": "ms"}, _power_off("poweroff_direct_100ms", 100), sync="direct"),
    Scenario({"poweroff_switch_1s": "ms"}, _power_off("poweroff_switch_1s", 1000), heartbeat_ms=1000),
)

CONTENDERS: tuple[Contender, ...] = (Ours, OursWithData, Keepalived)


def units_of(contenders: Sequence[Contender], scenarios: Sequence[Scenario]) -> dict[str, str]:
    """Return every case with its unit, ours first."""
    return {
        contender.case(case): unit
        for contender in contenders for scenario in scenarios for case, unit in scenario.units.items()
        if contender.case(case) in scenario.cases(contender)
    }


UNITS = units_of(CONTENDERS, SCENARIOS)


def measure(results: Results, cases: Sequence[str], runs: int, long_runs: int) -> None:
    """Run what is missing of the wanted cases, the contenders in turn."""
    measure_each(CONTENDERS, SCENARIOS, results, cases, runs, long_runs)


def measure_each(
    contenders: Sequence[Contender], scenarios: Sequence[Scenario], results: Results, cases: Sequence[str],
    runs: int, long_runs: int,
) -> None:
    """Run what is missing of the wanted cases of some scenarios, the contenders in turn."""
    with contextlib.ExitStack() as stack:
        stages = {contender: stack.enter_context(contextlib.closing(_Stage(contender))) for contender in contenders}
        for scenario in scenarios:
            wanted = {contender: set(scenario.cases(contender)) & set(cases) for contender in contenders}
            for run in range(min(runs, long_runs) if scenario.takes_long else runs):
                # Whoever goes first in one run goes last in the next.
                for contender in contenders if run % 2 == 0 else reversed(contenders):
                    if any(results.count(case) <= run for case in wanted[contender]):
                        stages[contender].run(scenario, results)


class _Stage:
    """Keeps a contender's pair from run to run, as long as the scenarios allow."""

    def __init__(self, contender: Contender) -> None:
        self._contender = contender
        self._built_for: tuple[CableKind, int] | None = None
        self._pair: Pair
        self._stack = contextlib.ExitStack()

    def run(self, scenario: Scenario, results: Results) -> None:
        try:
            figures = scenario.measure(self._prepare(scenario))
        except LabError as error:
            self.close()
            (first, *_) = scenario.cases(self._contender)
            results.add_failure(first, str(error))
            print(f"{first}: FAILED: {error}", file=sys.stderr)
            return
        case = self._contender.case
        results.add({case(name): figure for name, figure in figures.items()})
        shown = ", ".join(f"{case(name)} {figure:.1f} {scenario.units[name]}" for name, figure in figures.items())
        print(shown, file=sys.stderr, flush=True)

    def close(self) -> None:
        self._stack.close()
        self._built_for = None

    def _prepare(self, scenario: Scenario) -> Pair:
        if scenario.fresh or self._built_for != (scenario.sync, scenario.heartbeat_ms):
            self.close()
            self._pair = self._stack.enter_context(running(self._contender, scenario.sync, scenario.heartbeat_ms))
            self._built_for = (scenario.sync, scenario.heartbeat_ms)
        return self._pair


# What the scenarios share


def ready_pair(pair: Pair, heartbeat_ms: int = 100) -> Gateway:
    """Wait for a pair in order, then for a random part of a heartbeat: a fault knows no phase."""
    active = pair.ready()
    time.sleep(random.uniform(0, heartbeat_ms / 1000))
    return active


@contextlib.contextmanager
def _pinging(pair: Pair) -> Iterator[Pinger]:
    with Pinger(pair.lab.client, pair.addresses[0]) as pinger:
        pinger.wait_for_reply(0)
        time.sleep(0.2)
        yield pinger


def _outage_ms(pinger: Pinger, at: float, within_s: float) -> float:
    """Wait that long, and until there are answers, and return the outage."""
    until = time.monotonic() + within_s
    time.sleep(within_s)
    pinger.wait_for_reply(until)
    return pinger.outage_ms(at, until - at)


@contextlib.contextmanager
def _watching_holders(pair: Pair) -> Iterator[Callable[[float], float]]:
    a, b = (gateway.namespace for gateway in pair.lab.gateways)
    with AddressWatch(a, b) as held, ArpWatch(pair.lab.client, pair.addresses[0]) as answered:

        def two_holders_ms(since: float) -> float:
            overlaps = [held.overlap_ms(a, b, address, since) for address in pair.addresses]
            return max(*overlaps, answered.two_macs_ms(since))

        yield two_holders_ms


@contextlib.contextmanager
def _counting_moves(pair: Pair) -> Iterator[Callable[[float], float]]:
    namespaces = [gateway.namespace for gateway in pair.lab.gateways]
    with AddressWatch(*namespaces) as held:
        yield lambda since: held.moves(pair.addresses[0], since, *namespaces)


def _agents(gateway: Gateway) -> list[Path]:
    """Return the agent's processes."""
    processes = [Path("/proc", str(pid)) for pid in gateway.namespace.pids()]
    return [process for process in processes if process.stat().st_uid == AGENT_UID]


def _processor_s(gateway: Gateway) -> float:
    """Return the processor time of the agent, its past children included, s."""
    fields = [process.joinpath("stat").read_text().rpartition(")")[2].split() for process in _agents(gateway)]
    return sum(int(ticks) for each in fields for ticks in each[11:15]) / _TICKS_PER_S


def _resident_mb(gateway: Gateway) -> float:
    """Return the resident memory of the agent's processes, MB."""
    status = "\n".join(process.joinpath("status").read_text() for process in _agents(gateway))
    return sum(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")) * 1024 / 1e6
