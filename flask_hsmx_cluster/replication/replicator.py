"""What the replicator does for the agent: one method for each verb.

Each thread that uses it has a connection of its own (:mod:`.process` says which threads there are).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ..errors import RequestRefused
from . import (
    access,
    catalogue,
    channel,
    checks,
    forming,
    guard,
    promotion,
    quarantine,
    schema,
    synchrony,
)
from .checking import Checking
from .database import PROMPT, Connection, connect, failures, one
from .following import Following, Other
from .keeper import Keeper
from .launcher import Launcher
from .names import FOLLOWING, SUBSCRIPTION
from .pace import Pace
from .scope import Scope, mirror_trigger_sql
from .sequences import Sequences
from .setup import Peer, Setup, setup_from
from .survey import survey
from .verifying import Verifying
from .watch import Watch

#: A demotion whose sessions do not end their transactions by then ends the sessions, s.
DEMOTE_PATIENCE_S = 0.0


#: Each run of an active gateway leaves a number that the other one gets, too: a database that has gone back in time
#: (a restored snapshot, a copied disk) does not know the newest one any more (rule 6).
_INCARNATE = b"""
INSERT INTO hsmx_cluster.incarnation (node_id, seq, incarnation)
SELECT %s, coalesce(max(seq), 0) + 1, gen_random_uuid() FROM hsmx_cluster.incarnation WHERE node_id = %s
"""


class Replicator:
    """One gateway's database, as its agent wants it."""

    def __init__(self) -> None:
        self._setup: Setup | None = None
        self._declared = Scope(())
        self._connections = threading.local()
        self._generation = 0
        self._sequences: Sequences | None = None
        self._promoting = threading.Lock()
        self._promoter: Connection | None = None
        self._incarnated, self._incarnating = False, threading.Lock()
        self._given_up = False  #: shared data is not written here any more, and nobody waits for a commit of it
        self._applied: dict[str, str] = {}  #: what a passive gateway has of the other one's WAL, by subscription
        self._pinned = ("", "")  #: where the server and where this process finds the other server's certificate
        self._peer_dsn = self._peer_here = ""  #: how the server and how this process reaches the other database
        self.watch = Watch(self.connection, lambda: self.setup)
        self.verifying = Verifying()
        self._pace = Pace(
            self._open, lambda: connect(self._peer_here, "hsmx_cluster pace", **PROMPT),
            lambda: [channel.slot_of(name, self.setup.node_id) for name in channel.subscriptions(self.setup.scope)],
            lambda: self.setup.peer_id,
        )
        self._launcher = Launcher(lambda: self._open_peer("hsmx_cluster launcher"))
        self.following = Following(
            lambda: self._open(FOLLOWING),
            lambda: self.setup.scope,
            self._require_same,
            lambda: self._pace.keep(anew=True),
        )
        self.checking = Checking(lambda: self._open(FOLLOWING))
        self.keeper = Keeper(self.connection, lambda: self.setup, lambda: self._open_peer("hsmx_cluster quarantine"))

    # -- set-up -----------------------------------------------------------------------------------------------

    def configure(self, setup: Setup, keep_lease: bool) -> dict[str, Any]:
        """Take a set-up: make our schema, publications, guards, slots and the other gateway's access as it demands.

        :param keep_lease: this gateway may be active: a lease that is still valid is kept. Else nobody may write.
        """
        self._setup = setup
        self._generation += 1
        self._forget_promoter()
        connection = self.connection()
        if schema.peer_id(connection) not in ("", setup.peer_id):
            self._part(connection)
        schema.install(connection, setup.node_id, setup.peer_id)
        self._declared = setup.scope
        setup = self._setup = replace(setup, scope=catalogue.present(connection, setup.scope))
        if not (keep_lease and one(connection, "SELECT hsmx_cluster.writable()")):
            promotion.demote(connection, DEMOTE_PATIENCE_S)
        channel.publish(connection, setup.scope)
        access.grant_apply(connection)  # of tables and partitions that were made meanwhile, too
        for statement in mirror_trigger_sql(setup.scope):
            connection.execute(statement.encode())
        guard.arm(connection, setup.scope)
        if setup.peer is None:  # whoever joins next has nothing of this one's
            connection.execute("UPDATE hsmx_cluster.node SET joined_system = NULL")
        else:
            self._admit(connection, setup.peer)
            channel.make_slots(connection, setup.scope, setup.peer_id)
        self._sequences = Sequences(connection, setup.scope)
        return {"writable": bool(one(connection, "SELECT hsmx_cluster.writable()"))}

    def _forget_promoter(self) -> None:
        with self._promoting:
            if self._promoter is not None:
                self._promoter.close()
                self._promoter = None

    def _admit(self, connection: Connection, peer: Peer) -> None:
        """Let the other gateway's database in, and know it by its certificate."""
        access.set_access(connection, [*peer.addresses, *peer.former], password=peer.own_password)
        access.grant_shared(connection)
        if peer.certificate:
            self._pinned = (access.pin_certificate(connection, peer.certificate), access.pin_here(peer.certificate))
            self._reach_by(peer, peer.addresses)

    def _reach_by(self, peer: Peer, addresses: Sequence[str]) -> None:
        self._peer_dsn, self._peer_here = (
            access.peer_dsn(addresses, peer.port, peer.database, peer.password, path) for path in self._pinned
        )

    def reach(self, addresses: Sequence[str]) -> dict[str, Any]:
        """On the passive gateway: reach the other one's database by its addresses in this order from now on."""
        peer = self.setup.peer
        if peer is None or not self._peer_dsn or set(addresses) != set(peer.addresses) or self.following.under_way():
            return {"changed": []}
        self._reach_by(peer, addresses)
        if changed := channel.reach_by(self.connection(), self._peer_dsn):
            self._pace.keep(anew=True)
        return {"changed": changed}

    def _part(self, connection: Connection) -> None:
        """The former other gateway is one no longer: nothing is kept for it, and it comes in no more."""
        synchrony.set_name(connection, "")
        channel.forget_subscriptions(connection)
        channel.drop_all_slots(connection)
        access.drop_access(connection)
        self._peer_dsn = self._peer_here = ""

    def forget(self, dsn: str, node_id: str) -> dict[str, Any]:
        """Leave: guards, publications, subscriptions, slots, access and our schema go; the host's data stays.

        What another machine has left here, of which this disk is a copy, stays: it may hold a quarantine.

        :param dsn: connection string of the agent's role; this process may never have been told a set-up.
        """
        with connect(dsn) as found:
            if schema.node_id(found) != node_id:
                return {}
        self._setup = self._setup or Setup(dsn, node_id, None, Scope(()))
        connection = self.connection()
        synchrony.set_name(connection, "")
        channel.forget_subscriptions(connection)
        channel.drop_all_slots(connection)
        guard.disarm(connection)
        forming.repair(connection, self._open)
        channel.unpublish(connection)
        access.drop_access(connection)
        schema.remove(connection)
        self._forget_promoter()
        self._sequences = None
        self._incarnated = False  # the next cluster's table knows nothing of this run
        return {}

    def facts(self, dsn: str, certificate: str) -> dict[str, Any]:
        """Return what the other gateway must know of this one's database.

        :param dsn: connection string of the agent's role.
        :param certificate: our server's, PEM.
        """
        with connect(dsn) as connection:
            row = connection.execute(
                "SELECT current_setting('port')::int, current_database(), current_setting('server_version_num')::int, "
                "(SELECT system_identifier::text FROM pg_control_system())"
            ).fetchone()
        assert row is not None
        return {**dict(zip(("port", "database", "version", "system"), row, strict=True)), "certificate": certificate}

    def survey(self, dsn: str, scope: str, listen: list[str]) -> dict[str, Any]:
        """Return what the other gateway must know of this one's database before both are joined.

        :param scope: in its JSON form; the set-up may not have been given yet.
        :param listen: own addresses on the links.
        """
        with connect(dsn) as connection:
            return survey(connection, Scope.from_json(scope), listen)

    def layouts(self, dsn: str, scope: str, names: list[str]) -> dict[str, Any]:
        """Return how some shared tables look here."""
        wanted = [one for one in catalogue.of_scope(Scope.from_json(scope)) if f"{one.schema}.{one.table}" in names]
        with connect(dsn) as connection, failures("The shared tables cannot be looked at"):
            found = catalogue.layouts(connection, wanted)
        return {"layouts": [layout.to_dict() for layout in found.values()]}

    def check(self, passive: bool) -> dict[str, Any]:
        """Begin to look at this gateway's database again, see :mod:`.checks`."""
        setup = self.setup
        peer_name = setup.peer.name if setup.peer else ""
        looked_at = checks.Gateway(self._declared, setup.scope, setup.name, peer_name, setup.peer_id)
        return self.checking.begin(looked_at, self._peer_here if passive else "")

    def _require_same(self, connection: Connection, peer: Connection) -> None:
        assert self.setup.peer is not None
        checks.require_same(connection, peer, self.setup.scope, self.setup.name, self.setup.peer.name)

    @property
    def setup(self) -> Setup:
        """The set-up.

        :raises RequestRefused: none was given yet.
        """
        if self._setup is None:
            raise RequestRefused("The replicator is not set up yet.", "Wait a moment.")
        return self._setup

    def connection(self) -> Connection:
        """Return this thread's connection, opened anew where it was lost or the set-up has changed."""
        kept = self._connections
        if getattr(kept, "generation", None) != self._generation or kept.connection.closed:
            if getattr(kept, "connection", None) is not None:
                kept.connection.close()
            kept.connection, kept.generation = self._open(), self._generation
        connection: Connection = kept.connection
        return connection

    def close(self) -> None:
        """Close the present thread's connection and the promoter's."""
        self.connection().close()
        self._forget_promoter()

    def _open(self, name: str = "hsmx_cluster agent") -> Connection:
        return connect(self.setup.dsn, name, quiet=True)

    def _open_peer(self, name: str) -> Connection:
        self._require_peer()
        return connect(self._peer_here, name)

    def _require_peer(self) -> None:
        if not self._peer_here:
            raise RequestRefused("The other gateway's database is not known yet.", "Wait a moment.")

    # -- what a fail-over waits for ----------------------------------------------------------------------------

    def promote(self, term: int, until_s: float) -> dict[str, Any]:
        """Make this gateway the one that writes."""
        with self._promoting:
            ready = self._promoter
            connection = self.connection() if ready is None or ready.closed else ready
            sequences = self._sequences or Sequences(connection, self.setup.scope)
            fork = promotion.promote(connection, sequences, term, until_s, self._applied)
            self._applied, self._given_up = {}, False
        return {"term": term, "lsn": fork.lsn, "synchronous": synchrony.name(connection) == SUBSCRIPTION}

    def _rehearse(self, sequences: Sequences) -> None:
        """Keep a connection that can promote at once: its statements take longer to plan than to carry out."""
        with self._promoting:
            if self._promoter is None or self._promoter.closed:
                self._promoter = self._open()
            promotion.rehearse(self._promoter, sequences)

    def renew(self, term: int, until_s: float) -> dict[str, Any]:
        """Extend the right to write. Where it has been lost in a crash of the server, or was never given because the
        server was down, this gateway is promoted now.
        """
        if guard.renew(self.connection(), term, until_s):
            promotion.rehearse_giving_up(self.connection())
            return {"renewed": True}
        return {"renewed": False, **self.promote(term, until_s)}

    def keep(self, term: int, until_s: float) -> dict[str, Any]:
        """Extend the right to write, if this gateway has it: the agent, and this process with it, restart."""
        return {"kept": guard.renew(self.connection(), term, until_s)}

    def yield_data(self, patience_s: float, within_s: float) -> dict[str, Any]:
        """Refuse writes, and wait until the other gateway has the last one.

        :param patience_s: for transactions that are under way; then their sessions end.
        :param within_s: for all together.
        """
        until = time.monotonic() + within_s
        self._given_up = promotion.give_up(self.connection(), patience_s)
        return {"orderly": self._given_up, "confirmed": self._confirmed(until - time.monotonic())}

    def confirm(self, patience_s: float) -> dict[str, Any]:
        """Wait until the other gateway has what was written until now, and tell how long that took."""
        began = time.monotonic()
        ok = self._confirmed(patience_s)
        took_s = time.monotonic() - began
        return {"confirmed": ok, "took_s": took_s, "writable": one(self.connection(), "SELECT hsmx_cluster.writable()")}

    def _confirmed(self, patience_s: float) -> bool:
        return promotion.confirmed(self.connection(), channel.slot_of(SUBSCRIPTION, self.setup.peer_id), patience_s)

    def demote(self) -> dict[str, Any]:
        """Let nobody write shared data here any more."""
        if self._given_up:
            synchrony.set_name(self.connection(), "")
        else:
            promotion.demote(self.connection(), DEMOTE_PATIENCE_S)
        return {}

    def set_synchronous(self, on: bool) -> dict[str, Any]:
        """Let commits wait for the other gateway, or no longer."""
        if on:  # whoever has a write that both have confirmed has this run's number, too
            self._incarnate()
        synchrony.set_name(self.connection(), SUBSCRIPTION if on else "")
        return {"on": on}

    def _incarnate(self) -> None:
        with self._incarnating:
            if not self._incarnated:
                self.connection().execute(_INCARNATE, (self.setup.node_id, self.setup.node_id))
                self._incarnated = True

    # -- what is done every moment -----------------------------------------------------------------------------

    def tend_active(self) -> dict[str, Any]:
        """On the active gateway: complete a take-over, and tell the sequences."""
        connection, setup = self.connection(), self.setup
        if not promotion.settle(connection, setup.scope, setup.peer_id):
            return {}
        self._incarnate()
        if self._sequences is not None:
            self._sequences.tell(connection)
        connection.execute(b"DELETE FROM hsmx_cluster.commit_check", prepare=True)
        return {}

    def tend_passive(self) -> dict[str, Any]:
        """On the passive gateway: keep sequences ahead and the fork slots at the present position."""
        connection, setup = self.connection(), self.setup
        if one(connection, "SELECT current_setting('synchronous_standby_names') <> '' AND NOT hsmx_cluster.writable()"):
            self.demote()  # the server was down when it was to be: else commits here would wait for ever
        if self._sequences is not None:
            self._sequences.keep_ahead(connection)
            self._rehearse(self._sequences)
        streams = channel.streams(connection)
        for stream in streams:
            if stream.reported_lsn != promotion.NOWHERE:
                self._applied[stream.name] = stream.reported_lsn
        # Before this gateway follows, its slots hold what the other one may never have had: that is for quarantine.
        if self._follows(connection, streams) and not self.following.under_way():
            channel.replace_lost_slots(connection, setup.scope, setup.peer_id)
            channel.advance_slots(connection, setup.scope, setup.peer_id)
            if self._peer_here:
                self._pace.keep()
                self._launcher.look(connection, streams, time.monotonic())
        return {"streams": [stream.__dict__ for stream in streams]}

    def _follows(self, connection: Connection, streams: Sequence[channel.Stream]) -> bool:
        """Return whether all that is shared is followed; a rejoin that was interrupted leaves some of it."""
        enabled = {stream.name for stream in streams if stream.enabled}
        unfinished = one(connection, "SELECT EXISTS (SELECT FROM hsmx_cluster.dirty_key)")
        return enabled == set(channel.subscriptions(self.setup.scope)) and not unfinished

    def fork(self) -> dict[str, Any]:
        """Return what the other gateway must know to rejoin: where our data parted from its own.

        :raises RequestRefused: this gateway could not be promoted yet.
        """
        connection, setup = self.connection(), self.setup
        if not promotion.settle(connection, setup.scope, setup.peer_id):
            raise RequestRefused("The active gateway's database is not writable yet.", "It is tried again by itself.")
        row = connection.execute(
            "SELECT term, coalesce(fork_lsn, '0/0')::text, coalesce(fork_bulk_lsn, '0/0')::text, "
            "coalesce(own_lsn, '0/0')::text, peer_id, "
            "(SELECT system_identifier::text FROM pg_control_system()) FROM hsmx_cluster.node"
        ).fetchone()
        assert row is not None
        return dict(zip(("term", "lsn", "bulk_lsn", "own_lsn", "peer_id", "system"), row, strict=True))

    def follow(self, fork: dict[str, Any]) -> dict[str, Any]:
        """On the passive gateway: begin to follow the other one, unless that is under way. It goes on by itself.

        :param fork: what :meth:`fork` returned there.
        """
        setup = self.setup
        if setup.peer is None or not self._peer_dsn:
            raise RequestRefused("The other gateway's database is not known yet.", "Wait a moment.")
        if one(self.connection(), "SELECT hsmx_cluster.writable()"):
            raise RequestRefused("This gateway has become the active one.")
        self._applied = {}  # of a log that may not be the one that is followed from now on
        other = Other(setup.node_id, setup.peer_id, self._peer_dsn, self._peer_here, fork)
        return self.following.begin(other)

    def verify(self) -> dict[str, Any]:
        """On the passive gateway: begin to compare the shared tables with the active one's."""
        setup = self.setup
        self._require_peer()
        return self.verifying.begin(
            lambda: self._open_peer("hsmx_cluster verify"), self._open, setup.scope, setup.node_id
        )

    def look(self) -> dict[str, Any]:
        """Return the state of this gateway's database, for people."""
        connection = self.connection()
        with failures("The state of the database cannot be read"):
            row = connection.execute(
                b"SELECT hsmx_cluster.writable(), current_setting('synchronous_standby_names'), "
                b"current_setting('server_version'), pg_database_size(current_database()), "
                b"current_setting('data_directory')"
            ).fetchone()
        assert row is not None
        keys = ("writable", "synchronous_standby", "version", "size_bytes", "directory")
        following = self.following.state()  # first: what ends meanwhile must not look as if it were to be begun again
        streams = channel.streams(connection)
        return {**dict(zip(keys, row, strict=True)), "streams": [stream.__dict__ for stream in streams],
                "follows": self._follows(connection, streams), "following": following,
                "quarantined": quarantine.waiting(connection), "kept_last": quarantine.newest(connection),
                "verify": self.verifying.state(),
                "checks": self.checking.state()}  # fmt: skip


def verbs(replicator: Replicator) -> dict[str, Callable[..., dict[str, Any]]]:
    """Return what the agent can ask for."""
    return {
        "configure": lambda setup, keep_lease: replicator.configure(setup_from(setup), keep_lease),
        "forget": replicator.forget,
        "facts": replicator.facts,
        "survey": replicator.survey,
        "layouts": replicator.layouts,
        "check": replicator.check,
        "promote": replicator.promote,
        "renew": replicator.renew,
        "keep": replicator.keep,
        "yield": replicator.yield_data,
        "confirm": replicator.confirm,
        "demote": replicator.demote,
        "set_synchronous": replicator.set_synchronous,
        "tend_active": replicator.tend_active,
        "tend_passive": replicator.tend_passive,
        "reach": replicator.reach,
        "fork": replicator.fork,
        "look": replicator.look,
        "follow": replicator.follow,
        "verify": replicator.verify,
        "quarantine": replicator.keeper.page,
        "quarantine_row": replicator.keeper.row,
        "quarantine_value": replicator.keeper.value,
        "quarantine_count": replicator.keeper.count,
        "quarantine_ids": replicator.keeper.ids,
        "mark": replicator.keeper.mark,
        "make": replicator.keeper.make,
        "make_some": replicator.keeper.make_some,
        "aside": replicator.keeper.aside,
        "drop_aside": replicator.keeper.drop_aside,
    }
