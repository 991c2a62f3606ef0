"""Two gateways, two PostgreSQL servers, one set of data: formed, written to, and moved by faults."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from sample_app.lab import Gateway, Lab, wait_for_roles
from sample_app.lab.gateway import CommandFailed

from .hotel import Writers, connect, hotel, in_order, needs_postgres, sell, synchronous, vouchers, wait_until, writable

pytestmark = needs_postgres


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with hotel() as lab:
        yield lab


@pytest.fixture
def active(lab: Lab) -> Gateway:
    return in_order(lab)


def test_what_is_written_on_the_active_is_on_both(lab: Lab, active: Gateway) -> None:
    with connect(active) as connection:
        number = sell(connection)
    assert number in vouchers(active) and number in vouchers(lab.other(active)), "confirmed by both: at once"


def test_the_passive_refuses_shared_data_and_takes_its_own(lab: Lab, active: Gateway) -> None:
    passive = lab.other(active)
    with connect(passive) as connection:
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction, match="not the active one"):
            sell(connection)
        connection.execute("UPDATE performance SET guest_mbit = guest_mbit + 7")
        (here,) = connection.execute("SELECT guest_mbit FROM performance").fetchone() or (None,)
    with connect(active) as connection:
        assert connection.execute("SELECT guest_mbit FROM performance").fetchone() != (here,)


def test_a_hand_over_under_load_loses_nothing_and_uses_no_number_twice(lab: Lab, active: Gateway) -> None:
    with Writers(lab) as writers:
        time.sleep(1)
        active.cli("failover")
        time.sleep(2)
    wait_for_roles(lab, active=lab.other(active))
    assert len(writers.acknowledged) == len(set(writers.acknowledged)) > 100
    wait_until(lambda: set(writers.acknowledged) <= vouchers(active) & vouchers(lab.other(active)))


def test_a_hand_over_to_a_database_that_stands_still_is_refused_and_no_write_is(lab: Lab, active: Gateway) -> None:
    passive = lab.other(active)
    passive.postgres_in_place().freeze()
    try:
        wait_until(lambda: not synchronous(active))
        with connect(active) as connection, ThreadPoolExecutor(1) as operator:
            asked = operator.submit(active.cli, "failover")
            while not asked.done():
                sell(connection)
        with pytest.raises(CommandFailed, match="confirms writes too slowly"):
            asked.result()
    finally:
        passive.postgres_in_place().thaw()
    assert active.role() == "active"


def test_power_off_under_load_loses_nothing_that_was_acknowledged(lab: Lab, active: Gateway) -> None:
    survivor = lab.other(active)
    with Writers(lab) as writers:
        time.sleep(1)
        before = len(writers.acknowledged)
        lab.faults.power_off(active)
        wait_until(lambda: survivor.role() == "active")
        wait_until(lambda: len(writers.acknowledged) > before + 50)
    assert before > 50 and len(writers.acknowledged) == len(set(writers.acknowledged))
    assert set(writers.acknowledged) <= vouchers(survivor)
    assert not synchronous(survivor), "nobody to wait for"


def test_a_returning_gateway_follows_by_itself(lab: Lab, active: Gateway) -> None:
    lab.faults.power_off(lab.other(active))
    with connect(active) as connection:
        wait_until(lambda: not synchronous(active))
        missed = {sell(connection) for _ in range(20)}
    lab.faults.power_on(lab.other(active))
    wait_for_roles(lab, active=active, timeout_s=40)
    wait_until(lambda: synchronous(active))
    assert missed <= vouchers(lab.other(active))


def test_a_passive_that_is_lost_holds_up_nobody_for_long(lab: Lab, active: Gateway) -> None:
    with Writers(lab) as writers:
        time.sleep(0.5)
        before = len(writers.acknowledged)
        lab.faults.power_off(lab.other(active))
        wait_until(lambda: len(writers.acknowledged) > before + 200)
    assert active.role() == "active" and not synchronous(active)
    kinds = [event["kind"] for event in active.call("events", limit=20)["events"]]
    assert "degraded" in kinds


def test_a_database_that_died_on_the_passive_is_waited_for_no_longer(lab: Lab, active: Gateway) -> None:
    passive = lab.other(active)
    passive.postgres_in_place().kill()
    with connect(active) as connection:
        sell(connection)
    assert active.role() == "active"
    passive.postgres_in_place().start()
    wait_until(lambda: synchronous(active))
    with passive.postgres_in_place().connect() as connection:
        kept = connection.execute("SELECT key, end_lsn, operation FROM hsmx_cluster.quarantine").fetchall()
    assert vouchers(active) == vouchers(passive), (kept, [one.call("status")["data"] for one in lab.gateways])


def test_both_are_written_to_while_isolated_and_nothing_is_lost(lab: Lab, active: Gateway) -> None:
    """No system of two can keep both from serving then. One goes on; the other one's writes wait in quarantine."""
    other = lab.other(active)
    faults = lab.faults
    for cable in ("sync", "backup"):
        faults.pull(active, cable)
    faults.isolate()
    try:
        wait_until(lambda: other.role() == "active" and active.role() == "active")
        with connect(active) as here, connect(other) as there:
            wait_until(lambda: writable(there))
            wait_until(lambda: writable(here))
            ours, theirs = {sell(here) for _ in range(5)}, {sell(there) for _ in range(7)}
    finally:
        faults.isolate(on=False)
        for cable in ("sync", "backup"):
            faults.plug(active, cable)
    stays = wait_for_roles(lab, timeout_s=40)
    yields = lab.other(stays)
    wait_until(lambda: synchronous(stays))
    kept, lost = (ours, theirs) if stays is active else (theirs, ours)
    assert kept <= vouchers(stays) and kept <= vouchers(yields)
    assert not lost & vouchers(stays) or lost == kept, "numbers are not used on both"
    waiting = yields.cli("database", "quarantine")
    assert {int(row["key"]["id"]) for row in waiting["rows"] if row["table_name"] == "voucher"} == lost
    assert "created" in waiting["rows"][0]["text"]
    yields.cli("database", "reapply", str(waiting["rows"][0]["id"]))
    assert yields.cli("database", "reapply", "--all", "--yes")["done"] == waiting["total"] - 1
    assert lost <= vouchers(stays)
    wait_until(lambda: lost <= vouchers(yields))
    assert yields.cli("database", "quarantine")["total"] == 0
    assert stays.cli("verify")["equal"] and yields.cli("verify")["equal"]
