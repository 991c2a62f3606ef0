"""The lab's web server: who sends half a request holds nobody else up for long."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sample_app.lab import web_server

REPOSITORY = Path(__file__).parents[2]
APP = """
SIZE = 16 * 1024**2  # more than kernels hold for a connection

def app(environ, start):
    environ["wsgi.input"].read()
    start("200 OK", [("Content-Length", str(SIZE))])
    return [b"x" * SIZE]
"""
HALF = b"POST / HTTP/1.1\r\nHost: gateway\r\nContent-Length: 5\r\n\r\n"
UNREAD = b"GET / HTTP/1.1\r\nHost: gateway\r\n\r\n"


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "app.py").write_text(APP)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
    options = ("--config", "python:sample_app.lab.web_server", "--bind", f"127.0.0.1:{port}")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    server = subprocess.Popen((sys.executable, "-m", "gunicorn", *options, "app:app"), cwd=tmp_path, env=environment)
    try:
        yield port
    finally:
        server.terminate()
        server.wait(20)


def connect(port: int) -> socket.socket:
    deadline = time.monotonic() + 30
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=30)
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


@pytest.mark.parametrize("sent", [HALF, UNREAD], ids=["half a request", "an answer that nobody takes"])
def test_who_stalls_does_not_hold_the_threads(port: int, sent: bytes) -> None:
    stalled = [connect(port) for _ in range(web_server.threads)]
    try:
        for connection in stalled:
            connection.sendall(sent)
        time.sleep(0.5)
        asking = http.client.HTTPConnection("127.0.0.1", port, timeout=web_server.STALLED_S * 5)
        asking.request("GET", "/")
        assert asking.getresponse().status == 200
        asking.close()
    finally:
        for connection in stalled:
            connection.close()
