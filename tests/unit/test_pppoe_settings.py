"""PPPoE connections in the settings: form, rules, storage, and that no password is shown."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flask_hsmx_cluster import ChecksFailed, models
from flask_hsmx_cluster.agent.membership import Key
from flask_hsmx_cluster.agent.node_store import NodeStore
from flask_hsmx_cluster.agent.revisions import model as revisions
from flask_hsmx_cluster.agent.revisions.model import Heads
from flask_hsmx_cluster.settings import pppoe, rules
from flask_hsmx_cluster.settings.model import Settings, from_dict, to_dict
from flask_hsmx_cluster.settings.pppoe import Connection
from flask_hsmx_cluster.words import cluster as words

from .gateways import BEFORE_7, World, changed
from .test_rules import GOOD, PORTS, A

KEY = Key(1, b"k" * 32)
SECRET = 'ge"h\\eim #1'
LINE = Connection("fibre", "lan0", "hotel@provider.example", SECRET, "internet", "bras-1")
SPARE = Connection("spare", "lan0", "hotel2", "x", mtu=1400, default_route=False, enabled=False)
FULL = replace(GOOD, pppoe=(LINE, SPARE))


def found(*connections: Connection, blocking: bool = True) -> dict[str, str]:
    checked = rules.check(replace(GOOD, pppoe=connections), PORTS)
    return {one.field: one.key for one in checked if one.blocking is blocking}


def test_they_survive_their_dict_form() -> None:
    assert from_dict(json.loads(json.dumps(to_dict(FULL)))) == FULL


def test_settings_without_them_are_what_they_were() -> None:
    assert "pppoe" not in to_dict(GOOD)
    assert (GOOD.protocol, FULL.protocol) == (1, 3)


def test_good_ones_are_taken() -> None:
    assert found(LINE, SPARE) == {}


@pytest.mark.parametrize(
    ("changes", "field", "key"),
    [
        ({"name": "a b"}, "name", "name"),
        ({"name": "../x"}, "name", "name"),
        ({"port": ""}, "port", "port_missing"),
        ({"port": "nowhere0"}, "port", "port_missing"),
        ({"user": ""}, "user", "user"),
        ({"password": "ä" * 101}, "password", "words"),
        ({"mtu": 100}, "mtu", "mtu"),
    ],
)
def test_what_makes_no_sense_is_refused_at_its_field(changes: dict[str, Any], field: str, key: str) -> None:
    assert found(replace(LINE, **changes)) == {f"pppoe.0.{field}": key}


def test_two_of_a_name_and_two_default_routes_are_refused() -> None:
    other = replace(LINE, name="other")
    assert found(LINE, LINE) == {"pppoe.1.name": "duplicate"}
    assert found(LINE, other) == {"pppoe.1.default_route": "default_route"}
    assert found(LINE, replace(other, enabled=False)) == {}


@pytest.mark.parametrize(
    "changes",
    [
        {"password": "top\nsecret"}, {"password": "top\0secret"}, {"password": ["topsecret"]}, {"mtu": "topsecret"},
        {"user": "a\nb"}, {"password": "topsecret" * 30}, {"enabled": "topsecret"}, {"more": "topsecret"},
    ],
)  # fmt: skip
def test_malformed_ones_are_refused_and_no_password_is_repeated(changes: dict[str, Any]) -> None:
    data = to_dict(FULL)
    data["pppoe"][0] |= changes
    with pytest.raises(ChecksFailed) as refused:
        from_dict(data)
    assert "secret" not in json.dumps(refused.value.as_dict())


def test_no_password_is_in_what_people_see() -> None:
    shown = pppoe.masked(to_dict(FULL))
    assert [row["password"] for row in shown["pppoe"]] == ["", ""]
    assert SECRET not in repr(FULL) and SECRET not in repr(revisions.draft(None, FULL, A, "A", "now", KEY))
    assert any("hotel@provider.example" in text for text in words.rows(shown).values())


def test_an_empty_password_stands_for_the_stored_one() -> None:
    shown = pppoe.masked(to_dict(FULL))
    assert from_dict(pppoe.filled(shown, FULL.pppoe)) == FULL
    shown["pppoe"][0]["port"] = "sync0"
    assert pppoe.filled(shown, FULL.pppoe)["pppoe"][0]["password"] == "", "it must not go elsewhere unawares"


def test_the_store_keeps_them_for_its_own_user_only(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    store = NodeStore(path)
    heads = Heads(revisions.draft(None, FULL, A, "A", "now", KEY))
    store.save_heads(heads, [KEY])
    store.close()
    store = NodeStore(path)
    assert store.heads() == heads
    store.close()
    for file in tmp_path.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_the_store_of_a_former_version_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    heads = Heads(revisions.draft(None, GOOD, A, "A", "now", KEY))
    store = NodeStore(path)
    store.save_heads(heads, [KEY])
    store.close()
    changed(path, *BEFORE_7, "DROP TABLE revision_pppoe", "PRAGMA user_version = 2")
    store = NodeStore(path)
    assert store.heads() == heads
    store.save_heads(Heads(revisions.draft(heads, FULL, A, "A", "now", KEY)))
    store.close()
    assert changed(path, "PRAGMA user_version") == (models.SCHEMA_VERSION,)


# Two gateways


def with_line(world: World, **changes: Any) -> tuple[dict[str, Any], int]:
    held = world.a.service.settings()
    return {**held["settings"], "pppoe": [{**vars(LINE), **changes}]}, held["revision"]


def stored(world: World) -> Settings:
    heads = world.b.store.heads()
    assert heads is not None
    return heads.applied.settings


def test_both_gateways_keep_the_password_and_neither_tells_it(world: World) -> None:
    assert world.a.service.propose(*with_line(world))["delivered"]
    assert stored(world).pppoe == (LINE,)
    told = [world.b.service.settings(), world.b.service.status(), world.b.service.events(), world.b.service.preflight()]
    assert json.dumps(SECRET)[1:-1] not in json.dumps(told) and "geim" not in json.dumps(told)
    settings, revision = with_line(world, password="", mtu=1400)
    assert world.a.service.propose(settings, revision)["delivered"]
    assert stored(world).pppoe == (replace(LINE, mtu=1400),)


def test_a_new_connection_needs_its_password(world: World) -> None:
    with pytest.raises(ChecksFailed) as refused:
        world.a.service.propose(*with_line(world, password=""))
    assert [one.field for one in refused.value.findings] == ["pppoe.0.password"]


def test_a_gateway_of_a_former_version_is_to_be_updated_first(world: World) -> None:
    facts = world.a.store.peer()
    assert facts is not None
    world.a.store.set_peer(replace(facts, protocol=2))
    with pytest.raises(ChecksFailed, match="does not know all of these settings"):
        world.a.service.propose(*with_line(world))
