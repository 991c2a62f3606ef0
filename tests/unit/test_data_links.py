"""The data leaves a link that carries no heartbeats, and comes back when it is sound."""

from __future__ import annotations

from flask_hsmx_cluster.agent.data.links import FORMER_S, SOUND_AFTER_S, DataLinks

SYNC, BACKUP = "10.99.0.2", "10.98.0.2"
BOTH = [SYNC, BACKUP]


def order(links: DataLinks, now: float, sync: str = "up", backup: str = "up") -> list[str]:
    return links.order(BOTH, {SYNC: sync, BACKUP: backup}, now)


def test_the_sync_link_first() -> None:
    assert order(DataLinks(), 100.0) == BOTH


def test_not_by_a_link_that_is_down_nor_by_one_that_was_lately() -> None:
    links = DataLinks()
    assert order(links, 100.0, sync="down") == [BACKUP, SYNC]
    assert order(links, 100.0 + SOUND_AFTER_S - 0.1) == [BACKUP, SYNC]
    assert order(links, 100.0 + SOUND_AFTER_S) == BOTH


def test_no_better_choice_is_no_reason_to_move() -> None:
    links = DataLinks()
    assert order(links, 100.0, sync="down", backup="down") == BOTH
    assert order(links, 101.0, sync="unknown", backup="down") == BOTH


def test_who_has_just_got_other_addresses_may_come_from_its_former_ones_for_a_while() -> None:
    links = DataLinks()
    assert links.former("b", BOTH, [], 100.0) == []
    changed = ["10.97.0.2", BACKUP]
    assert links.former("b", changed, [], 101.0) == [SYNC]
    assert links.former("b", changed, ["10.95.0.2"], 102.0) == [SYNC, "10.95.0.2"], "its own word counts, too"
    assert links.former("b", changed, [], 100.0 + FORMER_S) == ["10.95.0.2"]
    assert links.former("c", changed, [], 100.0 + FORMER_S) == [], "another gateway never had them"
