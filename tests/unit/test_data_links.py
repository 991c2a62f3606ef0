"""The data leaves a link that carries no heartbeats, and comes back when it is sound."""

from __future__ import annotations

from flask_hsmx_cluster.agent.data_links import SOUND_AFTER_S, DataLinks

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
