"""A write that the guard refused on the passive gateway: what the host's users see of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from sqlalchemy.exc import DBAPIError, InternalError, OperationalError, SQLAlchemyError

from flask_hsmx_cluster import HSMXCluster, signals
from flask_hsmx_cluster.web.refusal import is_refusal

from .fake_agent import FakeAgent, peer_status

GUARD = "This gateway is not the active one: public.voucher is shared data and cannot be changed here\nHINT:  Write ..."


class DriverError(Exception):
    """As psycopg raises them."""

    def __init__(self, message: str, sqlstate: str = "25006") -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class OldDriverError(Exception):
    """As psycopg2 raises them."""

    pgcode = "25006"


def refused(message: str = GUARD, sqlstate: str = "25006") -> InternalError:
    return InternalError("UPDATE voucher ...", {}, DriverError(message, sqlstate))


def host(app: Flask, error: Exception) -> Any:
    """Give the app a view whose write fails, and return a client that sees what users see."""
    app.add_url_rule("/voucher", "voucher", lambda: raise_(error), methods=["GET", "POST"])
    app.config.update(PROPAGATE_EXCEPTIONS=False)
    return app.test_client()


def raise_(error: Exception) -> str:
    raise error


def stands_by(agent: FakeAgent) -> None:
    agent.form()
    assert agent.settings is not None
    agent.settings["virtual_ips"].append({"address": "2001:db8::5/64", "port": "lan0"})
    agent.role, agent.peer = "passive", {**peer_status(), "role": "active"}


def test_the_page_leads_to_the_active_gateway(app: Flask, agent: FakeAgent) -> None:
    stands_by(agent)
    answer = host(app, refused()).post("/voucher", data={"count": 5})
    assert answer.status_code == 409 and answer.headers["Cache-Control"] == "no-store"
    assert "This gateway stands by" in answer.text and "Nothing was saved" in answer.text
    assert 'href="http://10.0.0.100/"' in answer.text and 'href="http://[2001:db8::5]/"' in answer.text
    assert "/network/cluster/static/cluster.css" in answer.text and "UPDATE voucher" not in answer.text


@pytest.mark.parametrize("how", [{"json": {}}, {"headers": {"Accept": "application/json"}}])
def test_programs_get_json(app: Flask, agent: FakeAgent, how: Any) -> None:
    stands_by(agent)
    answer = host(app, refused()).post("/voucher", **how)
    assert answer.status_code == 409
    assert answer.json["error"]["code"] == "not_active" and answer.json["error"]["remedy"]
    assert answer.json["error"]["active"] == ["http://10.0.0.100/", "http://[2001:db8::5]/"]


def test_the_host_hears_of_a_refused_write(app: Flask, agent: FakeAgent) -> None:
    stands_by(agent)
    heard: list[tuple[object, object]] = []

    def note(sender: object, active: object) -> None:
        heard.append((sender, active))

    with signals.write_refused.connected_to(note):
        host(app, refused()).post("/voucher")
    assert heard == [(app, ["http://10.0.0.100/", "http://[2001:db8::5]/"])]


def test_without_the_agent_it_is_said_without_a_link(app: Flask) -> None:
    answer = host(app, refused()).post("/voucher")
    assert answer.status_code == 409 and "This gateway stands by" in answer.text and "http://" not in answer.text


def test_on_the_active_gateway_nobody_is_sent_elsewhere(app: Flask, formed: FakeAgent) -> None:
    text = host(app, refused()).post("/voucher").text
    assert "Wait a few seconds" in text and "http://" not in text


def test_what_the_guard_refused_is_told_from_other_errors() -> None:
    assert is_refusal(refused()) and is_refusal(DriverError(GUARD)) and is_refusal(OldDriverError(GUARD))
    assert not is_refusal(refused("cannot execute UPDATE in a read-only transaction"))
    assert not is_refusal(refused(sqlstate="23505"))
    assert not is_refusal(ValueError(GUARD))
    assert not is_refusal(SQLAlchemyError(GUARD))


def test_psycopgs_own_error_is_handled(app: Flask, agent: FakeAgent) -> None:
    errors = pytest.importorskip("psycopg.errors", reason="needs libpq")
    stands_by(agent)
    assert host(app, errors.ReadOnlySqlTransaction(GUARD)).post("/voucher").status_code == 409


@pytest.mark.parametrize("kind", [None, Exception, SQLAlchemyError])
def test_other_errors_go_where_they_went(make_app: Callable[..., Flask], kind: Any) -> None:
    """To the host's handler of a wider class, in its own words; without one they stay an internal error."""
    app = make_app()
    if kind is not None:
        app.register_error_handler(kind, lambda error: (f"the host's: {type(error).__name__}", 418))
    answer = host(app, OperationalError("SELECT 1", {}, DriverError("the server is gone", "57P01"))).get("/voucher")
    expected = (500, None) if kind is None else (418, "the host's: OperationalError")
    assert answer.status_code == expected[0] and expected[1] in (None, answer.text)


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_hosts_own_handler_stays(tmp_path: Any, agent: FakeAgent, when: str) -> None:
    stands_by(agent)
    app, cluster = Flask("firmware"), HSMXCluster(allow_unprotected=True)
    app.config.update(SECRET_KEY="x", HSMX_CLUSTER_STATE_DIR=str(tmp_path), HSMX_CLUSTER_FIRMWARE_VERSION="5")

    def own(error: DBAPIError) -> Any:
        return cluster.refused_write(error) if "help" in app.config else ("the host's own", 418)

    if when == "before":
        app.register_error_handler(DBAPIError, own)
    cluster.init_app(app)
    if when == "after":
        app.register_error_handler(DBAPIError, own)
    client = host(app, refused())
    assert client.post("/voucher").text == "the host's own"
    app.config["help"] = True
    assert client.post("/voucher").status_code == 409


def test_the_hosts_session_is_rolled_back_before_its_layout_reads(
    make_app: Callable[..., Flask], agent: FakeAgent
) -> None:
    class Database:
        engine = None

        def __init__(self) -> None:
            self.session = self
            self.done: list[str] = []

        def rollback(self) -> None:
            self.done.append("rollback")

    stands_by(agent)
    database = Database()
    app = make_app(db=database)
    app.context_processor(lambda: {"reads": database.done.append("reads")})
    assert host(app, refused()).post("/voucher").status_code == 409
    assert database.done[:2] == ["rollback", "reads"]


def test_a_layout_that_fails_does_not_hide_the_reason(make_app: Callable[..., Flask], agent: FakeAgent) -> None:
    stands_by(agent)
    answer = host(make_app(HSMX_CLUSTER_BASE_TEMPLATE="missing.html"), refused()).post("/voucher")
    assert answer.status_code == 409 and 'href="http://10.0.0.100/"' in answer.text


def test_the_style_sheet_is_found_wherever_the_blueprint_is(tmp_path: Any, agent: FakeAgent) -> None:
    stands_by(agent)
    app, cluster = Flask("firmware"), HSMXCluster(allow_unprotected=True, register_blueprint=False)
    app.config.update(SECRET_KEY="x", HSMX_CLUSTER_STATE_DIR=str(tmp_path), HSMX_CLUSTER_FIRMWARE_VERSION="5")
    cluster.init_app(app)
    assert "cluster.css" not in host(app, refused()).post("/voucher").text
    app = Flask("firmware")
    app.config.update(SECRET_KEY="x", HSMX_CLUSTER_STATE_DIR=str(tmp_path), HSMX_CLUSTER_FIRMWARE_VERSION="5")
    cluster.init_app(app)
    app.register_blueprint(cluster.blueprint, url_prefix="/ha", name="other")
    assert 'href="/ha/static/cluster.css"' in host(app, refused()).post("/voucher").text
