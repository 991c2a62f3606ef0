"""Forming with data: what both databases are is judged beforehand, and nothing is changed if it does not fit."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_hsmx_cluster.agent.data.side import CREDENTIALS
from flask_hsmx_cluster.agent.peer import pairing
from flask_hsmx_cluster.agent.peer.client import Route
from flask_hsmx_cluster.agent.preflight import data as preflight_data
from flask_hsmx_cluster.agent.preflight.data import DatabaseFacts
from flask_hsmx_cluster.errors import ChecksFailed, ClusterError, Finding, RequestRefused
from flask_hsmx_cluster.replication import layout, survey
from flask_hsmx_cluster.replication.layout import Column, Layout
from flask_hsmx_cluster.replication.scope import MAX_TABLES, Scope, TableScope

from .gateways import ENDS_OF_B, World, in_memory, settings_of_one, without_real_links

MB = 1_000_000
VOUCHER = Layout("public.voucher", (Column("id", "bigint", required=True), Column("code", "text")), ("id",))
SCOPE = Scope((TableScope("public", "voucher", "shared"), TableScope("public", "log", "bulk")))


class Database:
    """Stands for one gateway's replicator and its database."""

    def __init__(self, number: int) -> None:
        self.shared = False
        self.scope = SCOPE.to_json()
        self.system = str(7000 + number)
        self.version = 150012
        self.free_bytes: int | None = 10_000 * MB
        self.shared_bytes = 100 * MB
        self.findings: list[Finding] = []
        self.layout: Layout | None = VOUCHER
        self.refusal: ClusterError | None = None
        self.asked: list[str] = []

    def alive(self) -> bool:
        return True

    def ask(self, verb: str, timeout_s: float = 0.0, **arguments: Any) -> dict[str, Any]:
        self.asked.append(verb)
        if self.refusal is not None:
            raise self.refusal
        if verb == "layouts":
            return {"layouts": [self.layout.to_dict()] if self.layout else []}
        return self.told(Scope.from_json(arguments["scope"])) if verb == "survey" else {}

    def told(self, scope: Scope) -> dict[str, Any]:
        looks = self.layout.digest() if self.layout else ""
        tables = {name: [declared, looks] for name, declared in scope.digests().items()}
        return {
            "port": 5432, "version": self.version, "system": self.system, "tables": tables,
            "shared_bytes": self.shared_bytes, "free_bytes": self.free_bytes,
            "findings": [one.as_dict() for one in self.findings],
        }  # fmt: skip


@pytest.fixture
def databases() -> dict[str, Database]:
    return {name: Database(number) for number, name in enumerate("AB")}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, databases: dict[str, Database]) -> Iterator[World]:
    without_real_links(monkeypatch)
    monkeypatch.setattr(preflight_data, "_silent", lambda route, port: "")
    with in_memory() as root:
        world = World(root, databases)
        for name in "AB":
            prepare(world, name)
        yield world
        world.close()


def prepare(world: World, name: str) -> None:
    (world.root / name / CREDENTIALS).write_text(json.dumps({"dsn": "dbname=hsmx", "certificate": ""}))


def state_of(world: World) -> list[Any]:
    return [
        (one.store.heads(), one.store.keys(), one.store.joining(), one.store.peer(), one.hot.membership)
        for one in world.gateways.values()
    ]


def findings_of_join(world: World) -> list[Finding]:
    """Join, which is to be refused with nothing changed, and return all that was found."""
    code = world.a.service.create(settings_of_one())["code"]
    before = state_of(world)
    with pytest.raises(ChecksFailed) as refused:
        world.b.service.join("10.9.0.1", code, ENDS_OF_B)
    assert state_of(world) == before
    assert all(finding.text and finding.remedy for finding in refused.value.findings)
    return refused.value.findings


def blocking(findings: list[Finding]) -> set[str]:
    return {finding.key for finding in findings if finding.blocking}


def test_two_prepared_databases_are_formed(world: World, databases: dict[str, Database]) -> None:
    world.form()
    assert world.a.store.heads().applied == world.b.store.heads().applied
    assert all("survey" in database.asked for database in databases.values())


def test_without_data_on_both_it_forms_and_the_status_says_that_nothing_is_shared(
    world: World, databases: dict[str, Database]
) -> None:
    for name in "AB":
        (world.root / name / CREDENTIALS).unlink()
    world.form()
    assert world.a.service.status()["data"] is None and world.b.service.status()["data"] is None
    assert not databases["A"].asked and not databases["B"].asked


@pytest.mark.parametrize("unprepared", "AB")
def test_database_not_shared(world: World, unprepared: str) -> None:
    (world.root / unprepared / CREDENTIALS).unlink()
    found = findings_of_join(world)
    assert blocking(found) == {"database_not_shared"} and f"on {unprepared}," in found[0].remedy


def test_database_silent_on_the_joiner(world: World, databases: dict[str, Database]) -> None:
    databases["B"].refusal = RequestRefused("PostgreSQL cannot be reached: no such file.")
    found = findings_of_join(world)
    assert blocking(found) == {"database_silent"} and found[0].text.startswith("B: ")


def test_database_silent_on_the_first_gateway_refuses_the_creation(
    world: World, databases: dict[str, Database]
) -> None:
    databases["A"].refusal = RequestRefused("PostgreSQL cannot be reached: no such file.")
    with pytest.raises(ChecksFailed, match="cannot be reached"):
        world.a.service.create(settings_of_one())
    assert world.a.store.heads() is None and world.a.hot.membership is None


def test_what_prepare_would_change_refuses_the_creation(world: World, databases: dict[str, Database]) -> None:
    databases["A"].findings = [Finding("database_setting", "wal_level is 'replica'.", "It must be logical.")]
    with pytest.raises(ChecksFailed) as refused:
        world.a.service.create(settings_of_one())
    assert blocking(refused.value.findings) == {"database_setting"} and world.a.store.heads() is None


@pytest.mark.parametrize(
    "key", ["database_version", "database_setting", "table_missing", "table_identity", "table_trigger"]
)
def test_what_one_database_lacks_refuses_the_join(world: World, databases: dict[str, Database], key: str) -> None:
    databases["B"].findings = [Finding(key, "It is not as it has to be.", "Mend it on this gateway.")]
    (found,) = findings_of_join(world)
    assert (found.key, found.text, found.remedy) == (key, "B: It is not as it has to be.", "Mend it on B.")


def test_what_the_creators_database_lacks_by_now_refuses_the_join(
    world: World, databases: dict[str, Database]
) -> None:
    code = world.a.service.create(settings_of_one())["code"]
    databases["A"].findings = [Finding("table_identity", "log has no key.", "Add one.")]
    before = state_of(world)
    with pytest.raises(ChecksFailed, match="A: log has no key"):
        world.b.service.join("10.9.0.1", code, ENDS_OF_B)
    assert state_of(world) == before


def test_database_cloned(world: World, databases: dict[str, Database]) -> None:
    databases["B"].system = databases["A"].system
    assert blocking(findings_of_join(world)) == {"database_cloned"}


def test_database_versions_differ_is_said_and_allowed(databases: dict[str, Database]) -> None:
    databases["B"].version = 160003
    (found,) = preflight_data.check_both(side("B", databases), side("A", databases))
    assert found.key == "database_versions_differ" and not found.blocking and "PostgreSQL 16" in found.text


def test_major_versions_that_differ_form(world: World, databases: dict[str, Database]) -> None:
    databases["B"].version = 160003
    code = world.a.service.create(settings_of_one())["code"]
    (warning,) = world.b.service.join("10.9.0.1", code, ENDS_OF_B)["findings"]
    assert warning["key"] == "database_versions_differ" and world.b.store.heads() is not None
    assert "preflight" in world.b.event_kinds(), "it is said, though it stops nothing"


def side(name: str, databases: Mapping[str, Database], scope: Scope = SCOPE) -> preflight_data.Side:
    return preflight_data.Side(name, DatabaseFacts.from_dict(databases[name].told(scope)))


def test_scopes_differ(monkeypatch: pytest.MonkeyPatch, databases: dict[str, Database]) -> None:
    other = Scope((
        TableScope("public", "log", "shared"), TableScope("public", "room", "shared"),
        TableScope("public", "licence", "local"),
    ))  # fmt: skip
    databases["B"].scope = other.to_json()
    without_real_links(monkeypatch)
    monkeypatch.setattr(preflight_data, "_silent", lambda route, port: "")
    with in_memory() as root:
        world = World(root, databases)
        for name in "AB":
            prepare(world, name)
        found = findings_of_join(world)
        world.close()
    assert blocking(found) == {"scopes_differ"}
    assert "only B shares room" in found[0].text and "only A shares voucher" in found[0].text
    assert "declare log differently" in found[0].text and "licence" not in found[0].text


def test_the_reason_of_a_declaration_is_no_difference() -> None:
    one, other = (Scope((TableScope("public", "room", "shared", why=why),)).digests() for why in ("a", "b"))
    assert one == other


@pytest.mark.parametrize(
    ("layout", "key"),
    [
        (replace(VOUCHER, columns=VOUCHER.columns[:1]), "schema_column_missing"),
        (replace(VOUCHER, columns=(VOUCHER.columns[0], Column("code", "integer"))), "schema_column_differs"),
        (replace(VOUCHER, columns=(*VOUCHER.columns, Column("n", "integer", required=True))), "schema_column_required"),
        (replace(VOUCHER, key=("code",)), "schema_key_differs"),
    ],
)
def test_schema_that_differs(world: World, databases: dict[str, Database], layout: Layout, key: str) -> None:
    databases["B"].layout = layout
    found = findings_of_join(world)
    assert blocking(found) == {key} and "voucher" in found[0].text


def test_schema_that_is_ahead_on_the_joiner_is_said_and_allowed(world: World, databases: dict[str, Database]) -> None:
    databases["B"].layout = replace(VOUCHER, columns=(*VOUCHER.columns, Column("price", "integer", filled=True)))
    world.form()
    assert world.b.store.heads() is not None and "layouts" in databases["B"].asked


def test_database_space(world: World, databases: dict[str, Database]) -> None:
    databases["A"].shared_bytes, databases["B"].free_bytes = 1000 * MB, 2000 * MB
    found = findings_of_join(world)
    assert blocking(found) == {"database_space"} and "B has 2000 MB free" in found[0].text
    databases["B"].free_bytes = None
    assert list(preflight_data.check_both(side("B", databases), side("A", databases))) == []


@pytest.mark.parametrize("blind", ["10.9.0.2", "10.9.0.1"])
def test_database_unreachable_in_either_direction(world: World, monkeypatch: pytest.MonkeyPatch, blind: str) -> None:
    monkeypatch.setattr(preflight_data, "_silent", lambda route, port: "refused" if route.local == blind else "")
    found = findings_of_join(world)
    assert blocking(found) == {"database_unreachable"}
    assert found[0].remedy.startswith(f"Let {blind} reach TCP port 5432")


@contextmanager
def listening(answer: bytes) -> Iterator[int]:
    """A server that answers the first message with these bytes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                if connection.recv(8) and answer:
                    connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(10)


@pytest.mark.parametrize(("answer", "reached"), [(b"S", True), (b"N", False), (b"", False)])
def test_the_database_port_is_there_if_it_offers_tls(answer: bytes, reached: bool) -> None:
    with listening(answer) as port:
        found = list(preflight_data.check_port({"sync": Route("127.0.0.1", "127.0.0.1")}, port, "A"))
    assert [one.key for one in found] == ([] if reached else ["database_unreachable"])
    assert list(preflight_data.check_port({"service": Route("127.0.0.1", "127.0.0.1")}, port, "A")) == []


def test_a_database_that_is_prepared_later_is_shared_without_a_restart(
    world: World, databases: dict[str, Database]
) -> None:
    (world.root / "A" / CREDENTIALS).unlink()
    world.a.service.create(settings_of_one())
    jobs, begun = world.a.service.periodic_jobs(), []
    world.a.service.when_shared(lambda: begun.extend(world.a.service.data_jobs()))
    idle = not begun and not any(name in jobs for name in world.a.service.data_jobs())
    assert idle, "nothing is shared: nothing runs"
    assert "not prepared" in str(jobs["replication: set-up"][1]()) and world.a.service.status()["data"] is None
    told = len(world.a.hot.applied)
    prepare(world, "A")
    assert jobs["replication: set-up"][1]() == "in force"
    assert databases["A"].shared and "configure" in databases["A"].asked
    assert world.a.hot.applied[told:] == [world.a.hot.membership], "the heartbeat loop is told, once"
    jobs["replication: set-up"][1]()
    assert len(world.a.hot.applied) == told + 1
    assert begun == list(world.a.service.data_jobs()), "begun once"
    assert world.a.service.status()["data"]["set_up"]


FACTS = Database(0).told(SCOPE)


@given(st.dictionaries(
    st.sampled_from(list(FACTS)), st.none() | st.integers() | st.text() | st.lists(st.none() | st.dictionaries(
        st.sampled_from(["key", "text", "remedy", "blocking"]), st.text() | st.none())) | st.dictionaries(
        st.text(), st.none() | st.text() | st.lists(st.text()))
))
def test_hostile_facts_are_malformed_or_harmless(changes: dict[str, Any]) -> None:
    try:
        facts = DatabaseFacts.from_dict({**FACTS, **changes})
    except ValueError:
        return
    assert 0 < facts.port < 65536 and facts.system.isdecimal()
    assert all(len(finding.text) <= 1000 and finding.text.isprintable() for finding in facts.findings)


def test_the_largest_scope_fits_into_a_message_of_the_pairing() -> None:
    tables = tuple(TableScope("public", f"{'x' * 50}{number:04d}", "shared") for number in range(MAX_TABLES))
    findings = survey.MOST_FINDINGS * [Finding("table_missing", "x" * 150, "y" * 80).as_dict()]
    told = Database(0).told(Scope(tables)) | {"findings": findings}
    assert len(json.dumps(told)) < pairing.MAX_MESSAGE - 1000
    assert len(DatabaseFacts.from_dict(told).tables) == MAX_TABLES


def test_facts_travel_unchanged() -> None:
    facts = DatabaseFacts.from_dict({**FACTS, "findings": [Finding("a", "b", "c", blocking=False).as_dict()]})
    assert DatabaseFacts.from_dict(json.loads(json.dumps(facts.to_dict()))) == facts


def test_every_finding_has_a_test() -> None:
    here = Path(__file__).read_text() + (Path(__file__).parent / "test_layout.py").read_text()
    for source in map(Path, (preflight_data.__file__, layout.__file__)):
        for key in re.findall(r'Finding\(\s*"(\w+)"', source.read_text()):
            assert key in here, key


def test_the_form_in_which_a_layout_travels_is_plain() -> None:
    assert json.loads(json.dumps(asdict(VOUCHER))) == json.loads(json.dumps(VOUCHER.to_dict()))
