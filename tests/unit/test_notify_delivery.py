"""Messages on their way: real servers on loopback, good ones and bad ones, and the process that sends."""

from __future__ import annotations

import datetime
import hashlib
import hmac
import http.server
import json
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from email import message_from_bytes
from email.policy import default as email_policy
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from flask_hsmx_cluster.agent.notify.sender import Sending
from flask_hsmx_cluster.notify import delivery, mail, syslog, webhook
from flask_hsmx_cluster.notify.delivery import DeliveryFailed
from flask_hsmx_cluster.notify.news import News
from flask_hsmx_cluster.notify.texts import Message
from flask_hsmx_cluster.settings.notify import Target

AT = "2030-01-02T03:04:05.000+00:00"
DEAD = News(
    "raised", "peer@a", "peer", "gateway-a", "critical", "gateway-b is not heard. Äh.", "Check it.", AT, id="n1"
)  # fmt: skip
DISK = News("over", "disk@a", "disk", "gateway-a", "warning", "The disk is nearly full.", at=AT, id="n2")
MESSAGE = Message("gateway-a", "c" * 32, AT, (DEAD, DISK))
MAIL = Target("night", "mail", "", sender="gateway@example.com", recipients=("night@example.com", "x@example.com"))
HOOK = Target("noc", "webhook", "", password="key")
LOG = Target("log", "syslog", "")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (delivery, mail, syslog, webhook):
        monkeypatch.setattr(module, "STEP_S", 5.0)


@dataclass(frozen=True)
class Certificate:
    context: ssl.SSLContext
    fingerprint: str


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A certificate that nobody vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    start = datetime.datetime(2020, 1, 1)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(start).not_valid_after(start + datetime.timedelta(days=36500))
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return Certificate(context, made.fingerprint(hashes.SHA256()).hex())


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]  # type: ignore[index, misc, return-value]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """A client that goes away is what several tests are about."""


@dataclass
class Mailbox:
    """A mail server: what it is to answer, and what it got."""

    tls: ssl.SSLContext | None = None
    starttls: bool = True
    password: bool = True
    answers: dict[str, str] = field(default_factory=dict)
    mails: list[bytes] = field(default_factory=list)
    words: list[str] = field(default_factory=list)

    def handler(self) -> type[socketserver.StreamRequestHandler]:
        box = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                try:
                    box._talk(self)
                finally:
                    self.connection.close()

        return Handler

    def _talk(self, one: socketserver.StreamRequestHandler) -> None:
        files = [one.rfile, one.wfile]

        def say(text: str) -> None:
            files[1].write(f"{text}\r\n".encode())  # type: ignore[attr-defined]

        secure: ssl.SSLSocket | None = None
        say("220 mail")
        while line := files[0].readline(2000).decode(errors="replace").strip():
            verb = line.split(" ")[0].upper()
            self.words.append(line)
            if verb in self.answers:
                say(self.answers[verb])
            elif verb == "EHLO":
                offers = ["mail"] + (["STARTTLS"] if self.starttls and not secure else []) + ["AUTH PLAIN", "HELP"]
                say("\r\n".join(f"250{' ' if offer == 'HELP' else '-'}{offer}" for offer in offers))
            elif verb == "STARTTLS" and self.tls:
                say("220 go on")
                secure = self.tls.wrap_socket(one.connection, server_side=True)
                one.connection = one.request = secure
                files[:] = [secure.makefile("rb"), secure.makefile("wb", 0)]
            elif verb == "AUTH":
                say("235 ok" if self.password else "535 who are you")
            elif verb == "DATA":
                say("354 go on")
                content = b""
                while (part := files[0].readline()) != b".\r\n":
                    content += part
                self.mails.append(content)
                say("250 queued as 7")
            elif verb == "QUIT":
                say("221 bye")
                return
            else:
                say("250 ok")


@contextmanager
def mailing(box: Mailbox, **changes: Any) -> Iterator[Target]:
    with serving(_Server(("127.0.0.1", 0), box.handler())) as port:
        yield replace(MAIL, address=f"127.0.0.1:{port}", **changes)


@contextmanager
def hooked(
    answer: Callable[[http.server.BaseHTTPRequestHandler], None], context: ssl.SSLContext | None = None
) -> Iterator[tuple[Target, list[tuple[str, dict[str, str], bytes]]]]:
    got: list[tuple[str, dict[str, str], bytes]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((self.path, dict(self.headers), body))
            answer(self)

        def do_GET(self) -> None:
            got.append((self.path, {}, b""))

        def log_message(self, *_: Any) -> None: ...

    class Server(_Server):
        def get_request(self) -> Any:
            connection, address = super().get_request()
            return (context.wrap_socket(connection, server_side=True) if context else connection), address

    with serving(Server(("127.0.0.1", 0), Handler)) as port:
        yield replace(HOOK, address=f"http{'s' if context else ''}://127.0.0.1:{port}/alarms?a=1"), got


def reply(code: int, body: bytes = b"", **headers: str) -> Callable[[http.server.BaseHTTPRequestHandler], None]:
    def answer(one: http.server.BaseHTTPRequestHandler) -> None:
        one.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            one.send_header(name, value)
        one.end_headers()
        one.wfile.write(body)

    return answer


# E-mail


def test_a_mail_arrives_as_a_person_reads_it(certificate: Certificate) -> None:
    box = Mailbox(certificate.context)
    with mailing(box, user="u", password="geheim", fingerprint=certificate.fingerprint) as target:
        assert "has taken it" in mail.send(target, MESSAGE)
    (raw,) = box.mails
    read = message_from_bytes(raw, policy=email_policy)
    assert read["Subject"] == "[gateway-a] ALARM: gateway-b is not heard. Äh. (+1)"
    assert box.words[0] == "ehlo [127.0.0.1]", "the DNS is not asked who we are"
    assert read["To"] == "night@example.com, x@example.com" and read["Auto-Submitted"] == "auto-generated"
    assert "What to do: Check it." in read.get_content()
    assert [word.upper() for word in box.words if word.upper().startswith("RCPT")] == [
        "RCPT TO:<NIGHT@EXAMPLE.COM>", "RCPT TO:<X@EXAMPLE.COM>",
    ]  # fmt: skip


def test_without_trust_nothing_secret_is_sent_and_the_fingerprint_is_said(certificate: Certificate) -> None:
    box = Mailbox(certificate.context)
    with mailing(box, user="u", password="geheim") as target, pytest.raises(DeliveryFailed) as refused:
        mail.send(target, MESSAGE)
    assert certificate.fingerprint in refused.value.message
    with (
        mailing(box, user="u", password="geheim", fingerprint="0" * 64) as target,
        pytest.raises(DeliveryFailed, match="another certificate"),
    ):
        mail.send(target, MESSAGE)
    assert not box.mails and not any(word.upper().startswith("AUTH") for word in box.words)


@pytest.mark.parametrize(
    ("box", "words"),
    [
        (Mailbox(starttls=False), "STARTTLS"),
        (Mailbox(answers={"EHLO": "500 no", "HELO": "500 no"}), "500 no"),
        (Mailbox(answers={"STARTTLS": "454 not now"}), "454 not now"),
    ],
)
def test_a_server_without_starttls_gets_no_mail(box: Mailbox, words: str) -> None:
    with mailing(box) as target, pytest.raises(DeliveryFailed, match=words):
        mail.send(target, MESSAGE)
    assert not box.mails


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({"MAIL": "550 no such sender"}, "does not accept the sender gateway@example.com: 550 no such sender"),
        ({"RCPT": "550 5.1.1 unknown"}, "does not accept night@example.com: 550 5.1.1 unknown"),
        ({"DATA": "452 disk full"}, "does not take the mail: 452 disk full"),
        ({"MAIL": "550 \x00\x1b[2J" * 300}, "does not accept the sender"),
    ],
)
def test_what_a_mail_server_refuses_is_said_in_its_words(answers: dict[str, str], words: str) -> None:
    with mailing(Mailbox(answers=answers), security="none") as target, pytest.raises(DeliveryFailed) as refused:
        mail.send(target, MESSAGE)
    assert words in refused.value.message and refused.value.message.isprintable()
    assert len(refused.value.message) < 400


def test_a_wrong_password_is_said(certificate: Certificate) -> None:
    box = Mailbox(certificate.context, password=False)
    with (
        mailing(box, user="u", password="x", fingerprint=certificate.fingerprint) as target,
        pytest.raises(DeliveryFailed, match="does not accept user name and password: 535 who are you"),
    ):
        mail.send(target, MESSAGE)


def test_no_text_of_an_alarm_becomes_a_header() -> None:
    with pytest.raises(ValueError, match="Header"):
        mail.written(replace(MAIL, sender="a@b\r\nBcc: c@d"), MESSAGE)


def test_no_id_of_another_gateway_keeps_a_mail_from_being_written() -> None:
    odd = replace(MESSAGE, news=(replace(MESSAGE.news[0], id="é> <x\u2028"),))
    assert mail.written(MAIL, odd)["Message-ID"] == f"<x.{len(odd.news)}@hsmx-cluster.invalid>"


# Webhooks


def test_a_webhook_gets_signed_json() -> None:
    with hooked(reply(202, b"thank you")) as (target, got):
        assert webhook.send(target, MESSAGE) == "127.0.0.1 answered 202 Accepted: thank you"
    ((path, headers, body),) = got
    signed = headers["X-HSMX-Timestamp"].encode() + b"." + body
    assert headers["X-HSMX-Signature"] == "sha256=" + hmac.new(b"key", signed, hashlib.sha256).hexdigest()
    told = json.loads(body)
    assert path == "/alarms?a=1" and told["severity"] == "critical" and told["gateway"] == "gateway-a"
    assert [(one["state"], one["key"], one["id"]) for one in told["news"]] == [
        ("raised", "peer", "n1"), ("over", "disk", "n2"),
    ]  # fmt: skip


def test_redirects_are_not_followed() -> None:
    with (
        hooked(reply(200)) as (elsewhere, got),
        hooked(reply(302, Location=elsewhere.address)) as (target, _),
        pytest.raises(DeliveryFailed) as refused,
    ):
        webhook.send(target, MESSAGE)
    assert got == [] and "redirects are not followed" in refused.value.message


def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with hooked(reply(200)) as (proxy, seen), hooked(reply(204)) as (target, got):
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.address)
        webhook.send(target, MESSAGE)
    assert len(got) == 1 and seen == []


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (reply(500, b"broken " * 100000), "500"),
        (reply(403, b"\x1b[2J<script>\x00"), "403"),
        (lambda one: one.wfile.write(b"SSH-2.0-x\r\n"), "does not speak HTTP"),
        (lambda one: one.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 1000 + b"\r\n"), "does not speak HTTP"),
        (lambda one: one.wfile.write(b"HTTP/1.1 200 " + b"x" * 10**6), "does not speak HTTP"),
        (lambda one: None, "does not speak HTTP"),
    ],
)
def test_a_bad_receiver_is_said_in_short(answer: Any, words: str) -> None:
    with hooked(answer) as (target, _), pytest.raises(DeliveryFailed) as refused:
        webhook.send(target, MESSAGE)
    assert words in refused.value.message and refused.value.message.isprintable() and len(refused.value.message) < 400


def test_https_believes_the_stated_certificate_only(certificate: Certificate) -> None:
    with hooked(reply(200), certificate.context) as (target, got):
        with pytest.raises(DeliveryFailed, match=certificate.fingerprint):
            webhook.send(target, MESSAGE)
        with pytest.raises(DeliveryFailed, match="another certificate"):
            webhook.send(replace(target, fingerprint="1" * 64), MESSAGE)
        assert got == []
        webhook.send(replace(target, fingerprint=certificate.fingerprint), MESSAGE)
        assert len(got) == 1


def test_nobody_there_is_said() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(DeliveryFailed, match="refuses the connection"):
            webhook.send(replace(HOOK, address=f"http://{address}/"), MESSAGE)
        with pytest.raises(DeliveryFailed, match="refuses the connection"):
            mail.send(replace(MAIL, address=address, security="none"), MESSAGE)
        with pytest.raises(DeliveryFailed, match="refuses the connection"):
            syslog.send(replace(LOG, address=f"tcp://{address}"), MESSAGE)


# Syslog


@pytest.mark.parametrize("transport", ["udp", "unix"])
def test_each_news_is_a_datagram(transport: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        there = stack.enter_context(
            socket.socket(socket.AF_INET if transport == "udp" else socket.AF_UNIX, socket.SOCK_DGRAM)
        )
        there.bind(("127.0.0.1", 0) if transport == "udp" else str(tmp_path / "log"))
        where = f"udp://127.0.0.1:{there.getsockname()[1]}" if transport == "udp" else f"unix:{tmp_path}/log"
        syslog.send(replace(LOG, address=where), MESSAGE)
        there.settimeout(5)
        first, second = there.recv(4096), there.recv(4096)
    assert first.startswith(b"<26>1 2030-01-02T03:04:05.000+00:00 gateway-a hsmx-cluster ")
    assert first.endswith(" peer - \ufeffALARM: gateway-a: gateway-b is not heard. Äh. Check it.".encode())
    assert second.startswith(b"<30>1 ") and b" disk - " in second


def test_over_tcp_octets_are_counted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as there:
        syslog.send(replace(LOG, address=f"tcp://127.0.0.1:{there.getsockname()[1]}"), MESSAGE)
        with there.accept()[0] as connection:
            data = b"".join(iter(lambda: connection.recv(65536), b""))
    size, _, rest = data.partition(b" ")
    assert rest[: int(size)].endswith(b"Check it.") and rest[int(size) :].partition(b" ")[2].startswith(b"<30>1 ")


def test_a_line_of_syslog_is_one_line_and_short() -> None:
    odd = replace(DEAD, gateway="gäte way", key="a b\n", text="ä" * 5000, at="- b c")
    line = syslog.written(odd, odd.gateway)
    told = line.decode()
    assert len(line) <= syslog.LONGEST and b"\n" not in line and told.count(" -_b_c g_te_way hsmx-cluster ") == 1


# The process


def test_a_process_of_its_own_sends_and_says_how_it_went() -> None:
    with hooked(reply(200)) as (target, got):
        assert Sending(target, MESSAGE).wait() == (True, "127.0.0.1 answered 200 OK")
        assert len(got) == 1
    arrived, answer = Sending(target, MESSAGE).wait()
    assert not arrived and "refuses the connection" in answer


def test_a_process_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr("flask_hsmx_cluster.agent.notify.sender.MOST_S", 0.1)
        target = replace(HOOK, address=f"http://127.0.0.1:{silent.getsockname()[1]}/")
        assert Sending(target, MESSAGE).wait() == (False, "Sending took too long.")
