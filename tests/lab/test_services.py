"""Services and hooks of a firmware on a running pair. They write down themselves when they ran and what they saw."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sample_app.lab import Gateway, Lab, form, wait_for_roles
from sample_app.lab.privileges import AGENT_UID, GROUP

from ..waiting import within
from .test_cluster import alarm_keys, events_since, last_event

#: Notes: who, what, and whether the virtual IP was there.
RECORD = """#!/bin/sh
there=$(ip -4 -o addr show dev lan0 | grep -c ' 10[.]0[.]0[.]100/')
echo "$HSMX_CLUSTER_NODE_NAME $1 $there" >> {record}
"""
#: A daemon in the foreground that notes whether it is the only one on both gateways.
DAEMON = """#!/bin/sh
exec 9> {directory}/$1.lock
if [ "$1" = log ] || flock -n 9; then how=alone; else how=twice; fi
{directory}/record $1-up-$how
trap '{directory}/record $1-down; exit 0' TERM
while :; do sleep 0.05; done
"""
#: A daemon in the background, as init scripts have it.
CONTROL = """#!/bin/sh
pid={directory}/leases-$HSMX_CLUSTER_NODE_NAME.pid
case $1 in
start) setsid sleep 9999 < /dev/null > /dev/null 2>&1 & echo $! > $pid; {directory}/record leases-start ;;
stop) kill $(cat $pid) 2> /dev/null; rm -f $pid; {directory}/record leases-stop ;;
status) test -e $pid && kill -0 $(cat $pid) 2> /dev/null ;;
esac
"""


@dataclass(frozen=True)
class Noted:
    """One line of the record."""

    gateway: str
    what: str
    address: bool


@dataclass
class Pair:
    lab: Lab
    record: Path

    def notes(self, since: int = 0) -> list[Noted]:
        lines = self.record.read_text().splitlines()[since:]
        return [Noted(name[-1], what, there == "1") for name, what, there in (line.split() for line in lines)]

    def mark(self) -> int:
        return len(self.record.read_text().splitlines())

    def wait_for(self, gateway: str, what: str, since: int, seconds: float = 15) -> None:
        found = within(seconds, lambda: any((one.gateway, one.what) == (gateway, what) for one in self.notes(since)))
        logs = "\n".join(one.log("agent")[-1500:] for one in self.lab.gateways)
        assert found, f"{gateway} {what} is not in {self.notes(since)}\n{logs}"


def services(directory: Path) -> list[dict[str, Any]]:
    daemon, control = str(directory / "daemon"), str(directory / "control")
    return [
        {"name": "radius", "run": [daemon, "radius"], "when": "before"},
        {"name": "dhcp", "run": [daemon, "dhcp"]},
        {"name": "log", "run": [daemon, "log"], "runs_on": "both"},
        {"name": "leases", "start": [control, "start"], "stop": [control, "stop"], "status": [control, "status"]},
    ]


def hooks(directory: Path) -> list[dict[str, Any]]:
    record = str(directory / "record")
    steps = ("before_active", "after_active", "before_passive", "after_passive")
    return [
        *({"name": "noted", "step": step, "command": [record, step]} for step in steps),
        {"name": "fails", "step": "before_active", "order": -2, "command": ["/bin/false"]},
        {"name": "hangs", "step": "before_active", "order": -1, "limit_s": 0.2, "command": ["/bin/sleep", "3600"]},
    ]


@pytest.fixture(scope="module")
def formed() -> Iterator[Pair]:
    with Lab(sync="switch", backup="switch", app="tests.lab.hooked_firmware:create_app") as lab:
        directory = lab.directory / "services"
        directory.mkdir()
        os.chown(directory, AGENT_UID, GROUP)
        record = directory / "notes"
        for name, text in (("record", RECORD), ("daemon", DAEMON), ("control", CONTROL)):
            path = directory / name
            path.write_text(text.format(directory=directory, record=record))
            path.chmod(0o755)
        record.touch()
        record.chmod(0o666)
        for gateway in lab.gateways:
            gateway.environment |= {
                "HSMX_CLUSTER_SERVICES": json.dumps(services(directory)),
                "HSMX_CLUSTER_HOOKS": json.dumps(hooks(directory)),
                "LAB_RECORD": str(directory / "record"),
            }
        lab.start()
        form(lab)
        yield Pair(lab, record)


@pytest.fixture
def pair(formed: Pair) -> Pair:
    """The pair with both agents up, all of it running where it should."""
    lab = formed.lab
    for gateway in lab.gateways:
        if gateway.agent is None or gateway.agent.poll() is not None:
            gateway.start_agent()
        gateway.wait_until_ready()
        assert within(20, lambda gateway=gateway: hooks_ready(gateway)), shown(gateway)
    active = wait_for_roles(lab)
    assert within(20, lambda: running(active) == {"radius", "dhcp", "log", "leases"}), shown(active)
    assert within(20, lambda: running(lab.other(active)) == {"log"}), shown(lab.other(active))
    return formed


def hooks_ready(gateway: Gateway) -> bool:
    found = shown(gateway)
    return bool(found and found["hooks"] and found["hooks_ready"])


def shown(gateway: Gateway) -> Any:
    return gateway.call("status")["services"]


def running(gateway: Gateway) -> set[str]:
    return {one["name"] for one in (shown(gateway) or {"services": ()})["services"] if one["runs"]}


def test_the_order_on_request_and_what_fails_or_hangs_stops_nothing(pair: Pair) -> None:
    lab = pair.lab
    for _ in range(5):  # on a busy machine something may take longer than it is waited for
        former = wait_for_roles(lab)
        other = lab.other(former)
        since, last = pair.mark(), {gateway.name: last_event(gateway) for gateway in lab.gateways}
        former.call("failover")
        wait_for_roles(lab, other)
        pair.wait_for(other.name, "leases-start", since)
        found = [event for gateway in lab.gateways for event in events_since(gateway, last[gateway.name])]
        if not any(event["kind"] == "services_late" or "not waited for" in str(event["text"]) for event in found):
            break
    else:
        pytest.fail("The addresses never waited long enough")
    for what in ("after_active", "dhcp-up-alone", "leases-start"):
        pair.wait_for(other.name, what, since)
    for what in ("after_passive", "leases-stop"):
        pair.wait_for(former.name, what, since)
    term = other.call("status")["node"]["term"]
    last = f"python:after_active:active:{term}:0"
    assert within(15, lambda: [one.what for one in pair.notes(since)].count(last) == 2), "one crashes, not the next one"
    notes = pair.notes(since)

    def at(gateway: Gateway, what: str, address: bool) -> int:
        assert Noted(gateway.name, what, address) in notes, f"{what}, {address}: {pair.notes(since)}"
        return notes.index(Noted(gateway.name, what, address))

    leaving = [at(former, "before_passive", True), at(former, "radius-down", True)]
    coming = [
        at(other, "radius-up-alone", False), at(other, "before_active", False),
        at(other, f"python:before_active:active:{term}:0", False),
        at(other, "leases-start", True), at(other, "after_active", True),
        at(other, f"python:after_active:active:{term}:0", True),
    ]  # fmt: skip
    assert leaving == sorted(leaving) and coming == sorted(coming) and max(leaving) < min(coming), notes
    assert at(former, "dhcp-down", True) < min(coming) and at(former, "leases-stop", True) < min(coming)
    assert at(other, "dhcp-up-alone", True) > at(other, "before_active", False)  # which is not waited for
    assert at(former, "after_passive", False) > max(leaving)
    expected = {"hook_before_active_fails", "hook_before_active_hangs", "hook_after_active_python_crashes"}
    assert within(10, lambda: expected <= alarm_keys(other)), (alarm_keys(other), shown(other))
    assert within(10, lambda: "hook_after_passive_python_hangs" in alarm_keys(former)), shown(former)
    texts = " ".join(event["text"] for event in other.call("events", limit=50)["events"])
    assert "Hook fails (before_active) failed" in texts and "was not done within 0.2 s" in texts


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_an_agent_that_is_dead_or_frozen_takes_its_services_along_before_the_other_one_starts_them(
    pair: Pair, number: signal.Signals
) -> None:
    lab = pair.lab
    former = wait_for_roles(lab)
    other = lab.other(former)
    since = pair.mark()
    former.signal_agent(number)
    try:
        for what in ("radius-up-alone", "dhcp-up-alone", "leases-start"):
            pair.wait_for(other.name, what, since)
        notes = pair.notes(since)
        for name in ("radius", "dhcp"):
            assert not [one for one in notes if one.what == f"{name}-up-twice"], notes
            assert notes.index(Noted(former.name, f"{name}-down", True)) < notes.index(
                next(one for one in notes if (one.gateway, one.what) == (other.name, f"{name}-up-alone"))
            )
        leases = [one.gateway for one in notes if one.what.startswith("leases")]
        assert set(leases[:-1]) == {former.name} and leases[-1] == other.name, notes
    finally:
        if number is signal.SIGSTOP:
            former.signal_agent(signal.SIGCONT)


def test_a_check_that_fails_on_the_active_gateway_moves_the_role_with_its_name(pair: Pair) -> None:
    active = wait_for_roles(pair.lab)
    other = pair.lab.other(active)
    broken = pair.record.parent / f"broken-{active.node_name}"
    broken.touch()
    try:
        assert within(20, lambda: other.role() == "active"), shown(active)
        assert "the check card fails" in str(active.call("events", limit=20))
        assert within(10, lambda: "check_card" in alarm_keys(active))
        assert "the check card fails" in str(other.call("status")["peer"]["health"])
    finally:
        broken.unlink()
    assert within(20, lambda: active.call("status")["readiness"]["ready"])


def test_a_services_process_that_is_killed_takes_its_daemons_along_and_is_started_again(pair: Pair) -> None:
    lab = pair.lab
    active = wait_for_roles(lab)
    since = pair.mark()
    agent = active.agent
    assert agent is not None
    children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split() or descendants(agent.pid)
    mine = [pid for pid in children if "flask_hsmx_cluster.services" in Path(f"/proc/{pid}/cmdline").read_text()]
    os.kill(int(mine[0]), signal.SIGKILL)
    pair.wait_for(active.name, "dhcp-up-alone", since)
    assert within(20, lambda: running(active) == {"radius", "dhcp", "log", "leases"}), shown(active)


def test_a_service_that_dies_is_started_again(pair: Pair) -> None:
    active = wait_for_roles(pair.lab)
    since = pair.mark()
    wanted = f"{pair.record.parent / 'daemon'}\0dhcp"
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                mine = wanted in (path / "cmdline").read_text() and active.node_name in (path / "environ").read_text()
            except OSError:
                continue
            if mine:
                os.kill(int(path.name), signal.SIGKILL)
    pair.wait_for(active.name, "dhcp-up-alone", since)


def descendants(pid: int) -> list[str]:
    """Return the children of a process, whichever of its threads started them."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [child for task in tasks for child in (task / "children").read_text().split()]
