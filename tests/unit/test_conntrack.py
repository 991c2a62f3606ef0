"""Connection tracking as a participant: what conntrackd is told, and in which states it is shown."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from flask_hsmx_cluster.errors import ClusterError
from flask_hsmx_cluster.services import packet_rules
from flask_hsmx_cluster.services.conntrack import ConnectionTracking
from flask_hsmx_cluster.services.conntrackd_text import Setup, configuration, entries, holding
from flask_hsmx_cluster.services.conntrackd_text import packet_rules as rules
from flask_hsmx_cluster.services.packet_rules import checked_address

LINKS = [
    {"port": "sync0", "own": "10.99.0.1", "peer": "10.99.0.2"},
    {"port": "backup0.7", "own": "fd00:98::1", "peer": "fd00:98::2"},
]
OWN = [checked_address(each) for each in ("10.0.0.1", "10.99.0.1", "fd00::1")]
#: What ``conntrackd -s`` of version 1.4.7 prints.
STATISTICS = """\
cache internal:
current active connections:\t          17
connections created:\t\t          19\tfailed:\t           0

cache external:
current active connections:\t           4
connections created:\t\t           4\tfailed:\t           0

traffic processed:
\t                   0 Bytes                         0 Pckts
"""


def setup(where: Path, **changes: Any) -> dict[str, Any]:
    return {"program": "/usr/sbin/conntrackd", "directory": str(where), "links": LINKS, "shared": ["10.0.0.100"],
            "lease_s": 2.0, **changes}  # fmt: skip


# -- text ---------------------------------------------------------------------------------------------------------


def test_the_sync_link_goes_first_and_the_backup_link_is_the_second_channel() -> None:
    text = configuration(Setup.parsed(setup(Path("/state/c"))), OWN, 262144)
    channels = re.findall(r"UDP( Default)? \{\n(.*?)\n\t\}", text, re.DOTALL)
    assert [default for default, _ in channels] == [" Default", ""]
    first, second = ([line.strip() for line in lines.splitlines()] for _, lines in channels)
    assert first[:4] == [
        "IPv4_address 10.99.0.1", "IPv4_Destination_Address 10.99.0.2", "Port 3780", "Interface sync0",
    ]  # fmt: skip
    assert second[:4] == [
        "IPv6_address fd00:98::1", "IPv6_Destination_Address fd00:98::2", "Port 3780", "Interface backup0.7",
    ]  # fmt: skip
    assert "Mode FTFW" in text and "Path /state/c/control" in text and "LockFile /state/c/lock" in text


def test_what_ends_at_the_gateway_itself_does_not_move() -> None:
    text = configuration(Setup.parsed(setup(Path("/state/c"))), OWN, 262144)
    ignored = re.search(r"Address Ignore \{\n(.*?)\n\t\t\}", text, re.DOTALL)
    assert ignored
    assert {line.strip() for line in ignored[1].splitlines()} == {
        "IPv4_address 127.0.0.1", "IPv6_address ::1", "IPv4_address 10.0.0.1", "IPv4_address 10.99.0.1",
        "IPv6_address fd00::1", "IPv4_address 10.0.0.100",
    }  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {"links": [{**LINKS[0], "port": hostile}]}
        for hostile in ("", "sync0 }", "sync0\nSyslog on", 'a"b', "-x", "a" * 16, "sÿnc", None, 7)
    ]
    + [
        {"links": [{**LINKS[0], end: hostile}]}
        for end in ("own", "peer")
        for hostile in ("", "10.99.0.1 }", "10.99.0.1/24", "::1%eth0 {", "host", 1, None)
    ]
    + [
        {"links": []}, {"links": [{**LINKS[0], "peer": "fd00::2"}]}, {"shared": ["10.0.0.100\n}"]},
        {"directory": "/state dir"}, {"directory": "/state\n}"}, {"directory": "state"}, {"directory": "/" + "d" * 100},
        {"program": "/bin/conntrackd -x"}, {"program": "conntrackd"},
    ],
)  # fmt: skip
def test_nothing_else_can_be_written_into_it(changes: dict[str, Any]) -> None:
    with pytest.raises(ClusterError):
        Setup.parsed(setup(Path("/state/c"), **changes))


def test_conntrackds_port_is_open_to_the_other_gateway_on_its_cable_only() -> None:
    lines = [line.strip() for line in rules(Setup.parsed(setup(Path("/state/c"))), OWN).splitlines()]
    at = lines.index("udp dport 3780 fib daddr type local drop")
    assert lines[at - 2 : at] == [
        'iifname "sync0" ip saddr 10.99.0.2 ip daddr 10.99.0.1 udp dport 3780 accept',
        'iifname "backup0.7" ip6 saddr fd00:98::2 ip6 daddr fd00:98::1 udp dport 3780 accept',
    ]


def test_packets_are_not_held_back_for_ever() -> None:
    assert "timeout 15s" in holding(True)
    assert holding(False) == "flush set inet hsmx_conntrack held\n"


def test_the_connections_are_counted() -> None:
    assert entries(STATISTICS) == {"own": 17, "peer": 4}
    assert entries("") == {}


# -- states ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What nft is told; nothing of this machine is touched."""
    lines: list[str] = []
    run = packet_rules.run

    def recorded(*argv: str, stdin: str = "", timeout_s: float = 5.0) -> str:
        if argv[0] == "ip":
            return "[]"
        if argv[0] == "nft":
            lines.append(stdin)
            return ""
        return run(*argv, stdin=stdin, timeout_s=timeout_s)

    monkeypatch.setattr(packet_rules, "run", recorded)
    return lines


@pytest.fixture
def tracking(told: list[str]) -> Iterator[ConnectionTracking]:
    participant = ConnectionTracking()
    yield participant
    participant.configure({})


def stand_in(directory: Path, daemon: str = 'touch "$(dirname "$2")/control"; exec sleep 60') -> str:
    """Make a program that is called as conntrackd is, and writes down its commands."""
    program = directory / "conntrackd"
    program.write_text(
        f"#!/bin/sh\n"
        f'if [ $# = 2 ]; then {daemon}; fi\n'
        f'shift 2; printf "%s\\n" "$*" >>{directory}/asked\n'
        f'[ "$1" = -s ] && cat {directory}/statistics; exit 0\n'
    )
    program.chmod(0o755)
    (directory / "statistics").write_text(STATISTICS)
    return str(program)


def asked(directory: Path) -> list[str]:
    path = directory / "asked"
    found = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return found


def ticked(tracking: ConnectionTracking, done: Callable[[], bool], from_s: float = 0.0) -> float:
    """Tick at a pace of half a second by the participant's clock until something is so; return the time there."""
    now_s, deadline = from_s, time.monotonic() + 10
    while not done():
        assert time.monotonic() < deadline
        tracking.tick(now_s)
        now_s += 0.5
        time.sleep(0.02)
    return now_s


def running(tracking: ConnectionTracking) -> bool:
    return tracking.status()["state"] == "running"


def test_it_is_led_through_both_roles(tmp_path: Path, tracking: ConnectionTracking, told: list[str]) -> None:
    tracking.configure(setup(tmp_path / "c", program=stand_in(tmp_path)))
    tracking.after_passive()
    ticked(tracking, lambda: running(tracking))
    assert asked(tmp_path)[:2] == ["-t", "-n"] and told[-1] == holding(True)
    assert (tmp_path / "c").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "c" / "conntrackd.conf").stat().st_mode & 0o077 == 0
    tracking.tick(1000)
    assert tracking.status()["entries"] == {"own": 17, "peer": 4} and not tracking.status()["active"]
    asked(tmp_path)

    tracking.before_active()
    tracking.after_active()
    assert asked(tmp_path) == ["-c", "-f", "-R", "-B"] and told[-1] == holding(False)
    shown = tracking.status()
    assert shown["last_commit"]["took_ms"] > 0 and shown["last_commit"]["entries"] == 4 and shown["active"]

    tracking.before_passive()
    assert asked(tmp_path) == ["-f internal"]
    tracking.after_passive()
    assert asked(tmp_path) == ["-t", "-n"] and told[-1] == holding(True)


def test_a_look_amid_a_commit_lets_nothing_pass(
    tmp_path: Path, tracking: ConnectionTracking, told: list[str]
) -> None:
    program = Path(stand_in(tmp_path))
    tracking.configure(setup(tmp_path / "c", program=str(program)))
    ticked(tracking, lambda: running(tracking))
    goes_on = tmp_path / "goes on"
    waits = f'shift 2; while [ "$1" = -c ] && [ ! -e "{goes_on}" ]; do sleep 0.01; done;'
    program.write_text(program.read_text().replace("shift 2;", waits))
    told.clear()
    tracking.before_active()
    tracking.tick(1000)
    assert told == []
    goes_on.touch()
    tracking.after_active()
    assert told == [holding(False)]


def test_what_comes_behind_does_not_wait_for_a_long_commit(
    tmp_path: Path, tracking: ConnectionTracking, told: list[str]
) -> None:
    """Services do; the other gateway is told of all once everything is committed."""
    program = Path(stand_in(tmp_path))
    tracking.configure(setup(tmp_path / "c", program=str(program)))
    now_s = ticked(tracking, lambda: running(tracking))
    goes_on = tmp_path / "goes on"
    waits = f'shift 2; while [ "$1" = -c ] && [ ! -e "{goes_on}" ]; do sleep 0.01; done;'
    program.write_text(program.read_text().replace("shift 2;", waits))
    asked(tmp_path)
    tracking.before_active()
    tracking.after_active()
    tracking.tick(now_s)
    assert asked(tmp_path) == []
    goes_on.touch()
    found: list[str] = []
    ticked(tracking, lambda: bool(found.extend(asked(tmp_path)) or "-B" in found), now_s)
    assert found[:4] == ["-c", "-f", "-R", "-B"]


def test_a_new_address_of_its_own_is_held_back_no_longer(
    tmp_path: Path, tracking: ConnectionTracking, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking.configure(setup(tmp_path / "c", program=stand_in(tmp_path)))
    tracking.after_passive()
    ticked(tracking, lambda: running(tracking))
    monkeypatch.setattr(packet_rules, "own_addresses", lambda: OWN)
    tracking.tick(1000)
    assert any("daddr { 10.0.0.1, 10.99.0.1 } accept" in text for text in told) and told[-1] == holding(True)
    told.clear()
    tracking.tick(2000)
    assert told == [holding(True)]


def test_after_a_failed_hand_over_nothing_is_committed(
    tmp_path: Path, tracking: ConnectionTracking, told: list[str]
) -> None:
    tracking.configure(setup(tmp_path / "c", program=stand_in(tmp_path)))
    ticked(tracking, lambda: running(tracking))
    tracking.before_active()
    tracking.after_active()
    tracking.before_passive()
    asked(tmp_path)
    tracking.before_active()
    tracking.after_active()
    assert asked(tmp_path) == ["-f", "-R", "-B"]


def test_flushed_packet_rules_come_back(
    tmp_path: Path, tracking: ConnectionTracking, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking.configure(setup(tmp_path / "c", program=stand_in(tmp_path)))
    ticked(tracking, lambda: running(tracking))
    recorded, lost = packet_rules.run, [True]

    def flushed(*argv: str, stdin: str = "", timeout_s: float = 5.0) -> str:
        if argv[0] == "nft" and stdin == holding(True) and lost:
            raise ClusterError("no such table")
        if "chain unknown_connections" in stdin:
            lost.clear()
        return recorded(*argv, stdin=stdin, timeout_s=timeout_s)

    monkeypatch.setattr(packet_rules, "run", flushed)
    tracking.tick(2000)
    assert not lost and told[-1] == holding(True)
    assert running(tracking) and not tracking.status()["problem"]


def test_what_ends_at_once_is_started_ever_more_rarely_and_is_an_alarm(
    tmp_path: Path, tracking: ConnectionTracking, told: list[str]
) -> None:
    starts = tmp_path / "starts"
    program = stand_in(tmp_path, f"echo >>{starts}; echo no such kernel; exit 1")
    tracking.configure(setup(tmp_path / "c", program=program))

    def started(times: int) -> bool:
        return starts.exists() and len(starts.read_text().splitlines()) >= times

    began = [0.0]
    for times in range(1, 6):
        began.append(ticked(tracking, partial(started, times), began[-1]))
    waits = [later - earlier for earlier, later in pairwise(began[1:])]
    assert all(wait >= least for wait, least in zip(waits, (1, 2, 4, 8), strict=True))
    ticked(tracking, lambda: bool(tracking.status()["alarms"]), began[-1])
    shown = tracking.status()
    assert shown["state"] == "down" and "no such kernel" in shown["problem"]
    assert [alarm["key"] for alarm in shown["alarms"]] == ["conntrack"]


def test_a_silent_agent_ends_what_is_told_at_once_and_it_comes_back(
    tmp_path: Path, tracking: ConnectionTracking, told: list[str]
) -> None:
    tracking.configure(setup(tmp_path / "c", program=stand_in(tmp_path)))
    now_s = ticked(tracking, lambda: running(tracking))
    tracking.before_active()
    tracking.after_active()
    tracking.stop_now()
    tracking.after_passive()
    assert tracking._process is not None
    tracking._process.wait(10)
    for later_s in (0.5, 1.0, 2.4):
        tracking.tick(now_s + later_s)
        assert tracking._process is None, "with its address the kernel ends connections: nobody must hear of that"
    ticked(tracking, lambda: running(tracking), now_s + 2.5)
    assert not tracking.status()["alarms"]


def test_a_failed_commit_lets_packets_pass(tmp_path: Path, tracking: ConnectionTracking, told: list[str]) -> None:
    program = Path(stand_in(tmp_path))
    tracking.configure(setup(tmp_path / "c", program=str(program)))
    ticked(tracking, lambda: running(tracking))
    script = program.read_text()
    program.write_text(script.replace("shift 2;", 'shift 2; [ "$1" = -c ] && exit 1;'))
    os.utime(program)
    told.clear()
    tracking.before_active()
    tracking.after_active()
    assert told == [holding(False)]
    assert tracking.status()["last_commit"] is None
