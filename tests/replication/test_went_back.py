"""An active gateway that went back in time is not followed on as if nothing had been; on real servers (rule 6)."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from flask_hsmx_cluster.replication import channel, rejoin
from flask_hsmx_cluster.replication.database import DatabaseFailure, connect, one
from flask_hsmx_cluster.replication.pace import Pace
from flask_hsmx_cluster.replication.replicator import Replicator
from flask_hsmx_cluster.replication.setup import Peer, Setup

from .conftest import Pair
from .gateways import TwoGateways, wait_for


@pytest.fixture
def two(pair: Pair) -> Iterator[TwoGateways]:
    two = TwoGateways(pair)
    yield two
    two.close()


def revert(two: TwoGateways) -> None:
    """Gateway ``a`` loses what ``b`` has had of it since its disk was copied, and writes something else."""
    data = two.a.server.data
    saved = data.with_name("saved")
    two.a.connection.close()
    two.a.server.stop()
    subprocess.run(["cp", "-a", data, saved], check=True)
    two.a.server.start()
    two.a.connection = connect(two.a.server.dsn)
    two.a.execute("INSERT INTO voucher SELECT n, 'lost ' || n, n, false, repeat('p', 5000) FROM "
                  "generate_series(1, 500) AS n")  # fmt: skip
    two.a.execute("INSERT INTO log VALUES (1, 'lost')")
    two.settle(two.a, two.b)
    two.a.connection.close()
    two.a.server.kill()
    subprocess.run(["rm", "-r", data], check=True)
    saved.rename(data)
    two.a.server.start()
    two.a.connection = connect(two.a.server.dsn)
    two.a.execute("INSERT INTO voucher VALUES (1000, 'new')")


def test_who_went_back_in_time_is_compared_with(two: TwoGateways, monkeypatch: pytest.MonkeyPatch) -> None:
    revert(two)
    fork = two.promote(two.a, two.b)
    wait_for(lambda: bool(one(two.a.connection, "SELECT count(*) FROM pg_stat_replication WHERE replay_lsn IS NOT NULL "
                              "AND application_name = 'hsmx_cluster' AND state = 'streaming'")))  # fmt: skip
    replicator = Replicator()
    replicator._setup = Setup(two.a.server.dsn, two.a.id, Peer(two.b.id, (), 0, "", "", "1234", "", ""), two.scope)
    assert not any(replicator.watch.look()["caught_up"] for _ in range(3)), "its commits would wait for nothing"
    replicator.close()

    Pace(lambda: connect(two.b.server.dsn), lambda: connect(two.a.server.dsn), lambda: [], lambda: two.a.id)._run()
    assert not any(stream.enabled for stream in channel.streams(two.b.connection))

    def interrupted(_self: Any) -> None:
        raise DatabaseFailure("the power fails")

    with monkeypatch.context() as patch, pytest.raises(DatabaseFailure, match="the power fails"):
        patch.setattr(rejoin.Replacement, "apply", interrupted)
        two.rejoin(two.b, two.a, fork)
    two.a.execute("SELECT pg_switch_wal()")  # from now on the position alone tells nothing
    two.a.execute("INSERT INTO log VALUES (2, 'new')")
    assert set(two.rejoin(two.b, two.a, fork).ways.values()) == {"compare"}
    assert len(two.b.quarantine()) == 500 and two.b.execute("SELECT FROM hsmx_cluster.dirty_key") == []
    two.settle(two.a, two.b)
    assert two.verify(two.a, two.b).equal
    two.a.execute("INSERT INTO voucher VALUES (1001, 'later'); INSERT INTO log VALUES (3, 'later')")
    two.settle(two.a, two.b)
    assert two.verify(two.a, two.b).equal
