"""What moves along with the virtual IPs: IP aliases, and guests' connections (:mod:`tests.bench.connections`).

How long a thousand IP aliases are away: one virtual IP and 1000 aliases on four ports.

A client pings the virtual IP and four aliases of each port every 4 ms: the first, the last, and two between. *First*
and *last* are the shortest and the longest outage of an alias, as in :mod:`tests.bench.failover`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence

from sample_app.lab import Gateway, Lab, Sweeper

from . import connections, pppoe
from .failover import Figures, Scenario, agent_load, measure_each, ready_pair, units_of
from .pairs import Keepalived, Ours, OursWithData, Pair
from .results import Results

LANS, ALIASES = 4, 1000
EACH = ALIASES // LANS


def aliases() -> list[tuple[str, str]]:
    """Return the aliases with their prefix lengths, and their ports, in the order of the settings."""
    return [
        (f"10.{4 + lan}.{at // 250}.{at % 250 + 1}/16", f"lan{lan}") for lan in range(LANS) for at in range(EACH)
    ]


class WithAliases(Ours):
    """Our agent with a thousand aliases."""

    lans = LANS

    def __init__(self, lab: Lab, heartbeat_ms: int) -> None:
        super().__init__(lab, heartbeat_ms)
        held = lab.a.call("settings")
        wanted = {**held["settings"], "aliases": [{"address": address, "port": port} for address, port in aliases()]}
        lab.a.call("propose", settings=wanted, base_revision=held["revision"])

    @staticmethod
    def case(name: str) -> str:
        return f"aliases1000_{name}_without_data"


class WithAliasesAndData(WithAliases, OursWithData):
    """The same, and the database is shared."""

    @staticmethod
    def case(name: str) -> str:
        return f"aliases1000_{name}"


class KeepalivedWithAliases(Keepalived):
    """keepalived with a thousand more addresses, which its messages do not name."""

    lans = LANS

    @staticmethod
    def case(name: str) -> str:
        return f"keepalived1000_{name}"

    def _more(self) -> str:
        lines = "\n".join(f"{address} dev {port}" for address, port in aliases())
        return f"virtual_ipaddress_excluded {{\n{lines}\n}}"


def _outages(
    what: Callable[[Pair, Gateway], float], **cases: Callable[[Sequence[float]], float]
) -> Callable[[Pair], Figures]:
    """Measure the outages of the aliases that something causes."""

    def measure(pair: Pair) -> Figures:
        active = ready_pair(pair)
        with _sweeping(pair) as sweeper:
            at = what(pair, active)
            time.sleep(2)
            sweeper.wait_for_replies(at + 2)
            outages = sweeper.outages_ms(at, 2)
        if what is _power_off:
            pair.power_on(active)
        else:
            pair.restart(active)  # keepalived has to be stopped for it
        del outages[pair.lab.virtual_ip]
        return {case: take(list(outages.values())) for case, take in cases.items()}

    return measure


@contextlib.contextmanager
def _sweeping(pair: Pair) -> Iterator[Sweeper]:
    sample = [aliases()[lan * EACH + at][0].split("/")[0] for lan in range(LANS) for at in (0, 80, 160, EACH - 1)]
    with Sweeper(pair.lab.client, [pair.lab.virtual_ip, *sample]) as sweeper:
        sweeper.wait_for_replies(0)
        time.sleep(0.2)
        yield sweeper


def _power_off(pair: Pair, active: Gateway) -> float:
    return pair.lab.faults.power_off(active, tidy_after_s=0.6)


def _request(pair: Pair, active: Gateway) -> float:
    at = time.monotonic()
    pair.request(active)
    return at


SCENARIOS = (
    Scenario({"first_switch": "ms", "last_switch": "ms"}, _outages(_power_off, first_switch=min, last_switch=max)),
    Scenario({"last_request": "ms"}, _outages(_request, last_request=max)),
    Scenario({"agent_cpu_percent": "%", "agent_rss_mb": "MB"}, agent_load, takes_long=True, ours_only=True),
    Scenario({"last_direct": "ms"}, _outages(_power_off, last_direct=max), sync="direct"),
)
CONTENDERS = (WithAliasesAndData, WithAliases, KeepalivedWithAliases)
UNITS = {**units_of(CONTENDERS, SCENARIOS), **connections.UNITS, **pppoe.UNITS}


def measure(results: Results, cases: Sequence[str], runs: int, long_runs: int) -> None:
    """Run what is missing of the wanted cases, the contenders in turn."""
    measure_each(CONTENDERS, SCENARIOS, results, cases, runs, long_runs)
    connections.measure(results, cases, runs)
    pppoe.measure(results, cases)
