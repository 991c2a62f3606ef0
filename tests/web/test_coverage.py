"""What is shared: as the page and the command line show it, and as the agent is told it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Column, Computed, ForeignKey, Integer, MetaData, String, Table, create_engine

from flask_hsmx_cluster import ConfigError, HSMXCluster, Local, Shared
from flask_hsmx_cluster.agent.config import AgentConfig
from flask_hsmx_cluster.extension import agent_config
from flask_hsmx_cluster.replication.scope import Scope

from .conftest import PREFIX
from .fake_agent import FakeAgent

URL = "postgresql+psycopg://hsmx:secret@db/hsmx"


@pytest.fixture
def metadata() -> MetaData:
    metadata = MetaData()
    Table("voucher", metadata, Column("id", Integer, primary_key=True), Column("code", String(14)),
          Column("length", Integer, Computed("length(code)")), Column("seen", Integer, info={"cluster": "local"}),
          info={"cluster": Shared(why="a voucher is good on <both>")})
    Table("interface", metadata, Column("kind", String(8), primary_key=True), Column("id", Integer, primary_key=True))
    Table("port_address", metadata, Column("port", String(15), primary_key=True), Column("own", String(49)),
          Column("other", String(49)), info={"cluster": Shared(mirrored=(("own", "other"),))})
    Table("log", metadata, Column("id", Integer, primary_key=True), info={"cluster": "bulk"})
    Table("licence", metadata, Column("id", Integer, primary_key=True))
    Table("guest", metadata, Column("id", Integer, primary_key=True), Column("log_id", ForeignKey("log.id")))
    return metadata


def options(metadata: MetaData | None, **more: Any) -> dict[str, Any]:
    return {"db": create_engine(URL), "metadata": metadata, "scope": {"radius.nas": "bulk"}, **more}


def run(app: Flask, *arguments: str) -> Result:
    return app.test_cli_runner().invoke(args=["cluster", "coverage", *arguments])


def test_the_page_names_every_table_and_field_with_its_reason(make_app: Any, metadata: MetaData) -> None:
    text = make_app(**options(metadata)).test_client().get(PREFIX + "/coverage").text  # no agent runs
    for table in metadata.tables.values():
        assert f">public.{table.name}</h2>" in text
        for column in table.columns:
            assert column.name in text
    for words in (
        "a voucher is good on &lt;both&gt;", "kind &lt;&gt; &#39;wan&#39;", "rule: a licence belongs to one machine",
        "not declared", "radius.nas", "bulk: shared, may lag", "mirrored: own and other swapped",
        "it is other on the other gateway", "each gateway computes it", "declared: each gateway has its own",
        "4 shared, 2 bulk, 1 local; 1 of them not declared", "which is bulk and may lag behind",
        "its fields are not known here",
    ):
        assert words in text
    assert "not PostgreSQL" not in text and "secret" not in text


def test_the_configuration_chooses_the_reading_of_the_interfaces(make_app: Any, metadata: MetaData) -> None:
    app = make_app(**options(metadata), HSMX_CLUSTER_LOCAL_INTERFACES="lan")
    assert "kind &lt;&gt; &#39;lan&#39;" in app.test_client().get(PREFIX + "/coverage").text
    with app.app_context():
        found = Scope.from_json(agent_config().scope).find("public", "interface")
    assert found is not None and found.rows == "kind <> 'lan'"
    with pytest.raises(ConfigError, match="HSMX_CLUSTER_LOCAL_INTERFACES"):
        make_app(HSMX_CLUSTER_LOCAL_INTERFACES="both")


def test_the_settings_page_leads_there(client: Any, formed: FakeAgent) -> None:
    assert f'href="{PREFIX}/coverage"' in client.get(PREFIX + "/").text
    assert "This firmware has told of no table." in client.get(PREFIX + "/coverage").text


def test_looking_is_enough_and_needed(make_app: Any) -> None:
    for permission, code in ((lambda action: action == "view", 200), (lambda action: False, 403)):
        assert make_app(permission=permission).test_client().get(PREFIX + "/coverage").status_code == code


def test_command_line(make_app: Any, metadata: MetaData) -> None:
    app = make_app(**options(metadata))
    text = run(app).stdout
    assert "⇄ public.voucher: shared (declared: a voucher is good on <both>)" in text
    assert "⇄ public.interface: shared – rows: kind <> 'wan' (rule:" in text
    assert "    ⌂ seen: local: each gateway has its own (declared: each gateway has its own)" in text
    assert "    ⇄ kind: shared, key" in text
    assert "! Table public.guest, log_id:" in text
    found = json.loads(run(app, "--json").stdout)
    assert found["counts"] == {"shared": 4, "bulk": 2, "local": 1, "not_declared": 1}
    assert found["replicable"] is True
    voucher = next(table for table in found["tables"] if table["name"] == "public.voucher")
    assert [(field["name"], field["kind"], field["key"]) for field in voucher["fields"]] == [
        ("id", "shared", True), ("code", "shared", False), ("length", "computed", False), ("seen", "local", False)]


def test_without_postgresql_it_says_what_would_be(make_app: Any, metadata: MetaData) -> None:
    app = make_app(metadata=metadata, db=create_engine("sqlite://"))
    assert "The database is not PostgreSQL" in run(app).stdout
    assert "The database is not PostgreSQL" in app.test_client().get(PREFIX + "/coverage").text
    with app.app_context():
        assert agent_config().scope == ""


def test_a_declaration_that_cannot_work_is_told(make_app: Any, metadata: MetaData) -> None:
    Table("heap", metadata, Column("a", Integer))
    app = make_app(**options(metadata))
    answer = app.test_client().get(PREFIX + "/coverage")
    assert answer.status_code == 500
    assert "public.heap" in answer.text and "primary key" in answer.text
    failed = run(app)
    assert failed.exit_code == 1 and "public.heap" in failed.stderr
    with app.app_context(), pytest.raises(ConfigError, match=r"public\.heap"):
        agent_config()


# ---- where the tables are found, and what the agent is told ----


def told(app: Flask) -> dict[str, str]:
    with app.app_context():
        config = AgentConfig.from_json(agent_config().to_json())
    return {table.name: table.kind for table in Scope.from_json(config.scope).tables} if config.scope else {}


def test_tables_of_flask_sqlalchemy(make_app: Any) -> None:
    db = SQLAlchemy()
    app = make_app(db=db, SQLALCHEMY_DATABASE_URI=URL)
    db.init_app(app)
    Table("guest", db.metadata, Column("id", Integer, primary_key=True))  # models may come after init_app
    assert told(app) == {"public.guest": "shared"}


def test_tables_of_plain_metadata(make_app: Any, metadata: MetaData) -> None:
    assert told(make_app(**options(metadata)))["public.licence"] == "local"


def test_metadata_of_init_app_beats_the_constructors(metadata: MetaData) -> None:
    app = Flask("firmware")
    app.config.update(SECRET_KEY="x", HSMX_CLUSTER_FIRMWARE_VERSION="1")
    cluster = HSMXCluster(permission=lambda action: True, metadata=MetaData())
    cluster.init_app(app, create_engine(URL), metadata=metadata)
    cluster.scope("radacct", Shared(bulk=True))
    cluster.scope("log.entry", Local("big"))
    found = told(app)
    assert (found["public.voucher"], found["public.radacct"], found["log.entry"]) == ("shared", "bulk", "local")
    with pytest.raises(ConfigError, match="twice"):
        cluster.scope("radacct", "local")


def test_a_host_that_has_told_of_no_table_shares_nothing(make_app: Any) -> None:
    assert told(make_app(db=create_engine(URL))) == {}


def test_strange_metadata(make_app: Any) -> None:
    with pytest.raises(ConfigError, match="MetaData"):
        make_app(metadata="tables")


def test_the_agent_checks_what_it_is_told() -> None:
    good = json.loads(AgentConfig("/state", "/state/agent.sock", "1").to_json())
    for scope in ("{", '{"tables": [7]}', '{"tables": [{"schema": "public", "table": "x;", "kind": "shared"}]}', 7):
        with pytest.raises(ConfigError):
            AgentConfig.from_json(json.dumps({**good, "scope": scope}))
