"""The participant: when it dials, when it waits, and how it ends. A script stands in for pppd."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flask_hsmx_cluster.errors import ClusterError, RequestRefused
from flask_hsmx_cluster.services import pppd, pppoe
from flask_hsmx_cluster.services.pppoe import PPPoE
from flask_hsmx_cluster.services.situation import Situation

UP = """echo "PPP session is 7"
echo "Connected to 02:AA:BB:CC:DD:EE via interface lo"
echo "local  IP address 10.60.0.10"
"""
STAYS = "trap 'echo Sent PADT; exit 5' TERM; while :; do sleep 0.02; done"
DEAF = "trap '' TERM; while :; do sleep 0.02; done"
ROW = {"name": "fibre", "port": "lo", "user": "hotel", "password": "secret"}
Make = Callable[..., PPPoE]


@pytest.fixture
def padts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What was told to access concentrators without pppd."""
    sent: list[tuple[Any, ...]] = []
    for module in (pppd, pppoe):
        monkeypatch.setattr(module, "send_padt", lambda *told: sent.append(told))
    return sent


@pytest.fixture
def make(tmp_path: Path, padts: list[tuple[Any, ...]]) -> Iterator[Make]:
    made = []

    def make(script: str, *rows: dict[str, Any], **setup: Any) -> PPPoE:
        program = tmp_path / "fake-pppd"
        program.write_text(f"#!/bin/sh\ndate +%s.%N >>{tmp_path}/dialled\n{script}\n")
        program.chmod(0o755)
        one = PPPoE(Situation())
        made.append(one)
        one.configure({
            "connections": list(rows or (ROW,)), "program": str(program), "directory": str(tmp_path / "pppoe"),
            "bound_s": 0.0, **setup,
        })  # fmt: skip
        return one

    yield make
    for one in made:
        one.stop_now()
        until(lambda one=one: all(row["state"] in ("down", "off") for row in one.status()["connections"]))


def shown(one: PPPoE, name: str = "fibre") -> dict[str, Any]:
    found: dict[str, Any] = next(row for row in one.status()["connections"] if row["name"] == name)
    return found


def until(condition: Callable[[], Any]) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never came to that")


def dialled(path: Path) -> int:
    file = path / "dialled"
    return len(file.read_text().split()) if file.exists() else 0


def become_active(one: PPPoE) -> None:
    """... after the other gateway has passed the role on."""
    one._situation.released = True
    one.after_active()


def is_up(one: PPPoE) -> bool:
    return shown(one)["state"] == "up"


def test_nothing_is_dialled_before_the_role(make: Make, tmp_path: Path) -> None:
    one = make(UP + STAYS)
    one.before_active()
    one.after_passive()
    one.tick(0.0)
    assert shown(one)["state"] == "down" and not dialled(tmp_path)


def test_the_role_brings_it_up_and_its_end_ends_it(make: Make, tmp_path: Path, padts: list[Any]) -> None:
    one = make(UP + STAYS)
    become_active(one)
    until(lambda: is_up(one))
    assert one.status()["alarms"] == []
    assert shown(one) | {"address": "10.60.0.10", "session": 7, "concentrator_mac": "02:aa:bb:cc:dd:ee"} == shown(one)
    one.before_passive()
    assert shown(one)["state"] == "down", "before_passive ends when the session has ended"
    assert dialled(tmp_path) == 1 and not padts, "pppd itself has told the provider"


def test_the_other_gateway_is_given_time_to_end_its_session(make: Make, tmp_path: Path) -> None:
    one = make(UP + STAYS, bound_s=600.0)
    one.after_active()
    assert shown(one)["state"] == "waiting" and "waits" in shown(one)["text"]
    with pytest.raises(RequestRefused):  # an operator has patience, too
        one.command(name="nobody", connect=True)
    one.command(name="fibre", connect=True)
    assert shown(one)["state"] == "waiting" and not dialled(tmp_path)


def test_a_pppd_that_does_not_end_is_killed_and_the_provider_told(make: Make, padts: list[Any]) -> None:
    one = make(UP + DEAF)
    become_active(one)
    until(lambda: is_up(one))
    one.before_passive()
    until(lambda: shown(one)["state"] == "down")
    assert padts and padts[0][0] == "lo" and padts[0][2:] == ("02:aa:bb:cc:dd:ee", 7)


def test_a_silent_agent_ends_it_at_once_from_any_thread(make: Make, padts: list[Any]) -> None:
    one = make(UP + STAYS)
    become_active(one)
    until(lambda: is_up(one))
    thread = threading.Thread(target=one.stop_now)
    thread.start()
    thread.join()
    assert padts, "it was told before stop_now came back"
    until(lambda: shown(one)["state"] == "down")
    for step in (one.after_active, lambda: one.tick(0.0)):  # a step that was under way begins nothing
        step()
        assert shown(one)["state"] == "down"
    one.before_active()
    become_active(one)
    until(lambda: is_up(one))


def test_a_refused_password_is_said_and_not_tried_at_once_again(make: Make, tmp_path: Path) -> None:
    one = make('echo "PAP authentication failed"; exit 19')
    become_active(one)
    until(lambda: shown(one)["state"] == "error")
    assert [(alarm["key"], alarm["severity"]) for alarm in one.status()["alarms"]] == [("pppoe_fibre", "critical")]
    assert "refused user name and password" in shown(one)["text"] and "secret" not in str(one.status())
    one.tick(0.0)
    assert dialled(tmp_path) == 1


def test_a_lost_session_is_dialled_again(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pppoe, "REDIAL_S", (0.01, 0.02))
    one = make(UP + "exit 16")
    become_active(one)
    until(lambda: dialled(tmp_path) >= 3)
    until(lambda: shown(one)["fault"] == "The provider's side has ended the session.")


def test_an_operator_disconnects_it_until_the_role_moves(make: Make) -> None:
    one = make(UP + STAYS)
    with pytest.raises(RequestRefused):
        one.command(name="fibre", connect=True)
    become_active(one)
    until(lambda: is_up(one))
    one.command(name="fibre", connect=False)
    until(lambda: shown(one)["state"] == "held")
    one.command(name="fibre", connect=True)
    until(lambda: is_up(one))
    one.command(name="fibre", connect=False)
    one.before_passive()
    become_active(one)
    until(lambda: is_up(one))


def test_a_change_touches_only_the_connection_that_changed(make: Make, tmp_path: Path) -> None:
    spare = {**ROW, "name": "spare", "enabled": False}
    one = make(UP + STAYS, ROW, spare)
    become_active(one)
    until(lambda: is_up(one))
    setup = {"program": str(tmp_path / "fake-pppd"), "directory": str(tmp_path / "pppoe"), "bound_s": 0.0}
    one.configure({**setup, "connections": [ROW, {**spare, "enabled": True}]})
    until(lambda: shown(one, "spare")["state"] == "up")
    assert is_up(one) and dialled(tmp_path) == 2
    one.configure({**setup, "connections": [{**ROW, "mtu": 1400}, {**spare, "enabled": True}]})
    until(lambda: dialled(tmp_path) == 3 and is_up(one))
    one.configure({})
    until(lambda: one.status() == {"connections": [], "alarms": []})


def test_a_connection_that_was_renamed_ends_before_it_is_dialled_again(make: Make, tmp_path: Path) -> None:
    one = make(UP + DEAF)
    become_active(one)
    until(lambda: is_up(one))
    setup = {"program": str(tmp_path / "fake-pppd"), "directory": str(tmp_path / "pppoe"), "bound_s": 0.0}
    one.configure({"connections": [{**ROW, "name": "glass"}], **setup})
    until(lambda: dialled(tmp_path) == 2)
    assert len(one._all()) == 1
    until(lambda: shown(one, "glass")["state"] == "up")


def test_the_session_that_a_dead_gateway_left_is_ended_first(make: Make, padts: list[Any]) -> None:
    left = {"name": "fibre", "session": 9, "concentrator_mac": "02:aa:bb:cc:dd:ee", "mac": "02:00:00:00:00:0b"}
    one = make(UP + STAYS, others=[left, {**left, "name": "else"}])
    one.after_active()
    until(lambda: is_up(one))
    assert padts == [("lo", "02:00:00:00:00:0b", "02:aa:bb:cc:dd:ee", 9)]


def test_what_is_not_safe_for_pppd_is_refused(make: Make) -> None:
    with pytest.raises(ClusterError):
        make(UP, {**ROW, "user": "a\nplugin evil.so"})
