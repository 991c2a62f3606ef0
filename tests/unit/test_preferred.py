"""The preferred gateway in the settings: form, rules, storage, older versions, words."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from flask_hsmx_cluster import ChecksFailed
from flask_hsmx_cluster.agent.filling import filled
from flask_hsmx_cluster.agent.node_store import NodeStore
from flask_hsmx_cluster.agent.peer.forming import without
from flask_hsmx_cluster.agent.revisions import model as revisions
from flask_hsmx_cluster.agent.revisions.model import Heads
from flask_hsmx_cluster.settings import rules
from flask_hsmx_cluster.settings.model import Advanced, from_dict, to_dict
from flask_hsmx_cluster.words import preference as words

from .gateways import World
from .test_rules import GOOD, PORTS, A, B
from .test_shared_networks import KEY

PREFERRING = replace(GOOD, advanced=replace(GOOD.advanced, preferred=B, preferred_delay_min=30))


def fields(advanced: Advanced) -> list[str]:
    return [one.field for one in rules.check(replace(GOOD, advanced=advanced), PORTS) if one.blocking]


def test_it_survives_its_dict_form_and_needs_a_version_that_knows_it() -> None:
    assert from_dict(json.loads(json.dumps(to_dict(PREFERRING)))) == PREFERRING
    assert PREFERRING.protocol == 5 and GOOD.protocol < 5
    plain = to_dict(GOOD)
    plain["advanced"] |= {"preferred": "", "preferred_delay_min": 30}
    assert to_dict(from_dict(plain)) == to_dict(GOOD), "without one a delay says nothing"


def test_it_is_one_of_the_two_and_its_delay_has_bounds() -> None:
    assert not fields(PREFERRING.advanced)
    assert fields(replace(PREFERRING.advanced, preferred="c" * 32)) == ["advanced.preferred"]
    for minutes in (0, 1441):
        assert fields(replace(PREFERRING.advanced, preferred_delay_min=minutes)) == ["advanced.preferred_delay_min"]


def test_self_means_this_gateway() -> None:
    data = to_dict(GOOD)
    data["advanced"] |= {"preferred": "self", "preferred_delay_min": 5}
    assert from_dict(filled(data, GOOD, A, "gateway-a")).advanced.preferred == A


def test_a_gateway_that_leaves_takes_the_preference_along() -> None:
    left = without(PREFERRING, B)
    assert left.advanced == GOOD.advanced and left.protocol < 5


def test_it_is_stored(tmp_path: Path) -> None:
    heads = Heads(revisions.draft(None, PREFERRING, A, "A", "now", KEY))
    store = NodeStore(tmp_path / "node.sqlite")
    store.save_heads(heads, [KEY])
    store.close()
    store = NodeStore(tmp_path / "node.sqlite")
    assert store.heads() == heads
    store.close()


@pytest.mark.parametrize(
    ("found", "role", "said"),
    [
        (None, "active", ""),
        ({"name": "gateway-b", "left_s": 240, "why": "", "delay_s": 600}, "active", "takes over again in 4 min"),
        ({"name": "gateway-b", "left_s": None, "why": "a gateway is in maintenance", "delay_s": 600}, "active",
         "but does not take over again for now: a gateway is in maintenance."),
        ({"name": "", "left_s": None, "why": "", "delay_s": 600}, "passive", "This gateway is the preferred one"),
        ({"name": "", "left_s": None, "why": "", "delay_s": 600}, "active", ""),
    ],
)  # fmt: skip
def test_what_is_said(found: dict[str, object] | None, role: str, said: str) -> None:
    text = words.describe({"preference": found, "node": {"role": role}})
    assert said in text and bool(text) == bool(said)


def test_a_gateway_of_a_former_version_is_to_be_updated_first(world: World) -> None:
    held = world.a.service.settings()
    held["settings"]["advanced"] |= {"preferred": "self", "preferred_delay_min": 5}
    facts = world.a.store.peer()
    assert facts is not None
    world.a.store.set_peer(replace(facts, protocol=4))
    with pytest.raises(ChecksFailed, match="does not know all of these settings"):
        world.a.service.propose(held["settings"], held["revision"])
