"""A gateway that joins for the first time becomes a copy of the other one, whatever interrupts it; on real servers."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from flask_hsmx_cluster.replication import channel, copying, forming
from flask_hsmx_cluster.replication.database import DatabaseFailure, connect, one
from flask_hsmx_cluster.replication.following import Progress
from flask_hsmx_cluster.replication.quarantine import Slot, Source, keep
from flask_hsmx_cluster.replication.tables import SchemaMismatch

from .conftest import Pair
from .gateways import TwoGateways

SYSTEM = "4711"
NOT_READY = "SELECT count(*) FROM pg_index WHERE NOT (indisready AND indisvalid)"


@pytest.fixture
def two(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> Iterator[TwoGateways]:
    """Gateway ``a`` has rows, ``b`` has others, and nothing is followed yet; every table counts as large."""
    monkeypatch.setattr(copying, "RANGE_PAGES", 2)
    monkeypatch.setattr(copying, "INDEXED_ANEW", 0)
    two = TwoGateways(pair)
    channel.forget_subscriptions(two.b.connection)
    for gateway in (two.a, two.b):
        gateway.execute(f"""
            INSERT INTO voucher SELECT n, '{gateway.name}' || n, n FROM generate_series(1, 3000) n;
            INSERT INTO voucher VALUES (5000, 'photo', 1, true, repeat('\\x00\\t', 3000));
            INSERT INTO guest (id, name, local_note) VALUES ('{uuid.uuid4()}', 'of {gateway.name}', '{gateway.name}');
            INSERT INTO stay (guest, voucher, nights) SELECT id, 1, '[1,3)' FROM guest;
            INSERT INTO setting VALUES ('shared', 'ssid', '{gateway.name}'), ('own', 'language', '{gateway.name}');
            INSERT INTO link VALUES ('sync', '10.0.0.1', '10.0.0.2');
            INSERT INTO log SELECT n, '{gateway.name}' FROM generate_series(1, 2000) n;
            INSERT INTO licence VALUES (1, '{gateway.name}')""")
    yield two
    two.close()


def copy(two: TwoGateways) -> Progress:
    progress = Progress()
    with connect(two.a.server.dsn) as peer:
        forming.first_copy(two.between(two.b, peer, two.a), two.scope, SYSTEM, progress)
    return progress


def alike(two: TwoGateways) -> None:
    two.settle(two.a, two.b)
    assert two.verify(two.a, two.b).equal, two.verify(two.a, two.b)
    two.a.execute("UPDATE voucher SET minutes = 7 WHERE id < 10; INSERT INTO log VALUES (9999, 'later')")
    two.settle(two.a, two.b)
    assert two.verify(two.a, two.b).equal
    assert one(two.b.connection, NOT_READY) == 0
    with pytest.raises(psycopg.errors.UniqueViolation):
        two.b.execute("INSERT INTO voucher VALUES (6000, 'a1')")


def test_it_becomes_a_copy_and_keeps_what_is_its_own(two: TwoGateways) -> None:
    before = one(two.b.connection, "SELECT count(*) FROM public.voucher WHERE code LIKE 'b%'")
    progress = copy(two)
    alike(two)
    assert one(two.b.connection, "SELECT text FROM public.licence") == "b"
    assert two.b.execute("SELECT scope, value FROM setting ORDER BY scope") == [("own", "b"), ("shared", "a")]
    assert two.b.execute("SELECT host(own_ip), host(peer_ip) FROM link") == [("10.0.0.2", "10.0.0.1")]
    assert two.b.execute("SELECT name, local_note FROM guest") == [("of a", "none")]
    assert one(two.b.connection, 'SELECT count(*) FROM hsmx_cluster_aside."public.voucher" WHERE code LIKE \'b%\'') == (
        before) == 3000
    assert two.b.execute("SELECT copying, joined_system FROM hsmx_cluster.node") == [(False, SYSTEM)]
    assert progress.done == progress.total > 5000 and progress.tables_done == progress.tables > 7
    assert progress.done_bytes > 0.9 * progress.total_bytes
    # Nothing of the copy counts as written here.
    slot = Slot(channel.slot_of("hsmx_cluster", two.a.id), ("hsmx_cluster", "hsmx_cluster_rows"), "0/0")
    assert keep(two.b.connection, Source(two.b.id, 1), [slot]).rows == 0


def test_writes_go_on_meanwhile(two: TwoGateways) -> None:
    over = threading.Event()

    def write() -> None:
        with connect(two.a.server.dsn) as connection:
            number = 10_000
            while not over.is_set():
                number += 1
                connection.execute("INSERT INTO public.voucher VALUES (%s, %s)", (number, f"c{number}"))
                connection.execute("UPDATE public.voucher SET code = code || 'x' WHERE id = %s", (number % 3000,))
                connection.execute("DELETE FROM public.voucher WHERE id = %s", (number - 5,))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        copy(two)
    finally:
        over.set()
        writer.join()
    two.settle(two.a, two.b)
    assert two.verify(two.a, two.b).equal, two.verify(two.a, two.b)


@pytest.mark.parametrize(("owner", "name"), [
    (forming, "_set_aside"), (copying.Copy, "plan"), (forming, "_clear"), (copying.Copy, "leave_indexes"),
    (copying.Copy, "run"), (copying.Copy, "_count"), (forming, "complete_indexes"), (channel, "subscribe"),
    (channel, "advance_origin"),
])  # fmt: skip
def test_what_was_interrupted_is_begun_again(
    two: TwoGateways, owner: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original: Callable[..., Any] = getattr(owner, name)
    power = threading.Lock()

    def then_crash(*arguments: Any, **parameters: Any) -> None:
        original(*arguments, **parameters)
        if power.acquire(blocking=False):  # several copy at the same time: the power fails once
            two.b.server.kill()
        raise OSError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, then_crash)
        with pytest.raises((OSError, psycopg.Error, DatabaseFailure)):
            copy(two)
    two.b.restart()
    with pytest.raises(DatabaseFailure, match="not complete"):
        two.promote(two.b, two.a)
    copy(two)
    alike(two)
    assert one(two.b.connection, 'SELECT count(*) FROM hsmx_cluster_aside."public.voucher" WHERE code LIKE \'b%\'') == (
        3000), "its own data, not the half of the other one's"


def test_leaving_after_an_interruption_leaves_whole_indexes(
    two: TwoGateways, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(copying.Copy, "run", lambda *_: (_ for _ in ()).throw(OSError("interrupted")))
        with pytest.raises(OSError, match="interrupted"):
            copy(two)
    assert one(two.b.connection, NOT_READY) > 0
    forming.repair(two.b.connection, lambda: connect(two.b.server.dsn))
    assert one(two.b.connection, NOT_READY) == 0


def test_a_missing_column_is_said_before_anything_is_touched(two: TwoGateways) -> None:
    two.b.execute("ALTER TABLE voucher DROP minutes")
    with pytest.raises(SchemaMismatch, match="has no column minutes"):
        copy(two)
    assert one(two.b.connection, "SELECT count(*) FROM public.voucher WHERE code LIKE 'b%'") == 3000
    assert not one(two.b.connection, "SELECT copying FROM hsmx_cluster.node")
