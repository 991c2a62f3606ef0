"""A gateway that comes back: nothing hidden, nothing lost, no full copy; on two real servers."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from flask_hsmx_cluster.replication import channel, quarantine
from flask_hsmx_cluster.replication import rejoin as rejoin_module
from flask_hsmx_cluster.replication.channel import slot_of
from flask_hsmx_cluster.replication.database import DatabaseFailure, one
from flask_hsmx_cluster.replication.names import SUBSCRIPTION
from flask_hsmx_cluster.replication.promotion import Fork
from flask_hsmx_cluster.replication.quarantine import FOUND_BY_COMPARISON, QuarantinedRow
from flask_hsmx_cluster.replication.rejoin import went_back
from flask_hsmx_cluster.replication.replace import Replacement
from flask_hsmx_cluster.replication.replicator import Replicator
from flask_hsmx_cluster.replication.setup import Setup

from .conftest import Pair
from .gateways import SCOPE, Gateway, TwoGateways, wait_for

G1, G2, G3 = (str(uuid.UUID(int=number)) for number in (1, 2, 3))


@pytest.fixture
def two(pair: Pair) -> Iterator[TwoGateways]:
    """Both have some rows, and each some of its own; ``a`` is active."""
    two = TwoGateways(pair)
    yield filled(two)
    two.close()


def filled(two: TwoGateways) -> TwoGateways:
    two.a.execute(f"""
        INSERT INTO voucher SELECT n, 'code' || n, n, false, repeat('p', 5000) FROM generate_series(1, 50) n;
        INSERT INTO guest (id, name) VALUES ('{G1}', 'Ann'), ('{G2}', 'Bob');
        INSERT INTO room VALUES ('north', 1, '{G1}'), ('north', 2, '{G2}'), ('south', 1, NULL);
        INSERT INTO stay (guest, voucher, nights) VALUES ('{G1}', 1, '[1,3)'), ('{G2}', 2, NULL);
        INSERT INTO setting VALUES ('shared', 'ssid', 'Hotel'), ('own', 'language', 'de');
        INSERT INTO link VALUES ('sync', '10.0.0.1', '10.0.0.2');
        INSERT INTO log SELECT n, 'line' FROM generate_series(1, 20) n;
        INSERT INTO licence VALUES (1, 'of a')""")
    two.settle(two.a, two.b)
    two.b.execute("INSERT INTO setting VALUES ('own', 'language', 'fr'); INSERT INTO licence VALUES (1, 'of b')")
    for gateway in (two.a, two.b):
        gateway.execute("UPDATE guest SET local_note = %s || ' ' || name", gateway.name)
    two.settle(two.a, two.b)
    return two


def part(two: TwoGateways, lost: str = "", written: str = "") -> Fork:
    """Gateway ``a`` writes what ``b`` never gets and ends; ``b`` takes over and is written to."""
    for name in ("hsmx_cluster", "hsmx_cluster_bulk"):
        two.b.execute(f"ALTER SUBSCRIPTION {name} DISABLE")
    wait_for(lambda: not two.a.execute("SELECT 1 FROM pg_replication_slots WHERE active"))
    for statement in filter(None, lost.split(";\n")):
        two.a.execute(statement)
    fork = two.promote(two.b, two.a)
    for statement in filter(None, written.split(";\n")):
        two.b.execute(statement)
    two.a.restart()
    return fork


def together(two: TwoGateways) -> None:
    """Both have the same shared rows, and go on having them."""
    two.settle(two.b, two.a)
    assert two.verify(two.b, two.a).equal, two.verify(two.b, two.a)
    two.b.execute(f"INSERT INTO guest VALUES ('{uuid.uuid4()}', 'later'); UPDATE voucher SET minutes = minutes + 1;"
                  f"INSERT INTO log SELECT max(id) + 1, 'later' FROM log")
    two.settle(two.b, two.a)
    assert two.verify(two.b, two.a).equal


def local_rows(gateway: Gateway) -> list[Any]:
    return [gateway.execute(query) for query in (
        "SELECT * FROM setting WHERE scope = 'own' ORDER BY name", "SELECT * FROM licence ORDER BY id")]


def words(rows: tuple[QuarantinedRow, ...]) -> list[tuple[str, str, tuple[str | None, ...]]]:
    return [(row.table_name, row.operation, tuple((row.key or {}).values())) for row in rows]


def test_without_divergence_the_stream_goes_on(two: TwoGateways) -> None:
    fork = part(two, written="INSERT INTO voucher VALUES (100, 'new', 1)")
    rejoined = two.rejoin(two.a, two.b, fork)
    assert rejoined.ways == {"hsmx_cluster": "resume", "hsmx_cluster_bulk": "resume"}
    assert (rejoined.kept, rejoined.replaced, two.a.quarantine()) == (0, 0, ())
    together(two)
    assert one(two.a.connection, "SELECT code FROM public.voucher WHERE id = 100") == "new"


def test_a_stream_that_goes_on_reaches_the_other_gateway_as_it_is_now(two: TwoGateways) -> None:
    """Its password or certificate may be another than when the subscription was made."""
    fork = two.promote(two.a, two.b)
    channel.disable(two.b.connection)
    for name in channel.subscriptions(two.scope):
        two.b.execute(f"ALTER SUBSCRIPTION {name} CONNECTION 'host=127.0.0.2 port=1 dbname=hsmx user=postgres'")
    two.a.execute("INSERT INTO voucher VALUES (100, 'new', 1)")
    two.rejoin(two.b, two.a, fork)
    two.settle(two.a, two.b)
    assert one(two.b.connection, "SELECT code FROM public.voucher WHERE id = 100") == "new"


LOST = f"""INSERT INTO voucher VALUES (101, 'lost', 5);
UPDATE voucher SET minutes = 999 WHERE id = 1;
DELETE FROM voucher WHERE id = 3;
UPDATE voucher SET id = 104 WHERE id = 4;
BEGIN; UPDATE room SET guest = NULL WHERE number = 1; UPDATE room SET guest = '{G1}' WHERE number = 2; COMMIT;
INSERT INTO guest (id, name, local_note) VALUES ('{G3}', 'Cyn', 'mine');
UPDATE guest SET name = 'Anna' WHERE id = '{G1}';
INSERT INTO stay (guest, voucher) VALUES ('{G3}', 101);
UPDATE setting SET value = 'Lost' WHERE scope = 'shared';
UPDATE setting SET value = 'it' WHERE scope = 'own';
UPDATE link SET own_ip = '10.0.0.9';
UPDATE licence SET text = 'of a, new';
INSERT INTO log VALUES (500, 'lost')"""
WRITTEN = f"""UPDATE room SET guest = NULL WHERE number = 2;
UPDATE room SET guest = '{G2}' WHERE building = 'north' AND number = 1;
UPDATE voucher SET minutes = 77 WHERE id IN (1, 2);
UPDATE voucher SET code = 'code4' WHERE id = 200;
UPDATE voucher SET code = 'swap' WHERE id = 5;
UPDATE voucher SET code = 'code5' WHERE id = 6;
INSERT INTO voucher VALUES (102, 'code6', 1);
DELETE FROM stay WHERE voucher = 2;
UPDATE link SET peer_ip = '10.0.0.7';
INSERT INTO setting VALUES ('shared', 'new', 'x'), ('own', 'mine', 'y')"""


def test_divergence_is_kept_and_replaced(two: TwoGateways) -> None:
    fork = part(two, LOST, WRITTEN)
    before = local_rows(two.a), local_rows(two.b)
    rejoined = two.rejoin(two.a, two.b, fork)
    assert rejoined.ways == {"hsmx_cluster": "replace", "hsmx_cluster_bulk": "replace"}
    assert words(two.a.quarantine()) == [
        ("voucher", "insert", ("101",)), ("voucher", "update", ("1",)), ("voucher", "delete", ("3",)),
        ("voucher", "update", ("4",)),
        ("room", "update", ("1", "north")), ("room", "update", ("1", "south")), ("room", "update", ("2", "north")),
        ("guest", "insert", (G3,)), ("guest", "update", (G1,)), ("stay", "insert", ("3",)),
        ("setting", "update", ("ssid", "shared")), ("link", "update", ("sync",)), ("log", "insert", ("500",)),
    ]
    assert two.a.execute("SELECT * FROM hsmx_cluster.dirty_key") == []
    together(two)
    assert (local_rows(two.a), local_rows(two.b)) == before
    assert two.a.execute("SELECT local_note FROM guest WHERE name IN ('Ann', 'Bob') ORDER BY name") == [
        ("a Ann",), ("a Bob",)]
    assert two.a.execute("SELECT own_ip::text, peer_ip::text FROM link") == [("10.0.0.7/32", "10.0.0.2/32")]
    # Nothing of it counts as written here.
    kept = quarantine.keep(two.a.connection, quarantine.Source(two.a.id, fork.term), [
        quarantine.Slot(slot_of(SUBSCRIPTION, two.b.id), ("hsmx_cluster", "hsmx_cluster_rows"), fork.lsn)])
    assert kept.rows == 0


@pytest.mark.parametrize(("lost", "written"), [
    ("TRUNCATE log", "INSERT INTO log VALUES (600, 'b')"),
    ("INSERT INTO log VALUES (600, 'a')", "TRUNCATE log;\nINSERT INTO log VALUES (601, 'b')"),
    ("TRUNCATE voucher CASCADE", ""),
    ("INSERT INTO voucher VALUES (300, 'a')", "TRUNCATE stay"),
    ("INSERT INTO guest VALUES (gen_random_uuid(), 'a')", "TRUNCATE guest CASCADE"),
])  # fmt: skip
def test_truncate_replaces_the_whole_table(two: TwoGateways, lost: str, written: str) -> None:
    fork = part(two, lost, written)
    two.rejoin(two.a, two.b, fork)
    assert two.a.quarantine()
    together(two)


CRASHES: list[tuple[object, str]] = [
    (rejoin_module._Rejoin, "_quarantine"), (rejoin_module._Rejoin, "_subscribe"), (Replacement, "add_dirty"),
    (Replacement, "fetch"), (Replacement, "keep_bases"), (Replacement, "apply"), (rejoin_module._Rejoin, "_replace"),
    (rejoin_module._Rejoin, "_join"), (rejoin_module._Rejoin, "_reset_own_slots"),
]  # fmt: skip


@pytest.mark.parametrize("place", range(len(CRASHES)), ids=[name for _, name in CRASHES])
def test_a_power_cut_at_any_step_changes_nothing_in_the_outcome(
    two: TwoGateways, place: int, monkeypatch: pytest.MonkeyPatch,
) -> None:
    owner, name = CRASHES[place]
    fork = part(two, LOST, WRITTEN)
    original: Callable[..., Any] = getattr(owner, name)

    def then_crash(*arguments: Any) -> None:
        original(*arguments)
        two.a.server.kill()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, then_crash)
        with pytest.raises((KeyboardInterrupt, psycopg.Error, DatabaseFailure)):
            two.rejoin(two.a, two.b, fork)
    two.a.restart()
    two.rejoin(two.a, two.b, fork)
    assert len(two.a.quarantine()) == 13
    together(two)
    assert two.a.execute("SELECT local_note FROM guest WHERE name = 'Ann'") == [("a Ann",)]


def test_a_large_backlog_is_replaced_in_bulk(two: TwoGateways) -> None:
    fork = part(two, written="INSERT INTO voucher SELECT n, 'n' || n FROM generate_series(1000, 3000) n;\n"
                             "UPDATE voucher SET minutes = 3 WHERE id > 2000;\nDELETE FROM voucher WHERE id > 2900")
    rejoined = two.rejoin(two.a, two.b, fork, most_applied=100_000)
    assert rejoined.ways["hsmx_cluster"] == "replace" and not rejoined.kept
    assert rejoined.replaced == 1901
    together(two)


def test_rows_that_are_new_here_come_together_with_rows_that_give_up_their_values(two: TwoGateways) -> None:
    fork = part(two, written="UPDATE voucher SET code = 'free' || id WHERE id < 11;\n"
                             "INSERT INTO voucher SELECT n + 1000, 'code' || n FROM generate_series(1, 10) n;\n"
                             "INSERT INTO guest SELECT gen_random_uuid(), 'New ' || n FROM generate_series(1, 30) n;\n"
                             "UPDATE guest SET name = 'Anna' WHERE name = 'Ann';\n"
                             "INSERT INTO setting VALUES ('shared', 'language', 'en'), ('own', 'tone', 'loud')")
    rejoined = two.rejoin(two.a, two.b, fork, most_applied=-1)
    assert rejoined.replaced == 10 + 10 + 30 + 1 + 1
    together(two)
    assert two.a.execute("SELECT local_note, count(*) FROM guest GROUP BY 1 ORDER BY 2") == [
        ("a Ann", 1), ("a Bob", 1), ("none", 30 + 1)]
    assert two.a.execute("SELECT name, value FROM setting WHERE scope = 'own'") == [("language", "de")]


def test_an_open_transaction_delays_only_what_must_wait(two: TwoGateways) -> None:
    fork = part(two, written="INSERT INTO log SELECT n, 'x' FROM generate_series(1000, 9000) n")
    with two.b.server.connect() as other, other.transaction():
        other.execute("INSERT INTO voucher VALUES (900, 'open')")
        rejoined = two.rejoin(two.a, two.b, fork, most_applied=1000)
    assert rejoined.ways["hsmx_cluster"] == "resume"
    together(two)


def test_an_open_transaction_for_too_long_is_said(two: TwoGateways) -> None:
    fork = part(two, "INSERT INTO voucher VALUES (101, 'lost')")
    with two.b.server.connect() as other, other.transaction():
        other.execute("INSERT INTO voucher VALUES (900, 'open')")
        with pytest.raises(DatabaseFailure, match="open for too long"):
            two.rejoin(two.a, two.b, fork, patience_s=0)
    two.rejoin(two.a, two.b, fork)
    assert words(two.a.quarantine()) == [("voucher", "insert", ("101",))]
    together(two)


def test_a_lost_slot_here_means_comparing_and_keeping_the_difference(two: TwoGateways) -> None:
    fork = part(two, LOST, WRITTEN)
    two.a.execute("SELECT pg_drop_replication_slot(%s)", slot_of(SUBSCRIPTION, two.b.id))
    rejoined = two.rejoin(two.a, two.b, fork)
    assert rejoined.ways == {"hsmx_cluster": "compare", "hsmx_cluster_bulk": "replace"}
    assert "lost" in rejoined.reasons[0]
    found = [row for row in two.a.quarantine() if row.note == FOUND_BY_COMPARISON]
    assert {("voucher", "insert", ("101",)), ("voucher", "update", ("1",)), ("voucher", "insert", ("104",)),
            ("guest", "insert", (G3,)), ("link", "update", ("sync",)), ("setting", "update", ("ssid", "shared")),
            } <= set(words(tuple(found)))  # fmt: skip
    link = next(row for row in found if row.table_name == "link")
    assert link.new_row == {"name": "sync", "own_ip": "10.0.0.9", "peer_ip": "10.0.0.2"}
    assert link.old_row == {"name": "sync", "own_ip": "10.0.0.7", "peer_ip": "10.0.0.2"}
    together(two)
    assert local_rows(two.a)[1] == [(1, "of a, new")]


def test_a_lost_slot_there_means_comparing_but_quarantine_stays_exact(two: TwoGateways) -> None:
    fork = part(two, LOST, WRITTEN)
    two.b.execute("SELECT pg_drop_replication_slot(%s)", slot_of(SUBSCRIPTION, two.a.id))
    rejoined = two.rejoin(two.a, two.b, fork)
    assert rejoined.ways["hsmx_cluster"] == "compare"
    assert len(two.a.quarantine()) == 13 and not any(row.note == FOUND_BY_COMPARISON for row in two.a.quarantine())
    together(two)


def test_a_gateway_that_went_back_in_time_is_compared(two: TwoGateways) -> None:
    two.a.execute("INSERT INTO hsmx_cluster.incarnation VALUES (%s, 1, gen_random_uuid())", two.a.id)
    two.settle(two.a, two.b)
    fork = part(two)
    # As a reverted disk leaves it: a row that was acknowledged is missing, and the start is another one.
    two.a.execute("DELETE FROM voucher WHERE id = 7")
    two.a.execute("UPDATE hsmx_cluster.incarnation SET incarnation = gen_random_uuid()")
    two.a.execute("SELECT pg_replication_slot_advance(slot_name, pg_current_wal_lsn()) FROM pg_replication_slots")
    assert "start number 1" in went_back(two.a.connection, two.a.id, fork.lsn, two.b.connection)
    rejoined = two.rejoin(two.a, two.b, fork)
    assert set(rejoined.ways.values()) == {"compare"} and "went back in time" in rejoined.reasons[0]
    together(two)
    assert one(two.a.connection, "SELECT count(*) FROM public.voucher WHERE id = 7") == 1
    assert went_back(two.b.connection, two.b.id, "0/0", two.a.connection) == ""
    assert "ends at" in went_back(two.b.connection, two.b.id, "FFFFFFFF/0", two.a.connection)


def test_a_rejoin_that_was_interrupted_between_two_streams_is_completed(two: TwoGateways) -> None:
    """The first stream was enabled, the second one never was."""
    fork = part(two, written="INSERT INTO log VALUES (100, 'new')")
    two.rejoin(two.a, two.b, fork)
    replicator = Replicator()
    replicator._setup = Setup(two.a.server.dsn, two.a.id, None, SCOPE)
    assert replicator.look()["follows"]
    two.a.execute("ALTER SUBSCRIPTION hsmx_cluster_bulk DISABLE")
    assert not replicator.look()["follows"]
    replicator.close()
    two.rejoin(two.a, two.b, fork)
    together(two)


def test_a_stream_that_is_new_is_compared(two: TwoGateways) -> None:
    """The first bulk table was declared by an upgrade: its stream was never made, or the other one's place was lost."""
    two.b.execute("ALTER SUBSCRIPTION hsmx_cluster_bulk DISABLE")
    two.b.execute("ALTER SUBSCRIPTION hsmx_cluster_bulk SET (slot_name = NONE)")
    two.b.execute("DROP SUBSCRIPTION hsmx_cluster_bulk")
    two.a.execute("INSERT INTO log VALUES (100, 'new'); INSERT INTO voucher VALUES (100, 'new')")
    fork = two.promote(two.a, two.b)
    two.b.execute("ALTER SUBSCRIPTION hsmx_cluster DISABLE")
    assert set(two.rejoin(two.b, two.a, fork).ways.values()) == {"compare"}
    two.settle(two.a, two.b)
    assert two.verify(two.a, two.b).equal and two.b.quarantine() == ()


def test_and_back_again(two: TwoGateways) -> None:
    """Each becomes active in turn, and loses something."""
    new, old = two.b, two.a
    for number in range(4):
        for name in ("hsmx_cluster", "hsmx_cluster_bulk"):
            new.execute(f"ALTER SUBSCRIPTION {name} DISABLE")
        old.execute("INSERT INTO voucher VALUES (%s, %s)", 1000 + number, f"lost {number}")
        fork = two.promote(new, old)
        new.execute("UPDATE voucher SET minutes = %s WHERE id = 1", number)
        old.restart()
        rejoined = two.rejoin(old, new, fork)
        assert rejoined.kept == 1
        two.settle(new, old)
        assert two.verify(new, old).equal
        new, old = old, new
    assert [row.key for row in two.a.quarantine()] == [{"id": "1000"}, {"id": "1002"}]
    assert [row.key for row in two.b.quarantine()] == [{"id": "1001"}, {"id": "1003"}]


def test_random_writes_on_both_sides(two: TwoGateways) -> None:
    """Quarantine holds exactly what the old gateway had and the new one lacked; all else is equal afterwards."""
    chance = random.Random(8)
    begun = time.monotonic()
    for _ in range(4):
        for name in ("hsmx_cluster", "hsmx_cluster_bulk"):
            two.b.execute(f"ALTER SUBSCRIPTION {name} DISABLE")
        expected = sum(random_write(two.a, chance) for _ in range(120))
        fork = two.promote(two.b, two.a)
        for _ in range(120):
            random_write(two.b, chance)
        untouched = local_rows(two.a), local_rows(two.b)
        notes = dict(two.a.execute("SELECT id, local_note FROM guest"))
        two.a.restart()
        before = one(two.a.connection, "SELECT count(*) FROM hsmx_cluster.quarantine")
        rejoined = two.rejoin(two.a, two.b, fork, most_applied=chance.choice((0, 1 << 30)))
        after = one(two.a.connection, "SELECT count(*) FROM hsmx_cluster.quarantine")
        assert rejoined.kept == after - before == expected
        for _ in range(20):
            random_write(two.b, chance)
        two.settle(two.b, two.a)
        result = two.verify(two.b, two.a)
        assert result.equal, result
        assert (local_rows(two.a), local_rows(two.b)) == untouched
        kept = dict(two.a.execute("SELECT id, local_note FROM guest"))
        assert all(kept[guest] in (note, "none") for guest, note in notes.items() if guest in kept)
        # The other one's turn: a takes over in good order, and b follows it.
        for name in ("hsmx_cluster", "hsmx_cluster_bulk"):
            two.a.execute(f"ALTER SUBSCRIPTION {name} DISABLE")
        fork = two.promote(two.a, two.b)
        assert two.rejoin(two.b, two.a, fork).kept == 0
        two.settle(two.a, two.b)
        if time.monotonic() - begun > 40:
            break


def random_write(gateway: Gateway, chance: random.Random) -> int:
    """Make one random transaction; returns how many shared rows it changed."""
    number, other = chance.randint(1, 60), chance.randint(1, 60)
    guest = str(uuid.UUID(int=number))
    statements = chance.sample([
        f"INSERT INTO voucher VALUES ({number}, 'c{other}', {other}, true, repeat('q', 4000))",
        f"UPDATE voucher SET minutes = {other}, used = NOT used WHERE id = {number}",
        f"UPDATE voucher SET code = 'c{other}' WHERE id = {number}",
        f"UPDATE voucher SET id = {other} WHERE id = {number}",
        f"DELETE FROM voucher WHERE id BETWEEN {number} AND {number + 2}",
        f"INSERT INTO guest (id, name, local_note) VALUES ('{guest}', 'n{other}', '{gateway.name}')",
        f"UPDATE guest SET name = 'n{other}' WHERE id = '{guest}'",
        f"DELETE FROM guest WHERE id = '{guest}'",
        f"INSERT INTO room VALUES ('east', {number}, '{guest}')",
        f"UPDATE room SET number = {other} WHERE number = {number}",
        f"UPDATE room SET guest = '{guest}' WHERE number = {other}",
        f"INSERT INTO stay (guest, voucher, nights) VALUES (NULL, {number}, '[1,{number + 1}]')",
        f"DELETE FROM stay WHERE voucher = {number}",
        f"INSERT INTO setting VALUES ('shared', 's{number}', '{other}')",
        f"UPDATE setting SET value = '{other}' WHERE scope = 'shared' AND name < 's{number}'",
        f"DELETE FROM setting WHERE scope = 'shared' AND name = 's{number}'",
        f"INSERT INTO link VALUES ('l{number}', '10.1.0.{number}', '10.2.0.{other}')",
        f"UPDATE link SET peer_ip = '10.3.0.{other}' WHERE name <> 'l{number}'",
        f"INSERT INTO log VALUES ({number + 100}, 'r'), ({other + 200}, 's')",
        f"DELETE FROM log WHERE id > {number + 100}",
    ], chance.randint(1, 3))  # fmt: skip
    try:
        with gateway.connection.transaction():
            gateway.connection.execute("SET LOCAL search_path = public")
            return sum(max(gateway.connection.execute(statement.encode()).rowcount, 0) for statement in statements)
    except psycopg.IntegrityError:
        return 0


def test_a_worker_that_postgresql_has_started_by_itself_makes_room_for_a_replacement(two: TwoGateways) -> None:
    """A passive gateway that comes back finds its subscription enabled: the worker held the position, and it failed."""
    fork = part(two)
    two.rejoin(two.a, two.b, fork)
    two.settle(two.b, two.a)
    two.b.execute("INSERT INTO voucher SELECT n, 'n' || n FROM generate_series(1000, 3000) n")
    rejoined = two.rejoin(two.a, two.b, fork, most_applied=-1)
    assert set(rejoined.ways.values()) == {"replace"} and not rejoined.kept
    together(two)
