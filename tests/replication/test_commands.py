"""The command that makes PostgreSQL ready, and where it keeps the agent's password."""

from __future__ import annotations

import json
import os
import pwd
import socket
import stat
from pathlib import Path
from typing import Any

import psycopg
import pytest
from flask import Flask
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Column, Integer, MetaData, Table

from flask_hsmx_cluster import HSMXCluster
from flask_hsmx_cluster.errors import ConfigError
from flask_hsmx_cluster.replication import commands
from flask_hsmx_cluster.replication.credentials import Credentials

from .conftest import DATABASE, Pair


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    app = Flask(__name__)
    app.config.update(HSMX_CLUSTER_STATE_DIR=str(tmp_path), HSMX_CLUSTER_FIRMWARE_VERSION="1", SECRET_KEY="x",
                      HSMX_CLUSTER_DATABASE_URL=f"postgresql+psycopg://hsmx@localhost/{DATABASE}")
    declared = MetaData()
    Table("shared_by_the_host", declared, Column("id", Integer, primary_key=True))
    HSMXCluster(app, allow_unprotected=True, metadata=declared)
    return app


def test_the_command(pair: Pair, app: Flask, tmp_path: Path) -> None:
    arguments = ["cluster", "database", "prepare", "--dsn", pair.a.dsn, "--listen", "127.0.0.1"]

    def run(*more: str) -> Any:
        return app.test_cli_runner().invoke(args=[*arguments, *more])

    missing = run("--check", "--json")
    assert missing.exit_code == 1
    assert "database_role" in {finding["key"] for finding in json.loads(missing.stdout)["findings"]}
    first = run("--json")
    assert first.exit_code == 0, first.output
    assert "max_slot_wal_keep_size" in {change["what"] for change in json.loads(first.stdout)["changes"]}
    kept = tmp_path / "database.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    psycopg.connect(json.loads(kept.read_text())["dsn"]).close()
    assert "password=" not in first.output
    second = run()
    assert (second.exit_code, second.stdout) == (0, "Nothing to change.\n")
    lacks = run("--check")
    assert lacks.exit_code == 1 and "The shared table public.shared_by_the_host does not exist here." in lacks.output
    with psycopg.connect(pair.a.dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE shared_by_the_host (id integer PRIMARY KEY)")
        ready = run("--check")
        connection.execute("DROP TABLE shared_by_the_host")
    assert ready.stdout == "PostgreSQL is ready.\n"
    kept.write_text("{}")
    assert run().exit_code == 1


def test_credentials(tmp_path: Path) -> None:
    path = tmp_path / "database.json"
    assert Credentials.load(path) is None
    kept = Credentials("host=/run password=hidden", "PEM")
    (tmp_path / "database.json.new").symlink_to(tmp_path / "elsewhere")
    kept.save(path)
    assert Credentials.load(path) == kept
    assert "hidden" not in repr(kept)
    assert list(tmp_path.iterdir()) == [path]
    for content in ("", "[]", '{"dsn": 1, "certificate": ""}', '{"dsn": ""}', "[" * 100000):
        path.write_text(content)
        with pytest.raises(ConfigError):
            Credentials.load(path)
    path.unlink()
    path.symlink_to("/etc/passwd")
    with pytest.raises(ConfigError):
        Credentials.load(path)
    with pytest.raises(ConfigError):
        kept.save(tmp_path / "nowhere" / "file")


def test_the_default_way_in() -> None:
    dsn = conninfo_to_dict(commands.local_dsn("postgresql+psycopg://hsmx:pw@localhost:5433/gateway"))
    assert dsn == {"host": "/var/run/postgresql", "port": "5433", "dbname": "gateway", "user": "postgres"}
    other = conninfo_to_dict(commands.local_dsn("postgresql://hsmx@/gateway?host=/run/pg"))
    assert other["host"] == "/run/pg"
    for url in (None, "sqlite:////tmp/x.db", "postgresql://localhost"):
        with pytest.raises(ConfigError):
            commands.local_dsn(url)


def test_root_connects_as_the_systems_superuser(tmp_path: Path) -> None:
    """What the kernel tells the server about who connects."""
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        tmp_path.chmod(0o755)
        address = "\0hsmx-test-" + os.urandom(8).hex()
        listener.bind(address)
        listener.listen()
        with commands._as_superuser():
            client.connect(address)
        with listener.accept()[0] as accepted:
            credentials = accepted.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    uid = int.from_bytes(credentials[4:8], "little")
    assert uid == (os.geteuid() or pwd.getpwnam("postgres").pw_uid)
    assert os.geteuid() == os.getuid()
