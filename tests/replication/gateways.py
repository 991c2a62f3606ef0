"""Two gateways with real databases, as the tests of quarantine, rejoin and verify need them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from psycopg.conninfo import make_conninfo

from flask_hsmx_cluster.replication import channel, promotion, schema
from flask_hsmx_cluster.replication.database import Connection, connect, one
from flask_hsmx_cluster.replication.gateways import Gateways
from flask_hsmx_cluster.replication.prepare import make_roles
from flask_hsmx_cluster.replication.promotion import Fork
from flask_hsmx_cluster.replication.quarantine import Filter, QuarantinedRow, stream
from flask_hsmx_cluster.replication.rejoin import Rejoined, rejoin
from flask_hsmx_cluster.replication.scope import Scope, TableScope, mirror_trigger_sql
from flask_hsmx_cluster.replication.sequences import Sequences
from flask_hsmx_cluster.replication.verify import Result, verify
from sample_app.lab.postgres import PostgresServer

from .conftest import Pair

TABLES = """
CREATE TABLE voucher (
    id bigint PRIMARY KEY, code text UNIQUE, minutes int, used boolean NOT NULL DEFAULT false, photo text);
ALTER TABLE voucher ALTER photo SET STORAGE EXTERNAL;
CREATE TABLE room (building text, number int, guest uuid UNIQUE, PRIMARY KEY (building, number));
CREATE TABLE guest (id uuid PRIMARY KEY, name text, local_note text DEFAULT 'none');
CREATE TABLE stay (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, guest uuid REFERENCES guest, voucher bigint REFERENCES voucher,
    nights numrange, double_nights int GENERATED ALWAYS AS (id * 2) STORED);
CREATE TABLE setting (scope text, name text, value text, PRIMARY KEY (scope, name));
CREATE TABLE link (name text PRIMARY KEY, own_ip inet, peer_ip inet);
CREATE TABLE log (id bigint PRIMARY KEY, line text);
CREATE TABLE licence (id int PRIMARY KEY, text text);
"""
SCOPE = Scope((
    TableScope("public", "voucher", "shared"),
    TableScope("public", "room", "shared"),
    TableScope("public", "guest", "shared", columns=("id", "name")),
    TableScope("public", "stay", "shared"),
    TableScope("public", "setting", "shared", rows="scope = 'shared'", key=("scope", "name")),
    TableScope("public", "link", "shared", mirrored=(("own_ip", "peer_ip"),)),
    TableScope("public", "log", "bulk"),
    TableScope("public", "licence", "local"),
))  # fmt: skip


class Gateway:
    """One gateway's database."""

    def __init__(self, name: str, server: PostgresServer) -> None:
        self.name = name
        self.id = name * 32
        self.server = server
        self.connection = connect(server.dsn)

    def execute(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        self.connection.execute("SET search_path = public")  # as the host's own sessions have it
        try:
            cursor = self.connection.execute(statement.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []
        finally:
            self.connection.execute("RESET search_path")

    def restart(self) -> None:
        """Lose power, and come back."""
        self.connection.close()
        self.server.kill()
        self.server.start()
        self.connection = connect(self.server.dsn)

    def quarantine(self) -> tuple[QuarantinedRow, ...]:
        return tuple(stream(self.connection, Filter(), after=0, limit=500, longest=10_000_000))


class TwoGateways:
    """Gateway ``a`` is active, ``b`` follows it."""

    def __init__(self, pair: Pair, tables: str = TABLES, scope: Scope = SCOPE) -> None:
        self.a, self.b = Gateway("a", pair.a), Gateway("b", pair.b)
        self.scope = scope
        self.term = 1
        for own, other in ((self.a, self.b), (self.b, self.a)):
            own.execute(tables)
            make_roles(own.connection, [])
            schema.install(own.connection, own.id, other.id)
            channel.publish(own.connection, scope)
            for statement in mirror_trigger_sql(scope):
                own.connection.execute(statement.encode())
            channel.make_slots(own.connection, scope, other.id)
        channel.subscribe(self.b.connection, self.conninfo(self.a), scope, self.b.id)

    def close(self) -> None:
        self.a.connection.close()
        self.b.connection.close()

    @staticmethod
    def conninfo(gateway: Gateway) -> str:
        return make_conninfo(gateway.server.dsn)

    def settle(self, active: Gateway, passive: Gateway, most_s: float = 30) -> None:
        """Wait until everything written is applied."""
        position = one(active.connection, "SELECT pg_current_wal_insert_lsn()::text")
        wait_for(lambda: bool(one(
            active.connection,
            "SELECT count(*) = %s FROM pg_replication_slots WHERE slot_name = ANY(%s) AND active "
            "AND confirmed_flush_lsn >= %s::pg_lsn",
            len(channel.subscriptions(self.scope)),
            [channel.slot_of(name, passive.id) for name in channel.subscriptions(self.scope)], position,
        )), most_s, lambda: passive.server.log()[-3000:])  # fmt: skip

    def promote(self, new: Gateway, old: Gateway) -> Fork:
        """Let a gateway take over, whatever the other one does."""
        self.term += 1
        fork = promotion.promote(new.connection, Sequences(new.connection, self.scope), self.term, 1e9)
        promotion.settle(new.connection, self.scope, old.id)
        return fork

    def rejoin(self, own: Gateway, active: Gateway, fork: Fork, **parameters: Any) -> Rejoined:
        with connect(active.server.dsn) as peer:
            return rejoin(self.between(own, peer, active), self.scope, fork, **parameters)

    def between(self, own: Gateway, peer: Connection, active: Gateway) -> Gateways:
        return Gateways(
            own.connection, peer, lambda: connect(own.server.dsn),
            lambda **parameters: connect(active.server.dsn, **parameters), self.conninfo(active), own.id, active.id,
        )  # fmt: skip

    def verify(self, active: Gateway, passive: Gateway, **parameters: Any) -> Result:
        with connect(active.server.dsn) as one_side, connect(passive.server.dsn) as other_side:
            return verify(one_side, other_side, self.scope, passive.id, **parameters)


def wait_for(condition: Callable[[], bool], most_s: float = 30, why: Callable[[], str] = str) -> None:
    deadline = time.monotonic() + most_s
    while not condition():
        assert time.monotonic() < deadline, why()
        time.sleep(0.01)
