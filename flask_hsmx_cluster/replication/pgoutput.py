"""PostgreSQL's logical replication messages, protocol version 1, as its plugin ``pgoutput`` writes them.

Pure: bytes in, messages out. Every length is checked against the data that is there before it is used, and a message
must be used up to its last byte, so what is malformed raises :class:`MalformedMessage` and never anything else.
Values are the text that the type's output function gives. The names of the messages are those of PostgreSQL's manual.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import ClassVar, Final

from ..errors import ClusterError

#: PostgreSQL allows 1600 columns in a table.
MOST_COLUMNS: Final = 1600
#: PostgreSQL allows 63 bytes in a name, unless it was compiled otherwise.
MOST_NAME: Final = 1024
#: Tables that one stream may describe.
MOST_RELATIONS: Final = 100_000
#: PostgreSQL's own bound of one value is 1 GiB.
MOST_VALUE: Final = 1 << 30

_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_BEGIN: Final = struct.Struct(">QqI")
_COMMIT: Final = struct.Struct(">BQQq")
_U16: Final = struct.Struct(">H")
_U32: Final = struct.Struct(">I")
_U64: Final = struct.Struct(">Q")
_COLUMN: Final = struct.Struct(">Ii")
_TRUNCATE: Final = struct.Struct(">IB")
_MESSAGE: Final = struct.Struct(">BQ")


class MalformedMessage(ClusterError):
    """A message of the replication protocol is not what the protocol says."""

    code: ClassVar[str] = "replication_protocol"

    def __init__(self, what: str) -> None:
        super().__init__(
            f"PostgreSQL's replication stream could not be read: {what}.",
            "Check that both gateways run PostgreSQL 15 or newer and the same version of the software.",
        )


class Unchanged(Enum):
    """The value of a large column that an update left as it was; PostgreSQL does not send it."""

    UNCHANGED = "unchanged"

    def __repr__(self) -> str:
        return "UNCHANGED"


UNCHANGED: Final = Unchanged.UNCHANGED
#: One value of a row: text, NULL, or not sent because unchanged.
Value = str | None | Unchanged
#: One row, a value for each column of its relation.
Row = tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Begin:
    """Start of a transaction. ``final_lsn`` is where its commit record starts."""

    final_lsn: int
    committed_at: datetime
    xid: int


@dataclass(frozen=True, slots=True)
class Commit:
    """End of a transaction. ``end_lsn`` is the position after it: who has applied it stands there or beyond."""

    commit_lsn: int
    end_lsn: int
    committed_at: datetime


@dataclass(frozen=True, slots=True)
class Origin:
    """The transaction was not made here: it was applied from the origin of this name."""

    lsn: int
    name: str


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    in_key: bool
    type_id: int


@dataclass(frozen=True, slots=True)
class Relation:
    """A published table: the columns that are sent, and which of them are its replica identity.

    :param identity: ``d`` primary key, ``i`` a unique index, ``f`` the whole row, ``n`` none.
    """

    id: int
    schema: str
    table: str
    identity: str
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Type:
    id: int
    schema: str
    name: str


@dataclass(frozen=True, slots=True)
class Insert:
    relation: Relation
    new: Row


@dataclass(frozen=True, slots=True)
class Update:
    """``old`` is the former key (other columns NULL) or, with the identity "whole row", the former row; else None."""

    relation: Relation
    old: Row | None
    new: Row


@dataclass(frozen=True, slots=True)
class Delete:
    """``old`` is the key (other columns NULL) or, with the identity "whole row", the row."""

    relation: Relation
    old: Row


@dataclass(frozen=True, slots=True)
class Truncate:
    relations: tuple[Relation, ...]
    cascade: bool
    restart_identity: bool


@dataclass(frozen=True, slots=True)
class Message:
    """What a host wrote with ``pg_logical_emit_message``."""

    transactional: bool
    lsn: int
    prefix: str
    content: bytes


Change = Insert | Update | Delete | Truncate
AnyMessage = Begin | Commit | Origin | Relation | Type | Change | Message


def lsn_to_int(text: str) -> int:
    """Return the position that PostgreSQL writes as ``16/B374D848``.

    :raises MalformedMessage: it is not of that form.
    """
    high, slash, low = text.partition("/")
    digits = "0123456789abcdefABCDEF"
    if not (slash and 1 <= len(high) <= 8 and 1 <= len(low) <= 8 and all(c in digits for c in high + low)):
        raise MalformedMessage(f"{text[:40]!r} is not a position in the write-ahead log")
    return int(high, 16) << 32 | int(low, 16)


def int_to_lsn(position: int) -> str:
    """Return a position as PostgreSQL writes it."""
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"


def _moment(microseconds: int) -> datetime:
    try:
        return _EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:
        raise MalformedMessage("a commit time outside the calendar") from None


class Decoder:
    """Decodes the messages of one stream, in order; it remembers the tables that the stream described.

    :param wanted: how many columns of a table's rows are of interest; None: all. New rows have no more values then,
        and what follows in their messages is not looked at. It saves half of the time.
    """

    def __init__(self, wanted: Callable[[Relation], int] | None = None) -> None:
        self._wanted = wanted
        self._counts: dict[int, int] = {}
        self._relations: dict[int, Relation] = {}
        self._decoders: dict[int, Callable[[bytes], AnyMessage]] = {
            ord("B"): self._begin,
            ord("C"): self._commit,
            ord("O"): self._origin,
            ord("R"): self._relation,
            ord("Y"): self._type,
            ord("I"): self._insert,
            ord("U"): self._update,
            ord("D"): self._delete,
            ord("T"): self._truncate,
            ord("M"): self._message,
        }

    def decode(self, data: bytes) -> AnyMessage:
        """Return the message that the bytes are.

        :raises MalformedMessage: they are none, or name a table that the stream has not described.
        """
        if not data:
            raise MalformedMessage("an empty message")
        decoder = self._decoders.get(data[0])
        if decoder is None:
            raise MalformedMessage(f"an unknown kind of message, {data[0]:#04x}")
        try:
            return decoder(data)
        except (struct.error, IndexError):
            raise MalformedMessage(f"a message of kind {chr(data[0])} that ends too early") from None
        except UnicodeDecodeError:
            raise MalformedMessage(f"a message of kind {chr(data[0])} whose text is not UTF-8") from None

    def decode_all(self, stream: Iterable[bytes]) -> Iterator[AnyMessage]:
        """Decode the messages one after another."""
        return map(self.decode, stream)

    def _known(self, relation_id: int) -> Relation:
        try:
            return self._relations[relation_id]
        except KeyError:
            raise MalformedMessage(f"a change of table {relation_id}, which was not described before") from None

    @staticmethod
    def _begin(data: bytes) -> Begin:
        _ends(data, 1 + _BEGIN.size)
        final_lsn, committed_at, xid = _BEGIN.unpack_from(data, 1)
        return Begin(final_lsn, _moment(committed_at), xid)

    @staticmethod
    def _commit(data: bytes) -> Commit:
        _ends(data, 1 + _COMMIT.size)
        _flags, commit_lsn, end_lsn, committed_at = _COMMIT.unpack_from(data, 1)
        return Commit(commit_lsn, end_lsn, _moment(committed_at))

    @staticmethod
    def _origin(data: bytes) -> Origin:
        (lsn,) = _U64.unpack_from(data, 1)
        name, position = _name(data, 9)
        _ends(data, position)
        return Origin(lsn, name)

    def _relation(self, data: bytes) -> Relation:
        (relation_id,) = _U32.unpack_from(data, 1)
        schema, position = _name(data, 5)
        table, position = _name(data, position)
        identity = chr(data[position])
        if identity not in "dnfi":
            raise MalformedMessage(f"an unknown replica identity {identity!r}")
        count = _column_count(data, position + 1)
        position += 3
        columns = []
        for _ in range(count):
            flags = data[position]
            name, position = _name(data, position + 1)
            type_id, _modifier = _COLUMN.unpack_from(data, position)
            position += _COLUMN.size
            columns.append(Column(name, bool(flags & 1), type_id))
        _ends(data, position)
        # PostgreSQL leaves the schema out where it is pg_catalog.
        relation = Relation(relation_id, schema or "pg_catalog", table, identity, tuple(columns))
        if relation_id not in self._relations and len(self._relations) >= MOST_RELATIONS:
            raise MalformedMessage(f"more than {MOST_RELATIONS} tables")
        self._relations[relation_id] = relation
        if self._wanted is not None:
            self._counts[relation_id] = self._wanted(relation)
        return relation

    @staticmethod
    def _type(data: bytes) -> Type:
        (type_id,) = _U32.unpack_from(data, 1)
        schema, position = _name(data, 5)
        name, position = _name(data, position)
        _ends(data, position)
        return Type(type_id, schema or "pg_catalog", name)

    def _insert(self, data: bytes) -> Insert:
        relation = self._known(_U32.unpack_from(data, 1)[0])
        _marks(data, 5, b"N")
        return Insert(relation, self._new(data, 6, relation))

    def _update(self, data: bytes) -> Update:
        relation = self._known(_U32.unpack_from(data, 1)[0])
        position, old = 5, None
        if data[5] in b"KO":
            old, position = _row(data, 6, relation)
        _marks(data, position, b"N")
        return Update(relation, old, self._new(data, position + 1, relation))

    def _new(self, data: bytes, position: int, relation: Relation) -> Row:
        """Return the row that ends a message."""
        if self._wanted is not None:
            return _row(data, position, relation, self._counts[relation.id])[0]
        new, position = _row(data, position, relation)
        _ends(data, position)
        return new

    def _delete(self, data: bytes) -> Delete:
        relation = self._known(_U32.unpack_from(data, 1)[0])
        _marks(data, 5, b"KO")
        old, position = _row(data, 6, relation)
        _ends(data, position)
        return Delete(relation, old)

    def _truncate(self, data: bytes) -> Truncate:
        count, options = _TRUNCATE.unpack_from(data, 1)
        _ends(data, 6 + 4 * count)
        relations = tuple(self._known(_U32.unpack_from(data, 6 + 4 * index)[0]) for index in range(count))
        return Truncate(relations, bool(options & 1), bool(options & 2))

    @staticmethod
    def _message(data: bytes) -> Message:
        flags, lsn = _MESSAGE.unpack_from(data, 1)
        prefix, position = _name(data, 1 + _MESSAGE.size)
        (length,) = _U32.unpack_from(data, position)
        position += 4
        _ends(data, position + length)
        return Message(bool(flags & 1), lsn, prefix, data[position : position + length])


def _ends(data: bytes, position: int) -> None:
    if len(data) != position:
        raise MalformedMessage(f"a message of kind {chr(data[0])} of {len(data)} bytes instead of {position}")


def _marks(data: bytes, position: int, allowed: bytes) -> None:
    if data[position] not in allowed:
        raise MalformedMessage(f"a message of kind {chr(data[0])} with the row mark {data[position]:#04x}")


def _name(data: bytes, position: int) -> tuple[str, int]:
    end = data.find(b"\0", position, position + MOST_NAME + 1)
    if end < 0:
        raise MalformedMessage(f"a message of kind {chr(data[0])} with a name that does not end")
    return data[position:end].decode(), end + 1


def _column_count(data: bytes, position: int) -> int:
    count: int = _U16.unpack_from(data, position)[0]
    if count > MOST_COLUMNS:
        raise MalformedMessage(f"a row of {count} columns")
    return count


def _row(data: bytes, position: int, relation: Relation, most: int = MOST_COLUMNS) -> tuple[Row, int]:
    """Return one row, or its first values, and the position behind. Nearly all time of decoding is spent here."""
    count = _column_count(data, position)
    if count != len(relation.columns):
        raise MalformedMessage(f"a row of {count} columns for {relation.table} with {len(relation.columns)}")
    position += 2
    total = len(data)
    values: list[Value] = []
    for _ in range(min(count, most)):
        kind = data[position]
        if kind == 0x74:  # t: text
            start = position + 5
            position = start + int.from_bytes(data[position + 1 : start])
            if position > total or position - start > MOST_VALUE:
                raise MalformedMessage(f"a value of {relation.table} that ends behind its message")
            values.append(data[start:position].decode())
        elif kind == 0x6E:  # n: NULL
            values.append(None)
            position += 1
        elif kind == 0x75:  # u: unchanged
            values.append(UNCHANGED)
            position += 1
        else:
            raise MalformedMessage(f"a value of the unknown kind {kind:#04x}")
    return tuple(values), position
