"""What the replicator does between fail-overs must not destroy what a rejoin needs."""

from __future__ import annotations

import pytest

from flask_hsmx_cluster.errors import RequestRefused
from flask_hsmx_cluster.replication import channel, schema, synchrony
from flask_hsmx_cluster.replication.names import SUBSCRIPTION, slot_name
from flask_hsmx_cluster.replication.replicator import Replicator
from flask_hsmx_cluster.replication.scope import Scope, TableScope
from flask_hsmx_cluster.replication.setup import Peer, Setup

from .conftest import Pair
from .side import NODE_IDS, Side, boot_time_s, wait_until

SCOPE = Scope((TableScope("public", "voucher", "shared"),))
TABLE = "CREATE TABLE voucher (id integer PRIMARY KEY)"


def replicator_of(side: Side) -> Replicator:
    """Return one that was told its set-up."""
    replicator = Replicator()
    peer = Peer(side.peer_id, ("127.0.0.2",), 5432, "hsmx", "", "1234", "", "")
    replicator._setup = Setup(side.server.dsn, side.node_id, peer, side.scope)
    return replicator


def waiting(side: Side) -> int:
    """Return how many changes wait for the other gateway."""
    row = side.connection.execute(
        "SELECT count(*) FROM pg_logical_slot_peek_binary_changes(%s, NULL, NULL, 'proto_version', '1', "
        "'publication_names', 'hsmx_cluster') WHERE get_byte(data, 0) = ascii('I')",
        (slot_name(side.peer_id),),
    ).fetchone()
    assert row is not None
    return int(row[0])


def test_a_gateway_that_is_passive_but_does_not_follow_yet_keeps_what_the_other_one_may_lack(pair: Pair) -> None:
    """Its slot is the source of the quarantine. It was moved on every second, from the first second on."""
    side = Side(pair.a, NODE_IDS[0], NODE_IDS[1], SCOPE, TABLE)
    replicator = replicator_of(side)
    replicator.promote(1, boot_time_s() + 60)
    side.connection.execute("INSERT INTO voucher VALUES (1), (2), (3)")
    before = waiting(side)
    replicator.demote()
    replicator.tend_passive()
    replicator.tend_passive()
    after = waiting(side)
    side.close()
    replicator.close()
    assert after == before >= 3


def test_no_commit_waits_before_the_number_of_this_run_is_told(pair: Pair) -> None:
    """What both have confirmed comes after it, so that a database put back to before that is known by it (rule 6)."""
    side = Side(pair.a, NODE_IDS[0], NODE_IDS[1], SCOPE, TABLE)
    replicator = replicator_of(side)
    replicator.promote(1, boot_time_s() + 60)
    count = "SELECT count(*) FROM hsmx_cluster.incarnation WHERE node_id = %s"
    before = side.connection.execute(count, (side.node_id,)).fetchone()
    replicator.set_synchronous(True)
    after = side.connection.execute(count, (side.node_id,)).fetchone()
    replicator.set_synchronous(False)
    replicator.set_synchronous(True)
    again = side.connection.execute(count, (side.node_id,)).fetchone()
    replicator.set_synchronous(False)
    side.close()
    replicator.close()
    assert (before, after, again) == ((0,), (1,), (1,))


def slots(side: Side) -> list[str]:
    return [name for (name,) in side.connection.execute("SELECT slot_name FROM pg_replication_slots").fetchall()]


def test_nothing_is_kept_for_a_gateway_that_is_no_member_any_more(pair: Pair) -> None:
    """Its slot would hold WAL until the disk is full, and commits would wait for it for ever."""
    side = Side(pair.a, NODE_IDS[0], NODE_IDS[1], SCOPE, TABLE)
    replicator = replicator_of(side)
    replicator.promote(1, boot_time_s() + 60)
    synchrony.set_name(side.connection, SUBSCRIPTION)
    assert slots(side) == [slot_name(side.peer_id)]
    replicator.configure(Setup(pair.a.dsn, NODE_IDS[0], None, SCOPE), keep_lease=True)
    assert slots(side) == [] and synchrony.name(side.connection) == ""
    side.connection.execute("INSERT INTO voucher VALUES (1)")  # this gateway goes on as the active one
    side.close()
    replicator.close()


def test_a_reader_that_comes_back_at_once_does_not_keep_the_slot_of_a_gateway_that_left(pair: Pair) -> None:
    """Between its end and the drop it had logged in again: "is active for PID", and the set-up failed."""
    a = Side(pair.a, NODE_IDS[0], NODE_IDS[1], SCOPE, TABLE)
    b = Side(pair.b, NODE_IDS[1], NODE_IDS[0], SCOPE, TABLE)
    with b.server.connect() as connection:
        connection.execute("ALTER SYSTEM SET wal_retrieve_retry_interval = '1ms'")
        connection.execute("SELECT pg_reload_conf()")
    for _ in range(5):
        b.follow(a)
        channel.drop_all_slots(a.connection)
        assert slots(a) == []
        channel.forget_subscriptions(b.connection)
        channel.make_slots(a.connection, SCOPE, a.peer_id)
    a.close()
    b.close()


def test_positions_are_not_forgotten_before_a_promotion_has_noted_them(pair: Pair) -> None:
    """Its role is active, but its server had been down: the tending was sometimes faster than the promotion."""
    a = Side(pair.a, NODE_IDS[0], NODE_IDS[1], SCOPE, TABLE)
    b = Side(pair.b, NODE_IDS[1], NODE_IDS[0], SCOPE, TABLE)
    a.promote(1)
    b.follow(a)
    a.connection.execute("INSERT INTO voucher VALUES (1)")
    b.wait_for(a)
    replicator = replicator_of(b)
    replicator.tend_active()
    with pytest.raises(RequestRefused):
        replicator.fork()
    assert [stream.name for stream in channel.streams(b.connection)] == [SUBSCRIPTION]
    replicator.renew(2, boot_time_s() + 60)
    assert replicator.fork()["lsn"] != "0/0"
    assert channel.streams(b.connection) == []
    for one in (a, b, replicator):
        one.close()


def test_positions_of_another_server_are_forgotten_with_it(pair: Pair) -> None:
    """The other gateway got a new disk: its log begins anew, and a rejoin would have left out what lies before."""
    a = Side(pair.a, NODE_IDS[0], NODE_IDS[1], SCOPE, TABLE)
    b = Side(pair.b, NODE_IDS[1], NODE_IDS[0], SCOPE, TABLE)
    a.promote(1)
    a.connection.execute("UPDATE hsmx_cluster.node SET fork_lsn = 'F/0', fork_bulk_lsn = 'F/0', joined_system = '7'")
    b.follow(a)
    replicator = replicator_of(a)
    replicator.watch.look()
    assert replicator.fork()["lsn"] == replicator.fork()["bulk_lsn"] == "0/0"
    for one in (a, b, replicator):
        one.close()


def test_a_fork_slot_that_was_lost_is_replaced_once_its_gateway_follows(pair: Pair) -> None:
    """A first copy that wrote more than a slot may keep left the tending in errors for ever."""
    a = Side(pair.a, NODE_IDS[0], NODE_IDS[1], SCOPE, TABLE)
    b = Side(pair.b, NODE_IDS[1], NODE_IDS[0], SCOPE, TABLE)
    a.promote(1)
    b.follow(a)
    with b.server.connect() as connection:
        connection.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
        connection.execute("SELECT pg_reload_conf()")
        for _ in range(3):
            connection.execute("SELECT pg_logical_emit_message(false, 'x', 'x'), pg_switch_wal()")
        connection.execute("CHECKPOINT")
    state = "SELECT wal_status FROM pg_replication_slots"
    assert b.connection.execute(state).fetchall() == [("lost",)]
    replicator = replicator_of(b)
    replicator.tend_passive()
    assert b.connection.execute(state).fetchall() == [("reserved",)]
    for one in (a, b, replicator):
        one.close()


def test_what_was_seen_of_a_former_stream_says_nothing_of_the_next(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other gateway's log began anew; what it wrote before the remembered position was not put into quarantine."""
    a = Side(pair.a, NODE_IDS[0], NODE_IDS[1], SCOPE, TABLE)
    b = Side(pair.b, NODE_IDS[1], NODE_IDS[0], SCOPE, TABLE)
    a.promote(1)
    b.follow(a)
    replicator = replicator_of(b)
    b.connection.execute(f"ALTER SUBSCRIPTION {SUBSCRIPTION} DISABLE")
    wait_until(lambda: channel.streams(b.connection)[0].worker_pid is None)
    replicator._applied, replicator._peer_dsn = {SUBSCRIPTION: "FF/0"}, a.server.dsn
    monkeypatch.setattr(replicator.following, "begin", lambda other: {})
    replicator.follow({})
    replicator.promote(2, boot_time_s() + 60)
    assert replicator.fork()["lsn"] != "FF/0"
    for one in (a, b, replicator):
        one.close()


def test_a_process_that_was_told_nothing_forgets_what_an_earlier_one_left_and_nothing_of_another_machine(
    pair: Pair,
) -> None:
    side = Side(pair.a, NODE_IDS[0], NODE_IDS[1], SCOPE, TABLE)
    left = Replicator()
    left.forget(side.server.dsn, "c" * 32)
    assert slots(side) and schema.installed(side.connection)
    left.forget(side.server.dsn, NODE_IDS[0])
    assert not slots(side) and not schema.installed(side.connection)
    side.connection.execute("INSERT INTO voucher VALUES (1)")
    left.forget(side.server.dsn, NODE_IDS[0])
    side.close()
    left.close()
