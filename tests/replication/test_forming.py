"""A gateway that joins with data of its own, on real servers."""

from __future__ import annotations

import pytest

from flask_hsmx_cluster.replication import channel, forming
from flask_hsmx_cluster.replication.database import DatabaseFailure, connect
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
    assert kept(two, forming.ASIDE) == [50]
    two.b.execute("DELETE FROM voucher; INSERT INTO voucher VALUES (60)")

    def interrupted(*_arguments: object, **_more: object) -> None:
        raise DatabaseFailure("the power fails")

    with monkeypatch.context() as patch, pytest.raises(DatabaseFailure, match="the power fails"):
        patch.setattr(channel, "subscribe", interrupted)
        join()
    join()
    assert kept(two, forming.ASIDE) == [60]
    ((former,),) = two.b.execute("SELECT nspname FROM pg_namespace WHERE nspname ~ '^hsmx_cluster_aside_'")
    assert kept(two, former) == [50]
    assert two.b.execute("SELECT id FROM voucher") == [(1,)]
    two.close()
