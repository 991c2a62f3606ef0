"""A passive gateway that is behind catches up with clients that never pause, on real servers."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from flask_hsmx_cluster.replication import channel, pace, promotion, synchrony
from flask_hsmx_cluster.replication.database import connect, one
from flask_hsmx_cluster.replication.names import SUBSCRIPTION
from flask_hsmx_cluster.replication.pace import Pace
from flask_hsmx_cluster.replication.replicator import Replicator
from flask_hsmx_cluster.replication.scope import Scope, TableScope
from flask_hsmx_cluster.replication.setup import Peer, Setup
from tests.bench.writers import Writers

from .conftest import Pair
from .side import NODE_IDS, Side, wait_until

SCOPE = Scope((TableScope("public", "voucher", "shared"),))


@pytest.fixture
def sides(pair: Pair) -> Iterator[tuple[Side, Side]]:
    tables = "CREATE TABLE voucher (id integer PRIMARY KEY)"
    a, b = (Side(server, own, other, SCOPE, tables)
            for server, own, other in ((pair.a, *NODE_IDS), (pair.b, *reversed(NODE_IDS))))
    a.promote(1)
    b.follow(a)
    yield a, b
    a.close()
    b.close()


def flushes(side: Side) -> str:
    return str(one(side.connection, "SELECT subsynccommit FROM pg_subscription WHERE subname = %s", SUBSCRIPTION))


def pace_of(passive: Side, active: Side) -> Pace:
    slots = [channel.slot_of(SUBSCRIPTION, passive.node_id)]
    return Pace(lambda: connect(passive.server.dsn), lambda: connect(active.server.dsn), lambda: slots,
                lambda: active.node_id)


def test_commits_are_flushed_exactly_while_somebody_waits_for_them(sides: tuple[Side, Side]) -> None:
    a, b = sides
    pace_of(b, a).keep()
    wait_until(lambda: flushes(b) == "off")
    worker = channel.streams(b.connection)[0].worker_pid
    a.be_synchronous()
    wait_until(lambda: flushes(b) == "on")
    a.connection.execute("SET synchronous_commit = on")
    a.connection.execute("INSERT INTO voucher VALUES (1)")
    assert one(b.connection, "SELECT count(*) FROM voucher") == 1
    synchrony.set_name(a.connection, "")
    wait_until(lambda: flushes(b) == "off")
    assert channel.streams(b.connection)[0].worker_pid == worker, "the worker goes on"


def test_it_is_told_when_commits_begin_to_wait(sides: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch) -> None:
    """In an asynchronous pair it asked twenty times a second whether they had."""
    a, b = sides
    monkeypatch.setattr(pace, "LOOK_SELDOM_S", 3600.0)
    pace_of(b, a).keep()
    wait_until(lambda: flushes(b) == "off")
    a.be_synchronous()
    wait_until(lambda: flushes(b) == "on")


def test_it_ends_with_the_subscription_and_begins_again_when_told(sides: tuple[Side, Side]) -> None:
    a, b = sides
    keeper = pace_of(b, a)
    keeper.keep()
    wait_until(lambda: flushes(b) == "off")
    thread = keeper._thread
    assert thread is not None
    b.promote(2)
    wait_until(lambda: not thread.is_alive())
    assert one(b.connection, "SELECT subsynccommit FROM pg_subscription") == "off", "a promotion is not held up"


def test_a_stream_whose_slot_is_lost_rests_until_a_rejoin(sides: tuple[Side, Side]) -> None:
    """Its worker tried for ever, and the gateway was taken for one that follows."""
    a, b = sides
    b.connection.execute(f"ALTER SUBSCRIPTION {SUBSCRIPTION} DISABLE")
    wait_until(lambda: not one(a.connection, "SELECT bool_or(active) FROM pg_replication_slots"))
    a.connection.execute("SELECT pg_drop_replication_slot(%s)", (a.slot,))
    b.connection.execute(f"ALTER SUBSCRIPTION {SUBSCRIPTION} ENABLE")
    pace_of(b, a).keep()
    wait_until(lambda: not channel.streams(b.connection)[0].enabled)


def test_who_was_away_catches_up_with_clients_that_never_pause(sides: tuple[Side, Side]) -> None:
    """Four clients without a pause are faster than one worker that flushes each commit: it never caught up."""
    a, b = sides
    replicator = Replicator()
    replicator._setup = Setup(a.server.dsn, NODE_IDS[0], Peer(NODE_IDS[1], (), 0, "", "", "1234", "", ""), SCOPE)
    b.connection.execute(f"ALTER SUBSCRIPTION {SUBSCRIPTION} DISABLE")
    with Writers(a.server.connect, "INSERT INTO voucher VALUES (%s)") as writers:
        wait_until(lambda: len(writers.acknowledged) > 5000)
        b.connection.execute(f"ALTER SUBSCRIPTION {SUBSCRIPTION} ENABLE")
        pace_of(b, a).keep()

        def caught_up() -> bool:
            time.sleep(0.2)  # as often as the replicator looks
            return bool(replicator.watch.look()["caught_up"])

        wait_until(caught_up)
        a.be_synchronous()
        before = len(writers.acknowledged)
        wait_until(lambda: len(writers.acknowledged) > before + 1000)
        assert flushes(b) == "on"
    assert promotion.confirmed(a.connection, a.slot, 10)
    assert one(b.connection, "SELECT count(*) FROM voucher") == len(writers.acknowledged)
    replicator.close()


def test_where_nobody_waits_for_a_flush_a_hand_over_does_not_either(sides: tuple[Side, Side]) -> None:
    """Asynchronous by configuration: with clients that never paused, no operator's hand-over was ever accepted."""
    a, b = sides
    b.connection.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
    b.connection.execute("SELECT pg_reload_conf()")
    pace_of(b, a).keep()
    wait_until(lambda: flushes(b) == "off")
    for number in range(20):
        a.connection.execute("INSERT INTO voucher VALUES (%s)", (number,))
    assert promotion.confirmed(a.connection, a.slot, 5)
    assert one(b.connection, "SELECT count(*) FROM voucher") == 20
