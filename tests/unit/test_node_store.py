"""The node store: durable, private, bounded, and closed when it cannot be trusted."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flask_hsmx_cluster import models
from flask_hsmx_cluster.agent.heartbeat.standing import DataStanding
from flask_hsmx_cluster.agent.membership import Key
from flask_hsmx_cluster.agent.node_store import NodeStore, PairingState, PeerFacts, machine_id
from flask_hsmx_cluster.agent.revisions import model as revisions
from flask_hsmx_cluster.agent.revisions.model import Heads
from flask_hsmx_cluster.agent.store_file import StoreError
from flask_hsmx_cluster.settings.model import from_dict

from .gateways import BEFORE_7, changed, in_memory

A, B = "aa" * 16, "bb" * 16
KEY, NEXT = Key(1, b"k" * 32), Key(2, b"n" * 32)
MACS = {"lan0": "02:00:00:00:00:01", "sync0": "02:00:00:00:01:01"}
SETTINGS = from_dict(
    {
        "cluster_id": "c" * 32,
        "nodes": [{"node_id": A, "name": "A"}, {"node_id": B, "name": "B"}],
        "virtual_ips": [
            {"address": "10.0.0.100/24", "port": "lan0"},
            {"address": "2001:db8::100/64", "port": "lan0", "off_subnet": True, "virtual_mac": True},
        ],
        "links": [
            {
                "kind": "sync",
                "ends": {B: {"port": "s", "address": "10.9.0.2/24"}, A: {"port": "s", "address": "10.9.0.1/24"}},
            },
            {"kind": "service", "ends": {A: {"port": "lan0", "address": "2001:db8::1/64"}}},
        ],
        "advanced": {"heartbeat_ms": 250, "references": ["10.0.0.254", "2001:db8::ffff"]},
    }
)


@pytest.fixture
def path() -> Iterator[Path]:
    with in_memory() as root:
        yield root / "state" / "node.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[NodeStore]:
    store = NodeStore(path, "A")
    yield store
    store.close()


def heads() -> Heads:
    first = revisions.draft(None, SETTINGS, A, "A", "2026-01-01T00:00:00+00:00", KEY)
    return Heads(first, ("0" * 64, "1" * 64), peer_digest=first.digest)


def test_the_file_is_its_owners_only(store: NodeStore, path: Path) -> None:
    store.record("x", "info", "x")
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_a_file_that_others_could_read_is_closed_to_them(path: Path) -> None:
    NodeStore(path).close()
    path.chmod(0o644)
    NodeStore(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_every_commit_is_synced(store: NodeStore) -> None:
    with store._engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA secure_delete").scalar() == 1


def test_settings_survive_a_restart_unchanged(store: NodeStore, path: Path) -> None:
    before = heads()
    prepared = revisions.prepare(before, revisions.draft(before, SETTINGS, A, "A", "later", KEY))
    store.save_heads(prepared, [NEXT, KEY])
    store.close()
    again = NodeStore(path)
    assert again.heads() == prepared
    assert list(again.heads().applied.settings.links[0].ends) == [B, A]
    assert again.keys() == (NEXT, KEY)
    again.close()


def test_saving_again_replaces(store: NodeStore) -> None:
    first = heads()
    store.save_heads(first, [KEY])
    second = revisions.apply(
        revisions.prepare(first, revisions.draft(first, SETTINGS, B, "B", "later", KEY)),
        revisions.draft(first, SETTINGS, B, "B", "later", KEY).digest,
    )
    store.save_heads(second)
    assert store.heads() == second and store.keys() == (KEY,)


def test_what_the_other_gateway_has_in_force_still_survives_a_restart(store: NodeStore, path: Path) -> None:
    first = heads()
    first = revisions.confirmed(first, first.applied.digest)
    revision = revisions.draft(first, SETTINGS, A, "A", "later", KEY)
    second = revisions.apply(revisions.prepare(first, revision), revision.digest)
    store.save_heads(second, [KEY])
    store.close()
    again = NodeStore(path)
    assert again.heads() == second and second.there == first.applied
    done = revisions.confirmed(second, revision.digest)
    again.save_heads(done)
    again.close()
    again = NodeStore(path)
    assert again.heads() == done and done.there is None
    again.close()


def test_old_revisions_are_forgotten(store: NodeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flask_hsmx_cluster.agent.node_store.MAX_REVISIONS", 3)
    present = heads()
    store.save_heads(present, [KEY])
    for number in range(8):
        revision = revisions.draft(present, SETTINGS, A, "A", str(number), KEY)
        present = revisions.apply(revisions.prepare(present, revision), revision.digest)
        store.save_heads(present)
    assert store.heads() == present
    store.close()
    with sqlite3.connect(store.path) as connection:  # three, and what the other gateway has in force
        assert connection.execute("SELECT count(*) FROM settings_revision").fetchone() == (4,)
        assert connection.execute("SELECT count(*) FROM revision_link_end").fetchone() == (12,)
    connection.close()


def test_leaving_forgets_every_secret(store: NodeStore, path: Path) -> None:
    store.save_heads(heads(), [Key(1, b"FINDME__" * 4)])
    store.set_pairing(PairingState(b"FINDME2_" * 4, 1e9, 5))
    store.forget_cluster()
    assert store.heads() is None and store.keys() == () and store.pairing() is None and store.peer() is None
    store.close()  # checkpoints the log into the file
    assert b"FINDME" not in path.read_bytes()


def test_the_standing_of_the_data_survives_a_restart_and_ends_with_the_cluster(store: NodeStore, path: Path) -> None:
    assert store.standing() == DataStanding()
    wanted = DataStanding(followed=True, behind=True, in_step_at="2030-05-06T07:08:09+00:00", degraded_at="")
    store.remember_standing(wanted)
    store.remember_standing(replace(wanted, degraded_at="2030-05-06T07:08:10+00:00"))
    store.close()
    again = NodeStore(path)
    assert again.standing() == replace(wanted, degraded_at="2030-05-06T07:08:10+00:00")
    again.forget_cluster()
    assert again.standing() == DataStanding()
    again.close()


def test_terms_never_go_back(store: NodeStore, path: Path) -> None:
    assert store.reserved_term() == 0
    store.reserve_term(7)
    store.reserve_term(5)
    assert store.reserved_term() == 7
    store.forget_cluster()
    assert store.reserved_term() == 7
    store.close()
    again = NodeStore(path)
    assert again.reserved_term() == 7
    again.close()


def test_events_are_bounded_newest_first(store: NodeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "MAX_EVENTS", 10)
    for number in range(25):
        store.record("kind", "info", f"event {number}", ["because", "x" * 2000])
    found = store.events(limit=100)
    assert [event["text"] for event in found] == [f"event {number}" for number in range(24, 14, -1)]
    assert found[0]["evidence"][0] == "because" and len(found[0]["evidence"][1]) == 500
    assert found[0]["node"] == "A" and found[0]["at"].endswith("+00:00")
    assert store.events(limit=2, before=found[3]["id"]) == found[4:6]
    assert store.event_count() == 10
    store.close()
    with sqlite3.connect(store.path) as connection:
        assert connection.execute("SELECT count(*) FROM event_evidence").fetchone() == (20,)
    connection.close()


def test_small_things_are_kept(store: NodeStore) -> None:
    peer = PeerFacts(B, "B", "5.3", "0.1", 1, 8080)
    store.set_peer(peer)
    assert store.peer() == peer
    store.set_peer(None)
    assert store.peer() is None
    store.set_maintenance_until("2026-01-01T00:00:00+00:00")
    assert store.maintenance_until() == "2026-01-01T00:00:00+00:00"
    store.set_maintenance_until(None)
    assert store.maintenance_until() is None


def test_threads_share_it(store: NodeStore) -> None:
    failed: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for step in range(10):
                store.reserve_term(number * 100 + step)
                store.record("x", "info", "x")
                store.events(5)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed and store.reserved_term() == 309 and store.event_count() == 40


# -- identity (a cloned disk must not be its original) ------------------------------------------------------------


def test_the_same_machine_is_itself(store: NodeStore) -> None:
    assert store.identify("machine", MACS)
    node_id = store.node_id
    assert len(node_id) == 32
    assert store.identify("machine", MACS)
    assert store.identify("machine", {"lan0": MACS["lan0"].upper(), "new": "02:00:00:00:00:99"})  # a card was replaced
    assert store.identify("machine", {"new": "02:00:00:00:00:99"})  # and then the other
    assert store.identify("machine", {})  # drivers not loaded yet
    assert store.node_id == node_id


def test_another_machine_id_is_a_clone(store: NodeStore) -> None:
    store.identify("machine", MACS)
    assert not store.identify("another", MACS)
    assert store.identify("machine", MACS)  # nothing was changed by looking


def test_no_known_network_card_is_a_clone(store: NodeStore) -> None:
    store.identify("machine", MACS)
    assert not store.identify("machine", {"lan0": "02:99:99:99:99:99"})


def test_starting_anew_makes_another_gateway(store: NodeStore) -> None:
    store.identify("machine", MACS)
    node_id = store.node_id
    store.save_heads(heads(), [KEY])
    store.start_anew("another", MACS)
    assert store.node_id != node_id and store.heads() is None and store.keys() == ()
    assert store.identify("another", MACS)


def test_machine_id_of_the_state_directory_goes_first(path: Path) -> None:
    path.parent.mkdir()
    system = machine_id(path.parent)
    (path.parent / "machine-id").write_text("lab\n")
    assert machine_id(path.parent) == "lab" != system


# -- what cannot be trusted -----------------------------------------------------------------------------------


def refused(path: Path) -> StoreError:
    with pytest.raises(StoreError) as error:
        NodeStore(path).heads()
    assert error.value.remedy
    return error.value


def test_not_a_database(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"this is no database" * 100)
    assert "damaged" in refused(path).message


def test_damaged_pages(store: NodeStore, path: Path) -> None:
    store.save_heads(heads(), [KEY])
    store.close()
    data = bytearray(path.read_bytes())
    for at in range(4096, len(data), 997):
        data[at] ^= 0xFF
    path.write_bytes(data)
    assert "damaged" in refused(path).message


def test_altered_settings(store: NodeStore, path: Path) -> None:
    store.save_heads(heads(), [KEY])
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE revision_virtual_ip SET address = '10.0.0.66/24' WHERE position = 0")
    connection.close()
    with pytest.raises(StoreError, match="does not match its digest"):
        _heads_of(path)


def _heads_of(path: Path) -> None:
    store = NodeStore(path)
    try:
        store.heads()
    finally:
        store.close()


def test_pages_damaged_in_the_middle_of_a_word(store: NodeStore, path: Path) -> None:
    store.close()
    path.write_bytes(path.read_bytes().replace(b"NOT NULL", b"NOT\xf2NULL"))
    with pytest.raises(StoreError, match="damaged"):
        NodeStore(path)


def test_an_identity_that_is_none(store: NodeStore, path: Path) -> None:
    store.identify("machine", MACS)
    store.close()
    with sqlite3.connect(path) as database:
        database.execute("UPDATE identity SET node_id = 'zz'")
    database.close()
    with pytest.raises(StoreError, match="damaged"):
        _ = NodeStore(path).node_id


def test_somebody_elses_database_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE guest (name)")
    database.close()
    with pytest.raises(StoreError, match="is no node store"):
        NodeStore(path)
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT name FROM sqlite_master").fetchall() == [("guest",)]
    database.close()


NO_ROOM = """
import resource, sys
from pathlib import Path
from flask_hsmx_cluster.agent.node_store import NodeStore
from flask_hsmx_cluster.agent.store_file import StoreError
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
store = NodeStore(Path(sys.argv[1]))
print(store.identify("machine", {"lan0": "02:00:00:00:00:01"}), store.node_id)
store.record("x", "info", "an event stops nothing that is being done")
try:
    store.reserve_term(99)
except StoreError as error:
    print(error.remedy)
"""


@pytest.mark.parametrize("crashed", [False, True])
def test_a_full_disk_keeps_no_gateway_from_starting(store: NodeStore, path: Path, crashed: bool) -> None:
    store.identify("machine", MACS)
    if not crashed:
        store.close()
    copied = path.with_name("copy")
    for end in ("", "-wal"):
        if (source := Path(f"{path}{end}")).exists():
            Path(f"{copied}{end}").write_bytes(source.read_bytes())
    done = subprocess.run([sys.executable, "-c", NO_ROOM, str(copied)], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr[-500:]
    assert f"True {NodeStore(copied).node_id}" in done.stdout and "disk is full" in done.stdout


def test_later_schema(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    assert "later version" in refused(path).message


def test_an_upgrade_that_was_cut_short_leaves_nothing_behind(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    NodeStore(path).close()
    changed(path, *BEFORE_7, "ALTER TABLE settings_revision DROP COLUMN stale_wait_s", "PRAGMA user_version = 1")
    with monkeypatch.context() as cut:
        cut.setattr(models, "UPGRADES", {1: (*models.UPGRADES[1], "power off")})
        refused(path)
    store = NodeStore(path)
    store.demand_sound()
    store.close()


@pytest.mark.parametrize("what", ["link", "directory"])
def test_something_else_instead_of_a_file(path: Path, what: str) -> None:
    path.parent.mkdir()
    if what == "link":
        path.symlink_to("/dev/null")
    else:
        path.mkdir()
    error = refused(path)
    assert "cannot be opened" in error.message and "Move away" in error.remedy


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_no_permission(path: Path) -> None:
    path.parent.mkdir(mode=0o500)
    assert "cannot be opened" in refused(path).message
