"""A little of the chaos that ``python -m tests.chaos`` makes for hours: a few seeded faults, and every safety holds."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.driver import known, run_episode
from tests.chaos.record import HELD, ROLE, Record, lane, read
from tests.chaos.schedule import episodes
from tests.chaos.site import Site, site
from tests.chaos.timeline import draw_run
from tests.chaos.verdict import judge

from .hotel import needs_postgres

pytestmark = needs_postgres

#: The agent of the active gateway is killed, a cable is pulled, and both at once; the seed draws short ones.
SEED, KINDS, EPISODES = 924, ("kill_agent", "pull_sync"), 3


@pytest.fixture(scope="module")
def place() -> Iterator[Site]:
    with site(disks=False) as place:
        yield place


def test_a_few_seeded_faults(place: Site, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    for episode in itertools.islice(episodes(SEED, KINDS), EPISODES):
        run_episode(place, episode).append_to(path)
    records = list(read(path))
    assert [judge(record).faults for record in records] == [1, 1, 2]
    for record in records:
        # How long there was no answer is the benchmark's: a test knows no milliseconds.
        broken = [each for each in judge(record).violations if each.invariant != "none"]
        assert not broken, [span for span in record.spans if span.lane.startswith(("fault", "role", "held"))]
        assert seen_active(record) and seen_held(record), "the watchers saw the pair"
    assert place.acknowledged > 100 and place.lost(everything=True) == []
    assert ET.fromstring(draw_run(records, "smoke")).tag.endswith("svg")
    assert "gthread.py" in known(place.lab.a), "what is kept of a pair that breaks says where the threads are"


def seen_active(record: Record) -> bool:
    return any(record.of(lane(ROLE, gateway), "active") for gateway in "ab")


def seen_held(record: Record) -> bool:
    return any(record.of(lane(HELD, gateway), "10.0.0.100") for gateway in "ab")
