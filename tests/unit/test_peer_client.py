"""The HTTP client to the other gateway: own source addresses, next route on failure, bounds. Loopback only."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator

import pytest

from flask_hsmx_cluster.agent.peer import client as peer_client
from flask_hsmx_cluster.agent.peer.client import Route, parse_address, post, reachable
from flask_hsmx_cluster.control import MAX_MESSAGE
from flask_hsmx_cluster.errors import PeerUnavailable, RequestRefused

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


class Server:
    """A web app of few words."""

    def __init__(self, address: str = "127.0.0.2") -> None:
        self.answer: bytes | Callable[[], bytes] = OK
        self.requests: list[bytes] = []
        self.callers: list[str] = []
        self._listener = socket.create_server((address, 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                connection, caller = self._listener.accept()
            except OSError:
                return
            with connection:
                self.callers.append(caller[0])
                connection.settimeout(2)
                request = b""
                try:
                    while b"\r\n\r\nbody" not in request and (chunk := connection.recv(65536)):
                        request += chunk
                    self.requests.append(request)
                    connection.sendall(self.answer if isinstance(self.answer, bytes) else self.answer())
                except OSError:
                    continue

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._listener.close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


GOOD, DEAD = Route("127.0.0.9", "127.0.0.2"), Route("127.0.0.9", "127.0.0.3")


def test_posts_from_the_own_address(server: Server) -> None:
    assert post([GOOD], server.port, "/x/peer", b"body", 2) == b"hello"
    assert server.callers == ["127.0.0.9"]
    head = server.requests[0].split(b"\r\n")
    assert head[0] == b"POST /x/peer HTTP/1.1" and b"Content-Type: application/octet-stream" in head


def test_the_next_route_is_tried(server: Server) -> None:
    absent = Route("192.0.2.77", "127.0.0.2")  # the own address is gone from its port
    assert post([DEAD, absent, GOOD], server.port, "/", b"body", 2) == b"hello"


def test_no_route_says_why_for_each(server: Server) -> None:
    with pytest.raises(PeerUnavailable, match=r"127\.0\.0\.3: connection refused") as failed:
        post([DEAD], server.port, "/", b"body", 2)
    assert failed.value.remedy
    with pytest.raises(PeerUnavailable, match="no link"):
        post([], server.port, "/", b"body", 2)


def test_what_must_not_arrive_twice_is_sent_once(server: Server) -> None:
    server.answer = b""
    with pytest.raises(PeerUnavailable):
        post([GOOD, GOOD], server.port, "/", b"body", 2, repeatable=False)
    assert len(server.requests) == 1
    with pytest.raises(PeerUnavailable):
        post([GOOD, GOOD], server.port, "/", b"body", 2)
    assert len(server.requests) == 3


def test_but_a_route_that_cannot_be_connected_is_passed_over(server: Server) -> None:
    assert post([DEAD, GOOD], server.port, "/", b"body", 2, repeatable=False) == b"hello"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://evil/\r\nContent-Length: 0\r\n\r\n",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (MAX_MESSAGE + 1) + bytes(MAX_MESSAGE + 1),
        CHUNKED + b"-1\r\n" + bytes(5 * MAX_MESSAGE),
        CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n",
        CHUNKED + b"5\r\nhel",
        CHUNKED + b"five\r\nhello\r\n0\r\n\r\n",
    ],
)
def test_unusable_answers_are_refused(server: Server, answer: bytes) -> None:
    server.answer = answer
    with pytest.raises(PeerUnavailable):
        post([GOOD], server.port, "/", b"body", 2)


def test_an_answer_in_chunks_is_taken(server: Server) -> None:
    server.answer = CHUNKED + b"4\r\nhell\r\n1\r\no\r\n0\r\n\r\n"
    assert post([GOOD], server.port, "/", b"body", 2) == b"hello"


def test_no_chunk_makes_an_answer_longer_than_allowed(server: Server) -> None:
    """A size of -1 was read as "until the end": as much as a stranger can send within the time."""
    size = 64 * 2**20
    server.answer = CHUNKED + b"-1\r\n" + bytes(size)
    tracemalloc.start()
    with pytest.raises(PeerUnavailable):
        post([GOOD], server.port, "/", b"body", 5)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < size / 2


def test_the_time_is_bounded(server: Server) -> None:
    def hang() -> bytes:
        time.sleep(1.2)
        return b""

    server.answer = hang
    begun = time.monotonic()
    with pytest.raises(PeerUnavailable, match="in time"):
        post([GOOD, GOOD, GOOD], server.port, "/", b"body", 0.4)
    assert time.monotonic() - begun < 1.0


def test_reachable(server: Server) -> None:
    assert reachable(GOOD, server.port) == ""
    assert "refused" in reachable(DEAD, server.port)
    assert peer_client.CONNECT_TIMEOUT_S <= 1


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("192.0.2.1", ("192.0.2.1", 80)), (" 192.0.2.1:8080 ", ("192.0.2.1", 8080)),
        ("2001:db8::1", ("2001:db8::1", 80)), ("[2001:db8::1]", ("2001:db8::1", 80)),
        ("[2001:db8::1]:8080", ("2001:db8::1", 8080)),
    ],
)  # fmt: skip
def test_addresses(text: str, found: tuple[str, int]) -> None:
    assert parse_address(text, 80) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "gateway-b",
        "192.0.2.1:0",
        "192.0.2.1:99999",
        "0.0.0.0",
        "192.0.2.1:x",
        "192.0.2.1/24",
        "[::",
        "::",
        "\n" * 9,
        "fe80::1%lan0",
        "fe80::1%a\r\nX: y",
        "192.0.2.1:+80",
        "192.0.2.1:8_0",
        "192.0.2.1:８０",
        "192.0.2.1:",
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(RequestRefused):
        parse_address(text, 80)


@pytest.mark.parametrize("drop", [b"X: y\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b""])
def test_an_answer_that_drips_is_bounded_too(drop: bytes) -> None:
    listener = socket.create_server(("127.0.0.2", 0))

    def drip() -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(drop and b"HTTP/1.1 100 Continue\r\n\r\n" if b"100" in drop else b"HTTP/1.1 200 OK\r\n")
            for _ in range(60):
                connection.sendall(drop or b"x")
                time.sleep(0.05)

    threading.Thread(target=drip, daemon=True).start()
    begun = time.monotonic()
    with listener, pytest.raises(PeerUnavailable, match="in time"):
        post([GOOD], listener.getsockname()[1], "/", b"body", 0.4)
    assert time.monotonic() - begun < 1.0
