"""PostgreSQL dies, its disk is full, its link is pulled, its tables change, its past comes back: nothing is lost."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from sample_app.lab import Gateway, Lab

from .hotel import (
    Writers,
    alarms,
    connect,
    hotel,
    in_order,
    needs_postgres,
    rejoined,
    same,
    sell,
    synchronous,
    vouchers,
    wait_until,
)

pytestmark = needs_postgres


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with hotel(database_disk_mb=400) as lab:
        yield lab


@pytest.fixture
def active(lab: Lab) -> Gateway:
    return in_order(lab)


def nothing_lost(writers: Writers, lab: Lab) -> Gateway:
    """Wait until the pair is in order, and return the active; all that was acknowledged is on both."""
    found = in_order(lab)
    assert len(writers.acknowledged) == len(set(writers.acknowledged)) > 30
    wait_until(lambda: set(writers.acknowledged) <= vouchers(lab.a) & vouchers(lab.b))
    same(found, lab.other(found))
    return found


def more(writers: Writers) -> None:
    """Wait until writes are accepted again."""
    before = len(writers.acknowledged)
    wait_until(lambda: len(writers.acknowledged) > before + 30)


def test_postgresql_killed_on_the_active(lab: Lab, active: Gateway) -> None:
    with Writers(lab) as writers:
        more(writers)
        lab.faults.kill_postmaster(active)
        wait_until(lambda: lab.other(active).role() == "active")
        more(writers)
        wait_until(lambda: "database" in alarms(active))
        wait_until(lambda: "PostgreSQL" in active.call("status")["data"]["problem"])
        active.postgres_in_place().start()
        wait_until(lambda: synchronous(lab.other(active)))
    nothing_lost(writers, lab)
    assert "database" not in alarms(active)


def test_postgresql_killed_on_the_passive(lab: Lab, active: Gateway) -> None:
    passive = lab.other(active)
    with Writers(lab) as writers:
        more(writers)
        lab.faults.kill_postmaster(passive)
        more(writers)
        wait_until(lambda: "database" in alarms(passive))
        wait_until(lambda: not active.call("status")["readiness"]["ready"])
        passive.postgres_in_place().start()
        wait_until(lambda: synchronous(active))
    assert nothing_lost(writers, lab) is active


def test_disk_full_on_the_active(lab: Lab, active: Gateway) -> None:
    active.cli("failover")  # a person has looked: the next move for health need not wait
    survivor, active = active, in_order(lab)
    with Writers(lab) as writers:
        more(writers)
        lab.faults.fill_disk(active)
        try:
            wait_until(lambda: survivor.role() == "active")
            more(writers)
            wait_until(lambda: "disk" in alarms(active))
        finally:
            lab.faults.empty_disk(active)
        if not active.postgres_in_place().running():
            active.postgres_in_place().start()
        wait_until(lambda: synchronous(survivor))
    nothing_lost(writers, lab)
    wait_until(lambda: "disk" not in alarms(active))


def test_disk_full_on_the_passive(lab: Lab, active: Gateway) -> None:
    passive = lab.other(active)
    with Writers(lab) as writers:
        more(writers)
        lab.faults.fill_disk(passive)
        try:
            wait_until(lambda: "disk" in alarms(passive))
            for _ in range(20):
                more(writers)
        finally:
            lab.faults.empty_disk(passive)
        if not passive.postgres_in_place().running():
            passive.postgres_in_place().start()
        wait_until(lambda: synchronous(active))
    assert nothing_lost(writers, lab) is active


def test_the_data_takes_the_backup_link_while_the_sync_cable_is_out(lab: Lab, active: Gateway) -> None:
    passive = lab.other(active)
    links = {cable: passive.address(f"{cable}0").partition("/")[0] for cable in ("sync", "backup")}
    with Writers(lab) as writers:
        wait_until(lambda: links_used(active) == {links["sync"]})
        lab.faults.pull(active, "sync")
        wait_until(lambda: links_used(active) == {links["backup"]})
        wait_until(lambda: synchronous(active))
        more(writers)
        lab.faults.plug(active, "sync")
        wait_until(lambda: links_used(active) == {links["sync"]})
        more(writers)
    assert nothing_lost(writers, lab) is active


def test_a_launcher_that_pauses_for_an_hour_is_begun_anew(lab: Lab, active: Gateway) -> None:
    """What a wall clock that is set back by an hour does to PostgreSQL's launcher, done by the length of its pause."""
    passive = lab.other(active)
    with passive.postgres_in_place().connect() as connection:
        connection.autocommit = True
        connection.execute("ALTER SYSTEM SET wal_retrieve_retry_interval = '1h'")
        connection.execute("SELECT pg_reload_conf()")
        try:
            end_workers(passive)
            wait_until(lambda: not synchronous(active))
            wait_until(lambda: synchronous(active))
        finally:
            connection.execute("ALTER SYSTEM RESET wal_retrieve_retry_interval")
            connection.execute("SELECT pg_reload_conf()")
    assert "its launcher begins anew" in passive.log("agent")
    with Writers(lab) as writers:
        more(writers)
    assert nothing_lost(writers, lab) is active


def end_workers(gateway: Gateway) -> None:
    with gateway.postgres_in_place().connect() as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE backend_type = 'logical replication worker'"
        )


def links_used(active: Gateway) -> set[str]:
    """Return from which addresses the other gateway's subscriptions come."""
    with active.postgres_in_place().connect() as connection:
        found = connection.execute(
            "SELECT host(client_addr) FROM pg_stat_replication WHERE application_name LIKE 'hsmx_cluster%'"
        ).fetchall()
    return {address for (address,) in found}


def test_a_column_is_added_on_the_passive_first_while_clients_write(lab: Lab, active: Gateway) -> None:
    passive = lab.other(active)
    with Writers(lab) as writers:
        more(writers)
        for gateway in (passive, active):
            with connect(gateway) as connection:
                connection.execute("ALTER TABLE voucher ADD COLUMN price integer NOT NULL DEFAULT 5")
            more(writers)
        with connect(active) as connection:
            number = sell(connection)
            connection.execute("UPDATE voucher SET price = 7 WHERE id = %s", (number,))
        with connect(passive) as connection:
            assert connection.execute("SELECT price FROM voucher WHERE id = %s", (number,)).fetchone() == (7,)
    assert synchronous(active)
    assert nothing_lost(writers, lab) is active


def test_a_database_that_was_put_back_to_an_earlier_state(lab: Lab, active: Gateway) -> None:
    """A restored snapshot knows nothing of what was confirmed by both since, and must not be served from (rule 6)."""
    restored, other = lab.other(active), active
    data = restored.postgres_in_place().data
    lab.faults.power_off(restored)
    saved = restored.directory / "saved"
    subprocess.run(["cp", "-a", f"{data}/.", saved], check=True)
    assert in_order(lab) is other
    restored.cli("failover") if restored.role() == "active" else other.cli("failover")
    assert in_order(lab) is restored
    with Writers(lab) as writers:
        more(writers)
        lab.faults.power_off(restored)
        more(writers)
        subprocess.run(f"rm -rf {data}/* && cp -a {saved}/. {data}", shell=True, check=True)
        lab.faults.power_on(restored)
        restored.wait_until_ready()
        wait_until(lambda: bool(rejoined(restored)),
                   lambda: f"{restored.call('status')['data']}\n{restored.log('agent')[-2500:]}")
        wait_until(lambda: synchronous(other))
    assert any("went back in time" in reason for reason in rejoined(restored)["reasons"]), rejoined(restored)
    assert nothing_lost(writers, lab) is other
