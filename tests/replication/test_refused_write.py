"""What users of the host see when PostgreSQL refuses a write on the passive gateway: through SQLAlchemy and Flask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flask import Flask
from sqlalchemy import Engine, create_engine, text

from flask_hsmx_cluster import HSMXCluster
from flask_hsmx_cluster.network.clock import boot_time_s
from flask_hsmx_cluster.replication import guard, schema
from flask_hsmx_cluster.replication.scope import Scope, TableScope

from .conftest import Pair

SCOPE = Scope((TableScope("public", "voucher", "shared"), TableScope("public", "note", "local")))


def app_on(engine: Engine, directory: Path) -> Any:
    app = Flask("firmware")
    app.config.update(SECRET_KEY="x", HSMX_CLUSTER_STATE_DIR=str(directory), HSMX_CLUSTER_FIRMWARE_VERSION="5")
    HSMXCluster(app, engine, allow_unprotected=True)

    @app.post("/<any(voucher, note):table>/<int:number>")
    def add(table: str, number: int) -> str:
        with engine.begin() as connection:
            connection.execute(text(f"INSERT INTO {table} VALUES (:number)"), {"number": number})
        return "added"

    return app.test_client()


def test_a_refused_write_becomes_a_page(pair: Pair, tmp_path: Path) -> None:
    engine = create_engine("postgresql+psycopg://", creator=lambda: pair.b.connect(autocommit=False))
    client = app_on(engine, tmp_path)
    with pair.b.connect() as agent:
        agent.execute("CREATE TABLE voucher (id int PRIMARY KEY); CREATE TABLE note (id int PRIMARY KEY)")
        schema.install(agent, "b" * 32, "a" * 32)
        guard.arm(agent, SCOPE)

        answer = client.post("/voucher/1")
        assert answer.status_code == 409 and "This gateway stands by" in answer.text
        assert client.post("/voucher/1", json={}).json["error"]["code"] == "not_active"
        assert client.post("/note/1").text == "added"
        client.application.config["PROPAGATE_EXCEPTIONS"] = False
        assert client.post("/note/1").status_code == 500, "any other error of the database stays what it is"

        guard.grant(agent, 1, boot_time_s() + 60)
        assert client.post("/voucher/1").text == "added"
        assert agent.execute("SELECT count(*) FROM voucher").fetchone() == (1,)
    engine.dispose()
