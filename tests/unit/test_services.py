"""What follows the role, with real programs: when they run, how they end, and that one that hangs stops nothing."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from flask_hsmx_cluster.agent.heartbeat.services_hand import (
    ACTIVE,
    BEFORE_ACTIVE,
    BEFORE_PASSIVE,
    ServicesHand,
    ServicesLink,
)
from flask_hsmx_cluster.decision import events
from flask_hsmx_cluster.decision.model import Term
from flask_hsmx_cluster.errors import ClusterError, ConfigError
from flask_hsmx_cluster.network.clock import boot_time_s
from flask_hsmx_cluster.services import runner as runner_module
from flask_hsmx_cluster.services.checks import Checks
from flask_hsmx_cluster.services.commands import CommandFailed, Program, end_left_behind
from flask_hsmx_cluster.services.declare import Statement, hook_from, service_from
from flask_hsmx_cluster.services.firmware import FirmwareServices
from flask_hsmx_cluster.services.hooks import Hooks
from flask_hsmx_cluster.services.runner import AppNotLoaded, Runner
from flask_hsmx_cluster.services.situation import Situation

from ..waiting import within

SLEEP = ["/bin/sleep", "3600"]


def processes(mark: str) -> list[int]:
    """Return the processes that carry a mark."""
    found = []
    for directory in Path("/proc").iterdir():
        try:
            if directory.name.isdigit() and f"={mark}\0".encode() in (directory / "environ").read_bytes():
                found.append(int(directory.name))
        except OSError:
            continue
    return found


def programs(mark: str) -> list[int]:
    """Return those that another one of them has not forked."""
    found = processes(mark)
    with suppress(OSError):
        parents = {one: int(Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()[1]) for one in found}
        return [one for one in found if parents[one] not in found]
    return programs(mark)  # one has just ended


# What is stated -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        ({"run": SLEEP}, "name is missing"),
        ({"name": "x"}, "how to run it, in one way"),
        ({"name": "x", "run": SLEEP, "unit": "x.service"}, "how to run it, in one way"),
        ({"name": "x", "run": "sleep 1"}, "run must be a list"),
        ({"name": "x", "run": ["sleep"]}, "absolute path"),
        ({"name": "x", "run": ["/bin/sleep", "a\0b"]}, "run must be a list"),
        ({"name": "x", "start": SLEEP}, "belong together"),
        ({"name": "x", "unit": "--now x.service"}, "no name of a systemd unit"),
        ({"name": "x", "run": SLEEP, "runs_on": "passive"}, "runs_on must not be 'passive'"),
        ({"name": "x", "run": SLEEP, "when": "later"}, "when must not be"),
        ({"name": "x", "run": SLEEP, "limit_s": 0}, "limit_s must be"),
        ({"name": "x", "run": SLEEP, "limit_s": float("nan")}, "limit_s must be"),
        ({"name": "x", "run": SLEEP, "shell": True}, "'shell' is not known"),
        ({"name": "", "run": SLEEP}, "its name must"),
        (["x"], "is not a mapping"),
    ],
)
def test_a_service_that_cannot_work_is_refused_in_words(stated: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        service_from(stated)
    assert caught.value.remedy


def test_hooks_of_the_configuration_are_commands() -> None:
    assert hook_from({"name": "x", "step": "after_active", "command": SLEEP}).command == tuple(SLEEP)
    for stated in ({"name": "x", "step": "after_active"}, {"name": "x", "step": "after_active", "number": 0},
                   {"name": "x", "step": "later", "command": SLEEP}):  # fmt: skip
        with pytest.raises(ConfigError):
            hook_from(stated)


def test_a_statement_survives_its_way_to_the_agent() -> None:
    hook = hook_from({"name": "y", "step": "after_active", "command": SLEEP})
    stated = Statement((service_from({"name": "x", "run": SLEEP}),), (hook,), (), ("/bin/flask",))
    assert Statement.from_json(stated.to_json()) == stated
    with pytest.raises(ConfigError, match="twice"):
        Statement((stated.services[0], stated.services[0]))
    for text in ("{", "[]", '{"services": [1], "hooks": [], "checks": [], "runner": []}'):
        with pytest.raises(ConfigError):
            Statement.from_json(text)


# Programs ---------------------------------------------------------------------------------------------------


def test_a_program_that_is_too_slow_is_ended_with_all_that_it_began(tmp_path: Path) -> None:
    program = Program(["/bin/sh", "-c", "sleep 3600 & wait"], str(tmp_path))
    assert within(10, lambda: len(processes(str(tmp_path))) == 2)
    with pytest.raises(CommandFailed, match="not done within"):
        program.succeed(0)
    assert within(10, lambda: not processes(str(tmp_path)))


def test_why_a_program_failed_is_said() -> None:
    with pytest.raises(CommandFailed, match="failed with status 3: no lease file"):
        Program(["/bin/sh", "-c", "echo first; echo no lease file. >&2; exit 3"], "").succeed(10)


def test_what_a_program_has_left_behind_is_found_by_its_mark(tmp_path: Path) -> None:
    Program(["/bin/sh", "-c", "setsid sleep 3600 & exit 0"], str(tmp_path)).succeed(10)
    assert within(10, lambda: [Path(f"/proc/{at}/comm").read_text() for at in processes(str(tmp_path))] == ["sleep\n"])
    assert end_left_behind(str(tmp_path)) == 1
    assert within(10, lambda: not processes(str(tmp_path)))


# The firmware's services ------------------------------------------------------------------------------------


@pytest.fixture
def firmware(tmp_path: Path) -> Iterator[FirmwareServices]:
    services = FirmwareServices()
    yield services
    with suppress(ClusterError):  # one cannot be stopped
        services.configure({"services": []})


def configure(services: FirmwareServices, tmp_path: Path, *stated: dict[str, Any]) -> None:
    services.configure({"owner": str(tmp_path), "services": list(stated)})


def runs(services: FirmwareServices) -> list[str]:
    return [one["name"] for one in services.status()["services"] if one["runs"]]


def test_each_runs_where_and_when_it_should(firmware: FirmwareServices, tmp_path: Path) -> None:
    configure(firmware, tmp_path, {"name": "late", "run": SLEEP}, {"name": "early", "run": SLEEP, "when": "before"},
              {"name": "both", "run": SLEEP, "runs_on": "both"})  # fmt: skip
    firmware.tick(boot_time_s())
    assert runs(firmware) == ["both"]
    firmware.before_active()
    assert runs(firmware) == ["early", "both"]
    firmware.after_active()
    assert runs(firmware) == ["late", "early", "both"]
    firmware.tick(boot_time_s())
    firmware.before_passive()
    assert runs(firmware) == ["both"]
    firmware.after_passive()
    firmware.tick(boot_time_s())
    assert runs(firmware) == ["both"] and not processes(f"{tmp_path}:late")


def test_one_that_dies_is_started_again_ever_later_and_that_is_an_alarm(
    firmware: FirmwareServices, tmp_path: Path
) -> None:
    configure(firmware, tmp_path, {"name": "dies", "run": ["/bin/false"]})
    firmware.after_active()
    now = boot_time_s()
    for again in (1, 2, 3):
        def died(again: int = again, now: float = now) -> bool:
            firmware.tick(now)
            return bool(firmware.status()["services"][0]["restarts"] == again)

        assert within(10, died)
        firmware.tick(now)
        assert runs(firmware) == [], "not at once"
        now += 2 ** (again - 1)
        firmware.tick(now)
    [alarm] = firmware.status()["alarms"]
    assert "ended with status 1" in alarm["text"] and alarm["remedy"]


def test_nothing_starts_once_it_must_be_stopped_at_once(firmware: FirmwareServices, tmp_path: Path) -> None:
    """The agent is silent while a start is under way: it ends, and no other one begins."""
    started, stopped = tmp_path / "started", tmp_path / "stopped"
    configure(
        firmware, tmp_path,
        {"name": "slow", "start": ["/bin/sh", "-c", f"touch {started}; sleep 3600"], "limit_s": 60,
         "stop": ["/bin/touch", str(stopped)], "status": ["/bin/false"]},
        {"name": "next", "run": SLEEP},
    )  # fmt: skip
    refused: list[ClusterError] = []

    def become_active() -> None:
        try:
            firmware.after_active()
        except ClusterError as error:
            refused.append(error)

    thread = threading.Thread(target=become_active)
    thread.start()
    assert within(10, started.exists)
    firmware.stop_now()
    thread.join(30)
    assert refused and runs(firmware) == [] and within(10, stopped.exists)
    assert within(10, lambda: all(one.code() is not None for one in firmware._loose))
    firmware.tick(boot_time_s())
    assert runs(firmware) == [] and not processes(f"{tmp_path}:next")


def test_what_a_program_has_begun_ends_with_it(firmware: FirmwareServices, tmp_path: Path) -> None:
    """Its children would be a second daemon: on the other gateway, or beside the one that is started again."""
    child = tmp_path / "child"
    deaf = f"trap \"\" TERM; touch {child}; while :; do sleep 0.05; done"
    leaves = f"sh -c '{deaf}' & while [ ! -e {tmp_path}/end ]; do sleep 0.02; done"
    configure(firmware, tmp_path, {"name": "x", "run": ["/bin/sh", "-c", leaves]})
    firmware.after_active()
    assert within(10, child.exists)
    (tmp_path / "end").touch()

    def died() -> bool:
        firmware.tick(0.0)
        return bool(firmware.status()["services"][0]["problem"])

    assert within(10, died) and within(10, lambda: not processes(f"{tmp_path}:x"))
    (tmp_path / "end").unlink()
    child.unlink()
    firmware.after_active()
    assert within(10, child.exists)
    firmware.stop_now()
    assert within(10, lambda: not processes(f"{tmp_path}:x"))


def test_commands_are_believed_and_one_that_runs_on_the_passive_is_stopped(
    firmware: FirmwareServices, tmp_path: Path
) -> None:
    flag = tmp_path / "runs"
    flag.touch()
    stated = {"name": "x", "start": ["/usr/bin/touch", str(flag)], "stop": ["/bin/rm", str(flag)],
              "status": ["/usr/bin/test", "-e", str(flag)]}  # fmt: skip
    configure(firmware, tmp_path, stated)
    firmware.tick(boot_time_s())
    assert not flag.exists() and runs(firmware) == []
    firmware.after_active()
    assert flag.exists() and runs(firmware) == ["x"]
    firmware.before_passive()
    assert not flag.exists()


def test_one_that_cannot_be_stopped_is_an_alarm(firmware: FirmwareServices, tmp_path: Path) -> None:
    stated = {"name": "x", "start": ["/bin/true"], "stop": ["/bin/sh", "-c", "echo busy; exit 1"],
              "status": ["/bin/true"]}  # fmt: skip
    configure(firmware, tmp_path, stated)
    firmware.after_active()
    with pytest.raises(CommandFailed, match="could not be stopped"):
        firmware.before_passive()
    [alarm] = firmware.status()["alarms"]
    assert "still runs on the passive gateway" in alarm["text"] and "busy" in alarm["text"]


# Hooks ------------------------------------------------------------------------------------------------------


def test_hooks_are_called_in_order_with_what_they_are_to_know_and_without_privileges(tmp_path: Path) -> None:
    hooks, notes = Hooks(Situation("because", 7), Runner()), tmp_path / "notes"
    words = f'echo {{}} $HSMX_CLUSTER_ROLE $HSMX_CLUSTER_TERM "$HSMX_CLUSTER_REASON" >> {notes}'

    def hook(name: str, order: int) -> dict[str, Any]:
        command = ["/bin/sh", "-c", words.format(name)]
        return {"name": name, "step": "after_active", "order": order, "command": command}

    broken = {"name": "broken", "step": "after_active", "order": 2, "command": ["/bin/false"]}
    hooks.configure({"owner": str(tmp_path), "hooks": [hook("last", 3), broken, hook("first", 1)], "runner": []})
    with pytest.raises(CommandFailed, match="Hook broken"):
        hooks.after_active()
    hooks.before_passive()
    assert notes.read_text() == "first active 7 because\nlast active 7 because\n"
    [alarm] = hooks.status()["alarms"]
    assert alarm["key"] == "hook_after_active_broken" and alarm["remedy"]


# The process ------------------------------------------------------------------------------------------------


@pytest.fixture
def link() -> Iterator[ServicesLink]:
    link = ServicesLink()
    link.start()
    yield link
    link.stop()


def stages(hand: ServicesHand, seconds: float = 20) -> list[events.Event]:
    found: list[events.Event] = []

    def heard() -> bool:
        found.extend(hand.receive() or [])
        return bool(found)

    within(seconds, heard)
    return found


def test_the_process_does_as_the_agent_says_and_ends_everything_with_it(link: ServicesLink, tmp_path: Path) -> None:
    notes: list[str] = []
    hand = ServicesHand(link, lambda kind, severity, text, evidence: notes.append(text))
    hand.awaited = {BEFORE_ACTIVE, BEFORE_PASSIVE}
    services = [{"name": "x", "run": SLEEP}, {"name": "bad", "run": ["/not/there"]}]
    setup = {"bound_s": 600.0, "participants": {"services": {"owner": str(tmp_path), "services": services}}}
    link.ask("configure", setup=setup)
    term = Term(4, "a")
    assert hand.go(BEFORE_ACTIVE, "why", term)
    assert stages(hand) == [events.ServicesReady(term, False)]
    assert not hand.go(ACTIVE, "why", term)
    assert within(20, lambda: processes(f"{tmp_path}:x"))
    for _ in range(3):
        hand.pet(boot_time_s())
    assert hand.go(BEFORE_PASSIVE, "why", term)
    assert stages(hand) == [events.ServicesReady(term, True)] and not processes(f"{tmp_path}:x")
    hand.go(ACTIVE, "why", term)
    assert within(20, lambda: processes(f"{tmp_path}:x"))
    os.kill(link._process.pid, signal.SIGKILL)  # type: ignore[union-attr]
    assert within(20, lambda: not processes(f"{tmp_path}:x"))


def test_a_silent_agent_is_as_good_as_dead(link: ServicesLink, tmp_path: Path) -> None:
    hand = ServicesHand(link, lambda *told: None)
    services = [{"name": "x", "run": SLEEP}]
    setup = {"bound_s": 600.0, "participants": {"services": {"owner": str(tmp_path), "services": services}}}
    link.ask("configure", setup=setup)
    hand.go(ACTIVE, "why", Term(4, "a"))
    assert within(20, lambda: processes(f"{tmp_path}:x"))
    link.ask("configure", setup={**setup, "bound_s": 0.01})
    hand.pet(boot_time_s() - 5)  # what waited in the socket for too long says nothing any more
    assert within(20, lambda: not processes(f"{tmp_path}:x"))
    assert within(20, lambda: link.ask("look")["stage"] == "after_passive")
    link.ask("configure", setup=setup)
    hand.pet(boot_time_s())
    assert within(20, lambda: processes(f"{tmp_path}:x")), "it has only stood still"


def test_the_app_is_loaded_once_and_each_callable_has_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = tmp_path / "hooked.py"
    app.write_text(
        "import os, subprocess\nfrom flask import Flask, current_app\nfrom flask_hsmx_cluster import HSMXCluster\n"
        "app = Flask(__name__)\napp.config['HSMX_CLUSTER_FIRMWARE_VERSION'] = '1'\n"
        "cluster = HSMXCluster(app, allow_unprotected=True)\n"
        "@cluster.hook('after_active')\n"
        f"def good(change): open({str(tmp_path / 'notes')!r}, 'a').write(f'{{current_app.name}} {{change}}\\n')\n"
        "@cluster.hook('after_active', order=-1, limit_s=0.2)\ndef hangs(change): subprocess.run(['sleep', '3600'])\n"
        "@cluster.hook('after_active', order=-2)\ndef crashes(change): os.abort()\n"
        "@cluster.hook('after_active', order=-3)\ndef fails(change): raise ValueError('no good')\n"
        "cluster.health_check('fine', lambda: None)\ncluster.health_check('poor', lambda: False)\n"
    )
    command = [sys.executable, "-m", "flask", "--app", str(app), "cluster", "hooks"]
    names = ("good", "hangs", "crashes", "fails")
    stated = [{"name": name, "step": "after_active", "order": -number, "number": number,
               "limit_s": 0.2 if name == "hangs" else 20.0} for number, name in enumerate(names)]  # fmt: skip
    looks = [{"name": name, "every_s": 0.1, "limit_s": 20.0, "number": number}
             for number, name in ((4, "fine"), (5, "poor"))]  # fmt: skip
    runner = Runner()
    hooks, checks = Hooks(Situation("because", 7), runner), Checks(runner)
    hooks.configure({"owner": str(tmp_path), "hooks": stated, "runner": command})
    checks.configure({"owner": str(tmp_path), "checks": looks, "runner": command})
    try:
        assert within(60, lambda: hooks.status()["ready"])
        [program] = programs(f"{tmp_path}:app")  # both use the same one
        with pytest.raises(CommandFailed) as caught:
            hooks.after_active()
        for words in ("ValueError: no good", "status -6", "not done within"):
            assert words in caught.value.message
        assert "role='active', reason='because', term=7" in (tmp_path / "notes").read_text()
        assert within(20, lambda: not any(b"sleep" in Path("/proc", str(one), "comm").read_bytes()
                                          for one in processes(f"{tmp_path}:app")))  # fmt: skip
        assert within(60, lambda: [one["state"] for one in checks.status()["checks"]] == ["good", "bad"])
        [alarm] = checks.status()["alarms"]
        assert "Check poor fails on this gateway: it says no." in alarm["text"]
        monkeypatch.setattr(runner_module, "AGAIN_S", 3600.0)
        assert within(20, lambda: runner._again_s == 3600), "from the next answer on"
        os.kill(program, signal.SIGKILL)
        assert within(60, lambda: hooks.tick(boot_time_s()) or not hooks.status()["ready"])
        with pytest.raises(AppNotLoaded):
            runner.call(4, 20.0, None)
        assert checks.status()["checks"][0]["state"] == "good", "that says nothing of this gateway's health"
        assert "hooks_app" not in str(hooks.status()["alarms"])
        monkeypatch.setattr(runner_module, "LOAD_MOST_S", 0.0)
        assert "hooks_app" in str(hooks.status()["alarms"]), "that nobody is called is known"
        runner._again_s = 0.0

        def again() -> bool:
            hooks.tick(boot_time_s())
            return len(programs(f"{tmp_path}:app")) == 1 and bool(hooks.status()["ready"])

        assert within(60, again), "it is started again"
    finally:
        checks.configure({})
        hooks.configure({})
    assert within(10, lambda: not processes(f"{tmp_path}:app"))


def test_the_end_of_the_process_with_the_app_is_seen_whatever_it_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a callable has forked keeps the connection open, and would be taken for the process that is gone."""
    monkeypatch.setattr(runner_module, "AGAIN_S", 3600.0)
    app = tmp_path / "hooked.py"
    app.write_text(
        "import os, signal\nfrom flask import Flask\nfrom flask_hsmx_cluster import HSMXCluster\n"
        "app = Flask(__name__)\napp.config['HSMX_CLUSTER_FIRMWARE_VERSION'] = '1'\n"
        "cluster = HSMXCluster(app, allow_unprotected=True)\n"
        "@cluster.hook('after_active')\ndef forks(change):\n    if os.fork() == 0: signal.pause()\n"
    )
    command = [sys.executable, "-m", "flask", "--app", str(app), "cluster", "hooks"]
    stated = [{"name": "forks", "step": "after_active", "number": 0}]
    runner = Runner()
    hooks = Hooks(Situation("because", 7), runner)
    hooks.configure({"owner": str(tmp_path), "hooks": stated, "runner": command})
    try:
        assert within(60, lambda: hooks.status()["ready"])
        [program] = programs(f"{tmp_path}:app")
        hooks.after_active()
        assert within(20, lambda: len(processes(f"{tmp_path}:app")) == 2)
        os.kill(program, signal.SIGKILL)
        assert within(20, lambda: hooks.tick(boot_time_s()) or not hooks.status()["ready"])
        with pytest.raises(AppNotLoaded):
            runner.call(0, 20.0, None)
        assert within(20, lambda: not processes(f"{tmp_path}:app")), "nobody looks after it any more"
    finally:
        hooks.configure({})


def test_a_check_that_is_a_command(tmp_path: Path) -> None:
    checks, flag = Checks(Runner()), tmp_path / "flag"
    command = ["/usr/bin/test", "-e", str(flag)]
    checks.configure({"checks": [{"name": "flag", "every_s": 0.1, "command": command, "moves_role": True}]})
    assert within(20, lambda: checks.status()["checks"][0]["state"] == "bad")
    assert checks.status()["alarms"][0]["severity"] == "critical"
    flag.touch()
    assert within(20, lambda: checks.status()["checks"][0]["state"] == "good")
    checks.configure({})
