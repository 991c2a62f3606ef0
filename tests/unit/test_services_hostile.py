"""Services, hooks and checks that misbehave: they take nothing along, and nothing grows without bound."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import pytest

from flask_hsmx_cluster.config import Config
from flask_hsmx_cluster.errors import ClusterError, ConfigError
from flask_hsmx_cluster.network.clock import boot_time_s
from flask_hsmx_cluster.services import commands, conntrack, firmware, packet_rules, pppd
from flask_hsmx_cluster.services import runner as runner_module
from flask_hsmx_cluster.services.checks import Checks
from flask_hsmx_cluster.services.commands import CommandFailed, Program
from flask_hsmx_cluster.services.conductor import Conductor
from flask_hsmx_cluster.services.declare import service_from
from flask_hsmx_cluster.services.firmware import FirmwareServices
from flask_hsmx_cluster.services.hooks import Hooks
from flask_hsmx_cluster.services.pppd import Connection, Pppd
from flask_hsmx_cluster.services.process import Process
from flask_hsmx_cluster.services.runner import AppNotLoaded, Runner
from flask_hsmx_cluster.services.situation import Situation

from ..waiting import within
from .test_services import SLEEP, processes
from .test_services_order import Noting


@pytest.fixture
def services(tmp_path: Path) -> Iterator[FirmwareServices]:
    services = FirmwareServices()
    yield services
    with suppress(ClusterError):
        services.configure({"services": []})


# Programs ---------------------------------------------------------------------------------------------------


def test_what_a_program_prints_takes_no_more_than_so_much_memory(tmp_path: Path) -> None:
    done = tmp_path / "done"
    program = Program(["/bin/sh", "-c", f"yes no good | head -c 9000000; touch {done}; sleep 3600"], str(tmp_path))
    assert within(60, done.exists)
    assert program._output is not None and os.fstat(program._output.fileno()).st_size == commands.OUTPUT_MOST
    with pytest.raises(CommandFailed, match="not done within"):
        program.succeed(0)


def test_of_megabytes_a_short_line_is_told() -> None:
    for printed in ("yes 'no good' | head -c 3000000", "head -c 3000000 /dev/zero", "printf 'x%.0s' $(seq 9000)"):
        with pytest.raises(CommandFailed) as caught:
            Program(["/bin/sh", "-c", f"{printed} 2>/dev/null; exit 3"], "").succeed(60)
        assert "failed with status 3" in caught.value.message and len(caught.value.message) < 300


@pytest.mark.parametrize("part", ["\ud800", "a\0b"])
def test_a_text_that_can_be_no_argument_is_refused_or_fails_in_words(part: str) -> None:
    with pytest.raises(ConfigError, match="list of texts"):
        service_from({"name": "x", "run": ["/bin/echo", part]})
    with pytest.raises(CommandFailed, match="cannot be started"):
        Program(["/bin/echo", part], "")
    with pytest.raises(CommandFailed, match="cannot be started"):
        Program(["/bin/echo"], "", environment={"HSMX_CLUSTER_REASON": part})


@pytest.mark.parametrize("unit", [5, ["a.service"], {}, True])
def test_a_unit_that_is_no_text_is_named(unit: Any) -> None:
    if unit:
        with pytest.raises(ConfigError, match="unit must be a text"):
            service_from({"name": "x", "unit": unit})
    else:
        with pytest.raises(ConfigError):
            service_from({"name": "x", "unit": unit})


@pytest.mark.parametrize("key", ["SERVICES", "HOOKS", "CONNTRACK", "PASSIVE_INTERNET", "PPPD", "OWN_ADDRESSES"])
@pytest.mark.parametrize(
    "value", ["[" * 100_000, "9" * 5000, b"[]", {"a": 1}, [[]], ["[["], 7, object(), "NaN", "\ud800"])
def test_a_key_of_a_wrong_type_is_named(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"HSMX_CLUSTER_{key} "):
        Config.load({"HSMX_CLUSTER_FIRMWARE_VERSION": "1", f"HSMX_CLUSTER_{key}": value})


# Services ---------------------------------------------------------------------------------------------------


def test_one_that_cannot_be_told_to_stop_hinders_no_other(
    services: FirmwareServices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No process can be made, as when a service has forked without end."""
    stated = [
        {"name": "loop", "run": SLEEP},
        {"name": "x", "start": ["/bin/true"], "stop": ["/bin/true"], "status": ["/bin/true"]},
    ]  # fmt: skip
    services.configure({"owner": str(tmp_path), "services": stated})

    def none(*_arguments: Any, **_options: Any) -> Program:
        raise CommandFailed("/bin/true cannot be started: Resource temporarily unavailable.")

    for stop in (services.before_passive, services.stop_now):
        services.after_active()
        assert within(10, lambda: processes(f"{tmp_path}:loop"))
        with monkeypatch.context() as patched:
            patched.setattr(firmware, "Program", none)
            if stop == services.before_passive:
                with pytest.raises(CommandFailed, match="x could not be stopped"):
                    stop()
            else:
                stop()
            assert within(10, lambda: not processes(f"{tmp_path}:loop"))
        services.tick(boot_time_s())


def test_one_that_goes_to_the_background_is_not_there_once_more_each_time(
    services: FirmwareServices, tmp_path: Path
) -> None:
    starts = tmp_path / "starts"
    forks = ["/bin/sh", "-c", f"setsid sleep 3600 & echo >> {starts}; exit 0"]
    services.configure({"owner": str(tmp_path), "services": [{"name": "forks", "run": forks}]})
    services.after_active()
    [managed] = services._all
    for at in range(1, 9):
        assert within(10, lambda: managed.program is None or managed.program.code() is not None)
        services.tick(boot_time_s() + 100 * at)
        assert within(10, lambda: len(processes(f"{tmp_path}:forks")) <= 1)
    assert within(10, lambda: len(starts.read_text()) >= 4)
    services.before_passive()
    assert within(10, lambda: not processes(f"{tmp_path}:forks"))


def test_a_participant_that_breaks_has_the_others_set_up_once() -> None:
    class Broken(Noting):
        def configure(self, setup: Any) -> None:
            raise PermissionError(13, "Permission denied")

    log: list[str] = []
    conductor = Conductor([Broken("first", log), Noting("second", log)], lambda *_: None, lambda *_: None)
    for _ in range(2):
        with pytest.raises(ClusterError, match="Permission denied"):
            conductor.configure({"first": {"a": 1}, "second": {"b": 2}})
    assert [line for line in log if "configure" in line] == ["second configure {'b': 2}"]


def test_what_fails_in_ever_other_words_floods_no_events() -> None:
    class Prompt:
        told: ClassVar[list[dict[str, Any]]] = []

        def write(self, message: dict[str, Any]) -> None:
            if message.get("participant") == "x":
                self.told.append(message)

    process = Process(Prompt(), Prompt())  # type: ignore[arg-type]
    for at in range(100):
        process._failed("x", "tick", ClusterError(f"It failed at {at}."))
    assert [one["error"]["message"] for one in Prompt.told] == ["It failed at 0."]
    process._failed("x", "after_active", ClusterError("It failed at a change."))
    assert len(Prompt.told) == 2, "changes of the role are always told"


# Callables of the app ---------------------------------------------------------------------------------------


def test_what_is_no_answer_is_passed_over() -> None:
    runner = Runner()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    runner._socket = ours
    reader = threading.Thread(target=runner._read, args=(ours, runner._waiting), daemon=True)
    reader.start()

    def answer() -> None:
        number = json.loads(theirs.recv(65536))["id"]
        for data in (b"\xff", b"[]", b"{}", b"[" * 60_000, b'{"id": [], "error": ""}', b'{"id": 1e999, "error": 1}'):
            theirs.send(data)
        for _ in range(2):  # it has forked
            theirs.send(json.dumps({"id": number, "error": "no\x1b good" + "!" * 1000}).encode())

    for _ in range(2):
        answering = threading.Thread(target=answer, daemon=True)
        answering.start()
        with pytest.raises(CommandFailed, match=r"^no good!{293}"):
            runner.call(0, 20.0, None)
        answering.join(10)  # it sends once more than the call waits for
    theirs.close()
    reader.join(10)
    assert not reader.is_alive()


def test_the_end_of_a_process_that_has_not_read_everything_is_seen() -> None:
    """The connection is reset then, not only closed."""
    runner = Runner()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    runner._socket, runner.ready = ours, True
    ours.send(b"never read")
    theirs.close()
    runner._read(ours, runner._waiting)
    assert not runner.ready
    with pytest.raises(AppNotLoaded):
        runner.call(0, 20.0, None)


def test_a_call_whose_process_has_ended_says_nothing_of_the_callable() -> None:
    """What it has forked keeps the connection open."""
    runner = Runner()
    runner._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    runner._program = Program(["/bin/true"], "nobody")
    runner._program.wait(20)
    with theirs, runner._socket, pytest.raises(AppNotLoaded):
        runner.call(0, 0.0, None)


def test_an_app_that_cannot_be_loaded_is_loaded_ever_more_rarely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, starts = [1000.0], tmp_path / "starts"
    monkeypatch.setattr(runner_module, "boot_time_s", lambda: now[0])
    runner = Runner()
    runner.use("hooks", ("/bin/sh", "-c", f"echo >> {starts}"), str(tmp_path))
    for _ in range(3600):
        runner.keep()
        if runner._program is not None:
            runner._program.wait(60)
        now[0] += 1
    runner.use("hooks", (), str(tmp_path))
    assert 20 <= len(starts.read_text()) <= 30, "in an hour"


def test_a_process_that_reads_nothing_any_more_keeps_nobody_waiting() -> None:
    runner = Runner()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    runner._socket = ours
    with theirs, suppress(BlockingIOError):
        while True:
            ours.send(b"x" * 1000, socket.MSG_DONTWAIT)
    with ours, pytest.raises(CommandFailed, match="not done within"):
        runner.call(0, 0.0, None)


def test_hooks_that_fork_or_free_themselves_or_close_everything(tmp_path: Path) -> None:
    app = tmp_path / "hooked.py"
    app.write_text(
        "import os, signal, sys, time\nfrom flask import Flask\nfrom flask_hsmx_cluster import HSMXCluster\n"
        "app = Flask(__name__)\napp.config['HSMX_CLUSTER_FIRMWARE_VERSION'] = '1'\n"
        "cluster = HSMXCluster(app, allow_unprotected=True)\n"
        "@cluster.hook('after_active')\ndef forks(change): os.fork(); os.fork()\n"
        "@cluster.hook('after_active')\ndef frees(change):\n"
        "    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})\n"
        "    time.sleep(3600)\n"
        "@cluster.hook('after_active')\ndef closes(change): os.closerange(0, 1000)\n"
        "@cluster.hook('after_active')\ndef exits(change): sys.exit(0)\n"
        "@cluster.hook('after_active')\ndef odd(change):\n"
        "    class Odd(Exception):\n        def __str__(self): raise ValueError\n    raise Odd\n"
        "@cluster.hook('after_active')\ndef prints(change): print('x' * 1_000_000); sys.stderr.write('y' * 10)\n"
    )
    command = [sys.executable, "-m", "flask", "--app", str(app), "cluster", "hooks"]
    names = ("forks", "frees", "closes", "exits", "odd", "prints")
    stated = [{"name": name, "step": "after_active", "order": number, "number": number,
               "limit_s": 0.3 if name == "frees" else 20.0} for number, name in enumerate(names)]  # fmt: skip
    hooks = Hooks(Situation("because", 7), Runner())
    hooks.configure({"owner": str(tmp_path), "hooks": stated, "runner": command})
    try:
        assert within(60, lambda: hooks.status()["ready"])
        for _ in range(2):
            with pytest.raises(CommandFailed):
                hooks.after_active()
            outcome = {one["name"]: one["problem"] for one in hooks.status()["hooks"]}
            assert outcome["forks"] == outcome["prints"] == ""
            assert "not done within" in outcome["frees"] and "status 1" in outcome["closes"]
            assert "SystemExit" in outcome["exits"] and "status 1" in outcome["odd"]
            assert within(10, lambda: len(processes(f"{tmp_path}:app")) == 1), "only the one that has the app is left"
    finally:
        hooks.configure({})
    assert within(10, lambda: not processes(f"{tmp_path}:app"))


def test_a_check_that_cannot_even_be_started_ends_no_other(tmp_path: Path) -> None:
    checks = Checks(Runner())
    looks = [{"name": name, "every_s": 0.1, "command": ["/bin/true"]} for name in ("broken", "fine")]
    checks.configure({"owner": "x\0", "checks": looks[:1]})
    assert within(20, lambda: "cannot be started" in checks.status()["checks"][0]["problem"])
    checks.configure({"owner": str(tmp_path), "checks": looks[1:]})
    assert within(20, lambda: checks.status()["checks"][0]["state"] == "good")
    checks.configure({})


# Tools ------------------------------------------------------------------------------------------------------


def test_what_a_tool_prints_need_not_be_text(tmp_path: Path) -> None:
    tool = tmp_path / "conntrackd"
    tool.write_text("#!/bin/sh\nprintf '\\377 \\000 7'\n")
    tool.chmod(0o755)
    assert packet_rules.run(str(tool)) == "\ufffd \0 7"
    tool.write_text("#!/bin/sh\nprintf '\\377' >&2; exit 3\n")
    with pytest.raises(ClusterError, match="conntrackd: \ufffd"):
        packet_rules.run(str(tool))


def test_a_port_with_an_odd_name_keeps_no_address_from_being_known(tmp_path: Path) -> None:
    tool = tmp_path / "ip"
    port = '{"ifname": "a\x1b[2J\u202e", "addr_info": [{"local": "10.0.0.1", "valid_life_time": 4294967295}]}'
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        for said, found in ((f"[{port}]", ["10.0.0.1"]), ("[", None)):
            tool.write_text(f"#!/bin/sh\ncat <<'END'\n{said}\nEND\n")
            tool.chmod(0o755)
            if found is None:
                with pytest.raises(ClusterError, match="cannot be read"):
                    packet_rules.own_addresses()
            else:
                assert [str(one) for one in packet_rules.own_addresses()] == found


def test_of_conntrackds_words_the_last_are_told(tmp_path: Path) -> None:
    file = tmp_path / "output"
    assert conntrack._end_of(file) == ""
    file.write_bytes(b"x" * 5_000_000 + b"\n\xff no\n")
    assert conntrack._end_of(file).endswith("\n\ufffd no\n") and len(conntrack._end_of(file)) <= 4096


# pppd -------------------------------------------------------------------------------------------------------


def test_a_log_without_end_keeps_nobody_waiting(tmp_path: Path) -> None:
    program = tmp_path / "pppd"
    program.write_text("#!/bin/sh\nexec yes 'PPP session is 7'\n")
    program.chmod(0o755)
    run = Pppd(Connection("fibre", "lo", "hotel", "geheim"), str(program), tmp_path)
    run.start()
    assert within(60, lambda: not run.read())
    assert run.told.fault == "pppd fills its log without end." and run.code is not None
    assert len(run._rest) <= pppd.LONGEST_LOG_LINE
