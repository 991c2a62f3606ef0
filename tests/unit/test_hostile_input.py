"""What fuzzing has found, each once: input from a taken gateway or a broken process, and what becomes of it."""

from __future__ import annotations

import base64
import json
import logging
import socket
from pathlib import Path
from typing import Any

import pytest

from flask_hsmx_cluster.agent.child import Child, ChildDown
from flask_hsmx_cluster.agent.data.replicator import ReplicatorLink
from flask_hsmx_cluster.agent.heartbeat.database_hand import DatabaseHand
from flask_hsmx_cluster.agent.heartbeat.services_hand import ServicesHand, ServicesLink
from flask_hsmx_cluster.agent.peer import pairing
from flask_hsmx_cluster.agent.peer.joining import Joining, _Conversation
from flask_hsmx_cluster.agent.peer.sealed import open_answer, seal_request
from flask_hsmx_cluster.control import read_json
from flask_hsmx_cluster.errors import PairingFailed
from flask_hsmx_cluster.files import plan
from flask_hsmx_cluster.files.declare import Tree
from flask_hsmx_cluster.files.manifest import Manifest

from .gateways import ENDS_OF_B, HeardWindow, World, in_memory, settings_of_one, without_real_links

DEEP = b"[" * 100_000


@pytest.mark.parametrize(
    "data",
    [b'"\\ud800"', b'{"\\udc00": 1}', b'"\xed\xa0\x80"', b"NaN", b"[Infinity]", b"1e999", DEEP, b"1" * 5000,
     b"\xff", b""],
)  # fmt: skip
def test_json_that_cannot_be_written_again_is_none(data: bytes) -> None:
    with pytest.raises(ValueError):
        read_json(data)


def test_other_json_is_read_as_ever() -> None:
    found = {"a": [1, -2.5, 1e3, None, True], "ü": "\ud83d\ude00 \\ud800 é"}
    found = json.loads(json.dumps(found))
    assert read_json(json.dumps(found).encode()) == read_json(json.dumps(found, ensure_ascii=False).encode()) == found


def asked(world: World, payload: bytes) -> Any:
    """Let gateway B ask A for something, whatever it is."""
    exchange, keys = world.a.service._exchange, world.b.store.keys()
    own, other = world.a.service._cluster.node_id, world.b.service._cluster.node_id
    data, request = seal_request(keys[0], other, own, exchange._receiver_of(own).incarnation, payload)
    answer = world.a.service.peer(base64.b64encode(data).decode(), "10.9.0.2")["message"]
    return json.loads(open_answer(base64.b64decode(answer), request))


def test_half_a_character_of_the_other_gateway_is_not_understood(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    facts = {**world.b.service._cluster.peer_facts_of_self().__dict__, "name": "\ud800"}
    before = world.a.store.peer()
    answer = asked(world, json.dumps({"verb": "hello", "arguments": {}, "facts": facts}).encode())
    assert not answer["ok"] and "does not understand" in answer["error"]["message"]
    assert world.a.store.peer() == before and not [one for one in caplog.records if one.levelno >= logging.ERROR]


def test_nesting_without_end_of_a_joiner_is_not_understood(caplog: pytest.LogCaptureFixture) -> None:
    with in_memory() as root:
        world = World(root)
        code = world.a.service.create(settings_of_one())["code"]

        def post(data: bytes) -> bytes:
            return base64.b64decode(world.a.service.pair(base64.b64encode(data).decode())["message"])

        joiner = pairing.Joiner("bb" * 16, pairing.code_hash(code))
        joiner.on_offer(post(joiner.hello()))
        answer = json.loads(joiner.on_answer(post(joiner.request(DEEP))))
        world.close()
    assert "does not understand" in answer["error"]["message"]
    assert not [one for one in caplog.records if one.levelno >= logging.ERROR]


def test_a_joiner_that_asks_for_echoes_again_and_again_gets_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    running: list[str] = []
    most = 0

    class Window(HeardWindow):
        def start(self, duration_s: float = 0) -> None:
            nonlocal most
            running.append("window")
            most = max(most, len(running))

        def result(self) -> list[str]:
            running.clear()
            return super().result()

    with in_memory() as root:
        without_real_links(monkeypatch)
        monkeypatch.setattr("flask_hsmx_cluster.agent.peer.forming.EchoWindow", Window)
        world = World(root)
        code = world.a.service.create(settings_of_one())["code"]

        def post(data: bytes) -> bytes:
            return base64.b64decode(world.a.service.pair(base64.b64encode(data).decode())["message"])

        cluster = world.b.service._cluster
        joiner = pairing.Joiner(cluster.node_id, pairing.code_hash(code))
        joiner.on_offer(post(joiner.hello()))
        facts = cluster.facts(cluster.hot.ports()).to_dict()
        for _ in range(5):
            for verb, arguments in (("introduce", {"facts": facts, "ends": ENDS_OF_B}), ("echo", {"token": "5" * 64})):
                asked = json.dumps({"verb": verb, "arguments": arguments}).encode()
                assert json.loads(joiner.on_answer(post(joiner.request(asked))))["ok"]
        world.close()
    assert most == 1


class _Talk:
    """A gateway with a code that answers the same to everything."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer

    def request(self, payload: bytes) -> bytes:
        return payload

    def on_answer(self, data: bytes) -> bytes:
        return self.answer


@pytest.mark.parametrize("answer", [DEEP, b'{"ok": true, "result": {"heard": 5}}'])
def test_an_answer_of_a_gateway_with_a_code_that_makes_no_sense_fails_the_join(answer: bytes) -> None:
    joiner: Any = _Talk(answer)
    talk = _Conversation(joiner, lambda *words: b"", None, 80, "/pair")  # type: ignore[arg-type]
    with pytest.raises(PairingFailed, match="cannot be read"):
        Joining._echo(talk, {}, 5555)


def ended(kind: type[Child], said: bytes) -> Child:
    """Return the agent's end of a process that has said something."""
    child, (prompt, far) = kind(), socket.socketpair()
    prompt.setblocking(False)
    child._prompt = prompt
    far.sendall(said + b"\n")
    far.close()
    return child


@pytest.mark.parametrize(
    "said", [b"{", b"[]", b"{}", DEEP, b'{"ok": true}', b'{"event": "follower"}', b'{"event": "failed", "error": 1}',
             b'{"ok": true, "verb": "yield", "result": []}', b'{"ok": true, "verb": "set_synchronous", "result": 7}'],
)  # fmt: skip
@pytest.mark.parametrize("kind", [ReplicatorLink, ServicesLink])
def test_a_process_that_makes_no_sense_is_given_up_and_the_heartbeat_goes_on(kind: type[Child], said: bytes) -> None:
    child: Any = ended(kind, said)
    hand = DatabaseHand(child) if kind is ReplicatorLink else ServicesHand(child, lambda *words: None)
    if (found := hand.receive()) is not None:
        assert found == [], "it says nothing that concerns the core"
        assert hand.receive() is None, "it has gone"
    assert child.fileno() is None and not child.alive()


def test_words_of_a_process_are_recorded_as_words() -> None:
    recorded: list[Any] = []
    child: Any = ended(ServicesLink, b'{"event": "failed", "error": {"message": 5, "remedy": ["x"]}}')
    ServicesHand(child, lambda *words: recorded.append(words)).receive()
    child.stop()
    assert recorded == [("service_failed", "warning", "5", ("['x']",))]


@pytest.mark.parametrize("said", [b"{", b"[]", b'{"id": 1}', b'{"id": 1, "ok": true, "result": 5}', DEEP])
def test_an_answer_of_a_process_that_makes_no_sense_is_none(said: bytes) -> None:
    child, (patient, far) = ReplicatorLink(), socket.socketpair()
    child._patient = patient
    with far:
        far.sendall(said + b"\n")
        with pytest.raises(ChildDown, match="cannot be read"):
            child.ask("look")
    assert not child.alive()
    child.stop()


def test_names_of_files_that_are_no_text_can_be_shown(tmp_path: Path) -> None:
    manifest = Manifest(Tree("portal", str(tmp_path)))
    manifest._unreadable = {b"caf\xe9"}
    (name,) = manifest.summary().unreadable
    assert name.encode() == b"caf\\xe9"


MANY = "9" * 5000


@pytest.mark.parametrize("line", [f"recv {MANY} x", f"{MANY} 50% 1MB/s 0:00:01 (xfr#{MANY}, to-chk=0/1)"])
def test_a_number_without_end_in_what_rsync_says_is_none(line: str) -> None:
    assert plan.planned([line]) == plan.Plan() and plan.progress(line) is None
