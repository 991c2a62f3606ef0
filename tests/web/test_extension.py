"""init_app: configuration, permission, several apps, own prefix, databases."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import create_engine

import flask_hsmx_cluster
from flask_hsmx_cluster import ConfigError, HSMXCluster, RoleChange, settings_saved
from flask_hsmx_cluster.config import ConfigVars
from flask_hsmx_cluster.services.declare import Statement

from .conftest import PREFIX
from .fake_agent import FakeAgent, cluster_settings


def test_the_agent_does_not_import_flask() -> None:
    code = "import sys, flask_hsmx_cluster.agent, flask_hsmx_cluster; sys.exit('flask' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_public_name_exists() -> None:
    for name in flask_hsmx_cluster.__all__:
        assert getattr(flask_hsmx_cluster, name) is not None
    with pytest.raises(AttributeError):
        _ = flask_hsmx_cluster.nothing


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (ConfigVars.STATE_DIR, "relative/path"),
        (ConfigVars.STATE_DIR, 7),
        (ConfigVars.CONTROL_SOCKET, "relative.sock"),
        (ConfigVars.CONTROL_SOCKET, "/" + "long" * 40),
        (ConfigVars.FIRMWARE_VERSION, ""),
        (ConfigVars.FIRMWARE_VERSION, None),
        (ConfigVars.FIRMWARE_VERSION, 5.2),
        (ConfigVars.FIRMWARE_VERSION, "x" * 65),
        (ConfigVars.NODE_NAME, "two\nlines"),
        (ConfigVars.HTTP_PORT, "eighty"),
        (ConfigVars.HTTP_PORT, 0),
        (ConfigVars.HTTP_PORT, True),
        (ConfigVars.HEARTBEAT_PORT, 70000),
        (ConfigVars.ALLOWED_UIDS, "www-data"),
        (ConfigVars.ALLOWED_UIDS, [-1]),
        (ConfigVars.ALLOWED_UIDS, 3.5),
        (ConfigVars.DATABASE_URL, "not a url"),
        (ConfigVars.SYNCHRONOUS, "perhaps"),
        (ConfigVars.SYNCHRONOUS, 0),
        (ConfigVars.SERVICES, {"name": "x"}),
        (ConfigVars.SERVICES, "[{"),
        (ConfigVars.SERVICES, [{"name": "x", "run": "sleep 1"}]),
        (ConfigVars.HOOKS, [{"name": "x", "step": "later", "command": ["/bin/true"]}]),
        (ConfigVars.URL_PREFIX, "network"),
        (ConfigVars.URL_PREFIX, "/network/"),
        (ConfigVars.NETWORK_SETTINGS_URL, "javascript:alert(1)"),
        (ConfigVars.LOG_LEVEL, "LOUD"),
        (ConfigVars.STATE_DIR, "/var/lib/\0"),
        (ConfigVars.STATE_DIR, "/var/lib/\ud800"),
        (ConfigVars.CONTROL_SOCKET, "/run/\ud800.sock"),
        (ConfigVars.HTTP_PORT, "8_0"),
        (ConfigVars.HTTP_PORT, "８０"),
        (ConfigVars.URL_PREFIX, "//elsewhere"),
        (ConfigVars.URL_PREFIX, "/network?x"),
        (ConfigVars.URL_PREFIX, "/net work\n"),
        (ConfigVars.NETWORK_SETTINGS_URL, "/network\n"),
    ],
)
def test_a_wrong_key_is_named(make_app: Any, key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=key) as caught:
        make_app(**{key: value})
    assert caught.value.remedy


def test_a_malformed_database_url_is_not_repeated(make_app: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        make_app(HSMX_CLUSTER_DATABASE_URL="postgresql//user:secret@host")
    assert "secret" not in str(caught.value) + caught.value.remedy
    with pytest.raises(ConfigError, match="HSMX_CLUSTER_DATABASE_URL") as caught:
        make_app(HSMX_CLUSTER_DATABASE_URL=b"postgresql://user:secret@host/name")
    assert "secret" not in str(caught.value) + caught.value.remedy


def test_keys_from_the_environment_are_texts(make_app: Any) -> None:
    app = make_app(HSMX_CLUSTER_HTTP_PORT="8080", HSMX_CLUSTER_ALLOWED_UIDS="33, 1000")
    with app.app_context():
        config = flask_hsmx_cluster.extension.agent_config()
    assert (config.http_port, config.allowed_uids) == (8080, (33, 1000))


def test_what_follows_the_role_goes_to_the_agent(tmp_path: Path) -> None:
    app = Flask(__name__)
    app.config |= {
        "HSMX_CLUSTER_FIRMWARE_VERSION": "1", "HSMX_CLUSTER_STATE_DIR": str(tmp_path),
        "HSMX_CLUSTER_SERVICES": '[{"name": "dhcp", "unit": "kea.service"}]',
        "HSMX_CLUSTER_HOOKS": [{"name": "x", "step": "after_active", "command": ["/bin/true"]}],
    }  # fmt: skip
    cluster = HSMXCluster(app, allow_unprotected=True)

    @cluster.hook("before_active", order=3)
    def prepare(change: RoleChange) -> None: ...

    with pytest.raises(ConfigError, match="step must not be"):
        cluster.hook("sometimes")(prepare)  # type: ignore[arg-type]
    with app.app_context():
        stated = Statement.from_json(flask_hsmx_cluster.extension.agent_config(["/bin/flask", "hooks"]).services)
    assert [one.unit for one in stated.services] == ["kea.service"] and stated.runner == ("/bin/flask", "hooks")
    assert [(one.name, one.step, one.order, one.number) for one in stated.hooks] == [
        ("x", "after_active", 0, -1), ("prepare", "before_active", 3, 0)]  # fmt: skip


def test_the_agent_calls_hooks_by_the_command_that_started_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from flask_hsmx_cluster.cli.agent import hook_runner

    monkeypatch.setattr("sys.orig_argv", ["python", "-m", "flask", "--app", "agent", "cluster", "agent"])
    assert hook_runner() == ("python", "-m", "flask", "--app", "agent", "cluster", "hooks")
    monkeypatch.setattr("sys.orig_argv", ["python", "start.py"])
    assert hook_runner() == ()


def test_firmware_version_may_be_callable(make_app: Any) -> None:
    app = make_app(HSMX_CLUSTER_FIRMWARE_VERSION=lambda: "6.0.1")
    with app.app_context():
        assert flask_hsmx_cluster.extension.agent_config().firmware_version == "6.0.1"
    app = make_app(HSMX_CLUSTER_FIRMWARE_VERSION=None, firmware_version="7.0")
    with app.app_context():
        assert flask_hsmx_cluster.extension.agent_config().firmware_version == "7.0"


def test_refuses_without_permission_callable(make_app: Any) -> None:
    with pytest.raises(ConfigError, match="permission"):
        make_app(permission=None)
    make_app(permission=None, allow_unprotected=True)
    with pytest.raises(ConfigError, match="callable"):
        make_app(permission="admin")


def test_unprotected_in_so_many_words(make_app: Any, formed: FakeAgent) -> None:
    app = make_app(permission=None, allow_unprotected=True)
    assert app.test_client().get(PREFIX + "/").status_code == 200


def test_twice_on_one_app(make_app: Any) -> None:
    app = make_app()
    with pytest.raises(ConfigError, match="twice"):
        HSMXCluster(app, permission=lambda action: True)


def test_use_before_init_says_what_was_forgotten() -> None:
    cluster = HSMXCluster(permission=lambda action: True)
    with pytest.raises(ConfigError) as caught:
        cluster.status()
    assert "app_context" in caught.value.remedy
    with Flask("bare").app_context(), pytest.raises(ConfigError) as caught:
        cluster.status()
    assert "init_app" in caught.value.remedy


def test_several_apps_with_one_object(tmp_path: Path) -> None:
    cluster = HSMXCluster(permission=lambda action: True)
    apps = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        app = Flask(name)
        app.config.update(SECRET_KEY=name, HSMX_CLUSTER_STATE_DIR=str(tmp_path / name),
                          HSMX_CLUSTER_FIRMWARE_VERSION=name)
        cluster.init_app(app)
        apps.append(app)
    with FakeAgent().listening(tmp_path / "one" / "agent.sock") as first:
        first.form()
        with apps[0].app_context():
            assert cluster.status()["node"]["role"] == "active"
        with apps[1].app_context(), pytest.raises(flask_hsmx_cluster.AgentUnavailable):
            cluster.status()
        assert apps[0].test_client().get(PREFIX + "/").status_code == 200
        assert apps[1].test_client().get(PREFIX + "/").status_code == 503


def test_prefix_by_key(make_app: Any, formed: FakeAgent) -> None:
    app = make_app(HSMX_CLUSTER_URL_PREFIX="/ha")
    assert app.test_client().get("/ha/").status_code == 200
    with app.app_context():
        config = flask_hsmx_cluster.extension.agent_config()
    assert (config.peer_path, config.pair_path) == ("/ha/peer", "/ha/pair")


def test_host_registers_the_blueprint(tmp_path: Path, formed: FakeAgent) -> None:
    app = Flask("firmware")
    app.config.update(SECRET_KEY="x", HSMX_CLUSTER_STATE_DIR=str(tmp_path), HSMX_CLUSTER_FIRMWARE_VERSION="1")
    cluster = HSMXCluster(app, permission=lambda action: True, register_blueprint=False)
    with app.app_context(), pytest.raises(ConfigError, match="not registered"):
        cluster.agent_config()
    app.register_blueprint(cluster.blueprint, url_prefix="/admin/pair-of-gateways", name="ha")
    page = app.test_client().get("/admin/pair-of-gateways/").text
    assert "/admin/pair-of-gateways/static/cluster.css" in page
    with app.app_context():
        assert cluster.agent_config().peer_path == "/admin/pair-of-gateways/peer"


def test_own_prefix_contradicts_the_key(make_app: Any) -> None:
    with pytest.raises(ConfigError, match=ConfigVars.URL_PREFIX):
        make_app(HSMX_CLUSTER_URL_PREFIX="/ha", register_blueprint=False)


URL = "postgresql+psycopg://hsmx:secret@db/hsmx"


def database_url(app: Flask) -> str | None:
    with app.app_context():
        return flask_hsmx_cluster.extension.agent_config().database_url


def test_without_database(make_app: Any) -> None:
    assert database_url(make_app()) is None


def test_plain_engine(make_app: Any) -> None:
    assert database_url(make_app(db=create_engine(URL))) == URL


def test_flask_sqlalchemy(make_app: Any) -> None:
    db = SQLAlchemy()
    app = make_app(db=db, SQLALCHEMY_DATABASE_URI=URL)
    db.init_app(app)
    assert database_url(app) == URL


def test_database_url_beats_db(make_app: Any) -> None:
    other = "postgresql+psycopg://agent@/hsmx"
    assert database_url(make_app(db=create_engine(URL), HSMX_CLUSTER_DATABASE_URL=other)) == other


def test_strange_database(make_app: Any) -> None:
    with pytest.raises(ConfigError, match="SQLAlchemy"):
        make_app(db="sqlite://")


def test_base_template_of_the_host(tmp_path: Path, make_app: Any, formed: FakeAgent) -> None:
    templates = tmp_path / "templates"
    (templates / "hsmx_cluster").mkdir(parents=True)
    (templates / "frame.html").write_text("<title>{% block title %}{% endblock %}</title>{% block head %}{% endblock %}"
                                          "<nav>Firmware</nav>{% block content %}{% endblock %}")
    (templates / "hsmx_cluster" / "events.html").write_text("our own list")
    app = make_app(HSMX_CLUSTER_BASE_TEMPLATE="frame.html")
    app.template_folder = str(templates)
    client = app.test_client()
    page = client.get(PREFIX + "/").text
    assert "<nav>Firmware</nav>" in page and "cluster.css" in page and "This gateway is active" in page
    assert client.get(PREFIX + "/events").text == "our own list"


def test_signal(client: Any, app: Flask, formed: FakeAgent) -> None:
    heard: list[tuple[object, int]] = []

    def listener(sender: object, revision: int) -> None:
        heard.append((sender, revision))

    with settings_saved.connected_to(listener):
        client.post(PREFIX + "/api/settings", json={"settings": cluster_settings(), "base_revision": 1},
                    headers={"X-HSMX-Cluster": "1"})
    assert heard == [(app, 2)]
