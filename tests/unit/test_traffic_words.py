"""What people read of guests' connections and of the passive gateway's way out."""

from __future__ import annotations

from typing import Any

import pytest

from flask_hsmx_cluster.words import services as services_words

TRACKING = {"state": "running", "active": False, "problem": "", "entries": {"own": 17, "peer": 4}, "last_commit": None}
WAY = {"state": "reachable", "host": "updates.example", "port": 443, "took_ms": 35.0, "through_peer": True}


def said(**told: Any) -> services_words.ServicesWords:
    services = {"problem": "", "remedy": "", "stage": "", "services": [], "hooks": [], **told}
    found = services_words.describe({"services": services, "cluster": {}})
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({}, "ok", "those of the active gateway are known here; 4 now."),
        ({"active": True}, "ok", "the other gateway is told of each; 17 now."),
        ({"last_commit": {"took_ms": 5.2, "entries": 4}}, "ok", "Taken over within"),
        ({"state": "absent"}, "warn", "conntrackd is not installed: they break at a fail-over."),
        ({"state": "down", "problem": "no such kernel"}, "warn", "conntrackd does not run (no such kernel)"),
        ({"state": "down"}, "info", "conntrackd is being started."),
        ({"problem": "nft: refused"}, "warn", "a step failed: nft: refused"),
    ],
)
def test_guests_connections(changes: dict[str, Any], kind: str, words: str) -> None:
    found = said(conntrack={**TRACKING, **changes})
    (row,) = found.rows
    assert (row.kind, row.name) == (kind, "Guests' connections") and words in row.text
    assert bool(found.remedy) is (kind == "warn")
    assert found.kind == ("warn" if kind == "warn" else "ok")


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({}, "ok", "updates.example port 443 is reached through the active gateway"),
        ({"through_peer": False}, "ok", "by this gateway's own way"),
        ({"state": "unreachable", "problem": "timed out"}, "warn", "port 443 cannot be reached: timed out"),
        ({"state": "unknown"}, "info", "not known yet"),
        ({"state": "lending"}, "ok", "the passive gateway reaches the outside through this one"),
    ],
)  # fmt: skip
def test_the_way_out(changes: dict[str, Any], kind: str, words: str) -> None:
    found = said(passive_internet={**WAY, **changes})
    (row,) = found.rows
    assert row.kind == kind and words in row.text
    assert bool(found.remedy) is (kind == "warn")


def test_what_is_switched_off_is_not_spoken_of() -> None:
    off = {"conntrack": {"state": "off"}, "passive_internet": {"state": "off"}}
    services = {"problem": "", "remedy": "", "stage": "", "services": [], "hooks": [], **off}
    assert services_words.describe({"services": services, "cluster": {}}) is None


def test_a_service_that_does_not_run_comes_first() -> None:
    service = {"name": "dhcp", "state": "failed", "wanted": True, "problem": "it ended", "since_s": 1.0}
    found = said(services=[service], conntrack={**TRACKING, "state": "absent"})
    assert found.kind == "bad" and "service" in found.text
