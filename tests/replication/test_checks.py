"""What is compared before a gateway follows, and what is looked at again and again afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from flask_hsmx_cluster.agent.preflight.data import DatabaseFacts
from flask_hsmx_cluster.errors import Finding
from flask_hsmx_cluster.replication import catalogue, channel, checks, guard, schema
from flask_hsmx_cluster.replication.database import DatabaseFailure, connect, one
from flask_hsmx_cluster.replication.prepare import make_roles
from flask_hsmx_cluster.replication.replicator import Replicator
from flask_hsmx_cluster.replication.scope import Scope, TableScope
from flask_hsmx_cluster.replication.setup import Setup
from flask_hsmx_cluster.replication.survey import survey
from flask_hsmx_cluster.replication.tables import SchemaMismatch

from .conftest import Pair
from .gateways import SCOPE, Gateway, TwoGateways, wait_for

MB = 1024 * 1024


@pytest.fixture
def gateways(pair: Pair) -> Iterator[TwoGateways]:
    both = TwoGateways(pair)
    yield both
    both.close()


def compared(gateways: TwoGateways) -> list[Finding]:
    """Compare passive b with active a."""
    return checks.compare(gateways.b.connection, gateways.a.connection, gateways.scope, "gw-b", "gw-a")


def require_same(gateways: TwoGateways) -> None:
    checks.require_same(gateways.b.connection, gateways.a.connection, gateways.scope, "gw-b", "gw-a")


def looked(gateway: Gateway, scope: Scope, declared: Scope | None = None) -> checks.Result:
    return checks.look(gateway.connection, checks.Gateway(declared or scope, scope, "gw-b", "gw-a", "f" * 32), None)


def keys(findings: list[Finding]) -> set[str]:
    return {finding.key for finding in findings}


# -- compared before following ---------------------------------------------------------------------------------------


def test_equal_databases_do_not_differ(gateways: TwoGateways) -> None:
    assert compared(gateways) == []
    require_same(gateways)


def test_a_role_that_may_only_read_can_compare(gateways: TwoGateways) -> None:
    gateways.a.execute("CREATE ROLE compares LOGIN")
    try:
        with connect(f"{gateways.a.server.dsn} user=compares") as peer:
            assert checks.compare(gateways.b.connection, peer, SCOPE, "gw-b", "gw-a") == []
    finally:
        gateways.a.execute("DROP ROLE compares")


def test_more_on_the_passive_is_said_and_followed(gateways: TwoGateways) -> None:
    gateways.b.execute("ALTER TABLE voucher ADD colour text, ADD price int NOT NULL DEFAULT 7")
    assert [(one.key, one.blocking) for one in compared(gateways)] == 2 * [("schema_column_more", False)]
    require_same(gateways)
    gateways.a.execute("INSERT INTO voucher VALUES (1, 'a', 60)")
    gateways.settle(gateways.a, gateways.b)
    assert gateways.b.execute("SELECT id, colour, price FROM voucher") == [(1, None, 7)]


def test_less_on_the_passive_is_refused_with_the_remedy(gateways: TwoGateways) -> None:
    gateways.a.execute("ALTER TABLE voucher ADD colour text")
    with pytest.raises(SchemaMismatch, match="no column colour on gw-b; gw-a has") as refused:
        require_same(gateways)
    assert "migration on gw-b" in refused.value.remedy
    gateways.b.execute("DROP TABLE log")
    with pytest.raises(SchemaMismatch, match=r"public\.log, and gw-b does not have it.*1 more difference"):
        require_same(gateways)


def test_a_column_that_each_keeps_for_itself_may_be_missing_there(gateways: TwoGateways) -> None:
    gateways.b.execute("ALTER TABLE guest DROP local_note")
    assert compared(gateways) == []


def test_types_keys_and_computed_columns(gateways: TwoGateways) -> None:
    gateways.b.execute("ALTER TABLE room ALTER number TYPE smallint, DROP CONSTRAINT room_pkey")
    gateways.b.execute("ALTER TABLE room ADD PRIMARY KEY (building)")
    gateways.b.execute("ALTER TABLE voucher DROP minutes, ADD minutes int GENERATED ALWAYS AS (60) STORED")
    found = compared(gateways)
    assert all(one.blocking for one in found) and keys(found) == {"schema_column_differs", "schema_key_differs"}


def test_what_stops_a_worker_is_found_in_postgresqls_own_words(gateways: TwoGateways) -> None:
    assert checks.last_failure(gateways.b.connection) == ""
    gateways.a.execute("ALTER TABLE voucher ADD colour text")
    gateways.a.execute("INSERT INTO voucher (id, colour) VALUES (1, 'red')")
    wait_for(lambda: bool(checks.last_failure(gateways.b.connection)))
    assert 'missing replicated column: "colour"' in checks.last_failure(gateways.b.connection)
    (stream, *_) = channel.streams(gateways.b.connection)
    wait_for(lambda: channel.streams(gateways.b.connection)[0].error_count > stream.error_count)
    gateways.b.execute("ALTER TABLE voucher ADD colour text")
    gateways.settle(gateways.a, gateways.b)
    assert gateways.b.execute("SELECT id, colour FROM voucher") == [(1, "red")], "nothing is lost"


def test_only_a_workers_failure_is_taken_from_the_log() -> None:
    other = "2026-01-01 ERROR:  division by zero\n2026-01-01 STATEMENT:  SELECT 1/0\n"
    worker = (
        '2026-01-01 [7] ERROR:  duplicate key value violates unique constraint "x"\n'
        "2026-01-01 [7] DETAIL:  Key (id)=(1) already exists.\n"
        '2026-01-01 [7] CONTEXT:  processing remote data for replication origin "pg_16400" during "INSERT"\n'
    )
    assert checks.failure_in(other) == ""
    assert checks.failure_in(worker + other) == 'duplicate key value violates unique constraint "x"'


def test_a_rows_text_in_the_log_neither_hides_the_reason_nor_stops_the_replicator() -> None:
    """A guest's text of many lines stands in DETAIL; a pattern that tries its ways through it would never end."""
    row = "\tHINT: HINT: DETAIL: CONTEXT:\n" * 500
    log = f"[6] ERROR:  null value in column \x1b[2J\"x\"\n[6] DETAIL:  Failing row contains (1, HINT: HINT:\n{row}"
    assert checks.failure_in(f"{log}[7] LOG:  checkpoint starting\n") == ""
    assert checks.failure_in(f"{log}x\n" + "HINT: HINT:\n" * 500) == ""
    worker = '[6] CONTEXT:  processing remote data for replication origin "pg_16400" during "INSERT"\n'
    assert checks.failure_in(log + worker) == 'null value in column [2J"x"'


# -- new tables ------------------------------------------------------------------------------------------------------


MORE = Scope((*SCOPE.tables, TableScope("public", "bill", "shared")))
BILL = "CREATE TABLE bill (id int PRIMARY KEY, sum int)"


def test_a_newly_shared_table_is_copied_and_followed(gateways: TwoGateways) -> None:
    """PostgreSQL leaves out the changes of tables that came to a publication later, without a word."""
    for gateway in (gateways.a, gateways.b):
        gateway.execute(BILL)
    gateways.a.execute("INSERT INTO bill VALUES (1, 10)")
    gateways.b.execute("INSERT INTO bill VALUES (9, 90)")
    for gateway in (gateways.a, gateways.b):
        channel.publish(gateway.connection, MORE)
    gateways.a.execute("INSERT INTO bill VALUES (2, 20)")
    done = checks.take_up(gateways.b.connection, gateways.a.connection, MORE)
    assert done == ["bill: copied, and followed from now on"]
    gateways.a.execute("INSERT INTO bill VALUES (3, 30)")
    wait_for(lambda: gateways.b.execute("SELECT id FROM bill ORDER BY id") == [(1,), (2,), (3,)])
    (kept,) = gateways.b.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'hsmx_cluster_aside'")
    assert gateways.b.execute(f'SELECT * FROM hsmx_cluster_aside."{kept[0]}"') == [(9, 90)]
    assert checks.take_up(gateways.b.connection, gateways.a.connection, MORE) == []


def test_what_was_written_into_a_new_table_before_it_was_followed_is_kept_at_the_rejoin(gateways: TwoGateways) -> None:
    """It was in no slot: after a fail-over it stayed on one gateway, and nobody was told."""
    a, b = gateways.a, gateways.b
    for gateway in (a, b):
        gateway.execute(BILL)
    a.execute("INSERT INTO bill VALUES (1, 10)")
    gateways.scope = MORE
    for gateway in (a, b):
        channel.publish(gateway.connection, MORE)
    a.execute("INSERT INTO bill VALUES (2, 20)")
    gateways.settle(a, b)
    fork = gateways.promote(b, a)
    a.execute("INSERT INTO bill VALUES (4, 40)")  # this one is in its slot
    b.execute("INSERT INTO bill VALUES (2, 21), (3, 30)")
    rejoined = gateways.rejoin(a, b, fork)
    assert rejoined.ways["hsmx_cluster"] == "replace" and "bill" in rejoined.reasons[0]
    gateways.settle(b, a)
    assert gateways.verify(b, a).equal
    kept = sorted((str(row.key), row.operation) for row in a.quarantine())
    assert kept == [("{'id': '1'}", "insert"), ("{'id': '2'}", "update"), ("{'id': '4'}", "insert")]
    assert a.execute("SELECT * FROM bill ORDER BY id") == [(2, 21), (3, 30)]


def test_a_table_that_is_not_declared_here_is_not_overwritten(gateways: TwoGateways) -> None:
    for gateway in (gateways.a, gateways.b):
        gateway.execute(BILL)
    gateways.b.execute("INSERT INTO bill VALUES (9, 90)")
    channel.publish(gateways.a.connection, MORE)
    assert checks.take_up(gateways.b.connection, gateways.a.connection, SCOPE) == []
    assert gateways.b.execute("SELECT id FROM bill") == [(9,)]


def test_a_declared_table_that_a_migration_makes_later(gateways: TwoGateways) -> None:
    here = gateways.b
    there = catalogue.present(here.connection, MORE)
    assert there == SCOPE
    result = looked(here, there, MORE)
    assert "table_missing" in keys(result.findings)
    guard.arm(here.connection, there)
    assert not looked(here, there, MORE).renew
    here.execute(BILL)
    assert looked(here, there, MORE).renew and catalogue.present(here.connection, MORE) == MORE


def test_a_declared_column_that_a_migration_makes_later(gateways: TwoGateways) -> None:
    declared = Scope(tuple(
        replace(table, columns=("id", "name", "born")) if table.table == "guest" else table for table in SCOPE.tables
    ))
    there = catalogue.present(gateways.b.connection, declared)
    assert there == SCOPE
    assert "column_missing" in keys(looked(gateways.b, there, declared).findings)


def test_a_key_column_that_is_missing_is_not_passed_over(gateways: TwoGateways) -> None:
    wrong = Scope((TableScope("public", "guest", "shared", columns=("id", "name", "born"), key=("born",)),))
    assert catalogue.present(gateways.b.connection, wrong) == wrong


# -- looked at again and again ---------------------------------------------------------------------------------------


@pytest.fixture
def parts(pair: Pair) -> Iterator[Gateway]:
    """A gateway with a partitioned shared table, guarded."""
    gateway = Gateway("a", pair.a)
    gateway.execute("CREATE TABLE part (id int, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day)")
    gateway.execute("CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')")
    schema.install(gateway.connection, gateway.id, "")
    guard.arm(gateway.connection, PARTS)
    yield gateway
    gateway.connection.close()


PARTS = Scope((TableScope("public", "part", "shared"),))


def test_a_new_partition_has_no_guard_until_it_is_armed(parts: Gateway) -> None:
    result = looked(parts, PARTS)
    assert (result.renew, result.done, keys(result.findings) - {"database_disk"}) == (False, [], set())
    parts.execute("CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM ('2027-01-01') TO ('2028-01-01')")
    result = looked(parts, PARTS)
    assert result.renew and result.done == ["the guard is put on public.part_2"]
    guard.arm(parts.connection, PARTS)
    assert not looked(parts, PARTS).renew


def test_a_guard_that_was_disabled_is_armed_again(parts: Gateway) -> None:
    parts.execute(f"ALTER TABLE part_1 DISABLE TRIGGER {guard.TRIGGER}")
    assert checks.unguarded(parts.connection, PARTS) == ["public.part_1"]


def test_a_lost_key_and_an_unknown_trigger_are_findings(parts: Gateway) -> None:
    parts.execute("CREATE FUNCTION noop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'")
    parts.execute("CREATE TRIGGER sneaky BEFORE INSERT ON part_1 FOR EACH ROW EXECUTE FUNCTION noop()")
    parts.execute("ALTER TABLE part_1 ENABLE ALWAYS TRIGGER sneaky")
    parts.execute("ALTER TABLE part DROP CONSTRAINT part_pkey")
    assert {"table_trigger", "table_identity"} <= keys(looked(parts, PARTS).findings)


def test_the_log_kept_for_an_absent_gateway_is_told_long_before_its_bound() -> None:
    most = 4096 * MB
    assert checks.wal_finding("reserved", most, most, "gw-a") is None
    assert checks.wal_finding("extended", int(most * 0.61), most, "gw-a") is None
    warning = checks.wal_finding("extended", int(most * 0.55), most, "gw-a")
    assert warning is not None and not warning.blocking and "gw-a" in warning.text
    critical = checks.wal_finding("extended", int(most * 0.1), most, "gw-a")
    assert critical is not None and critical.blocking
    lost = checks.wal_finding("lost", None, most, "gw-a")
    assert lost is not None and lost.key == "wal_kept" and lost.blocking
    assert checks.wal_finding("extended", None, -MB, "gw-a") is None, "no bound"


def test_the_log_kept_for_an_absent_gateway_is_measured(gateways: TwoGateways) -> None:
    here = gateways.a
    here.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '64MB'")
    here.execute("SELECT pg_reload_conf()")
    gateways.b.execute("ALTER SUBSCRIPTION hsmx_cluster DISABLE")
    looking = checks.Gateway(SCOPE, SCOPE, "gw-a", "gw-b", gateways.b.id)
    wait_for(lambda: one(here.connection, "SHOW max_slot_wal_keep_size") == "64MB")
    assert not {"wal_kept"} & keys(checks.look(here.connection, looking, None).findings)
    for _ in range(3):
        here.execute("INSERT INTO log SELECT coalesce(max(id), 0) + 1, 'x' FROM log")
        here.execute("SELECT pg_switch_wal()")
    assert "wal_kept" in keys(checks.look(here.connection, looking, None).findings)


def test_a_disk_that_is_nearly_full(parts: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "disk", lambda connection: (100 * MB, 100_000 * MB))
    assert "database_disk" in keys(looked(parts, PARTS).findings)
    monkeypatch.setattr(catalogue, "disk", lambda connection: (50_000 * MB, 100_000 * MB))
    assert "database_disk" not in keys(looked(parts, PARTS).findings)
    monkeypatch.setattr(catalogue, "disk", lambda connection: None)
    assert "database_disk" not in keys(looked(parts, PARTS).findings)


# -- before a cluster is formed --------------------------------------------------------------------------------------


def test_a_survey_tells_what_the_other_gateway_judges(gateways: TwoGateways) -> None:
    a, b = (DatabaseFacts.from_dict(survey(one.connection, MORE, [])) for one in (gateways.a, gateways.b))
    assert a.system != b.system and a.version == b.version >= 150000
    assert a.tables == b.tables and a.tables["public.bill"][1] == "" != a.tables["public.voucher"][1]
    assert a.shared_bytes > 0 and a.free_bytes
    found = keys(list(a.findings))
    assert {"table_missing", "database_setting", "database_access"} <= found, "no stock server is prepared"
    gateways.b.execute("ALTER TABLE voucher ADD colour text")
    changed = DatabaseFacts.from_dict(survey(gateways.b.connection, MORE, []))
    assert [name for name in changed.tables if changed.tables[name] != b.tables[name]] == ["public.voucher"]


# -- our own schema --------------------------------------------------------------------------------------------------


def test_our_schema_is_brought_up_to_date_step_by_step(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    with connect(pair.a.dsn) as connection:
        schema.install(connection, "a" * 32, "")
        before = schema.version(connection)
        connection.execute("INSERT INTO hsmx_cluster.sequence_position VALUES ('kept', 7)")
        steps = ("ALTER TABLE hsmx_cluster.node ADD one int", "ALTER TABLE hsmx_cluster.node ADD two int DEFAULT 2")
        monkeypatch.setattr(schema, "STEPS", (*schema.STEPS, *steps))
        for _ in range(2):
            schema.install(connection, "a" * 32, "b" * 32)
        assert schema.version(connection) == before + 2
        assert connection.execute("SELECT one, two, peer_id FROM hsmx_cluster.node").fetchone() == (None, 2, "b" * 32)
        assert one(connection, "SELECT last_value FROM hsmx_cluster.sequence_position WHERE name = 'kept'") == 7


def test_a_step_that_fails_leaves_the_former_version(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    with connect(pair.a.dsn) as connection:
        schema.install(connection, "a" * 32, "")
        before = schema.version(connection)
        monkeypatch.setattr(schema, "STEPS", (*schema.STEPS, "ALTER TABLE hsmx_cluster.node ADD one int; SELECT 1/0"))
        with pytest.raises(DatabaseFailure, match="division by zero"):
            schema.install(connection, "a" * 32, "")
        assert schema.version(connection) == before


def test_a_schema_of_a_newer_firmware_is_refused(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    with connect(pair.a.dsn) as connection:
        monkeypatch.setattr(schema, "STEPS", (*schema.STEPS, "SELECT 1"))
        schema.install(connection, "a" * 32, "")
        monkeypatch.undo()
        with pytest.raises(DatabaseFailure, match="this firmware knows") as refused:
            schema.install(connection, "a" * 32, "")
        assert "newer firmware" in refused.value.remedy


# -- all of it, by the replicator ------------------------------------------------------------------------------------


def test_a_replicator_shares_what_is_there_and_the_rest_once_it_is_made(pair: Pair) -> None:
    declared = Scope((TableScope("public", "voucher", "shared"), TableScope("public", "bill", "bulk")))
    with connect(pair.a.dsn) as connection:
        make_roles(connection, [])
        connection.execute("CREATE TABLE public.voucher (id int PRIMARY KEY)")
        replicator = Replicator()
        setup = Setup(pair.a.dsn, "a" * 32, None, declared, "gw-a")

        def checked() -> dict[str, Any]:
            number = replicator.check(passive=False)["number"]
            wait_for(lambda: replicator.look()["checks"]["number"] >= number)
            state: dict[str, Any] = replicator.look()["checks"]
            assert not state["error"]
            return state

        replicator.configure(setup, keep_lease=False)
        state = checked()
        assert not state["renew"] and "table_missing" in {finding["key"] for finding in state["findings"]}
        connection.execute("CREATE TABLE public.bill (id int PRIMARY KEY)")
        assert checked()["renew"]
        replicator.configure(setup, keep_lease=True)
        state = checked()
        assert not state["renew"] and "table_missing" not in {finding["key"] for finding in state["findings"]}
        assert {one.table for one in catalogue.published(connection, channel.TAKES["hsmx_cluster_bulk"])} == {"bill"}
        assert checks.unguarded(connection, declared) == []
        replicator.close()
