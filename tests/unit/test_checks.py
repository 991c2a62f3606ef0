"""Health checks: the disk, and a database that answers, does not, or is none."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from flask_hsmx_cluster.agent import checks


@contextmanager
def answering(server: socket.socket, answer: bytes) -> Iterator[None]:
    """A server that answers one connection."""
    server.listen(1)

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            assert connection.recv(8) == b"\0\0\0\x08\x04\xd2\x16\x2f"
            connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        thread.join(5)
        server.close()


@pytest.mark.parametrize(("answer", "silent"), [(b"N", False), (b"S", False), (b"H", True), (b"", True)])
def test_a_server_on_tcp(answer: bytes, silent: bool) -> None:
    server = socket.create_server(("127.0.0.1", 0))
    url = f"postgresql+psycopg://user:secret@127.0.0.1:{server.getsockname()[1]}/hotel"
    with answering(server, answer):
        found, words = checks.database_is_silent(url)
    assert found is silent
    assert "secret" not in words


def test_a_server_on_a_unix_socket(tmp_path: Path) -> None:
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / ".s.PGSQL.5432"))
    with answering(server, b"N"):
        assert checks.database_is_silent(f"postgresql+psycopg:///hotel?host={tmp_path}") == (False, "it answers")


def test_nobody_there(tmp_path: Path) -> None:
    assert checks.database_is_silent(f"postgresql+psycopg:///hotel?host={tmp_path}")[0]
    assert checks.database_is_silent("no url at all")[0]


def test_a_file_is_never_silent() -> None:
    assert not checks.database_is_silent("sqlite:////tmp/x.db")[0]


def test_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    low, words = checks.disk_is_low([str(tmp_path)])
    assert not low and "MB free" in words
    monkeypatch.setattr(checks, "DISK_FREE_LEAST", 1 << 62)
    assert checks.disk_is_low([str(tmp_path)])[0]


def test_the_fullest_disk_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    free = {"/state": 900 << 20, "/database": 3 << 20}

    def disk_usage(path: str) -> SimpleNamespace:
        if path not in free:
            raise PermissionError(path)
        return SimpleNamespace(free=free[path])

    monkeypatch.setattr(checks.shutil, "disk_usage", disk_usage)
    assert checks.disk_is_low(["/state", "/database"]) == (True, "3 MB free")
    assert checks.disk_is_low(["/state", "/nobody/may/look"]) == (False, "900 MB free")
