"""The parser of PostgreSQL's replication messages: against the protocol, hostile bytes and a real server."""

from __future__ import annotations

import contextlib
import struct
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_hsmx_cluster.replication import pgoutput
from flask_hsmx_cluster.replication.pgoutput import (
    UNCHANGED,
    Begin,
    Column,
    Commit,
    Decoder,
    Delete,
    Insert,
    MalformedMessage,
    Message,
    Origin,
    Relation,
    Row,
    Truncate,
    Type,
    Update,
)

from .conftest import Pair

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
POSITIONS = st.integers(0, 2**64 - 1)
VALUES = st.one_of(st.none(), st.just(UNCHANGED), TEXT)


def name(text: str) -> bytes:
    return text.encode() + b"\0"


def relation_bytes(relation: Relation) -> bytes:
    columns = b"".join(
        bytes([column.in_key]) + name(column.name) + struct.pack(">Ii", column.type_id, -1)
        for column in relation.columns
    )
    return (b"R" + struct.pack(">I", relation.id) + name(relation.schema) + name(relation.table)
            + relation.identity.encode() + struct.pack(">H", len(relation.columns)) + columns)


def row_bytes(row: Row) -> bytes:
    def one(value: object) -> bytes:
        if value is None:
            return b"n"
        if value is UNCHANGED:
            return b"u"
        data = str(value).encode()
        return b"t" + struct.pack(">I", len(data)) + data

    return struct.pack(">H", len(row)) + b"".join(map(one, row))


@st.composite
def relations(draw: st.DrawFn) -> Relation:
    columns = draw(st.lists(st.builds(Column, NAMES, st.booleans(), st.integers(0, 2**32 - 1)), max_size=6))
    return Relation(draw(st.integers(0, 2**32 - 1)), draw(NAMES), draw(NAMES), draw(st.sampled_from("dnfi")),
                    tuple(columns))


@st.composite
def changes(draw: st.DrawFn) -> tuple[Relation, bytes, object]:
    """A table, one message about it, and what the message means."""
    relation = draw(relations())
    rows = st.tuples(*[VALUES] * len(relation.columns))
    head = struct.pack(">I", relation.id)
    new, old, mark = draw(rows), draw(rows), draw(st.sampled_from([b"K", b"O"]))
    which = draw(st.sampled_from("IUVDT"))
    if which == "I":
        return relation, b"I" + head + b"N" + row_bytes(new), Insert(relation, new)
    if which == "U":
        return relation, b"U" + head + b"N" + row_bytes(new), Update(relation, None, new)
    if which == "V":
        return relation, b"U" + head + mark + row_bytes(old) + b"N" + row_bytes(new), Update(relation, old, new)
    if which == "D":
        return relation, b"D" + head + mark + row_bytes(old), Delete(relation, old)
    options = draw(st.integers(0, 3))
    truncate = Truncate((relation,), bool(options & 1), bool(options & 2))
    return relation, b"T" + struct.pack(">IB", 1, options) + head, truncate


@given(changes())
def test_each_change_means_what_the_protocol_says(change: tuple[Relation, bytes, object]) -> None:
    relation, data, meaning = change
    decoder = Decoder()
    assert decoder.decode(relation_bytes(relation)) == relation
    assert decoder.decode(data) == meaning


@given(changes(), st.data())
def test_a_message_cut_or_extended_anywhere_is_refused(
    change: tuple[Relation, bytes, object], data: st.DataObject,
) -> None:
    relation, message, _ = change
    decoder = Decoder()
    decoder.decode(relation_bytes(relation))
    cut = data.draw(st.integers(0, len(message) - 1))
    for wrong in (message[:cut], message + b"\0", relation_bytes(relation)[:-1], relation_bytes(relation) + b"x"):
        with pytest.raises(MalformedMessage):
            decoder.decode(wrong)


@given(changes(), st.integers(0, 500), st.binary(min_size=1, max_size=8))
def test_altered_bytes_give_a_message_or_the_typed_error(
    change: tuple[Relation, bytes, object], place: int, noise: bytes,
) -> None:
    relation, message, _ = change
    for original in (relation_bytes(relation), message):
        decoder = Decoder()
        decoder.decode(relation_bytes(relation))
        place %= len(original)
        with contextlib.suppress(MalformedMessage):
            decoder.decode(original[:place] + noise + original[place + len(noise) :])


@given(st.binary(max_size=200))
def test_any_bytes_give_a_message_or_the_typed_error(data: bytes) -> None:
    decoder = Decoder()
    decoder.decode(relation_bytes(Relation(1, "public", "t", "d", (Column("id", True, 20),))))
    try:
        decoder.decode(data)
    except MalformedMessage as error:
        assert error.message and error.remedy


@given(POSITIONS, POSITIONS, st.integers(-(2**40), 2**55), st.integers(0, 2**32 - 1))
def test_begin_and_commit(first: int, second: int, microseconds: int, xid: int) -> None:
    decoder, moment = Decoder(), EPOCH + timedelta(microseconds=microseconds)
    assert decoder.decode(b"B" + struct.pack(">QqI", first, microseconds, xid)) == Begin(first, moment, xid)
    assert decoder.decode(b"C\0" + struct.pack(">QQq", first, second, microseconds)) == Commit(first, second, moment)


@given(POSITIONS, NAMES, st.binary(max_size=20), st.booleans())
def test_origin_type_and_message(lsn: int, text: str, content: bytes, transactional: bool) -> None:
    decoder = Decoder()
    assert decoder.decode(b"O" + struct.pack(">Q", lsn) + name(text)) == Origin(lsn, text)
    assert decoder.decode(b"Y" + struct.pack(">I", 7) + name("s") + name(text)) == Type(7, "s", text)
    data = b"M" + struct.pack(">BQ", transactional, lsn) + name(text) + struct.pack(">I", len(content)) + content
    assert decoder.decode(data) == Message(transactional, lsn, text, content)


@given(POSITIONS)
def test_positions_are_written_as_postgresql_writes_them(position: int) -> None:
    assert pgoutput.lsn_to_int(pgoutput.int_to_lsn(position)) == position


@pytest.mark.parametrize("text", ["", "0", "0/", "/0", "0/-1", "0/G", "123456789/0", "0/0 ", "٠/0"])
def test_a_position_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(MalformedMessage):
        pgoutput.lsn_to_int(text)


def test_a_time_outside_the_calendar_and_an_unknown_table_are_refused() -> None:
    for data in (b"B" + struct.pack(">QqI", 1, 2**62, 1), b"I" + struct.pack(">I", 5) + b"N\0\0", b"", b"Z"):
        with pytest.raises(MalformedMessage):
            Decoder().decode(data)


def test_a_stream_describes_a_bounded_number_of_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pgoutput, "MOST_RELATIONS", 2)
    decoder = Decoder()
    for number in (1, 2, 2):
        decoder.decode(relation_bytes(Relation(number, "s", "t", "d", ())))
    with pytest.raises(MalformedMessage):
        decoder.decode(relation_bytes(Relation(3, "s", "t", "d", ())))


def test_what_a_real_server_sends(pair: Pair) -> None:
    with pair.a.connect() as connection:
        connection.execute("""
            CREATE TYPE state AS ENUM ('new', 'used');
            CREATE TABLE voucher (id bigint PRIMARY KEY, code text, state state, minutes int, photo text, secret text);
            ALTER TABLE voucher ALTER photo SET STORAGE EXTERNAL;
            CREATE TABLE log (line text);
            ALTER TABLE log REPLICA IDENTITY FULL;
            CREATE PUBLICATION p FOR TABLE voucher (id, code, state, minutes, photo), log""")
        connection.execute("SELECT pg_create_logical_replication_slot('s', 'pgoutput')")
        with connection.transaction():
            connection.execute("INSERT INTO voucher VALUES (1, 'é€', 'new', NULL, repeat('x', 9000), 'hidden')")
            connection.execute("UPDATE voucher SET minutes = 5")
            connection.execute("UPDATE voucher SET id = 2")
            connection.execute("DELETE FROM voucher")
        connection.execute("INSERT INTO log VALUES ('a')")
        connection.execute("UPDATE log SET line = 'b'")
        connection.execute("SELECT pg_logical_emit_message(true, 'note', 'text')")
        connection.execute("TRUNCATE voucher, log RESTART IDENTITY CASCADE")
        rows = connection.execute(
            "SELECT lsn::text, xid::text, data FROM pg_logical_slot_peek_binary_changes("
            "'s', NULL, NULL, 'proto_version', '1', 'publication_names', 'p', 'messages', 'true')").fetchall()
    messages = list(Decoder().decode_all(row[2] for row in rows))
    by_kind = {kind: [each for each in messages if isinstance(each, kind)]
               for kind in (Begin, Commit, Relation, Insert, Update, Delete, Truncate, Message, Type)}
    voucher = by_kind[Relation][0]
    assert isinstance(voucher, Relation)
    assert (voucher.schema, voucher.table, voucher.identity) == ("public", "voucher", "d")
    assert [(column.name, column.in_key) for column in voucher.columns] == [
        ("id", True), ("code", False), ("state", False), ("minutes", False), ("photo", False)]
    photo = "x" * 9000
    assert [each.new for each in by_kind[Insert]] == [("1", "é€", "new", None, photo), ("a",)]
    assert [(each.old, each.new) for each in by_kind[Update]] == [
        (None, ("1", "é€", "new", "5", UNCHANGED)),
        # With the key changed, PostgreSQL sends the former key; the large value stays unsent.
        (("1", None, None, None, None), ("2", "é€", "new", "5", UNCHANGED)),
        (("a",), ("b",)),
    ]
    assert [each.old for each in by_kind[Delete]] == [("2", None, None, None, None)]
    (truncate,) = by_kind[Truncate]
    assert {each.table for each in truncate.relations} == {"voucher", "log"}
    assert truncate.cascade and truncate.restart_identity
    assert [(each.prefix, each.content) for each in by_kind[Message]] == [("note", b"text")]
    assert {each.name for each in by_kind[Type]} == {"state"}
    for begin, commit in zip(by_kind[Begin], by_kind[Commit], strict=True):
        assert begin.final_lsn == commit.commit_lsn < commit.end_lsn
        assert abs(begin.committed_at - datetime.now(UTC)) < timedelta(minutes=5)
    assert {begin.xid for begin in by_kind[Begin]} == {int(row[1]) for row in rows}
