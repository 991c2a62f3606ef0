"""One gateway's database with all that the replicator puts into it, but without its agent."""

from __future__ import annotations

import time
from collections.abc import Callable

from psycopg.conninfo import make_conninfo

from flask_hsmx_cluster.replication import channel, guard, promotion, schema, synchrony
from flask_hsmx_cluster.replication.database import Connection, connect, one
from flask_hsmx_cluster.replication.names import SUBSCRIPTION
from flask_hsmx_cluster.replication.prepare import make_roles
from flask_hsmx_cluster.replication.promotion import Fork
from flask_hsmx_cluster.replication.scope import Scope, mirror_trigger_sql
from flask_hsmx_cluster.replication.sequences import Sequences
from sample_app.lab.postgres import PostgresServer

NODE_IDS = ("a" * 32, "b" * 32)
#: What is waited for here happens within a second; on a machine under load, within this time, s.
PATIENCE_S = 60.0


def boot_time_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def wait_until(happened: Callable[[], object]) -> None:
    """Wait for something; an error if it does not happen within :data:`PATIENCE_S`."""
    deadline = time.monotonic() + PATIENCE_S
    while not happened():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{happened} after {PATIENCE_S:.0f} s")
        time.sleep(0.005)


class Side:
    """A gateway whose database is ready to be active or passive; it is neither yet.

    :param tables: SQL that makes the host's tables.
    :param guarded: with the guard on the shared tables.
    """

    def __init__(
        self, server: PostgresServer, node_id: str, peer_id: str, scope: Scope, tables: str, guarded: bool = True
    ) -> None:
        self.server, self.node_id, self.peer_id, self.scope = server, node_id, peer_id, scope
        self._guarded = guarded
        with server.connect() as connection:
            connection.execute(tables)
        self.connection: Connection
        self.promoter: Connection
        self.sequences: Sequences
        self.connect()

    def connect(self) -> None:
        """Do what a replicator does that is told its set-up, also after the server was restarted."""
        self.connection = connect(self.server.dsn, quiet=True)
        self.promoter = connect(self.server.dsn, quiet=True)
        make_roles(self.connection, [])
        self.connection.execute("SET search_path = public")  # tests write as the host does, too
        schema.install(self.connection, self.node_id, self.peer_id)
        channel.publish(self.connection, self.scope)
        for statement in mirror_trigger_sql(self.scope):
            self.connection.execute(statement.encode())
        if self._guarded:
            guard.arm(self.connection, self.scope)
        channel.make_slots(self.connection, self.scope, self.peer_id)
        self.sequences = Sequences(self.connection, self.scope)

    def close(self) -> None:
        self.connection.close()
        self.promoter.close()

    @property
    def slot(self) -> str:
        """The slot from which the other gateway's synchronous subscription reads."""
        return channel.slot_of(SUBSCRIPTION, self.peer_id)

    def promote(self, term: int, lease_s: float = 1000) -> Fork:
        return promotion.promote(self.promoter, self.sequences, term, boot_time_s() + lease_s)

    def follow(self, active: Side, role: str = "postgres") -> None:
        """Subscribe to the other gateway, and wait until both streams run.

        :param role: as whom; the cluster's own is let in by no rule of a server that was set up for a cluster.
        """
        channel.advance_slots(self.connection, self.scope, self.peer_id)
        conninfo = make_conninfo(active.server.dsn, user=role)
        channel.subscribe(self.connection, conninfo, self.scope, self.node_id)
        wait_until(lambda: synchrony.follower(active.connection, active.slot).streaming)

    def be_synchronous(self) -> None:
        """Let commits wait for the other gateway."""
        synchrony.set_name(self.connection, SUBSCRIPTION)
        wait_until(lambda: one(self.connection, "SHOW synchronous_standby_names") == SUBSCRIPTION)

    def tend_active(self) -> None:
        """Do once what the agent does every second while this gateway is active."""
        promotion.settle(self.connection, self.scope, self.peer_id)
        self.sequences.tell(self.connection)

    def tend_passive(self) -> None:
        """Do once what the agent does every second while this gateway is passive."""
        self.sequences.keep_ahead(self.connection)
        promotion.rehearse(self.promoter, self.sequences)
        channel.advance_slots(self.connection, self.scope, self.peer_id)
        channel.streams(self.connection)

    def wait_for(self, active: Side) -> None:
        """Wait until everything that the active one has written is applied here."""
        if not promotion.confirmed(active.connection, active.slot, PATIENCE_S):
            raise TimeoutError("not confirmed")
