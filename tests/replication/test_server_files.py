"""Files that the server writes for us: whole, or as they were."""

from __future__ import annotations

import stat
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest

from flask_hsmx_cluster.errors import RequestRefused
from flask_hsmx_cluster.replication import server_files
from flask_hsmx_cluster.replication.access import (
    pin_certificate,
)
from flask_hsmx_cluster.replication.database import DatabaseFailure

from .stock import Ready


def test_a_file_is_whole_or_the_old_one(tmp_path: Path) -> None:
    """The script that the server runs gets half of the content, as when its session is killed."""
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o640)
    (tmp_path / "file.hsmx_cluster").write_text("left by a crash")

    def write(sent: bytes) -> int:
        arguments = ["sh", "-euc", server_files._WRITE, "sh", str(path), sha256(b"new content").hexdigest()]
        return subprocess.run(arguments, input=sent, capture_output=True).returncode

    assert write(b"bmV3IGNv") != 0
    assert path.read_text() == "old"
    assert write(b"bmV3IGNvbnRlbnQ=") == 0
    assert path.read_text() == "new content" and stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_server_files(ready: Ready) -> None:
    content = bytes(range(256)) * 500
    with ready.server.connect() as connection:
        path = server_files.data_file(connection, "it's a; $(touch x) file")
        assert server_files.read_file(connection, path) is None
        for each in (content, b""):
            server_files.write_file(connection, path, each)
            assert server_files.read_file(connection, path) == each == Path(path).read_bytes()
        assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
        Path(path).unlink()
        with pytest.raises(DatabaseFailure, match="cannot write /nowhere/x"):
            server_files.write_file(connection, "/nowhere/x", b"")
        for bad in ("relative", "/a\nb", ""):
            with pytest.raises(RequestRefused):
                server_files.write_file(connection, bad, b"")
        with pytest.raises(RequestRefused, match="larger"):
            server_files.write_file(connection, path, bytes(server_files.MAX_BYTES + 1))


@pytest.mark.parametrize("pem", ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_only_a_certificate_can_be_pinned(ready: Ready, pem: str) -> None:
    good = ready.credentials.certificate
    with ready.server.connect() as connection:
        for each in (pem, good + good, good + "x" * 20000):
            with pytest.raises(RequestRefused):
                pin_certificate(connection, each)
        path = Path(pin_certificate(connection, f"rubbish\n{good}more\n"))
    assert path.read_text() == good
