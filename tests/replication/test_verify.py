"""Verify: equal is said of what is equal, and each row that is not is found, while writes go on."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from flask_hsmx_cluster.errors import ClusterError
from flask_hsmx_cluster.replication import verify as verify_module
from flask_hsmx_cluster.replication.scope import Scope, TableScope
from flask_hsmx_cluster.replication.verify import Progress

from .conftest import Pair
from .gateways import TwoGateways
from .test_rejoin import G1, filled


@pytest.fixture
def two(pair: Pair) -> Iterator[TwoGateways]:
    two = TwoGateways(pair)
    yield filled(two)
    two.close()


@pytest.mark.parametrize("chunk", [1, 7, 50, 10_000])
def test_equal_whatever_the_chunks(two: TwoGateways, chunk: int) -> None:
    seen: list[Progress] = []
    result = two.verify(two.a, two.b, chunk=chunk, progress=seen.append)
    assert result.equal and {table.table for table in result.tables} == {
        "voucher", "room", "guest", "stay", "setting", "link", "log", "hsmx_cluster.incarnation",
        "hsmx_cluster.sequence_position"}  # fmt: skip
    assert {table.table: table.rows for table in result.tables}["voucher"] == 50
    assert seen[-1].tables_done == len(result.tables) - 1
    assert all(each.rows <= each.expected and each.all_rows <= each.all_expected for each in seen)
    assert [each.all_rows for each in seen] == sorted(each.all_rows for each in seen)
    assert seen[-1].all_rows == seen[-1].all_expected == sum(table.rows for table in result.tables)


@pytest.mark.parametrize("chunk", [1, 7, 10_000])
def test_each_difference_is_found(two: TwoGateways, chunk: int) -> None:
    two.b.execute(f"""
        SET session_replication_role = replica;
        UPDATE voucher SET used = true WHERE id = 9; DELETE FROM voucher WHERE id = 50;
        INSERT INTO voucher VALUES (0, 'x'), (99, NULL); UPDATE room SET guest = NULL WHERE number = 2;
        UPDATE guest SET local_note = 'other'; UPDATE guest SET name = NULL WHERE id = '{G1}';
        UPDATE setting SET value = 'x' WHERE scope = 'own'; UPDATE link SET own_ip = '10.9.9.9';
        SET session_replication_role = origin""")
    result = two.verify(two.a, two.b, chunk=chunk)
    found = {table.table: table.differing for table in result.tables if not table.equal}
    assert found == {
        "voucher": (("0",), ("50",), ("9",), ("99",)), "room": (("north", "2"),), "guest": ((G1,),),
        "link": (("sync",),)}  # fmt: skip
    assert not result.equal


def test_many_differences_are_bounded(two: TwoGateways, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify_module, "MOST_KEYS", 10)
    two.b.execute("UPDATE voucher SET minutes = -1")
    (voucher,) = (table for table in two.verify(two.a, two.b, chunk=20).tables if table.table == "voucher")
    assert len(voucher.differing) == 10 and voucher.incomplete and not voucher.equal


def test_writes_that_are_under_way_are_no_difference(two: TwoGateways) -> None:
    ended = threading.Event()

    def write() -> None:
        with two.a.server.connect() as connection:
            number = 0
            while not ended.is_set():
                number += 1
                connection.execute("UPDATE voucher SET minutes = %s WHERE id = %s", (number, number % 50 + 1))
                connection.execute("INSERT INTO log VALUES (%s, 'x')", (1000 + number,))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(5):
            result = two.verify(two.a, two.b, chunk=10)
            assert all(not table.differing for table in result.tables), result
        two.b.execute("UPDATE guest SET name = 'wrong'")
        result = two.verify(two.a, two.b, chunk=10)
        assert [table.table for table in result.tables if table.differing] == ["guest"]
    finally:
        ended.set()
        writer.join()
    two.settle(two.a, two.b)


def test_a_passive_gateway_that_lags_is_waited_for(two: TwoGateways) -> None:
    with two.b.server.connect() as other:
        other.execute("BEGIN; LOCK TABLE log IN EXCLUSIVE MODE")
        two.a.execute("INSERT INTO log VALUES (1000, 'x')")
        release = threading.Timer(0.7, lambda: other.execute("COMMIT"))
        release.start()
        assert two.verify(two.a, two.b).equal
        release.join()


def test_a_table_without_key_is_compared_as_a_whole(pair: Pair) -> None:
    scope = Scope((TableScope("public", "note", "shared"),))
    two = TwoGateways(pair, "CREATE TABLE note (line text); ALTER TABLE note REPLICA IDENTITY FULL", scope)
    two.a.execute("INSERT INTO note VALUES ('a'), ('a'), (NULL)")
    two.settle(two.a, two.b)
    assert two.verify(two.a, two.b).equal
    two.b.execute("INSERT INTO note VALUES ('a')")
    (note,) = (table for table in two.verify(two.a, two.b).tables if table.table == "note")
    assert note.differing == ((),) and not note.key_columns
    two.close()


def test_a_column_that_is_missing_is_said(two: TwoGateways) -> None:
    two.b.execute("ALTER TABLE voucher DROP minutes")
    with pytest.raises(ClusterError, match="minutes"):
        two.verify(two.a, two.b)


def test_a_function_of_the_hosts_with_a_name_of_postgresqls_own_is_not_called(two: TwoGateways) -> None:
    """It would be, with a superuser's rights, where its parameters fit better."""
    for gateway in (two.a, two.b):
        gateway.execute("CREATE TABLE seen (role name); GRANT ALL ON seen TO PUBLIC")
        gateway.execute("CREATE FUNCTION public.hashtextextended(text, int) RETURNS bigint LANGUAGE sql AS "
                        "'INSERT INTO public.seen VALUES (current_user) RETURNING 1::bigint'")
    assert two.verify(two.a, two.b).equal
    assert two.a.execute("SELECT role FROM seen") == two.b.execute("SELECT role FROM seen") == []
