"""A dead gateway is replaced by another machine, and a gateway with older data waits; with real databases."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sample_app.lab import Gateway, Lab, LabError, form, wait_for_roles
from sample_app.lab.forming import _ends
from sample_app.lab.postgres import LEAST_VERSION, binaries

from .test_data import connect, sell, synchronous, vouchers, wait_until

pytestmark = pytest.mark.skipif(
    binaries() is None, reason=f"PostgreSQL {LEAST_VERSION} or newer is not installed (Debian: postgresql)"
)
WAIT_S = 12


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(sync="switch", backup="switch", app="sample_app.firmware.app:create_app", postgres=True) as lab:
        lab.start()
        for gateway in lab.gateways:  # The firmware makes its tables at the first request.
            gateway.namespace.run("python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1/login')")
        form(lab, "--stale-wait", str(WAIT_S))
        wait_until(lambda: synchronous(lab.a) and all(map(joined, lab.gateways)), timeout_s=60)
        yield lab


def joined(gateway: Gateway) -> bool:
    """Tell whether a gateway's database has noted that the first copy is complete."""
    with gateway.postgres_in_place().connect() as connection:
        row = connection.execute("SELECT joined_system IS NOT NULL FROM hsmx_cluster.node").fetchone()
    return row == (True,)


def alarms(gateway: Gateway) -> list[str]:
    return [alarm["key"] for alarm in gateway.call("status")["alarms"]]


def kinds(gateway: Gateway) -> set[str]:
    return {event["kind"] for event in gateway.call("events", limit=100)["events"]}


def test_a_gateway_that_missed_writes_waits_then_serves_and_says_so(lab: Lab) -> None:
    lab.faults.power_off(lab.b)
    wait_until(lambda: not synchronous(lab.a))
    with connect(lab.a) as connection:
        missed = sell(connection)
    since = lab.a.call("status")["data"]["degraded_since_s"]
    lab.faults.power_off(lab.a)
    lab.faults.power_on(lab.b)
    wait_until(lambda: lab.b.role() == "passive")
    stale = lab.b.call("status")["data"]["stale"]
    assert since is not None and stale["waits"] and 0 < stale["left_s"] <= WAIT_S + 3
    wait_until(lambda: "stale_wait" in alarms(lab.b))
    wait_until(lambda: lab.b.role() == "active", timeout_s=WAIT_S + 20)
    wait_until(lambda: "stale" in alarms(lab.b) and "data_stale" in kinds(lab.b))
    lab.faults.power_on(lab.a)  # what A alone had goes to its quarantine
    wait_for_roles(lab, active=lab.b, timeout_s=60)
    wait_until(lambda: synchronous(lab.b), timeout_s=60)
    (row,) = [row for row in lab.a.cli("database", "quarantine")["rows"] if row["table_name"] == "voucher"]
    assert row["key"]["id"] == str(missed) and missed not in vouchers(lab.b)
    wait_until(lambda: any(one["waiting"] for one in lab.b.call("status")["data"]["quarantine"]))
    node = lab.a.call("status")["node"]["id"]
    assert lab.b.call("quarantine", node=node)["rows"][0]["text"] == row["text"], "seen from the other one, too"
    lab.b.call("reapply", row_id=row["id"], node=node)
    assert missed in vouchers(lab.b)
    wait_until(lambda: missed in vouchers(lab.a))
    wait_until(lambda: {"rejoined", "quarantined", "reapplied"} <= kinds(lab.a), lambda: f"{kinds(lab.a)}")
    assert "stale" not in alarms(lab.b)


def test_another_machine_takes_the_place_of_a_dead_one(lab: Lab) -> None:
    survivor = wait_for_roles(lab, timeout_s=60)
    dead = lab.other(survivor)
    with pytest.raises(LabError, match="is not dead"):
        survivor.cli("replace")
    lab.faults.power_off(dead)
    wait_until(lambda: survivor.call("status")["peer"]["role"] == "unknown")
    with connect(survivor) as connection:
        sold = {sell(connection) for _ in range(5)}
    answer = survivor.cli("replace")
    assert answer["replaced"] == dead.node_name
    with survivor.postgres_in_place().connect() as connection:
        wait_until(lambda: connection.execute("SELECT count(*) FROM pg_replication_slots").fetchone() == (0,))
    lab.faults.power_on(dead)  # it knows of nothing
    wait_until(lambda: dead.role() == "passive", timeout_s=60)
    wait_until(lambda: dead.call("status")["node"]["phase"] != "listening", timeout_s=WAIT_S + 30)
    assert survivor.role() == "active" and dead.role() == "passive"
    assert not dead.holds(lab.virtual_ip)
    dead.cli("leave", "--force")
    address = survivor.address("sync0").split("/")[0]
    dead.cli("join", address, survivor.cli("pairing-code")["code"], *_ends(lab, dead))
    wait_for_roles(lab, active=survivor, timeout_s=60)
    wait_until(lambda: synchronous(survivor), timeout_s=60)
    assert sold <= vouchers(dead) and survivor.cli("verify")["equal"]
    assert "joined" in kinds(dead) and "replaced" in kinds(survivor)
