"""Quarantine: what it keeps, how it shows and gives it, and what becomes of it on the active gateway."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC
from typing import Any

import pytest

from flask_hsmx_cluster.errors import RequestRefused
from flask_hsmx_cluster.replication import access, quarantine, showing
from flask_hsmx_cluster.replication.channel import slot_of
from flask_hsmx_cluster.replication.database import DatabaseFailure, one
from flask_hsmx_cluster.replication.keeper import Keeper
from flask_hsmx_cluster.replication.names import PEER_ROLE, SUBSCRIPTION, SUBSCRIPTION_BULK
from flask_hsmx_cluster.replication.pgoutput import MalformedMessage
from flask_hsmx_cluster.replication.promotion import Fork
from flask_hsmx_cluster.replication.quarantine import Filter, QuarantinedRow, Slot, Source, describe, mark
from flask_hsmx_cluster.replication.reapply import ReapplyConflict, make, request

from .conftest import Pair
from .gateways import TwoGateways, wait_for
from .test_rejoin import G1, G2, G3, LOST, filled, part, together


@pytest.fixture
def two(pair: Pair) -> Iterator[TwoGateways]:
    two = TwoGateways(pair)
    yield filled(two)
    two.close()


def rejoined(two: TwoGateways, lost: str, written: str = "") -> list[QuarantinedRow]:
    two.rejoin(two.a, two.b, part(two, lost, written))
    return list(two.a.quarantine())


def again(two: TwoGateways, row: QuarantinedRow, *, overwrite: bool = False) -> None:
    make(two.b.connection, request(two.a.connection, row.id), two.scope, active_id=two.b.id, overwrite=overwrite)
    mark(two.a.connection, [row.id], "kept", "reapplied")


def conflict(two: TwoGateways, row: QuarantinedRow) -> ReapplyConflict:
    with pytest.raises(ReapplyConflict) as caught:
        again(two, row)
    assert two.a.execute("SELECT state FROM hsmx_cluster.quarantine WHERE id = %s", row.id) == [("kept",)]
    return caught.value


def slots(two: TwoGateways, fork: Fork) -> list[Slot]:
    return [Slot(slot_of(SUBSCRIPTION, two.b.id), ("hsmx_cluster", "hsmx_cluster_rows"), fork.lsn)]


# Keeping


def test_only_what_ends_behind_the_fork_is_kept_and_only_once(two: TwoGateways) -> None:
    fork = part(two, "INSERT INTO voucher VALUES (101, 'lost')")
    source = Source(two.a.id, fork.term)
    # The slot begins before the fork: nothing confirmed is kept through a crash.
    for expected in (1, 0, 0):
        kept = quarantine.keep(two.a.connection, source, slots(two, fork))
        assert (kept.rows, kept.transactions) == (expected, expected)
    (row,) = two.a.quarantine()
    assert (row.key, row.new_row, row.old_row) == (
        {"id": "101"}, {"id": "101", "code": "lost", "minutes": None, "used": "f", "photo": None}, None)
    assert two.a.execute("SELECT table_name, key FROM hsmx_cluster.dirty_key") == [("voucher", {"id": "101"})]


def test_a_fork_within_a_transaction_is_refused_and_nothing_is_kept(two: TwoGateways) -> None:
    fork = part(two, "INSERT INTO voucher VALUES (101, 'lost')")
    quarantine.keep(two.a.connection, Source(two.a.id, fork.term), slots(two, fork))
    end = two.a.quarantine()[0].end_lsn
    two.a.execute("TRUNCATE hsmx_cluster.quarantine, hsmx_cluster.dirty_key")
    within = one(two.a.connection, "SELECT (%s::pg_lsn - 8)::text", end)
    with pytest.raises(MalformedMessage, match="within a transaction"):
        quarantine.keep(two.a.connection, Source(two.a.id, 1), slots(two, Fork(1, within, "0/0")))
    assert two.a.quarantine() == ()


def test_a_big_transaction_and_big_rows_are_kept_whole(two: TwoGateways, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quarantine, "WRITE_ROWS", 100)
    monkeypatch.setattr(quarantine, "WRITE_BYTES", 1_500_000)
    fork = part(two, "INSERT INTO voucher SELECT n, 'n' || n FROM generate_series(1000, 1999) n;\n"
                     "INSERT INTO voucher SELECT n, 'n' || n, 1, true, repeat('x', 1000000) "
                     "FROM generate_series(2000, 2004) n;\nDELETE FROM voucher WHERE id = 2004")
    kept = quarantine.keep(two.a.connection, Source(two.a.id, fork.term), slots(two, fork))
    assert (kept.transactions, kept.rows) == (3, 1006)
    assert one(two.a.connection, "SELECT count(*) FROM hsmx_cluster.quarantine WHERE end_lsn = '0/0'") == 0
    assert one(two.a.connection, "SELECT count(DISTINCT end_lsn) FROM hsmx_cluster.quarantine") == 3
    assert one(two.a.connection, "SELECT max(length(new_row ->> 'photo')) FROM hsmx_cluster.quarantine") == 1_000_000


def test_reading_the_second_slot_does_not_wait_for_what_the_first_one_made_it_write(
    two: TwoGateways, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log on the disk may end amid a record of our own, which then comes whole only with our own commit."""
    fork = part(two, "INSERT INTO voucher VALUES (101, 'lost')")
    write = quarantine._Writer._write

    def write_and_let_the_log_be_flushed_by_whole_pages(writer: quarantine._Writer) -> None:
        write(writer)
        own = writer._own
        own.execute("SELECT pg_logical_emit_message(true, '', repeat('x', 2000000))")
        wait_for(lambda: bool(one(own, "SELECT (pg_current_wal_flush_lsn() - '0/0')::bigint % 8192 = 0")))

    monkeypatch.setattr(quarantine._Writer, "_write", write_and_let_the_log_be_flushed_by_whole_pages)
    two.a.execute("SET statement_timeout = '5s'")
    bulk = Slot(slot_of(SUBSCRIPTION_BULK, two.b.id), ("hsmx_cluster_bulk",), fork.bulk_lsn)
    kept = quarantine.keep(two.a.connection, Source(two.a.id, fork.term), [*slots(two, fork), bulk])
    assert kept.rows == 1


def test_a_slot_that_is_gone_is_said(two: TwoGateways) -> None:
    with pytest.raises(DatabaseFailure, match="does not exist"):
        quarantine.keep(two.a.connection, Source(two.a.id, 1), [Slot("gone", ("hsmx_cluster",), "0/0")])


def test_what_the_active_gateway_must_know_of_a_row_that_was_changed_often_fits_into_memory(
    two: TwoGateways, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it was first, which the active gateway may still have, and what it was last; not each value between."""
    monkeypatch.setattr("flask_hsmx_cluster.replication.reapply.BASES_SIZE", 45_000)
    changes = ";\n".join(f"UPDATE guest SET name = repeat('{n}', 10000) WHERE id = '{G1}'" for n in range(1, 8))
    last = rejoined(two, changes)[-1]
    asked = request(two.a.connection, last.id)
    assert [base["name"] for base in asked.bases][-1] == "6" * 10_000 and len(asked.bases) < 6
    again(two, last)
    assert two.b.execute("SELECT left(name, 1) FROM guest WHERE id = %s", G1) == [("7",)]


# Showing


def test_a_page_of_long_rows_is_read_no_further_than_it_goes(
    two: TwoGateways, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two hundred rows of 1 MB were once held in memory to show one of them."""
    two.a.execute(
        "INSERT INTO hsmx_cluster.quarantine (batch, source_node, term, xid, end_lsn, committed_at, schema_name, "
        "table_name, operation, key, new_row) SELECT gen_random_uuid(), 'a', 1, n, '0/1', now(), 'public', 'voucher', "
        "'insert', jsonb_build_object('id', n::text), jsonb_build_object('id', n::text, 'photo', repeat('x', 90000)) "
        "FROM generate_series(1, 60) n")
    read: list[int] = []
    tell = showing.tell
    monkeypatch.setattr(showing, "tell", lambda row, *rest: (read.append(row.id), tell(row, *rest))[1])
    fetched = []

    class Noted(QuarantinedRow):
        def __init__(self, *values: object) -> None:
            fetched.append(values[0])
            super().__init__(*values)  # type: ignore[arg-type]

    monkeypatch.setattr(quarantine, "QuarantinedRow", Noted)
    page = showing.page(two.a.connection, Filter(state="kept"), after=0, limit=200, names={}, whole=True)
    assert len(page["rows"]) == 1 and page["after"] == page["rows"][0]["id"]
    assert len(read) == len(fetched) == 2
    seen, after = 1, page["after"]
    while after is not None:
        page = showing.page(two.a.connection, Filter(state="kept"), after=after, limit=200, names={}, whole=True)
        seen, after = seen + len(page["rows"]), page["after"]
    assert seen == 60 and showing.page(two.a.connection, Filter(), after=0, limit=60, names={})["after"] is None


def test_rows_in_words_pages_and_filters(two: TwoGateways) -> None:
    kept = rejoined(two, LOST)
    at = kept[0].committed_at.astimezone(UTC)
    names = {two.a.id: "gw-a"}
    assert describe(kept[0], names, UTC) == f"voucher 101 created {at:%H:%M:%S} on gw-a"
    assert describe(kept[1], names, UTC).startswith("voucher 1 changed ")
    assert describe(kept[2], {}, UTC).endswith(f"on {two.a.id[:12]}")
    own = two.a.connection
    first = showing.page(own, Filter(), after=0, limit=5, names={})
    second = showing.page(own, Filter(), after=first["after"], limit=50, names={})
    assert (first["total"], second["after"]) == (13, None)
    assert [row["id"] for row in first["rows"] + second["rows"]] == [row.id for row in kept]
    count = {
        Filter(table="voucher"): 4, Filter(table="public.room"): 3, Filter(state="discarded"): 0,
        Filter(state="kept", table="voucher"): 4, Filter(table="'; DROP"): 0,
    }  # fmt: skip
    for only, number in count.items():
        assert quarantine.count(own, only) == number, only
    assert mark(two.a.connection, [kept[0].id, kept[1].id], "kept", "discarded") == 2
    assert mark(two.a.connection, [kept[0].id], "kept", "discarded") == 0
    assert quarantine.count(own, Filter(state="discarded")) == 2


def test_a_page_is_bounded_whatever_the_rows_hold(two: TwoGateways) -> None:
    many = "SELECT n, n, 1, false, repeat(chr(233), 200000) FROM generate_series(201, 260) n"
    rejoined(two, f"INSERT INTO voucher {many}")
    own, ids, after = two.a.connection, [], 0
    while True:
        page = showing.page(own, Filter(state="kept"), after=after, limit=50, names={}, whole=True)
        assert len(json.dumps(page)) < showing.PAGE_BYTES + showing.WHOLE_BYTES
        ids += [row["key"]["id"] for row in page["rows"]]
        if page["after"] is None:
            break
        after = page["after"]
    assert ids == [str(number) for number in range(201, 261)]
    brief = showing.page(own, Filter(state="kept"), after=0, limit=50, names={})
    assert len(brief["rows"]) > 20 and all(row["shortened"] for row in brief["rows"])
    assert brief["rows"][0]["new_row"]["photo"].endswith("…") and brief["rows"][0]["new_row"]["id"] == "201"
    assert brief["tables"] == [{"table": "public.voucher", "rows": 60}] and brief["waiting"] == 60
    two.a.execute("UPDATE hsmx_cluster.quarantine SET state = 'discarded' WHERE id = %s", brief["rows"][0]["id"])
    assert showing.page(own, Filter(state="discarded"), after=0, limit=50, names={})["total"] == 1


def test_one_row_is_shown_whole_if_it_fits(two: TwoGateways) -> None:
    (kept,) = rejoined(two, "INSERT INTO voucher VALUES (201, 'lost', 5, false, repeat('x', 50000))")
    row = showing.single(two.a.connection, kept.id, {two.a.id: "gw-a"})
    assert row["text"].startswith("voucher 201 created ") and row["text"].endswith("on gw-a")
    assert not row["shortened"] and len(row["new_row"]["photo"]) == 50000
    with pytest.raises(RequestRefused, match="no row"):
        showing.single(two.a.connection, kept.id + 1000, {})


def test_a_row_that_was_changed_after_it_was_shown_is_not_overwritten(two: TwoGateways) -> None:
    (update,) = rejoined(
        two, "UPDATE voucher SET minutes = 999 WHERE id = 1", "UPDATE voucher SET minutes = 5 WHERE id = 1")
    seen = conflict(two, update).seen
    two.b.execute("UPDATE voucher SET minutes = 6 WHERE id = 1")
    wanted = request(two.a.connection, update.id)
    with pytest.raises(ReapplyConflict) as caught:
        make(two.b.connection, wanted, two.scope, active_id=two.b.id, overwrite=True, seen=seen)
    assert caught.value.present is not None and caught.value.present["minutes"] == "6"
    make(two.b.connection, wanted, two.scope, active_id=two.b.id, overwrite=True, seen=caught.value.seen)
    assert two.b.execute("SELECT minutes FROM voucher WHERE id = 1") == [(999,)]


# Again on the active gateway


def test_everything_again_in_order_gives_what_was_lost(two: TwoGateways) -> None:
    kept = rejoined(two, LOST)
    rest, swaps = [row for row in kept if row.table_name != "room"], [row for row in kept if row.table_name == "room"]
    for row in rest:
        again(two, row)
        with pytest.raises(RequestRefused, match="reapplied already"):
            again(two, row)
    for row in swaps:
        again(two, row)
    voucher = "SELECT id, code, minutes, length(photo) FROM voucher WHERE id IN (1, 3, 4, 101, 104) ORDER BY id"
    assert two.b.execute(voucher) == [(1, "code1", 999, 5000), (101, "lost", 5, None), (104, "code4", 4, 5000)]
    assert two.b.execute("SELECT guest::text FROM room WHERE number = 2") == [(G1,)]
    assert two.b.execute("SELECT name FROM guest ORDER BY id") == [("Anna",), ("Bob",), ("Cyn",)]
    assert two.b.execute("SELECT own_ip::text, peer_ip::text FROM link") == [("10.0.0.2/32", "10.0.0.9/32")]
    assert two.b.execute("SELECT value FROM setting WHERE scope = 'shared'") == [("Lost",)]
    together(two)


def test_a_row_that_the_other_gateway_changed_is_a_conflict(two: TwoGateways) -> None:
    update, delete = rejoined(
        two, "UPDATE voucher SET minutes = 999 WHERE id = 1;\nDELETE FROM voucher WHERE id = 8;\nTRUNCATE log",
        "UPDATE voucher SET minutes = 5 WHERE id IN (1, 8)")[:2]
    found = conflict(two, update)
    assert (found.kind, found.wanted and found.wanted["minutes"], found.present and found.present["minutes"]) == (
        "changed", "999", "5")
    assert found.as_dict()["kind"] == "changed" and found.remedy
    assert conflict(two, delete).kind == "changed"
    again(two, update, overwrite=True)
    again(two, delete, overwrite=True)
    assert two.b.execute("SELECT id, minutes, length(photo) FROM voucher WHERE id IN (1, 8)") == [(1, 999, 5000)]
    with pytest.raises(RequestRefused, match="not repeated"):
        again(two, two.a.quarantine()[2])


def test_a_row_that_was_changed_after_the_rejoin_is_a_conflict(two: TwoGateways) -> None:
    first, second, gone = rejoined(
        two, "UPDATE voucher SET minutes = 998 WHERE id = 1;\nUPDATE voucher SET minutes = 999 WHERE id = 1;\n"
             "UPDATE voucher SET minutes = 9 WHERE id = 7")
    assert first.old_row and (first.old_row["minutes"], first.old_row["used"]) == ("1", "f")
    two.b.execute("UPDATE voucher SET photo = 'new' WHERE id = 1; DELETE FROM stay; DELETE FROM voucher WHERE id = 7")
    assert conflict(two, second).kind == "changed"
    assert conflict(two, gone).kind == "gone"
    two.b.execute("UPDATE voucher SET photo = repeat('p', 5000) WHERE id = 1")
    # The later one fits without the earlier one; the earlier one then does not fit any more.
    again(two, second)
    assert conflict(two, first).kind == "changed"


def test_constraints_are_conflicts(two: TwoGateways) -> None:
    kept = rejoined(
        two, f"INSERT INTO voucher VALUES (101, 'taken');\nINSERT INTO voucher VALUES (102, 'mine');\n"
             f"INSERT INTO guest VALUES ('{G3}', 'Cyn');\nINSERT INTO stay (guest) VALUES ('{G3}');\n"
             f"DELETE FROM stay WHERE guest = '{G2}';\nDELETE FROM room WHERE guest = '{G2}';\n"
             f"DELETE FROM guest WHERE id = '{G2}'",
        "INSERT INTO voucher VALUES (201, 'taken'), (102, 'theirs')")
    unique, exists, guest, stay, _, _, delete = kept
    found = conflict(two, unique)
    assert (found.kind, found.present and found.present["id"]) == ("unique", "201")
    found = conflict(two, exists)
    assert (found.kind, found.present and found.present["code"]) == ("exists", "theirs")
    assert "guest" in conflict(two, stay).message
    assert conflict(two, stay).kind == conflict(two, delete).kind == "reference"
    again(two, guest)
    again(two, stay)
    again(two, exists, overwrite=True)
    assert two.b.execute("SELECT code FROM voucher WHERE id = 102") == [("mine",)]


def test_a_table_that_has_changed_or_is_not_shared(two: TwoGateways) -> None:
    insert, other = rejoined(two, "INSERT INTO voucher VALUES (101, 'x', 40000);\nINSERT INTO log VALUES (900, 'x')")
    two.b.execute("ALTER TABLE voucher ALTER minutes TYPE smallint")
    assert conflict(two, insert).kind == "rule"
    two.b.execute("ALTER TABLE voucher DROP minutes")
    assert conflict(two, insert).kind == "schema"
    two.a.execute("UPDATE hsmx_cluster.quarantine SET table_name = 'licence' WHERE id = %s", other.id)
    with pytest.raises(RequestRefused, match="not shared"):
        again(two, other)


def test_a_crash_between_making_and_marking_makes_nothing_twice(two: TwoGateways) -> None:
    kept = rejoined(two, LOST)
    for row in kept:
        make(two.b.connection, request(two.a.connection, row.id), two.scope, active_id=two.b.id)
        if row.table_name != "room":
            again(two, row)
    assert one(two.b.connection, "SELECT count(*) FROM public.stay") == 3


# Rows of 1 MB


#: Two megabytes as text, and random: nothing makes them shorter on the way.
BIG = "(SELECT string_agg(encode(sha256(n::text::bytea), 'hex'), '') FROM generate_series(1, 32768) n)"


def test_a_row_of_megabytes_is_made_again_whole_and_reaches_whoever_looks_shortened(two: TwoGateways) -> None:
    """It did not fit into one message between the agents, and a page of such rows was carried whole to be cut."""
    kept = rejoined(
        two, f"INSERT INTO voucher VALUES (101, 'large', 5, false, {BIG});\n"
             f"UPDATE voucher SET photo = {BIG} || photo WHERE id = 101;\n"
             f"UPDATE voucher SET photo = {BIG} WHERE id = 1")
    told = showing.single(two.a.connection, kept[0].id, {})
    assert told["shortened"] and len(json.dumps(told)) < showing.WHOLE_BYTES + 2_000
    assert told["new_row"]["photo"].endswith("…") and told["new_row"]["code"] == "large"
    page = showing.page(two.a.connection, Filter(), after=0, limit=50, names={})
    assert len(page["rows"]) == 3 and len(json.dumps(page)) < 3 * showing.BRIEF_BYTES + 5_000
    (longest,) = two.a.execute(
        "SELECT max(length(value)) FROM hsmx_cluster.quarantine, jsonb_each_text(new_row) AS e (name, value)")[0]
    assert longest == 2 * (2 << 20)
    keeper: Any = Keeper(lambda: two.a.connection, lambda: None, lambda: None)  # type: ignore[arg-type, return-value]
    pieces = [""]
    while len("".join(pieces)) < longest:
        pieces.append(keeper.value(kept[1].id, "new_row", "photo", len("".join(pieces)))["text"])
    assert kept[1].new_row and "".join(pieces) == kept[1].new_row["photo"]
    for which, column in (("old_row", "none"), ("key", "photo")):
        with pytest.raises(RequestRefused, match="no such value"):
            keeper.value(kept[1].id, which, column, 0)
    for row in kept:
        again(two, row)
    photos = "SELECT id, length(photo), md5(photo) = md5({big}) FROM voucher WHERE id IN (1, 101) ORDER BY id"
    assert two.b.execute(photos.format(big=BIG)) == [(1, 2 << 20, True), (101, 4 << 20, False)]


def test_the_other_gateway_may_read_the_quarantine_and_not_change_it(two: TwoGateways) -> None:
    """The active gateway reads from there what it makes again."""
    (kept,) = rejoined(two, "INSERT INTO voucher VALUES (101, 'lost')")
    access.grant_shared(two.a.connection)
    with two.a.server.connect() as peer:
        peer.execute(f"SET ROLE {PEER_ROLE}")
        make(two.b.connection, request(peer, kept.id), two.scope, active_id=two.b.id)
        with pytest.raises(DatabaseFailure, match="permission denied"):
            mark(peer, [kept.id], "kept", "discarded")
    assert two.b.execute("SELECT code FROM voucher WHERE id = 101") == [("lost",)]
