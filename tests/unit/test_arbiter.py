"""The arbiter's client, its process and what the agent shows of it, whatever answers."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flask_hsmx_cluster.agent.arbiter.hand import ArbiterHand, ArbiterLink
from flask_hsmx_cluster.agent.arbiter.side import AWAY_ALARM_S, ArbiterSide
from flask_hsmx_cluster.agent.config import AgentConfig
from flask_hsmx_cluster.agent.heartbeat.standing import DataStanding
from flask_hsmx_cluster.agent.heartbeat.status import Showing, alarms, snapshot
from flask_hsmx_cluster.arbiter.declare import Arbiter, address_of
from flask_hsmx_cluster.arbiter.etcd import ANSWER_MOST, Etcd, NoAnswer
from flask_hsmx_cluster.config import Config
from flask_hsmx_cluster.decision import events
from flask_hsmx_cluster.decision.core import Core
from flask_hsmx_cluster.decision.model import ArbiterUse, Beat, Kind, Phase, Plan, Role, Start, Timing, Word
from flask_hsmx_cluster.errors import ClusterError, ConfigError

from ..etcd import Authority
from ..waiting import within
from .test_status import NOW, session_of

Answer = Callable[[str, dict[str, Any]], bytes | None]
HEADER = {"header": {"revision": "7"}}


def ok(body: object) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(content), content)


class Server:
    """A server with TLS that wants a certificate, and answers what a test says.

    :param answer: the bytes to send for a path and a question; None: it closes the connection.
    :param step_s: pause between any two bytes of an answer, s.
    """

    def __init__(self, authority: Authority, answer: Answer, address: str = "127.0.0.1", step_s: float = 0.0) -> None:
        self.answer, self.step_s = answer, step_s
        self.asked: list[str] = []
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(*authority.certify("server", address))
        self.context.load_verify_locations(authority.ca)
        self.context.verify_mode = ssl.CERT_REQUIRED
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        self._ended.set()
        self._server.shutdown(socket.SHUT_RDWR)
        self.hang_up()
        for thread in self._threads:
            thread.join()
        self._server.close()

    def hang_up(self) -> None:
        """Close every connection."""
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                plain, _ = self._server.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._serve, args=(plain,)))
            self._threads[-1].start()

    def _serve(self, plain: socket.socket) -> None:
        self._open.add(plain)
        with contextlib.suppress(OSError, ValueError), plain, self._encrypted(plain) as connection:
            self._open.add(connection)
            file = connection.makefile("rb")
            while line := file.readline():
                length = 0
                while (header := file.readline().lower()).strip():
                    if header.startswith(b"content-length:"):
                        length = int(header.split(b":")[1])
                path = line.split()[1].decode()
                self.asked.append(path)
                content = self.answer(path, json.loads(file.read(length)))
                if content is None:
                    return
                for at in range(0, len(content), 1) if self.step_s else (0,):
                    connection.sendall(content[at : at + 1] if self.step_s else content)
                    if self._ended.wait(self.step_s):
                        return

    def _encrypted(self, plain: socket.socket) -> ssl.SSLSocket:
        return self.context.wrap_socket(plain, server_side=True)


class Model:
    """What etcd answers, with one key."""

    def __init__(self) -> None:
        self.owner: str | None = None
        self.lease = ""
        self.leases: set[str] = set()
        self.ttl = ""

    def __call__(self, path: str, question: dict[str, Any]) -> bytes:
        match path:
            case "/v3/lease/grant":
                self.leases.add(lease := str(7000 + len(self.leases)))
                self.ttl = question["TTL"]
                return ok({**HEADER, "ID": lease, "TTL": question["TTL"]})
            case "/v3/lease/keepalive":
                alive = {"TTL": self.ttl} if question["ID"] in self.leases else {}
                return ok({"result": {**HEADER, "ID": question["ID"], **alive}})
            case "/v3/lease/revoke":
                self.leases.discard(question["ID"])
                if self.lease == question["ID"]:
                    self.owner = None
                return ok(HEADER)
            case "/v3/kv/txn":
                return ok({**HEADER, **self._txn(question)})
            case _:
                return ok(HEADER)

    def _txn(self, question: dict[str, Any]) -> dict[str, Any]:
        def holds(one: dict[str, Any]) -> bool:
            if one["target"] == "CREATE":
                return self.owner is None
            is_so = self.lease if one["target"] == "LEASE" else self.owner
            return self.owner is not None and is_so == one[one["target"].lower()]

        met = all(holds(one) for one in question["compare"])
        (what,) = question["success" if met else "failure"]
        found: dict[str, Any] = {"succeeded": True} if met else {}
        if "request_txn" in what:
            return {**found, "responses": [{"response_txn": self._txn(what["request_txn"])}]}
        if "request_put" in what:
            self.owner, self.lease = what["request_put"]["value"], what["request_put"]["lease"]
            return {**found, "responses": [{"response_put": HEADER}]}
        kvs = [{"value": self.owner, "lease": self.lease}] if self.owner is not None else []
        return {**found, "responses": [{"response_range": {"kvs": kvs}}]}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def serve(authority: Authority) -> Iterator[Callable[..., Server]]:
    with contextlib.ExitStack() as servers:

        def start(answer: Answer, **options: Any) -> Server:
            server = Server(authority, answer, **options)
            servers.callback(server.close)
            return server

        yield start


def stated(authority: Authority, *ports: int, ca: Path | None = None, required: bool = False) -> Arbiter:
    certificate, key = authority.certify("gateway")
    endpoints = tuple(f"https://127.0.0.1:{port}" for port in ports)
    return Arbiter(endpoints, str(ca or authority.ca), str(certificate), str(key), required)


@contextlib.contextmanager
def client(found: Arbiter, step_s: float = 5.0) -> Iterator[Etcd]:
    etcd = Etcd(found, step_s)
    try:
        yield etcd
    finally:
        etcd.close()


# The client ------------------------------------------------------------------------------------------------


def test_whoever_asks_first_holds_the_key_until_it_gives_it_back(authority: Authority, serve: Any) -> None:
    model = Model()
    found = stated(authority, serve(model).port)
    with client(found) as one, client(found) as other:
        assert one.hold("/k", "a", 6)
        assert one.hold("/k", "a", 6)
        assert not other.hold("/k", "b", 6)
        one.leave()
        assert other.hold("/k", "b", 6)
        assert not one.hold("/k", "a", 6)
        assert model.ttl == "6"


def test_an_agent_that_was_restarted_takes_its_own_key_over(authority: Authority, serve: Any) -> None:
    model = Model()
    found = stated(authority, serve(model).port)
    with client(found) as former, client(found) as present:
        assert former.hold("/k", "a", 6)
        assert present.hold("/k", "a", 6)
        assert model.lease == "7001"


def test_a_lease_that_has_ended_is_replaced(authority: Authority, serve: Any) -> None:
    model = Model()
    with client(stated(authority, serve(model).port)) as one:
        assert one.hold("/k", "a", 6)
        model.leases.clear()
        model.owner = None
        assert one.hold("/k", "a", 6)


def test_a_lease_that_is_shorter_than_the_settings_want_now_is_replaced(authority: Authority, serve: Any) -> None:
    """An operator may lengthen the lease of the addresses while the two do not hear each other."""
    model = Model()
    with client(stated(authority, serve(model).port)) as one, client(stated(authority, serve(model).port)) as other:
        assert one.hold("/k", "a", 6)
        assert one.hold("/k", "a", 17)
        assert model.ttl == "17" and model.lease == "7001"
        assert one.hold("/k", "a", 17) and model.lease == "7001", "and is kept then"
        assert not other.hold("/k", "b", 17)


def answers(content: bytes | None) -> Answer:
    return lambda path, question: content


HOSTILE: dict[str, tuple[bytes | None, str]] = {
    "no HTTP": (b"\0\1\2 garbage\r\n\r\n", "does not speak HTTP"),
    "no JSON": (ok(b"<html>welcome</html>"), "something else"),
    "a list": (ok([1]), "something else"),
    "nothing of etcd": (ok({}), "something else"),
    "nested": (ok(b"[" * 50_000), "something else"),
    "huge": (ok(b" " * (ANSWER_MOST + 1)), "more than etcd does"),
    "a chunk without an end": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n" + b" " * 10 * ANSWER_MOST,
                               "does not speak HTTP"),
    "endless headers": (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n", "does not speak HTTP"),
    "no length": (b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", "in time"),
    "a redirect": (b"HTTP/1.1 307 Go\r\nLocation: https://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", "answers 307"),
    "an error": (b'HTTP/1.1 503 No\r\nContent-Length: 20\r\n\r\n{"error":"no leader"', "answers 503"),
    "closed": (None, "closes the connection"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_no_answer_of_etcd_is_none(authority: Authority, serve: Any, case: str) -> None:
    content, said = HOSTILE[case]
    with client(stated(authority, serve(answers(content)).port), 0.3 if said == "in time" else 5.0) as one:
        with pytest.raises(NoAnswer, match=said):
            one.look()
        with pytest.raises(NoAnswer):
            one.hold("/k", "a", 6)


def told(path: str, **parts: Any) -> Answer:
    """Answer as the model does, but on one path with other parts."""
    model = Model()

    def answer(asked: str, question: dict[str, Any]) -> bytes:
        content = model(asked, question)
        return ok({**json.loads(content.split(b"\r\n\r\n")[1]), **parts}) if asked == path else content

    return answer


@pytest.mark.parametrize(
    "answer",
    [
        told("/v3/lease/grant", TTL="5"),
        told("/v3/lease/grant", TTL=6),
        told("/v3/lease/grant", ID="-1"),
        told("/v3/lease/grant", ID="9" * 40),
        told("/v3/lease/grant", ID=None),
        told("/v3/kv/txn", succeeded="true", responses=[]),
        told("/v3/kv/txn", responses={}),
        told("/v3/kv/txn", responses=[{"response_txn": []}]),
        told("/v3/kv/txn", responses=[{"response_range": {"kvs": []}}]),
        told("/v3/kv/txn", responses=[{"response_txn": {"responses": [{"response_txn": {"responses": [{}]}}]}}]),
    ],
)
def test_an_answer_with_wrong_parts_grants_nothing(authority: Authority, serve: Any, answer: Answer) -> None:
    with client(stated(authority, serve(answer).port)) as one, pytest.raises(NoAnswer):
        one.hold("/k", "a", 6)


def test_an_answer_that_trickles_in_is_cut_off(authority: Authority, serve: Any) -> None:
    server = serve(answers(ok(HEADER)), step_s=0.05)
    with client(stated(authority, server.port), 0.3) as one, pytest.raises(NoAnswer, match="in time"):
        one.look()


def test_one_that_accepts_and_says_nothing_is_given_up(authority: Authority) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        client(stated(authority, silent.getsockname()[1]), 0.2) as one,
        pytest.raises(NoAnswer, match="in time"),
    ):
        one.look()


def test_one_without_tls_is_not_asked_anything(authority: Authority) -> None:
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def answer() -> None:
            connection, _ = plain.accept()
            with connection:
                heard.append(connection.recv(3))
                connection.sendall(ok(HEADER))

        thread = threading.Thread(target=answer)
        thread.start()
        with client(stated(authority, plain.getsockname()[1])) as one, pytest.raises(NoAnswer, match="TLS"):
            one.look()
        thread.join()
    assert heard[0][:1] == b"\x16"  # a TLS handshake, no question


def test_another_authority_another_address_or_no_certificate_is_refused(
    authority: Authority, serve: Any, tmp_path: Path
) -> None:
    other = Authority(tmp_path)
    for server, found in (
        (serve(Model()), lambda port: stated(authority, port, ca=other.ca)),
        (serve(Model(), address="127.0.0.9"), lambda port: stated(authority, port)),
    ):
        with client(found(server.port)) as one, pytest.raises(NoAnswer, match="not who it should be"):
            one.look()
        assert server.asked == []
    server = serve(Model())
    with client(stated(other, server.port, ca=authority.ca)) as one, pytest.raises(NoAnswer):
        one.look()
    assert server.asked == []


def test_files_that_are_of_no_use_are_told(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "broken.pem").write_text("no certificate")
    for path in (tmp_path / "missing.pem", tmp_path / "broken.pem"):
        with client(stated(authority, 1, ca=path)) as one, pytest.raises(NoAnswer, match="certificates here"):
            one.look()


def test_the_next_member_is_asked_and_remembered(authority: Authority, serve: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    server = serve(Model())
    with client(stated(authority, port, server.port)) as one:
        one.look()
        assert one.hold("/k", "a", 6)
        assert one._first == 1


def test_a_connection_that_was_closed_meanwhile_is_made_anew(authority: Authority, serve: Any) -> None:
    server = serve(Model())
    with client(stated(authority, server.port)) as one:
        one.look()
        server.hang_up()
        one.look()
        assert server.asked == ["/v3/kv/range"] * 2


# The process, and the agent's hand on it -------------------------------------------------------------------


@pytest.fixture
def hand(authority: Authority, serve: Any) -> Iterator[tuple[ArbiterHand, ArbiterSide, Model, Server]]:
    model = Model()
    server = serve(model)
    hand = ArbiterHand(ArbiterLink(), required=True)
    side = ArbiterSide(stated(authority, server.port, required=True), hand)
    side.keep(20)
    yield hand, side, model, server
    side.stop()


def hear(hand: ArbiterHand, count: int = 1) -> list[events.Event]:
    found: list[events.Event] = []

    def enough() -> bool:
        found.extend(hand.receive() or ())
        return len(found) >= count

    assert within(20, enough)
    return found


def test_questions_are_answered_with_when_they_were_sent(hand: Any) -> None:
    arbiter, _side, model, _server = hand
    timing = Timing()
    assert arbiter.use is ArbiterUse.REQUIRED
    assert arbiter.ask(1, "c1", "a", timing)
    (first,) = hear(arbiter)
    assert (first.turn, first.word) == (1, Word.GRANTED)
    assert model.ttl == "6"  # 3.7 s, whole, and 2 s
    model.owner = "Yg=="
    assert arbiter.ask(2, "c1", "a", timing)
    (second,) = hear(arbiter)
    assert (second.turn, second.word) == (2, Word.DENIED)
    assert first.at < second.at
    model.owner, model.lease = "YQ==", "7000"
    arbiter.leave()
    assert within(20, lambda: model.owner is None)


def test_it_is_seen_whether_it_answers(hand: Any) -> None:
    arbiter, side, _model, server = hand
    assert within(20, lambda: arbiter.receive() == [] and arbiter.answers)
    assert side.status(None) == {**side.status(None), "required": True, "answers": True, "text": "", "word": None}
    assert list(side.preflight()) == list(side.alarms()) == []
    server.answer = answers(ok([]))
    arbiter.ask(1, "c1", "a", Timing())
    (answer,) = hear(arbiter)
    assert answer.word is Word.SILENT
    assert within(20, lambda: arbiter.receive() == [] and not arbiter.answers)
    assert "something else" in side.status("silent")["text"]
    (finding,) = side.preflight()
    assert not finding.blocking
    assert list(side.alarms()) == []  # not at once
    arbiter.since -= AWAY_ALARM_S
    (alarm,) = side.alarms()
    assert (alarm["key"], alarm["severity"]) == ("arbiter", "critical")


def test_a_process_that_has_ended_is_started_again(hand: Any) -> None:
    arbiter, side, _model, _server = hand
    arbiter.link._process.kill()
    assert within(20, lambda: arbiter.receive() is None)
    assert arbiter.answers is None
    assert not arbiter.ask(1, "c1", "a", Timing())
    side.keep(20)
    assert arbiter.ask(2, "c1", "a", Timing())
    (answer,) = hear(arbiter)
    assert answer.word is Word.GRANTED


def test_certificates_of_no_use_are_told_at_once(authority: Authority, tmp_path: Path) -> None:
    hand = ArbiterHand(ArbiterLink())
    side = ArbiterSide(stated(authority, 1, ca=tmp_path / "missing.pem"), hand)
    try:
        with pytest.raises(ClusterError, match="certificates for the arbiter"):
            side.keep(20)
        (finding,) = side.preflight()
        assert "HSMX_CLUSTER_ARBITER_CA" in finding.remedy
    finally:
        side.stop()


ANSWERED = {"event": "answer", "turn": 1, "word": "granted", "at": 1.0}


@pytest.mark.parametrize(
    "said",
    [{}, {"event": 5}, {"event": "seen"}, {**ANSWERED, "word": []}, {**ANSWERED, "word": "yes"},
     {**ANSWERED, "at": None}, {**ANSWERED, "at": 1e300}, {**ANSWERED, "at": float("nan")},
     {**ANSWERED, "at": 10**400}, {"event": "answer", "word": "granted", "at": 1.0}],
)  # fmt: skip
def test_nonsense_from_its_process_is_its_end_and_not_the_agents(said: dict[str, Any]) -> None:
    """What talks to strangers may be taken by them; the loop, which keeps the addresses, goes on."""
    link = ArbiterLink()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    link._prompt = ours
    hand = ArbiterHand(link, required=True)
    with ours, theirs:
        theirs.sendall(json.dumps(ANSWERED).encode() + b"\n")
        assert hand.receive() == [events.ArbiterAnswered(1, Word.GRANTED, 1.0)]
        theirs.sendall(json.dumps(said).encode() + b"\n")
        assert hand.receive() is None
        assert not link.alive() and link.fileno() is None and hand.answers is not True


def test_without_an_arbiter_nothing_is_asked() -> None:
    hand = ArbiterHand(None)
    assert hand.use is ArbiterUse.NONE
    assert hand.fileno() is None
    assert not hand.ask(1, "c", "a", Timing())
    hand.leave()


# What is shown ---------------------------------------------------------------------------------------------


def cluster_core(use: ArbiterUse, theirs: ArbiterUse) -> Core:
    plan = Plan("a" * 32, "b" * 32, "gw-b", (), ("lan0",), ("10.0.0.100",), Timing(), arbiter=use)
    core = Core(plan, Start(hold_s=3), NOW)
    core.peer, core.peer_at = Beat(Kind.BEAT, Role.ACTIVE, arbiter=theirs), NOW
    return core


@pytest.mark.parametrize("theirs", ArbiterUse)
@pytest.mark.parametrize("ours", ArbiterUse)
def test_two_that_use_it_differently_are_told(ours: ArbiterUse, theirs: ArbiterUse) -> None:
    showing: dict[str, Showing] = {}
    alarms(session_of(cluster_core(ours, theirs)), showing, NOW, DataStanding())
    assert ("arbiter_differs" in showing) is (ours is not theirs)


@pytest.mark.parametrize(
    ("word", "said"),
    [(Word.DENIED, "the arbiter lets gw-b serve"), (Word.SILENT, "which is required, does not answer"),
     (None, "cannot tell")],
)  # fmt: skip
def test_a_gateway_that_waits_says_for_whom(word: Word | None, said: str) -> None:
    core = cluster_core(ArbiterUse.REQUIRED, ArbiterUse.REQUIRED)
    core.phase, core.arbiter.word = Phase.WAITING, word
    shown = snapshot(session_of(core), {}, None, 0, DataStanding())
    assert said in shown["node"]["phase_text"]
    assert shown["arbiter"] == (word.name.lower() if word else None)


# The configuration -----------------------------------------------------------------------------------------

GOOD = {
    "HSMX_CLUSTER_FIRMWARE_VERSION": "1",
    "HSMX_CLUSTER_ARBITER": "https://192.0.2.7:2379, https://[2001:db8::7]:2379",
    "HSMX_CLUSTER_ARBITER_CA": "/etc/ca.pem",
    "HSMX_CLUSTER_ARBITER_CERTIFICATE": "/etc/gateway.pem",
    "HSMX_CLUSTER_ARBITER_KEY": "/etc/gateway.key",
}


def test_what_is_configured_reaches_the_agent() -> None:
    found = Config.load({**GOOD, "HSMX_CLUSTER_ARBITER_REQUIRED": "true"}).arbiter
    assert found is not None
    assert found.endpoints == ("https://192.0.2.7:2379", "https://[2001:db8::7]:2379")
    assert found.required
    told = AgentConfig("/s", "/s/a", "1", arbiter=found.to_json())
    assert Arbiter.from_json(AgentConfig.from_json(told.to_json()).arbiter) == found
    assert Config.load({"HSMX_CLUSTER_FIRMWARE_VERSION": "1"}).arbiter is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("HSMX_CLUSTER_ARBITER", "http://192.0.2.7:2379"),
        ("HSMX_CLUSTER_ARBITER", "https://etcd.example.com:2379"),
        ("HSMX_CLUSTER_ARBITER", "https://192.0.2.7"),
        ("HSMX_CLUSTER_ARBITER", "https://192.0.2.7:70000"),
        ("HSMX_CLUSTER_ARBITER", "https://user@192.0.2.7:2379"),
        ("HSMX_CLUSTER_ARBITER", "https://192.0.2.7:2379/v3"),
        ("HSMX_CLUSTER_ARBITER", "https://[fe80::1%25eth0]:2379"),
        ("HSMX_CLUSTER_ARBITER", [7]),
        ("HSMX_CLUSTER_ARBITER", 7),
        ("HSMX_CLUSTER_ARBITER", ["https://192.0.2.7:2379"] * 10),
        ("HSMX_CLUSTER_ARBITER_CA", ""),
        ("HSMX_CLUSTER_ARBITER_CA", "ca.pem"),
        ("HSMX_CLUSTER_ARBITER_CERTIFICATE", None),
        ("HSMX_CLUSTER_ARBITER_KEY", 7),
        ("HSMX_CLUSTER_ARBITER_REQUIRED", "perhaps"),
    ],
)
def test_what_cannot_work_is_refused_by_the_name_of_its_key(key: str, value: object) -> None:
    with pytest.raises(ConfigError) as refused:
        Config.load({**GOOD, key: value})
    assert refused.value.message.startswith(f"{key} ")


@pytest.mark.parametrize("name", ["CA", "CERTIFICATE", "KEY", "REQUIRED"])
def test_what_has_no_effect_is_refused(name: str) -> None:
    key = f"HSMX_CLUSTER_ARBITER_{name}"
    with pytest.raises(ConfigError, match=key):
        Config.load({"HSMX_CLUSTER_FIRMWARE_VERSION": "1", key: "true" if key.endswith("REQUIRED") else "/etc/x.pem"})


def test_an_agent_refuses_what_it_cannot_read() -> None:
    for text in ("[", "[]", "{}", '{"endpoints": ["http://192.0.2.7:1"], "ca": "", "certificate": "", "key": ""}'):
        with pytest.raises(ConfigError):
            AgentConfig("/s", "/s/a", "1", arbiter=text)
    assert address_of("https://[2001:db8::7]:2379") == ("2001:db8::7", 2379)
