"""Promotion, demotion and the channel between two databases, against real servers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial

import psycopg
import pytest

from flask_hsmx_cluster.replication import promotion, synchrony
from flask_hsmx_cluster.replication.database import connect
from flask_hsmx_cluster.replication.names import FOLLOWING, SUBSCRIPTION

from .conftest import Pair
from .side import Side, wait_until
from .tables import NUMBERED, client, contents, rows, two_sides


@pytest.fixture
def sides(pair: Pair) -> Iterator[tuple[Side, Side]]:
    """Two databases, both passive."""
    with two_sides(pair) as sides:
        yield sides


@pytest.fixture
def following(sides: tuple[Side, Side]) -> tuple[Side, Side]:
    """An active database and one that follows it."""
    a, b = sides
    a.promote(1)
    b.follow(a)
    return sides


# Promotion -----------------------------------------------------------------------------------------------------------


def draw(side: Side, times: int = 5) -> dict[str, set[int]]:
    """Insert rows into every numbered table and return the numbers given to them."""
    with client(side) as connection:
        def number(name: str) -> int:
            found = connection.execute(f"INSERT INTO {name} (v) VALUES ('x') RETURNING id".encode()).fetchone()
            assert found is not None
            return int(found[0])

        return {name: {number(name) for _ in range(times)} for name in ("t", *NUMBERED)}


def assert_disjoint(*drawn: dict[str, set[int]]) -> None:
    for name in drawn[0]:
        together = [number for each in drawn for number in each[name]]
        assert len(together) == len(set(together)), name


def test_the_peer_of_a_frozen_gateway_is_promoted_and_no_number_is_used_twice(following: tuple[Side, Side]) -> None:
    a, b = following
    first = draw(a)
    a.tend_active()
    b.wait_for(a)
    b.tend_passive()
    # Drawn, perhaps written, and never seen by the other gateway: such numbers are not given again either.
    b.connection.execute("ALTER SUBSCRIPTION hsmx_cluster DISABLE")
    unseen = draw(a)
    a.server.freeze()
    fork = b.promote(2)
    assert fork.term == 2 and fork.lsn != "0/0"
    assert rows(b, "SELECT term, fork_lsn::text FROM hsmx_cluster.node") == [(2, fork.lsn)]
    assert_disjoint(first, unseen, draw(b))


def test_the_slots_begin_where_the_reign_began_although_the_promotion_did_not_wait_for_the_disk(
    following: tuple[Side, Side],
) -> None:
    """What came before from the other gateway would count as changed on both, and need a person."""
    a, b = following
    a.connection.execute("INSERT INTO t (v) VALUES ('told')")
    b.wait_for(a)
    b.connection.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
    b.connection.execute("SELECT pg_reload_conf()")
    fork = b.promote(2)
    assert promotion.settle(b.connection, b.scope, b.peer_id)
    behind = "SELECT slot_name FROM pg_replication_slots WHERE confirmed_flush_lsn < %s::pg_lsn"
    assert not b.connection.execute(behind.encode(), (fork.own_lsn,)).fetchall()


def test_numbers_that_came_before_any_were_told_are_not_used_twice(following: tuple[Side, Side]) -> None:
    a, b = following
    first = draw(a)
    b.wait_for(a)
    a.server.freeze()
    b.promote(2)
    assert_disjoint(first, draw(b))


@pytest.mark.parametrize("statement", ["INSERT INTO local (v) VALUES ('open')", "LOCK TABLE local", "LOCK TABLE t",
                                       "LOCK TABLE n7 IN SHARE MODE"])
def test_an_open_transaction_does_not_hold_up_a_promotion(following: tuple[Side, Side], statement: str) -> None:
    a, b = following
    first = draw(a)
    a.tend_active()
    b.wait_for(a)
    b.tend_passive()
    with client(b, autocommit=False) as open_one:
        open_one.execute(statement.encode())
        b.promote(2)
        assert rows(b, "SELECT hsmx_cluster.writable()") == [(True,)]
        open_one.commit()
    assert_disjoint(first, draw(b))


def test_changes_that_cannot_be_applied_do_not_hold_up_a_promotion(following: tuple[Side, Side]) -> None:
    a, b = following
    first = draw(a)
    a.tend_active()
    b.wait_for(a)
    b.tend_passive()
    with client(b, autocommit=False) as holder:
        holder.execute("LOCK TABLE t IN SHARE MODE")
        unseen = draw(a, times=50)
        wait_until(lambda: rows(b, "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
                                   "AND backend_type = 'logical replication worker'"))
        b.promote(2)
    second = draw(b)
    assert_disjoint(first, unseen, second)
    assert {number for (number,) in rows(b, "SELECT id FROM t")} == first["t"] | second["t"]


def test_nothing_that_comes_after_a_promotion_is_applied(following: tuple[Side, Side]) -> None:
    """The promotion does not wait for the end of an apply worker that is idle: it must not begin anything more."""
    a, b = following
    first = draw(a)
    b.wait_for(a)
    b.promote(2)
    draw(a)
    wait_until(lambda: not rows(b, "SELECT 1 FROM pg_stat_activity WHERE backend_type ~ 'logical replication w'"))
    assert {number for (number,) in rows(b, "SELECT id FROM t")} == first["t"]


def test_a_rejoin_that_is_under_way_ends_with_a_promotion(following: tuple[Side, Side]) -> None:
    """It went on, put the other gateway's rows over what had been written since, and followed again."""
    a, b = following
    draw(a)
    b.wait_for(a)
    with connect(b.server.dsn, FOLLOWING) as rejoin:
        rejoin.execute("BEGIN; SET LOCAL session_replication_role = replica; UPDATE public.t SET v = 'old'")
        b.promote(2)
        with pytest.raises(psycopg.OperationalError):
            rejoin.execute("COMMIT")
    assert "old" not in {v for (v,) in rows(b, "SELECT v FROM t")}


def test_a_promotion_can_be_repeated(following: tuple[Side, Side]) -> None:
    a, b = following
    draw(a)
    b.wait_for(a)
    fork = b.promote(2)
    assert b.promote(2).lsn == fork.lsn
    b.tend_active()
    kept = rows(b, f"SELECT term, fork_lsn FROM hsmx_cluster.node WHERE fork_lsn >= '{fork.lsn}'::pg_lsn")
    b.tend_active()
    b.promote(2)
    assert kept and rows(b, "SELECT term, fork_lsn FROM hsmx_cluster.node") == kept


def test_what_was_written_before_a_promotion_was_repeated_reaches_the_other_gateway(
    following: tuple[Side, Side],
) -> None:
    """The slot for the other gateway began at the second promotion, if that came before the first one was settled."""
    a, b = following
    draw(a)
    b.wait_for(a)
    b.promote(2)
    began = rows(b, "SELECT own_lsn FROM hsmx_cluster.node")
    draw(b)
    b.promote(2)
    b.tend_active()
    assert rows(b, "SELECT own_lsn FROM hsmx_cluster.node") == began
    assert rows(b, "SELECT confirmed_flush_lsn <= own_lsn FROM pg_replication_slots, hsmx_cluster.node "
                   f"WHERE slot_name = '{b.slot}'") == [(True,)]  # fmt: skip


def test_a_promotion_finds_its_statements_planned_and_leaves_them_so(following: tuple[Side, Side]) -> None:
    a, b = following
    draw(a)
    b.wait_for(a)
    for _ in range(2):
        b.tend_passive()
    planned = "SELECT statement, prepare_time FROM pg_prepared_statements WHERE statement ~ 'count.setval'"
    before = b.promoter.execute(planned).fetchall()
    b.promote(2)
    assert before and b.promoter.execute(planned).fetchall() == before


# Demotion ------------------------------------------------------------------------------------------------------------


def test_a_demotion_ends_open_transactions_and_nothing_of_them_stays(following: tuple[Side, Side]) -> None:
    a, _ = following
    with client(a, autocommit=False) as open_one:
        open_one.execute("INSERT INTO t (v) VALUES ('open')")
        assert not promotion.demote(a.connection, 0)
        with pytest.raises(psycopg.OperationalError):
            open_one.commit()
    assert rows(a, "SELECT v FROM t") == []


def commit_in_background(side: Side, outcome: list[object]) -> threading.Thread:
    """Write a shared row; what the client is told goes to ``outcome``."""
    def run() -> None:
        try:
            with client(side) as connection:
                connection.execute("INSERT INTO t (v) VALUES ('waits')")
            outcome.append("acknowledged")
        except psycopg.Error as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.parametrize("patience_s", [0, 0.05])
def test_a_demotion_acknowledges_nothing_that_waits_for_a_dead_peer(
    following: tuple[Side, Side], patience_s: float
) -> None:
    a, b = following
    a.be_synchronous()
    b.server.kill()
    outcomes: list[object] = []
    waiting = [commit_in_background(a, outcomes) for _ in range(4)]
    wait_until(lambda: len(rows(a, "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'")) == len(waiting))
    assert not promotion.demote(a.connection, patience_s)
    for thread in waiting:
        thread.join()
    assert [outcome for outcome in outcomes if not isinstance(outcome, psycopg.OperationalError)] == []
    assert synchrony.name(a.connection) == ""


def test_a_demotion_right_after_the_synchronous_name_was_set_clears_it(following: tuple[Side, Side]) -> None:
    a, _ = following
    for term in range(2, 12):
        synchrony.set_name(a.connection, SUBSCRIPTION)
        promotion.demote(a.connection, 0)
        a.connection.execute("SELECT pg_reload_conf()")
        with a.server.connect() as fresh:
            assert fresh.execute("SELECT setting FROM pg_file_settings WHERE name = 'synchronous_standby_names' "
                                 "ORDER BY seqno DESC LIMIT 1").fetchall() == [("",)]
        a.promote(term)


def test_only_the_active_gateway_has_a_synchronous_name(following: tuple[Side, Side]) -> None:
    a, b = following
    a.be_synchronous()
    assert synchrony.name(b.connection) == ""
    draw(a)
    turn_round(a, b, 2)
    assert synchrony.name(a.connection) == ""
    b.be_synchronous()
    draw(b)
    assert synchrony.name(a.connection) == ""


# Together ------------------------------------------------------------------------------------------------------------


def turn_round(active: Side, passive: Side, term: int) -> None:
    """Hand over, as an operator asks for it."""
    passive.tend_passive()
    assert promotion.demote(active.connection, 5)
    passive.wait_for(active)
    passive.promote(term)
    passive.tend_active()
    active.follow(passive)


def test_contents_are_equal_after_each_turn_round(following: tuple[Side, Side]) -> None:
    active, passive = following
    drawn = []
    for term in range(2, 8):
        active.be_synchronous()
        drawn.append(draw(active, times=2))
        with client(active) as connection:
            connection.execute("INSERT INTO bulk VALUES (%s, 'x')", (term,))
            connection.execute("INSERT INTO part VALUES (%s, 'x')", (term,))
            connection.execute("UPDATE t SET v = %s", (str(term),))
            connection.execute("DELETE FROM t WHERE id = (SELECT min(id) FROM t)")
        active.tend_active()
        passive.wait_for(active)
        wait_until(partial(rows, passive, f"SELECT 1 FROM bulk WHERE id = {term}"))
        assert contents(active) == contents(passive)
        turn_round(active, passive, term)
        active, passive = passive, active
        assert contents(active) == contents(passive)
    assert_disjoint(*drawn)


def test_truncate_travels_only_where_all_rows_are_shared(following: tuple[Side, Side]) -> None:
    a, b = following
    for side in (a, b):
        with client(side) as connection:
            connection.execute("INSERT INTO some_rows VALUES ('own', 1, %s)", (side.node_id,))
    with client(a) as connection:
        connection.execute("INSERT INTO some_rows VALUES ('shared', 1, 'x'); INSERT INTO t (v) VALUES ('x')")
        connection.execute("TRUNCATE t, some_rows")
        connection.execute("INSERT INTO some_rows VALUES ('shared', 2, 'after')")
    b.wait_for(a)
    assert rows(b, "SELECT * FROM t") == []
    assert rows(b, "SELECT * FROM some_rows ORDER BY 1, 2") == [
        ("own", 1, b.node_id), ("shared", 1, "x"), ("shared", 2, "after")]


def test_mirrored_columns_arrive_swapped_in_both_directions(following: tuple[Side, Side]) -> None:
    a, b = following
    with client(a) as connection:
        connection.execute("INSERT INTO mirror VALUES (1, 'of a', 'of b')")
        connection.execute("UPDATE mirror SET own = 'new of a'")
    b.wait_for(a)
    assert rows(b, "SELECT own, peer FROM mirror") == [("of b", "new of a")]
    turn_round(a, b, 2)
    with client(b) as connection:
        connection.execute("UPDATE mirror SET own = 'new of b'")
    a.wait_for(b)
    assert rows(a, "SELECT own, peer FROM mirror") == [("new of a", "new of b")]


def test_what_is_local_stays(following: tuple[Side, Side]) -> None:
    a, b = following
    with client(a) as connection:
        connection.execute("INSERT INTO some_columns VALUES (1, 'name', 7); INSERT INTO local (v) VALUES ('x')")
        connection.execute("INSERT INTO some_rows VALUES ('own', 1, 'x')")
    b.wait_for(a)
    assert rows(b, "SELECT * FROM some_columns") == [(1, "name", None)]
    assert rows(b, "SELECT * FROM local") == rows(b, "SELECT * FROM some_rows") == []
