"""What the demo promises: the tour ends well and tells so, and the lab page's buttons do what they say."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sample_app import demo
from sample_app.lab import Lab
from sample_app.lab.privileges import REPOSITORY
from sample_app.lab_page.bench import Bench, Refused
from sample_app.lab_page.client import COLUMNS
from sample_app.machines import APP, Machines


def test_the_tour_holds_and_prints_json_only() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sample_app.demo", "--tour", "--json"],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=180,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    steps = json.loads(done.stdout)["steps"]
    assert [step["held"] for step in steps] == [True] * 6
    assert [step["active"] for step in steps] == ["A", "B", "B", "A", "B", "B"]
    assert all(step["outage_ms"] >= 0 for step in steps[1:])


def test_a_second_demo_takes_other_ports() -> None:
    first = demo.free_ports(23450)
    with contextlib.closing(socket.create_server(("127.0.0.1", first + 2))):
        assert demo.free_ports(first) == first + 10


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with Lab(app=APP, postgres=True) as lab, contextlib.closing(Machines(lab)) as machines:
        machines.start()
        with contextlib.closing(Bench(lab, machines)) as bench:
            bench.act("form")
            wait(bench, lambda seen: not seen["forming"] and seen["gateways"]["b"]["ready"], 30)
            yield bench


def wait(bench: Bench, true: Callable[[dict[str, Any]], bool], timeout_s: float = 20) -> dict[str, Any]:
    deadline = time.monotonic() + timeout_s
    while True:
        seen = bench.snapshot()
        if true(seen):
            return seen
        assert time.monotonic() < deadline, seen
        time.sleep(0.1)


def active(name: str) -> Callable[[dict[str, Any]], bool]:
    return lambda seen: seen["gateways"][name]["role"] == "active" and seen["gateways"][name]["holds"]


def test_power_off_and_repair_are_seen_and_told(bench: Bench) -> None:
    wait(bench, active("a"))
    bench.act("power_off", "a")
    seen = wait(bench, active("b"))
    assert seen["gateways"]["a"]["role"] == "off"
    assert not seen["gateways"]["a"]["holds"]
    # The client's answers arrive a moment after the address: the line is told when the silence has ended.
    wait(bench, lambda seen: any(entry["text"] == "Gateway A powered off" and entry["outage_ms"] > 0
                                 for entry in seen["log"]))
    wait(bench, lambda seen: seen["client"]["silent_ms"] == 0)
    with pytest.raises(Refused, match="Switch it on first"):
        bench.act("freeze", "a")
    bench.act("mend")
    wait(bench, lambda seen: seen["gateways"]["a"]["ready"])
    assert active("b")(bench.snapshot())  # No fail-back.


def test_cables_and_agents_obey(bench: Bench) -> None:
    wait(bench, active("b"))
    bench.act("pull", "b", "lan")
    wait(bench, active("a"))
    assert bench.snapshot()["pulled"] == ["lan-b"]
    bench.act("plug", "b", "lan")
    bench.act("freeze", "b")
    assert bench.snapshot()["gateways"]["b"]["role"] == "frozen"
    bench.act("thaw", "b")
    bench.act("kill", "b")
    wait(bench, lambda seen: seen["gateways"]["b"]["role"] == "dead")
    bench.act("start", "b")
    wait(bench, lambda seen: seen["gateways"]["b"]["role"] == "passive")


@pytest.mark.parametrize("asked", [
    ("explode", "a"), ("power_off", "c"), ("pull", "a", "power"), ("pull", "a"), ("power_on", "a"), ("start", "a"),
    ("form",),
])
def test_nonsense_is_refused(bench: Bench, asked: tuple[str, ...]) -> None:
    with pytest.raises(Refused):
        bench.act(*asked)


def test_the_chart_has_a_fixed_size(bench: Bench) -> None:
    assert len(bench.snapshot()["client"]["columns"]) == COLUMNS
