"""Many quarantined rows at once, and what was put aside; on real servers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from flask_hsmx_cluster.agent.data import sweep as sweeping
from flask_hsmx_cluster.agent.data.sweep import Hands, Sweep
from flask_hsmx_cluster.errors import RequestRefused
from flask_hsmx_cluster.replication import aside, keeper, reapply
from flask_hsmx_cluster.replication.database import DatabaseFailure, connect
from flask_hsmx_cluster.replication.keeper import Keeper
from flask_hsmx_cluster.replication.setup import Setup

from ..waiting import within
from .conftest import Pair
from .gateways import Gateway, TwoGateways
from .test_rejoin import G1, G3, LOST, filled, part, together

ALL: dict[str, Any] = {"table": "", "batch": "", "ids": [], "upto": 2**62}
WITHIN_S = 60


@pytest.fixture
def two(pair: Pair) -> Iterator[TwoGateways]:
    two = TwoGateways(pair)
    yield filled(two)
    two.close()


class Work:
    """The quarantine of gateway ``a`` and the active gateway ``b``; their agents' part is a sweep."""

    def __init__(self, two: TwoGateways, lost: str, written: str = "") -> None:
        self.two = two
        two.rejoin(two.a, two.b, part(two, lost, written))
        self.own, self.active = self._keeper(two.a, two.b), self._keeper(two.b, two.a)
        self.ended: list[dict[str, Any]] = []
        verbs = {"quarantine_count": self.own.count, "quarantine_ids": self.own.ids, "mark": self.own.mark}
        self.sweep = Sweep(Hands(
            lambda verb, **arguments: verbs[verb](**arguments),  # type: ignore[operator]
            lambda ids: self.active.make_some(ids, there=True), self.ended.append))

    def _keeper(self, gateway: Gateway, other: Gateway) -> Keeper:
        setup = Setup(gateway.server.dsn, gateway.id, None, self.two.scope)
        return Keeper(lambda: gateway.connection, lambda: setup, lambda: connect(other.server.dsn))

    def do(self, action: str, **only: Any) -> dict[str, Any]:
        """Do it, and return what came of it."""
        self.sweep.begin(action, {**ALL, **only})
        assert within(WITHIN_S, lambda: not self.sweep.state()["under_way"])
        return self.ended[-1]

    def states(self) -> dict[str, int]:
        return dict(self.two.a.execute(
            "SELECT state, count(*)::int FROM hsmx_cluster.quarantine WHERE schema_name = 'public' GROUP BY 1"))


def test_everything_is_made_again_and_what_refers_to_later_rows_in_a_further_pass(two: TwoGateways) -> None:
    work = Work(two, LOST)
    two.a.execute("UPDATE hsmx_cluster.quarantine SET id = DEFAULT WHERE table_name = 'guest' AND operation = 'insert'")
    found = work.do("reapply")
    assert (found["total"], found["done"], found["unfit"], found["reasons"], found["error"]) == (13, 13, 0, [], "")
    assert work.states() == {"reapplied": 13}
    assert two.b.execute("SELECT code FROM voucher WHERE id = 101") == [("lost",)]
    assert two.b.execute("SELECT guest::text FROM room WHERE number = 2") == [(G1,)]
    together(two)


def test_what_does_not_fit_is_left_and_said_and_nothing_is_overwritten(two: TwoGateways) -> None:
    work = Work(
        two, f"UPDATE voucher SET minutes = 999 WHERE id IN (1, 2);\nINSERT INTO voucher VALUES (101, 'taken');\n"
             f"INSERT INTO guest VALUES ('{G3}', 'Cyn');\nTRUNCATE log;\nINSERT INTO voucher VALUES (102, 'fits')",
        "UPDATE voucher SET minutes = 5 WHERE id = 1;\nINSERT INTO voucher VALUES (201, 'taken')")
    found = work.do("reapply")
    assert (found["done"], found["unfit"], found["stopped"]) == (3, 3, False)
    assert {one["kind"]: one["rows"] for one in found["reasons"]} == {"changed": 1, "unique": 1, "refused": 1}
    assert any("voucher 1 was changed on the active gateway, too" in one["example"] for one in found["reasons"])
    assert work.states() == {"kept": 3, "reapplied": 3}
    assert two.b.execute("SELECT minutes FROM voucher WHERE id IN (1, 2) ORDER BY id") == [(5,), (999,)]


def test_one_table_or_one_rejoin_and_no_row_that_came_after_it_was_looked_at(two: TwoGateways) -> None:
    work = Work(two, LOST)
    page = work.own.page(0, 50, {})
    assert [(one["batch"], one["rows"]) for one in page["batches"]] == [(page["rows"][0]["batch"], 13)]
    newest = page["newest"]
    two.a.execute("INSERT INTO hsmx_cluster.quarantine (batch, source_node, term, xid, end_lsn, committed_at, "
                  "schema_name, table_name, operation, key) SELECT gen_random_uuid(), %s, 1, 1, '0/1', now(), "
                  "'public', 'voucher', 'delete', '{\"id\": \"7\"}'", two.a.id)
    assert work.do("discard", table="public.voucher", upto=newest)["done"] == 4
    assert work.do("discard", batch=page["batches"][0]["batch"])["done"] == 9
    assert work.states() == {"discarded": 13, "kept": 1}
    assert work.do("restore", table="public.room")["done"] == 3
    assert work.do("discard", ids=[page["rows"][0]["id"], newest + 1])["done"] == 1
    assert work.states() == {"discarded": 11, "kept": 3}
    with pytest.raises(RequestRefused, match="no such row"):
        work.sweep.begin("restore", {**ALL, "table": "public.none"})


def test_many_rows_are_worked_on_in_batches_one_sweep_at_a_time_and_stopped(
    two: TwoGateways, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work(two, "INSERT INTO voucher VALUES (101, 'lost')")
    two.a.execute("INSERT INTO hsmx_cluster.quarantine (batch, source_node, term, xid, end_lsn, committed_at, "
                  "schema_name, table_name, operation, key) SELECT gen_random_uuid(), %s, 1, n, '0/1', now(), "
                  "'public', 'log', 'delete', jsonb_build_object('id', n::text) FROM generate_series(1, 9999) n",
                  two.a.id)
    monkeypatch.setattr(sweeping, "PROMPT_S", 0.0)
    monkeypatch.setattr(sweeping, "MARK_ROWS", 900)
    mark, sizes = work.own.mark, []

    def counted(ids: list[int], before: Any, after: Any) -> dict[str, Any]:
        sizes.append(len(ids))
        if len(sizes) == 3:
            with pytest.raises(RequestRefused, match="being worked on already"):
                work.sweep.begin("discard", ALL)
            work.sweep._stopping.set()
        return mark(ids, before, after)

    hands = work.sweep._hands
    work.sweep._hands = Hands(
        lambda verb, **more: counted(**more) if verb == "mark" else hands.ask(verb, **more), hands.make, hands.ended)
    found = work.do("discard")
    assert found["stopped"] and found["done"] == sum(sizes) == 3 * sweeping.MARK_ROWS and found["total"] == 10_000
    work.sweep._hands = hands
    assert work.do("discard")["done"] == 10_000 - 3 * sweeping.MARK_ROWS
    assert work.states() == {"discarded": 10_000}


def test_a_gateway_that_may_not_write_ends_it_and_it_can_be_begun_again(
    two: TwoGateways, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that the host's trigger refuses is no reason to end; that nothing can be written is."""
    monkeypatch.setattr(sweeping, "RETRY_S", 0.0)
    work = Work(two, "INSERT INTO voucher VALUES (101, 'never');\nINSERT INTO voucher VALUES (102, 'lost')")
    two.b.execute("CREATE FUNCTION never() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN "
                  "IF NEW.code = ''never'' THEN RAISE EXCEPTION ''not that one''; END IF; RETURN NEW; END'; "
                  "CREATE TRIGGER never BEFORE INSERT ON voucher FOR EACH ROW EXECUTE FUNCTION never()")
    two.b.execute("ALTER FUNCTION hsmx_cluster.writable() RENAME TO was_writable; "
                  "CREATE FUNCTION hsmx_cluster.writable() RETURNS boolean RETURN false")
    found = work.do("reapply")
    assert "not that one" in found["error"] and found["done"] == 0 and work.states() == {"kept": 2}
    two.b.execute("DROP FUNCTION hsmx_cluster.writable(); "
                  "ALTER FUNCTION hsmx_cluster.was_writable() RENAME TO writable")
    found = work.do("reapply")
    assert (found["done"], found["unfit"], found["error"]) == (1, 1, "")
    assert [one["kind"] for one in found["reasons"]] == ["database"]


def test_an_answer_is_given_in_time_whatever_it_was_asked_for(
    two: TwoGateways, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "MAKE_S", 0.0)
    work = Work(two, "INSERT INTO voucher VALUES (101, 'a');\nINSERT INTO voucher VALUES (102, 'b')")
    ids = work.own.ids(0, 10, **ALL, state="kept")["ids"]
    assert work.active.make_some(ids, there=True) == {"made": ids[:1], "unfit": []}
    assert work.do("reapply")["done"] == 2


def test_what_happened_to_a_row_before_is_found_by_an_index(two: TwoGateways) -> None:
    """Each row that was made again read the whole quarantine: ten thousand rows, a hundred million times."""
    two.a.execute("INSERT INTO hsmx_cluster.quarantine (batch, source_node, term, xid, end_lsn, committed_at, "
                  "schema_name, table_name, operation, key, new_row) SELECT gen_random_uuid(), 'a', 1, n, '0/1', now(),"
                  " 'public', 'log', 'insert', jsonb_build_object('id', n::text), jsonb_build_object('id', n::text) "
                  "FROM generate_series(1, 20000) n")
    two.a.execute("ANALYZE hsmx_cluster.quarantine")
    wanted = {"key": '{"id": "5"}', "id": 20000, "batch": "0" * 32, "schema": "public", "table": "log"}
    plan = two.a.connection.execute(b"EXPLAIN " + reapply._EARLIER, wanted).fetchall()
    assert "Seq Scan" not in "\n".join(line for (line,) in plan)


# Aside


def test_what_was_put_aside_is_listed_with_its_size_and_deleted_as_a_whole(two: TwoGateways) -> None:
    work = Work(two, "")
    own = two.a.connection
    assert work.own.aside()["sets"] == []
    with own.transaction():
        for name in ("voucher", "guest"):
            aside.keep(own, "public", name)
    two.a.execute("CREATE SCHEMA hsmx_cluster_aside_20300506070809; CREATE SCHEMA hsmx_cluster_aside_of_mine")
    found = work.own.aside()
    first, former = found["sets"]
    assert found["database"] == two.a.server.database
    assert (first["name"], first["current"], first["tables"], first["rows"]) == (aside.ASIDE, True, 2, 52)
    assert first["kept_at"].endswith("+00:00") and first["bytes"] >= 16_384
    assert {(one["table"], one["copy"], one["rows"]) for one in first["listed"]} == {
        ("public.voucher", "public.voucher", 50), ("public.guest", "public.guest", 2)}
    assert (former["name"], former["current"], former["tables"]) == ("hsmx_cluster_aside_20300506070809", False, 0)
    for name in ("public", "hsmx_cluster", "hsmx_cluster_aside_of_mine", "hsmx_cluster_aside'; --", ""):
        with pytest.raises(RequestRefused, match="nothing put aside by that name"):
            work.own.drop_aside(name)
    assert work.own.drop_aside(former["name"])["tables"] == 0
    two.a.execute('CREATE VIEW public.made_of_it AS SELECT * FROM hsmx_cluster_aside."public.guest"')
    with pytest.raises(DatabaseFailure, match="other objects depend"):
        work.own.drop_aside(aside.ASIDE)
    two.a.execute("DROP VIEW public.made_of_it; UPDATE hsmx_cluster.node SET copying = true")
    with pytest.raises(RequestRefused, match="first copy is under way"):
        work.own.drop_aside(aside.ASIDE)
    two.a.execute("UPDATE hsmx_cluster.node SET copying = false")
    assert work.own.drop_aside(aside.ASIDE)["rows"] == 52
    assert work.own.aside()["sets"] == []
    assert two.a.execute("SELECT count(*) FROM voucher") == [(50,)]
