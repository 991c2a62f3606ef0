"""The control socket: who may ask, what is accepted, and that nobody can wear it out."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flask_hsmx_cluster.agent import control_server
from flask_hsmx_cluster.agent.config import AgentConfig
from flask_hsmx_cluster.agent.control_server import ARGUMENTS, ControlServer
from flask_hsmx_cluster.control import (
    MAX_FINDINGS,
    MAX_LINE,
    MAX_WORDS,
    VERBS,
    ControlClient,
    error_from_dict,
    result_from_dict,
)
from flask_hsmx_cluster.errors import ChecksFailed, ConfigError, Finding, NotAllowed, RequestRefused


class FakeService:
    """Answers every verb with its name and arguments."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.failure: Exception | None = None

    def __getattr__(self, verb: str) -> Any:
        if verb not in ARGUMENTS:
            raise AttributeError(verb)

        def carry_out(**arguments: Any) -> dict[str, Any]:
            self.gate.wait(10)
            if self.failure:
                raise self.failure
            return {"verb": verb, "arguments": arguments}

        return carry_out


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def server(tmp_path: Path, service: FakeService) -> Iterator[ControlServer]:
    config = AgentConfig(str(tmp_path), str(tmp_path / "agent.sock"), "5.3", node_name="A")
    server = ControlServer(config, service)  # type: ignore[arg-type]
    server.start()
    yield server
    service.gate.set()
    server.stop()


def client(server: ControlServer) -> ControlClient:
    return ControlClient(server._path)


def raw(server: ControlServer, data: bytes, close: bool = False) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(10)
        connection.connect(str(server._path))
        try:
            connection.sendall(data)
            if close:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    found: dict[str, Any] = json.loads(answer)
    return found


def ask(server: ControlServer, verb: Any, **arguments: Any) -> dict[str, Any]:
    return raw(server, json.dumps({"verb": verb, "arguments": arguments}).encode() + b"\n")


def test_every_verb_of_the_client_is_served_and_no_other() -> None:
    from flask_hsmx_cluster.agent.service import AgentService

    assert set(ARGUMENTS) == set(VERBS)
    for verb in ARGUMENTS:
        assert callable(getattr(AgentService, verb))


def test_answers(server: ControlServer) -> None:
    assert client(server).call("events", limit=5) == {"verb": "events", "arguments": {"limit": 5}}
    assert client(server).call("leave", force=True)["arguments"] == {"force": True}


def test_mode_and_owner(server: ControlServer) -> None:
    found = server._path.stat()
    assert stat.S_IMODE(found.st_mode) == 0o660 and found.st_gid == server._path.parent.stat().st_gid


def test_strangers_are_refused(server: ControlServer) -> None:
    server._allowed.clear()
    with pytest.raises(NotAllowed, match=f"User id {os.getuid()}"):
        client(server).call("status")


@pytest.mark.parametrize(
    "line",
    [
        b"\n", b"{}\n", b"[]\n", b"null\n", b"7\n", b'{"verb": 7}\n', b'{"verb": "status", "arguments": []}\n',
        b"\xff\xfe\n", b'{"verb": "__class__"}\n', b'{"verb": "_cluster"}\n', b'{"verb": "membership"}\n',
        b'{"verb": "start"}\n', b"[" * 100_000 + b"\n",
    ],
)  # fmt: skip
def test_malformed_lines(server: ControlServer, line: bytes) -> None:
    answer = raw(server, line)
    assert answer["ok"] is False and answer["error"]["code"] == "refused"


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("status", {"x": 1}), ("events", {"limit": 0}), ("events", {"limit": 10**9}), ("events", {"limit": True}),
        ("events", {"limit": "5"}), ("events", {"before": -1}), ("propose", {"settings": {}}),
        ("propose", {"settings": [], "base_revision": 1}), ("propose", {"settings": {}, "base_revision": 1.5}),
        ("create", {}), ("join", {"address": "x" * 65, "code": "", "ends": {}}), ("leave", {"force": 1}),
        ("join", {"address": 7, "code": "", "ends": {}}), ("maintenance", {"on": "yes"}),
        ("maintenance", {"on": True, "duration_s": 1}), ("maintenance", {"on": True, "duration_s": 10**9}),
        ("resolve_conflict", {"keep": "both"}), ("resolve_conflict", {"keep": ["mine"]}), ("pair", {"message": None}),
    ],
)  # fmt: skip
def test_arguments_are_checked(server: ControlServer, verb: str, arguments: dict[str, Any]) -> None:
    answer = ask(server, verb, **arguments)
    assert answer["ok"] is False and answer["error"]["code"] == "refused"


def test_optional_arguments_may_be_null_where_documented(server: ControlServer) -> None:
    assert ask(server, "preflight", settings=None)["ok"] and ask(server, "events", before=None)["ok"]


def test_lines_are_bounded(server: ControlServer) -> None:
    assert "too long" in raw(server, b"x" * (MAX_LINE + 100_000))["error"]["message"]


def test_a_line_that_is_cut_off(server: ControlServer) -> None:
    assert "cut off" in raw(server, b'{"verb": "sta', close=True)["error"]["message"]


def test_a_slow_caller_is_cut_off(server: ControlServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_server, "READ_TIMEOUT_S", 0.2)
    begun = time.monotonic()
    assert "in time" in raw(server, b'{"verb"')["error"]["message"]
    assert time.monotonic() - begun < 2


def test_a_caller_that_vanishes_harms_nothing(server: ControlServer) -> None:
    for _ in range(20):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(str(server._path))
    _wait_until_free(server)
    assert client(server).call("status")


def test_concurrency_is_bounded_and_leaves_room_for_the_operator(server: ControlServer, service: FakeService) -> None:
    service.gate.clear()
    answers: list[dict[str, Any]] = []
    threads = [
        threading.Thread(target=lambda: answers.append(ask(server, "pair", message="AAAA")))
        for _ in range(control_server.MAX_RELAYED + 3)
    ]
    for thread in threads:
        thread.start()
    _wait_for(lambda: len(answers) == 3)
    assert all("Too many messages" in answer["error"]["message"] for answer in answers)
    operator = threading.Thread(target=lambda: answers.append(ask(server, "status")))
    operator.start()
    service.gate.set()
    for thread in (*threads, operator):
        thread.join()
    assert sum(answer["ok"] for answer in answers) == control_server.MAX_RELAYED + 1


def test_those_who_wait_for_the_other_gateway_leave_room_for_everything_else(
    server: ControlServer, service: FakeService
) -> None:
    """Pages that show a comparison ask again and again; while the other gateway was silent they took all places."""
    service.gate.clear()
    verbs = [("verified", {}), ("quarantine", {}), ("quarantine_row", {"row_id": 1}), ("peer_ports", {})] * 4
    answers: list[dict[str, Any]] = []

    def look(verb: str, arguments: dict[str, Any]) -> None:
        answers.append(ask(server, verb, **arguments))

    threads = [threading.Thread(target=look, args=each) for each in verbs]
    for thread in threads:
        thread.start()
    _wait_for(lambda: len(answers) == len(verbs) - control_server.MAX_PATIENT)
    assert all("others wait" in answer["error"]["message"] for answer in answers)
    assert server._places._value >= control_server.MAX_RELAYED + 2  # type: ignore[attr-defined]
    service.gate.set()
    for thread in threads:
        thread.join(10)
    assert sum(answer["ok"] for answer in answers) == control_server.MAX_PATIENT


def test_more_than_all_places_wait_for_one(server: ControlServer, service: FakeService) -> None:
    service.gate.clear()
    answers: list[dict[str, Any]] = []

    def look() -> None:
        answers.append(ask(server, "status"))

    threads = [threading.Thread(target=look) for _ in range(control_server.MAX_CONCURRENT + 1)]
    for thread in threads:
        thread.start()
    _wait_for(lambda: server._places._value == 0)  # type: ignore[attr-defined]
    threads[-1].join(0.1)
    assert not answers
    service.gate.set()
    for thread in threads:
        thread.join(10)
    assert len(answers) == len(threads) and all(answer["ok"] for answer in answers)


def test_a_user_with_half_sent_lines_keeps_nobody_waiting(
    server: ControlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("PROMPT_S", 0.2), ("READ_TIMEOUT_S", 600.0), ("DRAIN_TIMEOUT_S", 600.0)):
        monkeypatch.setattr(control_server, name, seconds)
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) for _ in range(20)]
        for connection in held:
            connection.connect(str(server._path))
            connection.sendall(b'{"verb"')
        assert client(server).call("status"), "who sends in one go is served meanwhile, also the same user"
        _wait_for(lambda: len(select.select(held, [], [], 0)[0]) >= len(held) - control_server.MAX_SLOW)
        answers = [json.loads(connection.recv(65536)) for connection in select.select(held, [], [], 0)[0]]
    assert len(answers) == len(held) - control_server.MAX_SLOW
    assert {answer["error"]["code"] for answer in answers} == {"refused"}
    assert all("half-sent" in answer["error"]["message"] for answer in answers)
    slow = server._slow[os.getuid()]
    _wait_for(lambda: slow._value == control_server.MAX_SLOW)  # type: ignore[attr-defined]


def test_a_line_may_come_in_pieces(server: ControlServer) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(10)
        connection.connect(str(server._path))
        for piece in (b'{"verb"', b': "sta', b'tus"}', b"\n"):
            time.sleep(2 * control_server.PROMPT_S)
            connection.sendall(piece)
        assert json.loads(connection.recv(65536))["ok"]


def test_rate_is_limited(server: ControlServer) -> None:
    bucket = server._buckets[os.getuid(), False]
    now = time.monotonic()
    taken = sum(bucket.take(now) for _ in range(500))
    assert taken in (100, 101)
    assert bucket.take(now + 0.1)
    bucket._tokens, bucket._at = 0.0, time.monotonic() + 60
    assert "Too many" in ask(server, "status")["error"]["message"]


def test_errors_keep_their_type_and_bugs_show_no_traceback(
    server: ControlServer, service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    service.failure = ChecksFailed([Finding("key", "text", "remedy", "field")])
    with pytest.raises(ChecksFailed) as failed:
        client(server).call("create", settings={})
    assert failed.value.findings[0].field == "field"
    service.failure = ZeroDivisionError("secret detail")
    with pytest.raises(RequestRefused) as refused:
        client(server).call("status")
    assert "secret" not in str(refused.value) and "secret detail" in caplog.text


def test_findings_of_any_shape_can_be_shown() -> None:
    """They may be the other gateway's."""
    odd: dict[str, Any] = {"key": [1], "text": {"a": "x" * 10**6}, "field": 7, "blocking": "no", "more": 1}
    told = {"code": "findings", "message": ["x" * 10**6], "findings": [odd] * 10_000}
    error = error_from_dict(told)
    assert isinstance(error, ChecksFailed) and len(error.message) <= MAX_WORDS
    assert len(error.findings) == MAX_FINDINGS and error.findings[0].field.split(".") == ["7"]
    assert len(error.findings[0].text) <= MAX_WORDS and error.findings[0].blocking is True
    for junk in (None, 7, "abc", [7], ["abc"], {"a": 1}):
        with pytest.raises((ValueError, ChecksFailed)):
            result_from_dict({"ok": False, "error": {**told, "findings": junk}})


def test_a_socket_left_behind_is_replaced_and_a_living_one_is_not(server: ControlServer, tmp_path: Path) -> None:
    config = AgentConfig(str(tmp_path), str(tmp_path / "agent.sock"), "5.3", node_name="A")
    second = ControlServer(config, FakeService())  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="Another agent"):
        second.start()
    server.stop()
    stale = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stale.bind(str(tmp_path / "agent.sock"))
    stale.close()
    second.start()
    assert client(second).call("status")
    second.stop()
    assert not (tmp_path / "agent.sock").exists()


def test_stop_is_quick(tmp_path: Path) -> None:
    config = AgentConfig(str(tmp_path), str(tmp_path / "s"), "5.3", node_name="A")
    server = ControlServer(config, FakeService())  # type: ignore[arg-type]
    server.start()
    begun = time.monotonic()
    server.stop()
    server.stop()
    assert time.monotonic() - begun < 1


def _wait_until_free(server: ControlServer) -> None:
    """One place is held for the next caller."""
    _wait_for(lambda: server._places._value == control_server.MAX_CONCURRENT - 1)  # type: ignore[attr-defined]


def _wait_for(condition: Any) -> None:
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("verb", ["pair", "peer"])
def test_a_flood_from_the_network_leaves_the_operator_his_rate(server: ControlServer, verb: str) -> None:
    refused = [not ask(server, verb, message="")["ok"] for _ in range(int(control_server.BURST) + 50)]
    assert any(refused), "the flood itself is limited"
    for _ in range(20):
        client(server).call("status")


def test_an_answer_that_no_caller_would_read_to_its_end_is_refused(server: ControlServer, service: FakeService) -> None:
    service.status = lambda: {"text": "x" * MAX_LINE}  # type: ignore[attr-defined]
    with pytest.raises(RequestRefused, match="too long"):
        client(server).call("status")
    service.status = lambda: {"text": "x" * (MAX_LINE // 2)}  # type: ignore[attr-defined]
    assert len(client(server).call("status")["text"]) == MAX_LINE // 2
