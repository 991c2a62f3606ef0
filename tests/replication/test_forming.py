"""A gateway that joins with data of its own, on real servers."""

from __future__ import annotations

import pytest

from flask_hsmx_cluster.replication import aside, channel, forming
from flask_hsmx_cluster.replication.database import DatabaseFailure, connect, one
from flask_hsmx_cluster.replication.following import Progress

from .conftest import Pair
from .gateways import TwoGateways


def kept(two: TwoGateways, schema: str) -> list[int]:
    return [row[0] for row in two.b.execute(f'SELECT id FROM {schema}."public.voucher" WHERE id >= 50 ORDER BY id')]


def test_a_gateways_own_data_is_kept_aside_each_time_that_it_joins(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it had written between two clusters was cleared: there was a schema aside already, of the first one."""
    two = TwoGateways(pair)
    two.a.execute("INSERT INTO voucher VALUES (1)")

    def join() -> None:
        with connect(two.a.server.dsn) as peer:
            forming.first_copy(two.between(two.b, peer, two.a), two.scope, "7", Progress())

    two.b.execute("INSERT INTO voucher VALUES (50)")
    join()
    assert kept(two, aside.ASIDE) == [50]
    two.b.execute("DELETE FROM voucher; INSERT INTO voucher VALUES (60)")

    def interrupted(*_arguments: object, **_more: object) -> None:
        raise DatabaseFailure("the power fails")

    with monkeypatch.context() as patch, pytest.raises(DatabaseFailure, match="the power fails"):
        patch.setattr(channel, "subscribe", interrupted)
        join()
    join()
    assert kept(two, aside.ASIDE) == [60]
    ((former,),) = two.b.execute("SELECT nspname FROM pg_namespace WHERE nspname ~ '^hsmx_cluster_aside_'")
    assert kept(two, former) == [50]
    assert two.b.execute("SELECT id FROM voucher") == [(1,)]
    two.close()


def test_two_are_begun_within_a_second(pair: Pair) -> None:
    with connect(pair.a.dsn) as connection:
        for _ in range(3):
            with connection.transaction():
                aside.begin_anew(connection)
                aside.keep(connection, "pg_catalog", "pg_am")
        assert [one.current for one in aside.sets(connection)] == [True, False, False]


def test_tables_with_long_names_are_kept_each_for_itself(pair: Pair) -> None:
    """PostgreSQL cut their names: the second copy took the place of the first."""
    schema, names = "s" * 40, [f"{'ü' * 30}{number}" for number in (1, 2)]
    with connect(pair.a.dsn) as connection, connection.transaction():
        connection.execute(f"CREATE SCHEMA {schema}".encode())
        for name in names:
            connection.execute(f"CREATE TABLE {schema}.{name} AS SELECT '{name}' AS name".encode())
            aside.keep(connection, schema, name)
            aside.keep(connection, schema, name, aside.now(connection))
        kept = connection.execute(
            "SELECT format('%%I.%%I', n.nspname, relname), obj_description(c.oid) FROM pg_class c "
            "JOIN pg_namespace n ON n.oid = relnamespace WHERE n.nspname = %s", (aside.ASIDE,)).fetchall()
        assert len(kept) == 4
        for copy, whole in kept:
            assert whole == f"{schema}.{one(connection, f'SELECT name FROM {copy}')}"
