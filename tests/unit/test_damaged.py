"""A node store that cannot be read: refused as a whole, told to whoever asks, put aside on request. Terms run out."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from flask_hsmx_cluster import models as m
from flask_hsmx_cluster.agent.damaged import DamagedService, put_aside
from flask_hsmx_cluster.agent.heartbeat.datagram import Challenges, Codec, Refusal
from flask_hsmx_cluster.agent.heartbeat.standing import DataStanding
from flask_hsmx_cluster.agent.node_store import NodeStore, PairingState, PeerFacts
from flask_hsmx_cluster.agent.revisions import model as revisions
from flask_hsmx_cluster.agent.revisions.model import Heads
from flask_hsmx_cluster.agent.store_file import StoreDamaged, StoreError, damaged
from flask_hsmx_cluster.decision.model import MOST_TERM, Beat, Kind, Role, Term

from .test_rules import GOOD, A
from .test_shared_networks import KEY


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The store of a member."""
    path = tmp_path / "node.sqlite"
    store = NodeStore(path)
    store.identify("machine", {"lan0": "02:00:00:00:00:01"})
    store.save_heads(Heads(revisions.draft(None, GOOD, A, "A", "now", KEY)), [KEY])
    store.reserve_term(20)
    store.set_peer(PeerFacts("b" * 32, "B", "5.2", "1.0", 1, 80))
    store.remember_peer_macs({"lan0": "02:00:00:00:00:02"})
    store.set_pairing(PairingState(b"x" * 32, 1e6, 5))
    store.remember_standing(DataStanding(True, True, "2026-01-01T00:00:00+00:00", ""))
    store.set_maintenance_until("2026-01-01T00:00:00+00:00")
    store.record("created", "info", "A text", ["evidence"])
    store.demand_sound()
    store.close()
    return path


def altered(statement: str) -> Callable[[Path], None]:
    def alter(path: Path) -> None:
        with sqlite3.connect(path) as connection:
            connection.execute(statement)
        connection.close()

    return alter


def truncated(share: float) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


@pytest.mark.parametrize(
    "harm",
    [
        truncated(0.0),
        truncated(0.5),
        altered("DELETE FROM cluster_key"),
        altered("UPDATE cluster_key SET secret = zeroblob(32)"),
        altered("UPDATE settings_revision SET lease_s = 30"),
        altered(f"UPDATE reign SET reserved_term = {MOST_TERM + 1}"),
        altered("UPDATE reign SET reserved_term = -5"),
        altered("UPDATE identity SET node_id = 'zz'"),
        altered("DELETE FROM settings_revision"),
        altered("DROP TABLE reign"),
        altered("UPDATE peer SET http_port = 70000"),
        altered("UPDATE peer_mac SET mac = 'zz'"),
        altered("UPDATE identity_mac SET mac = CAST(x'ff' AS TEXT)"),
        altered("UPDATE peer SET name = CAST(x'ff' AS TEXT)"),
        altered("PRAGMA user_version = -1"),
    ],
)
def test_whatever_is_wrong_with_it_this_gateway_is_no_member(path: Path, harm: Callable[[Path], None]) -> None:
    harm(path)
    with pytest.raises(StoreDamaged) as found:
        NodeStore(path).demand_sound()
    assert "flask cluster agent repair" in found.value.remedy and "stays out" in found.value.message


def test_a_value_of_another_type_is_damage_wherever_it_is(path: Path) -> None:
    """SQLite keeps what it is given, whatever the column is of."""
    whole, tried = path.read_bytes(), 0
    for table in m.Base.metadata.tables.values():
        for column in table.columns:
            value = "'abc'" if column.type.python_type is bytes else "x'ff00fe'"
            path.write_bytes(whole)
            with contextlib.closing(sqlite3.connect(path)) as connection:
                try:
                    found = connection.execute(f"UPDATE {table.name} SET {column.name} = {value}").rowcount
                except sqlite3.IntegrityError:  # a row id, or a rule of the table
                    continue
                connection.commit()
            if not found:
                continue
            tried += 1
            store = NodeStore(path)
            with contextlib.closing(store), pytest.raises(StoreDamaged):
                store.demand_sound()
    assert tried > 40


def test_every_bit_that_flips_is_noticed_or_harmless(path: Path) -> None:
    """No flip goes unnoticed that changes who this gateway is, what it shares, or its key."""
    store = NodeStore(path)
    before, whole = (store.node_id, store.heads(), store.keys()), path.read_bytes()
    store.close()
    places = [at for at, byte in enumerate(whole) if byte]  # where there is nothing, nothing can be lost
    noticed = 0
    for at in places[:: len(places) // 40]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        try:
            store = NodeStore(path)
            try:
                store.demand_sound()
                assert (store.node_id, store.heads(), store.keys()) == before, at
            finally:
                store.close()
        except StoreError:
            noticed += 1
    assert noticed > 5


def test_it_answers_everybody_and_begins_anew_on_request(path: Path) -> None:
    truncated(0.5)(path)
    path.with_name("node.sqlite-wal").write_bytes(b"rest")
    left = threading.Event()
    service = DamagedService(str(path.parent), damaged(path, "a test"), left.set)
    for verb in ("status", "failover", "take_over"):
        with pytest.raises(StoreDamaged, match="is damaged"):
            getattr(service, verb)()
    assert not left.is_set()
    kept = Path(service.repair()["kept"])
    assert left.is_set() and kept.name == "node.sqlite.damaged-1" and kept.exists() and not path.exists()
    assert Path(f"{kept}-wal").exists()
    store = NodeStore(path)
    store.demand_sound()
    assert store.heads() is None, "in no cluster"
    store.close()
    assert put_aside(path.parent).name == "node.sqlite.damaged-2", "nothing is overwritten"


def test_what_beginning_anew_does_not_mend_is_not_put_aside(path: Path) -> None:
    service = DamagedService(str(path.parent), StoreError("The disk is full.", "Free some space."), pytest.fail)
    with pytest.raises(StoreError, match="disk is full"):
        service.repair()
    assert path.exists()


def test_a_term_that_nobody_can_have_is_no_heartbeat() -> None:
    def codec(node: bytes, peer: bytes) -> Codec:
        return Codec(bytes(8), node, peer, {1: b"k" * 32}, 1, node[:8], Challenges())

    here, there = codec(b"a" * 16, b"b" * 16), codec(b"b" * 16, b"a" * 16)
    beat = Beat(Kind.BEAT, Role.ACTIVE, Term(MOST_TERM, "62" * 16))
    assert here.decode(there.encode(beat, 1, 0.0), 1, 0.0) is Refusal.UNPROVEN, "the highest one is understood"
    for counter in (MOST_TERM + 1, 2**64 - 1):
        wrong = replace(beat, term=Term(counter, "62" * 16))
        assert here.decode(there.encode(wrong, 1, 0.0), 1, 0.0) is Refusal.MALFORMED


def test_counters_that_are_nearly_used_up_begin_anew_with_the_next_cluster(path: Path) -> None:
    store = NodeStore(path)
    store.forget_cluster()
    assert store.reserved_term() == 20, "others only grow: the next cluster may be the same one"
    store.reserve_term(MOST_TERM + 5)
    assert store.reserved_term() == MOST_TERM, "never beyond"
    store.forget_cluster()
    assert store.reserved_term() == 0
    store.close()
