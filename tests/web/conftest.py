"""A Flask app with the extension, and a fake agent behind it. No network, no root, no PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from flask.testing import FlaskClient
from jinja2 import FileSystemBytecodeCache

from flask_hsmx_cluster import HSMXCluster

from .fake_agent import FakeAgent

PREFIX = "/network/cluster"


@pytest.fixture
def socket_path(tmp_path: Path) -> Path:
    return tmp_path / "agent.sock"


@pytest.fixture
def agent(socket_path: Path) -> Iterator[FakeAgent]:
    with FakeAgent().listening(socket_path) as agent:
        yield agent


@pytest.fixture
def formed(agent: FakeAgent) -> FakeAgent:
    agent.form()
    return agent


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> FileSystemBytecodeCache:
    """Return where compiled templates are kept: every test has an app of its own."""
    return FileSystemBytecodeCache(str(tmp_path_factory.mktemp("templates")))


@pytest.fixture
def make_app(tmp_path: Path, compiled: FileSystemBytecodeCache) -> Callable[..., Flask]:
    """Return a maker of apps; keywords in capitals are config, the others go to the extension."""

    def make(**options: Any) -> Flask:
        app = Flask("firmware")
        app.jinja_options = {"bytecode_cache": compiled}
        app.config.update(
            SECRET_KEY="not a secret", TESTING=True, HSMX_CLUSTER_STATE_DIR=str(tmp_path),
            HSMX_CLUSTER_FIRMWARE_VERSION="5.2.03", HSMX_CLUSTER_NETWORK_SETTINGS_URL="/network/settings",
        )
        app.config.update({key: options.pop(key) for key in list(options) if key.isupper()})
        options.setdefault("permission", lambda action: True)
        HSMXCluster(app, **options)
        return app

    return make


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    return make_app(WTF_CSRF_ENABLED=False)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def run(app: Flask) -> Callable[..., Result]:
    """Return what runs ``flask cluster ...`` and demands an exit code."""

    def run(*arguments: str, code: int = 0) -> Result:
        result = app.test_cli_runner().invoke(args=["cluster", *arguments])
        assert result.exit_code == code, result.output
        return result

    return run
