"""A gateway that comes back joins the active one again, without a full copy and without hiding anything.

Three ways, for each of its streams of changes:

* **resume**: nothing was written here that the active gateway lacks. It follows from the slot that was kept for it.
* **replace**: something was (it is in quarantine by now), or the slot holds so much that applying it transaction by
  transaction would take long. The touched rows are replaced from a snapshot (:mod:`.replace`), and the changes are
  followed from there.
* **compare**: a slot that would tell what was touched is lost, or one of the two went back in time. All rows are
  compared by digests, and those that differ are kept and replaced.

Each step can be repeated after a crash: the quarantine knows what it has, ``dirty_key`` holds what is still to be
replaced, and rows and position change in one commit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal
from uuid import uuid4

import psycopg
from psycopg import sql

from . import channel
from .database import Connection, DatabaseFailure, failures, one
from .gateways import SLOT_PATIENCE_S, Gateways, snapshot, wait_for_flush
from .names import SCHEMA, SUBSCRIPTION
from .pgoutput import UNCHANGED, AnyMessage, Decoder, Delete, Insert, Relation, Row, Truncate, Update
from .promotion import Fork
from .quarantine import Kept, Slot, Source, keep
from .replace import Replacement
from .scope import Scope
from .tables import Key, Name, SchemaMismatch, canonical, shared_tables

Way = Literal["resume", "replace", "compare"]

#: WAL in the slot that is applied transaction by transaction; more is replaced in bulk, bytes.
MOST_APPLIED: Final = 4 << 20
#: How long the active gateway's open transactions may keep a rejoin waiting, s.
PATIENCE_S: Final = 600.0

_WORKER: Final = b"""
SELECT w.pid FROM pg_stat_subscription w JOIN pg_stat_activity USING (pid) WHERE w.subname = %s
"""
# Only what touches rows, and the descriptions of tables: D, I, R, T, U.
_TOUCHED: Final = """
COPY (SELECT data FROM pg_logical_slot_peek_binary_changes({}, {}, NULL, 'proto_version', '1', 'publication_names', {})
      WHERE get_byte(data, 0) IN (68, 73, 82, 84, 85)) TO STDOUT (FORMAT binary)
"""
_TABLES_FOLLOWED: Final = "SELECT schema_name, table_name FROM hsmx_cluster.followed"
_NEWEST: Final = """
SELECT seq, incarnation::text FROM hsmx_cluster.incarnation WHERE node_id = %s ORDER BY seq DESC LIMIT 1
"""
_SAME: Final = """
SELECT count(*) FROM hsmx_cluster.incarnation WHERE node_id = %s AND seq = %s AND incarnation = %s::uuid
"""

#: In ``dirty_key``, in the place of a table: all are to be compared.
_EVERYTHING: Final = ("hsmx_cluster", "*")
_BEGUN_ANEW: Final = b"SELECT FROM hsmx_cluster.dirty_key WHERE schema_name = %s AND table_name = %s"


@dataclass(frozen=True)
class Step:
    """What a rejoin is doing, for the page: "this gateway ..."."""

    text: str
    stream: str = ""


@dataclass(frozen=True)
class Rejoined:
    """How a gateway joined again.

    :param ways: by subscription.
    :param reasons: why rows had to be compared, in words; empty otherwise.
    :param kept: rows that went into quarantine this time.
    :param replaced: rows fetched from the active gateway.
    """

    ways: dict[str, Way]
    reasons: tuple[str, ...]
    kept: int
    replaced: int
    seconds: float


@dataclass(frozen=True)
class _Branch:
    """One stream of changes: what this gateway wrote and what the active one wrote since they parted.

    :param fork_lsn: last position of this gateway's WAL that the active one has.
    :param start_lsn: last position of the active gateway's WAL that this one has for certain. The slot there may begin
        earlier: its position is not kept through a crash, and before it may be what came from here.
    """

    subscription: str
    publications: tuple[str, ...]
    own_slot: str
    peer_slot: str
    fork_lsn: str
    start_lsn: str


def went_back(publisher: Connection, publisher_id: str, position: str, subscriber: Connection) -> str:
    """Return why a publisher cannot be followed: it is older than what its subscriber has of it; "" if it can (rule 6).

    To be asked before streaming, and again before "synchronous".

    :param position: last position of the publisher's WAL that the subscriber has applied, as text.
    """
    flushed = one(publisher, "SELECT pg_current_wal_flush_lsn()::text")
    if one(publisher, "SELECT %s::pg_lsn > %s::pg_lsn", position, flushed):
        return f"its write-ahead log ends at {flushed}, but {position} was received from it"
    newest = subscriber.execute(_NEWEST, (publisher_id,)).fetchone()
    if newest is not None and not one(publisher, _SAME, publisher_id, *newest):
        return f"it does not know its own start number {newest[0]}"
    return ""


def rejoin(
    gateways: Gateways, scope: Scope, fork: Fork, *, progress: Callable[[Step], None] = lambda _: None,
    most_applied: int = MOST_APPLIED, patience_s: float = PATIENCE_S,
) -> Rejoined:
    """Join the active gateway again. This gateway has no lease, no synchronous name and no running apply worker.

    When it returns, the subscriptions are enabled and stream from a position where both had the same rows; they may
    still have to catch up. It may be repeated after any failure.

    :param fork: what the active gateway stored when it was promoted.
    :param most_applied: WAL, bytes, up to which a backlog is applied by the subscription itself.
    :param patience_s: how long open transactions of the active gateway are waited for.
    :raises DatabaseFailure: a database fails, or a transaction of the active gateway stays open for too long.
    :raises SchemaMismatch: a shared table or column is missing here.
    :raises MalformedMessage: a slot's content cannot be read.
    """
    with failures("This gateway cannot join again"):
        return _Rejoin(gateways, scope, fork, progress, most_applied, patience_s).run()


class _Rejoin:
    def __init__(
        self, gateways: Gateways, scope: Scope, fork: Fork, progress: Callable[[Step], None], most_applied: int,
        patience_s: float,
    ) -> None:
        self._gateways, self._own, self._peer = gateways, gateways.own, gateways.peer
        self._scope = scope
        self._source = Source(gateways.own_id, fork.term)
        self._progress = progress
        self._most_applied = most_applied
        self._patience_s = patience_s
        self._branches = [
            _Branch(
                name, channel.TAKES[name], channel.slot_of(name, gateways.peer_id),
                channel.slot_of(name, gateways.own_id), fork.lsn if name == SUBSCRIPTION else fork.bulk_lsn,
                self._start(name, fork),
            )
            for name in channel.subscriptions(scope)
        ]  # fmt: skip
        self._own_lsn = one(self._own, "SELECT coalesce(own_lsn, '0/0')::text FROM hsmx_cluster.node")
        self._reasons: list[str] = []
        self._unsure = frozenset[Name]()
        self._kept = self._replaced = 0

    def _start(self, subscription: str, fork: Fork) -> str:
        """Return where the active gateway's reign began, or where this one ceased to follow it, whichever is later."""
        column = "fork_lsn" if subscription == SUBSCRIPTION else "fork_bulk_lsn"
        query = f"SELECT greatest(%s::pg_lsn, {column})::text FROM hsmx_cluster.node"
        return str(one(self._own, query, fork.own_lsn))

    def run(self) -> Rejoined:
        begun = time.monotonic()
        for connection in (self._own, self._peer):
            canonical(connection)
        lost_here = [branch for branch in self._branches if channel.lost(self._own, branch.own_slot)]
        lost_there = [branch for branch in self._branches if channel.lost(self._peer, branch.peer_slot)]
        back = self._went_back()
        unknown = self._branches if back else lost_here
        remade = self._begin_anew() if back else lost_there
        for each in lost_here:
            self._reasons.append(f"the slot {each.own_slot} here is lost")
        for each in lost_there:
            self._reasons.append(f"the slot {each.peer_slot} of the active gateway is lost")
        if not self._followed():
            self._unsure = self._never_followed()
            self._quarantine([branch for branch in self._branches if branch not in unknown])
        for each in remade:
            channel.remake_slot(self._peer, each.peer_slot)
        self._subscribe()
        ways: dict[str, Way] = {}
        for branch in self._branches:
            ways[branch.subscription] = self._join(branch, branch in unknown, branch in unknown + remade)
        self._own.execute("DELETE FROM hsmx_cluster.dirty_key")  # what is left is of tables that nobody shares any more
        self._reset_own_slots(lost_here)
        return Rejoined(ways, tuple(self._reasons), self._kept, self._replaced, time.monotonic() - begun)

    def _followed(self) -> bool:
        """Return whether this gateway was passive to the end: then there is nothing of its own to look for.

        A promotion disables the subscriptions, and the last step of a rejoin is to enable them.
        """
        streams = channel.streams(self._own)
        return len(streams) == len(self._branches) and all(stream.enabled for stream in streams)

    def _never_followed(self) -> frozenset[Name]:
        """Return the shared tables that were made so lately that no gateway followed them yet when the two parted.

        What was written into them before they were published is in no slot.
        """
        followed = {(schema, name) for connection in (self._own, self._peer)
                    for schema, name in connection.execute(_TABLES_FOLLOWED)}
        publications = [name for each in self._branches for name in each.publications]
        shared = {name for name in shared_tables(self._peer, publications, self._scope) if name[0] != SCHEMA}
        unsure = frozenset(shared - followed if followed else ())
        if unsure:
            self._reasons.append(f"not followed yet when they parted: {', '.join(sorted(name for _, name in unsure))}")
        return unsure

    def _went_back(self) -> bool:
        """Look whether either gateway is older than what the other one has of it, or positions mean nothing else."""
        ids = self._gateways
        reasons = [went_back(self._own, ids.own_id, branch.fork_lsn, self._peer) for branch in self._branches]
        here = next(filter(None, reasons), "")
        positions = [stream.origin_lsn for stream in channel.streams(self._own)]
        positions += [branch.start_lsn for branch in self._branches]
        reasons = [went_back(self._peer, ids.peer_id, lsn, self._own) for lsn in positions]
        there = next(filter(None, reasons), "")
        if here:
            self._reasons.append(f"this gateway went back in time: {here}")
        if there:
            self._reasons.append(f"the active gateway went back in time: {there}")
        streams = {stream.name for stream in channel.streams(self._own)}
        if changed := bool(streams) and streams != set(channel.subscriptions(self._scope)):
            self._reasons.append("the shared tables are divided into other streams than before")
        interrupted = self._own.execute(_BEGUN_ANEW, _EVERYTHING).fetchone() is not None
        return bool(here or there or changed or interrupted)

    def _begin_anew(self) -> list[_Branch]:
        """No position means anything any more: an origin only moves on, and so does a slot. Return the slots to remake.

        That everything is to be compared is remembered until it has been.
        """
        self._own.execute(
            "INSERT INTO hsmx_cluster.dirty_key (batch, schema_name, table_name) VALUES (%s, %s, %s)",
            (uuid4(), *_EVERYTHING),
        )
        self._own.execute("UPDATE hsmx_cluster.node SET fork_lsn = NULL, fork_bulk_lsn = NULL")
        channel.forget_subscriptions(self._own)
        return self._branches

    def _quarantine(self, branches: Sequence[_Branch]) -> None:
        self._progress(Step("looks for what the other gateway never had"))
        slots = [Slot(each.own_slot, each.publications, each.fork_lsn, self._own_lsn) for each in branches]
        kept: Kept = keep(self._own, self._source, slots)
        self._kept += kept.rows

    def _subscribe(self) -> None:
        """Make the subscriptions, disabled: their origins are to hold the positions. What is there reaches the peer."""
        if channel.streams(self._own):  # made when its address, password or certificate was another
            channel.reach_by(self._own, self._gateways.conninfo)
        else:
            channel.subscribe(self._own, self._gateways.conninfo, self._scope, self._gateways.own_id, enabled=False)

    def _join(self, branch: _Branch, keep_differences: bool, compare: bool) -> Way:
        """Bring one stream to where it can continue, and let it."""
        tables = shared_tables(self._peer, branch.publications, self._scope)
        ours = set(tables) | set(shared_tables(self._own, branch.publications))
        dirty = {(schema, name) for schema, name in self._own.execute(
            "SELECT DISTINCT schema_name, table_name FROM hsmx_cluster.dirty_key")} & ours
        if lacking := dirty - set(tables):
            raise SchemaMismatch(
                f"The active gateway does not share the table {'.'.join(min(lacking))}.",
                "Bring both gateways to the same version of the software.",
            )
        way: Way = "resume"
        unsure = self._unsure & set(tables)
        if compare or dirty or unsure or self._backlog(branch) > self._most_applied:
            way = "compare" if compare else "replace"
            self._stop(branch)
            try:
                with self._snapshot(branch, self._patience_s if compare or dirty or unsure else 0) as position:
                    self._replace(branch, position, keep_differences, compare)
            except psycopg.errors.LockNotAvailable:
                if compare or dirty or unsure:
                    raise DatabaseFailure(
                        "A transaction on the active gateway has been open for too long.",
                        "End it there, or wait for its end; joining goes on by itself.",
                    ) from None
                # Nothing forces the bulk way: the subscription catches up by itself, transaction by transaction.
                way = "resume"
        if way == "resume":
            channel.advance_origin(self._own, branch.subscription, self._position(branch))
        self._own.execute(sql.SQL("ALTER SUBSCRIPTION {} ENABLE").format(sql.Identifier(branch.subscription)))
        return way

    def _stop(self, branch: _Branch) -> None:
        """End an apply worker that PostgreSQL has started by itself: only one session at a time moves the position."""
        stream = next(each for each in channel.streams(self._own) if each.name == branch.subscription)
        if not stream.enabled:
            return
        self._own.execute(sql.SQL("ALTER SUBSCRIPTION {} DISABLE").format(sql.Identifier(branch.subscription)))
        deadline = time.monotonic() + SLOT_PATIENCE_S
        while worker := self._own.execute(_WORKER, (branch.subscription,)).fetchone():
            if time.monotonic() > deadline:
                raise DatabaseFailure("An apply worker of PostgreSQL does not end.", "See PostgreSQL's log.")
            self._own.execute("SELECT pg_terminate_backend(%s)", worker)
            time.sleep(0.01)

    def _position(self, branch: _Branch) -> str:
        """Return where the stream begins, or continues."""
        origin = next(each.origin_lsn for each in channel.streams(self._own) if each.name == branch.subscription)
        return str(one(
            self._peer,
            "SELECT greatest(confirmed_flush_lsn, %s::pg_lsn, %s::pg_lsn)::text FROM pg_replication_slots "
            "WHERE slot_name = %s", origin, branch.start_lsn, branch.peer_slot,
        ))  # fmt: skip

    def _backlog(self, branch: _Branch) -> int:
        position = self._position(branch)
        return int(one(self._peer, "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), %s::pg_lsn)", position))

    @contextmanager
    def _snapshot(self, branch: _Branch, patience_s: float) -> Iterator[str]:
        """Put the connection to the active gateway into a snapshot; gives the position that it is at.

        :raises psycopg.errors.LockNotAvailable: a transaction there stays open.
        """
        self._progress(Step("waits for open transactions of the active gateway", branch.subscription))
        with (
            snapshot(self._gateways, f"{branch.peer_slot}_snapshot", patience_s) as seen,
            self._peer.transaction(),
        ):
            seen.enter(self._peer)
            # Rows are looked up by key, a few of a large table.
            self._peer.execute("SET LOCAL enable_hashjoin = off")
            self._peer.execute("SET LOCAL enable_mergejoin = off")
            yield seen.position

    def _replace(self, branch: _Branch, position: str, keep_differences: bool, compare: bool) -> None:
        tables = shared_tables(self._peer, branch.publications, self._scope)
        self._progress(Step("replaces what was changed", branch.subscription))
        with _origin_session(self._own, branch.subscription), self._own.transaction():
            self._own.execute("SET LOCAL synchronous_commit = local")
            self._own.execute("SET LOCAL work_mem = '64MB'")
            replacement = Replacement(self._own, self._peer, tables.values())
            replacement.add_dirty()
            if compare:
                replacement.add_differences()
            else:
                self._add_changed(replacement, branch, position)
                replacement.add_differences(self._unsure)
            replacement.fetch()
            replacement.keep_bases()
            if keep_differences or self._unsure:
                only = None if keep_differences else self._unsure
                self._kept += replacement.keep_differences(uuid4(), self._source, only)
            replacement.apply()
            wait_for_flush(self._peer, position)
            self._own.execute("SELECT pg_replication_origin_xact_setup(%s, now())", (position,))
        self._replaced += replacement.rows

    def _add_changed(self, replacement: Replacement, branch: _Branch, position: str) -> None:
        """Note the keys that the active gateway has changed since the fork."""
        query = sql.SQL(_TOUCHED).format(
            *map(sql.Literal, (branch.peer_slot, position, ",".join(branch.publications)))
        )
        self._wait_for_slot(branch.peer_slot)
        keys = _Keys(replacement.key_columns())
        decoder = Decoder(keys.columns)
        with self._peer.cursor() as cursor, cursor.copy(query) as copy:
            copy.set_types(["bytea"])
            for (data,) in copy.rows():
                for name, key in keys.of(decoder.decode(data)):
                    replacement.add(name, key, ours=False)

    def _wait_for_slot(self, slot: str) -> None:
        deadline = time.monotonic() + SLOT_PATIENCE_S
        while one(self._peer, "SELECT active FROM pg_replication_slots WHERE slot_name = %s", slot):
            if time.monotonic() > deadline:
                raise DatabaseFailure(
                    f"The slot {slot} of the active gateway is in use by another connection.",
                    "See pg_stat_replication there for who follows it.",
                )
            time.sleep(0.05)

    def _reset_own_slots(self, lost: Sequence[_Branch]) -> None:
        """From now on our slots are fork slots: what is in them is in quarantine. Whoever tends them moves them on."""
        for branch in lost:
            self._own.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s",
                (branch.own_slot,),
            )
        channel.make_slots(self._own, self._scope, self._gateways.peer_id)


@contextmanager
def _origin_session(own: Connection, subscription: str) -> Iterator[None]:
    """Mark what is written as coming from the active gateway, so that it is never taken for this one's own."""
    own.execute(
        "SELECT pg_replication_origin_session_setup('pg_' || oid) FROM pg_subscription "
        "WHERE subname = %s AND subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())",
        (subscription,),
    )
    try:
        yield
    finally:
        if not own.closed:
            own.execute("SELECT pg_replication_origin_session_reset()")


class _Keys:
    """Finds the keys of changes."""

    def __init__(self, columns: dict[Name, tuple[str, ...]]) -> None:
        self._columns = columns
        self._places: dict[int, tuple[int, ...]] = {}
        self._relations: dict[int, Relation] = {}

    def of(self, message: AnyMessage) -> Iterator[tuple[Name, Key | None]]:
        """Yield the table and key of each row that a change touches; None: all rows of the table."""
        if isinstance(message, Truncate):
            for relation in message.relations:
                yield (relation.schema, relation.table), None
        elif isinstance(message, (Insert, Update, Delete)):
            relation = message.relation
            name = (relation.schema, relation.table)
            old = None if isinstance(message, Insert) else message.old
            new = None if isinstance(message, Delete) else message.new
            if old is not None:
                yield name, self._key(relation, old)
            if new is not None:
                yield name, self._key(relation, new, old)

    def columns(self, relation: Relation) -> int:
        """Return how many of a row's first columns have the whole key."""
        return max(self._placed(relation), default=-1) + 1

    def _key(self, relation: Relation, row: Row, old: Row | None = None) -> Key | None:
        """Return the key of a row. A large value that is part of it and was left as it was is in the former row."""
        key = []
        for place in self._placed(relation):
            value = row[place]
            if value is UNCHANGED and old is not None:
                value = old[place]
            if not isinstance(value, str):
                return None
            key.append(value)
        return tuple(key)

    def _placed(self, relation: Relation) -> tuple[int, ...]:
        """Return where in a row the columns of its key are."""
        places = self._places.get(relation.id)
        if places is None or self._relations.get(relation.id) is not relation:
            names = [column.name for column in relation.columns]
            places = tuple(map(names.index, self._columns[relation.schema, relation.table]))
            self._places[relation.id], self._relations[relation.id] = places, relation
        return places
