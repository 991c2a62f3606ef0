"""Two whole gateways with databases that do not fit: forming is refused on the real thing, and nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from flask_hsmx_cluster.errors import ChecksFailed
from sample_app.lab import Gateway, Lab
from sample_app.lab.postgres import LEAST_VERSION, binaries

from .test_data import connect

pytestmark = pytest.mark.skipif(
    binaries() is None, reason=f"PostgreSQL {LEAST_VERSION} or newer is not installed (Debian: postgresql)"
)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(sync="switch", backup="switch", app="sample_app.firmware.app:create_app", postgres=True) as lab:
        lab.start()
        for gateway in lab.gateways:  # The firmware makes its tables at the first request.
            gateway.namespace.run("python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1/login')")
        yield lab


def end(gateway: Gateway, port: str) -> dict[str, str]:
    return {"port": port, "address": gateway.address(port)}


def ends_of_b(lab: Lab) -> dict[str, dict[str, str]]:
    return {"sync": end(lab.b, "sync0"), "backup": end(lab.b, "backup0")}


def create(lab: Lab) -> str:
    """Create a cluster on gateway a and return the code."""
    links = [
        {"kind": kind, "ends": {"self": end(lab.a, port)}} for kind, port in (("sync", "sync0"), ("backup", "backup0"))
    ]
    settings = {
        "cluster_id": "", "nodes": [{"node_id": "self", "name": ""}], "links": links, "advanced": {},
        "virtual_ips": [{"address": f"{lab.virtual_ip}/24", "port": "lan0"}],
    }  # fmt: skip
    return str(lab.a.call("create", settings=settings)["code"])


def refused(lab: Lab, code: str) -> dict[str, dict[str, Any]]:
    """Let b join, which must be refused with nothing changed, and return what was found."""
    before = lab.a.call("settings")
    address = lab.a.address("sync0").split("/")[0]
    with pytest.raises(ChecksFailed) as error:
        lab.b.call("join", address=address, code=code, ends=ends_of_b(lab))
    assert lab.a.call("settings") == before and not lab.b.call("settings")["formed"]
    with connect(lab.b) as connection:
        assert connection.execute("SELECT to_regnamespace('hsmx_cluster')").fetchone() == (None,)
    return {finding.key: finding.as_dict() for finding in error.value.findings if finding.blocking}


@contextmanager
def changed(gateway: Gateway, do: str, undo: str) -> Iterator[None]:
    """Run SQL as the firmware's own user, and undo it afterwards."""
    with connect(gateway) as connection:
        connection.execute(do)
        try:
            yield
        finally:
            connection.execute(undo)


def test_what_does_not_fit_is_refused_and_what_fits_is_formed(lab: Lab) -> None:
    with changed(lab.a, "ALTER TABLE voucher RENAME TO gone", "ALTER TABLE gone RENAME TO voucher"):
        with pytest.raises(ChecksFailed, match="voucher does not exist"):
            create(lab)
        assert not lab.a.call("settings")["formed"]
    code = create(lab)

    credentials = lab.b.state / "database.json"
    lab.faults.stop_agent(lab.b)
    away = credentials.rename(credentials.with_suffix(".away"))
    lab.b.start_agent()
    lab.b.wait_until_ready()
    found = refused(lab, code)
    assert set(found) == {"database_not_shared"} and lab.b.node_name in found["database_not_shared"]["remedy"]
    away.rename(credentials)  # noticed without a restart

    with changed(lab.b, "ALTER TABLE voucher RENAME TO gone", "ALTER TABLE gone RENAME TO voucher"):
        found = refused(lab, code)
        assert "table_missing" in found and found["table_missing"]["text"].startswith(f"{lab.b.node_name}: ")
    with changed(lab.b, "ALTER TABLE voucher RENAME hours TO hour", "ALTER TABLE voucher RENAME hour TO hours"):
        found = refused(lab, code)
        assert "no column hours" in found["schema_column_missing"]["text"]
    with changed(lab.b, "ALTER TABLE voucher ALTER hours TYPE smallint", "ALTER TABLE voucher ALTER hours TYPE int"):
        assert set(refused(lab, code)) == {"schema_column_differs"}

    for gateway, other in ((lab.a, lab.b), (lab.b, lab.a)):
        gateway.namespace.run("nft", "add", "table", "inet", "closed")
        gateway.namespace.run(
            "nft", "add chain inet closed input { type filter hook input priority 0; }; "
            "add rule inet closed input iif sync0 tcp dport 5432 reject with tcp reset")
        try:
            found = refused(lab, code)
        finally:
            gateway.namespace.run("nft", "delete", "table", "inet", "closed")
        assert set(found) == {"database_unreachable"}
        assert gateway.node_name in found["database_unreachable"]["text"]
        assert other.address("sync0").split("/")[0] in found["database_unreachable"]["remedy"]

    lab.b.call("join", address=lab.a.address("sync0").split("/")[0], code=code, ends=ends_of_b(lab))
    assert lab.b.call("settings")["formed"]
