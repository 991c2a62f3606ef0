"""What the page says of the data, in each state."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest

from flask_hsmx_cluster.words import cluster as words
from flask_hsmx_cluster.words.data import SIGNS, describe

from .conftest import PREFIX
from .fake_agent import FakeAgent, data_status, following_status, peer_status

COPIES = "copies the other gateway's data"
STATES: dict[str, tuple[str, Any, str, str]] = {
    "synchronous": ("active", data_status(), "ok", "Every write is confirmed by both gateways."),
    "degraded": ("active", data_status(synchronous=False, degraded_since_s=725.0), "bad",
                 "Writes are confirmed by this gateway only, for 12 min 5 s now."),
    "degraded, and slowed": ("active", data_status(synchronous=False, degraded_since_s=9.0, follower={
        **data_status()["follower"], "lag_bytes": 3 << 20, "brake_ms": 16}), "bad",
        "for 9 s now. Writes are slowed by 16 ms each so that gateway-b catches up, 3.0 MB left."),
    "being filled": ("active", data_status(synchronous=False, degraded_since_s=725.0, follower={
        **data_status()["follower"], "streaming": False, "filled": False}), "info",
        "gateway-b is being filled with this gateway's data for the first time."),
    "a moment": ("active", data_status(synchronous=False), "warn", "by this gateway only, at this moment."),
    "by choice": ("active", data_status(synchronous=False, wants_synchronous=False), "info",
                  "by this gateway only: asynchronous by configuration."),
    "by choice, alone": ("active", data_status(synchronous=False, wants_synchronous=False, follower=None), "bad",
                         "gateway-b does not get what is written here."),
    "read-only": ("active", data_status(writable=False), "bad", "The database of this gateway refuses writes."),
    "follows": ("passive", following_status(), "ok", "This gateway follows gateway-b."),
    "begins": ("passive", following_status(step="begins", under_way=True), "info", "begins to follow gateway-b."),
    "rejoins": ("passive", following_status(step="replaces what was changed", under_way=True), "info",
                "catches up with gateway-b: it replaces what was changed."),
    "copies": ("passive", following_status(step=COPIES, done=1200, total=50000, copying=True, under_way=True), "info",
               "The first copy is under way: this gateway copies the other gateway's data."),
    "failed": ("passive", following_status(step=COPIES, error="The disk is full"), "bad",
               "This gateway does not follow gateway-b: The disk is full"),
    "cut": ("passive", data_status(synchronous=False, follower=None, streams=[
        {"name": "hsmx_cluster", "enabled": True, "worker_pid": None, "origin_lsn": "0/0", "error_count": 3}]), "warn",
        "This gateway gets no changes from gateway-b at the moment."),
    "not yet": ("passive", data_status(synchronous=False, follower=None), "warn", "does not follow gateway-b yet."),
    "problem": ("active", data_status(problem="PostgreSQL does not answer.", remedy="Start it."), "bad",
                "cannot be kept like the other gateway's: PostgreSQL does not answer."),
    "set-up": ("active", {"set_up": False, "problem": "", "remedy": "", "synchronous": False, "degraded_since_s": None,
                          "follower": None}, "info", "is being made ready"),
    "no cluster in force": ("standalone", data_status(follower=None), "warn", "while the cluster settings are not in"),
}  # fmt: skip


def shown(client: Any) -> str:
    """Return the part of the page that shows the data, renewed as the script does it."""
    part: str = client.get(PREFIX + "/status.json?parts=1").json["parts"]["data"]
    return unescape(part)


def scene(agent: FakeAgent, role: str, data: Any) -> None:
    agent.role, agent.data = role, data
    if role == "passive":
        agent.peer = {**peer_status(), "role": "active"}


@pytest.mark.parametrize("state", STATES)
def test_each_state_has_a_sign_and_a_sentence(client: Any, formed: FakeAgent, state: str) -> None:
    role, data, kind, text = STATES[state]
    scene(formed, role, data)
    part = shown(client)
    assert text in part and f"hsmx-message hsmx-{kind}" in part and f">{SIGNS[kind]}</span>" in part
    assert text in unescape(client.get(PREFIX + "/").text)
    if kind == "bad":
        assert describe(formed.verb_status()).remedy in part  # type: ignore[union-attr]
    for other in {one[3] for one in STATES.values()} - {text}:
        assert other not in part


def test_no_section_where_nothing_is_shared(client: Any, formed: FakeAgent) -> None:
    assert shown(client).strip() == ""
    page = client.get(PREFIX + "/").text
    assert 'id="hsmx-data"' not in page and "moves addresses only" in page
    formed.data = data_status()
    page = client.get(PREFIX + "/").text
    assert 'id="hsmx-data"' in page and "moves addresses only" not in page and "Files are not replicated" in page


def test_a_gateway_without_another_one_is_not_said_to_be_degraded(client: Any, formed: FakeAgent) -> None:
    formed.form(paired=False)
    formed.data = data_status(synchronous=False)
    assert "no other gateway has joined" in shown(client)


def test_a_take_over_of_this_moment_is_not_said_to_refuse_writes(formed: FakeAgent) -> None:
    formed.data = data_status(writable=False)
    status = formed.verb_status()
    status["node"]["since_s"] = 0.4
    assert "refuses" not in describe(status).text  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("done", "total", "element", "text"),
    [(0, 0, "", ""), (1200, 0, "", "1,200 rows so far"), (1200, 50000, ' value="1200" max="50000"', "1,200 of 50,000"),
     (0, 50000, ' value="0" max="50000"', "0 of 50,000 rows")],
)
def test_progress_is_what_was_told(
    client: Any, formed: FakeAgent, done: int, total: int, element: str, text: str
) -> None:
    scene(formed, "passive", following_status(step=COPIES, done=done, total=total, copying=True, under_way=True))
    part = shown(client)
    assert re.search(rf'<progress aria-label="First copy"{element}></progress> <span>{text}', part)


def test_a_reason_that_has_a_remedy_is_shown_with_it(client: Any, formed: FakeAgent) -> None:
    scene(formed, "passive", following_status(error="No column colour.", remedy="Migrate gateway-a.", step=""))
    assert "No column colour." in shown(client) and "Migrate gateway-a." in shown(client)
    assert "check PostgreSQL on both" not in shown(client)


def test_a_copy_tells_tables_bytes_and_time_where_they_are_known(client: Any, formed: FakeAgent) -> None:
    known = {"tables_done": 3, "tables": 9, "done_bytes": 3 << 29, "total_bytes": 3 << 30, "left_s": 95.0}
    going = following_status(step=COPIES, copying=True, done=1200, total=50000, under_way=True, **known)
    scene(formed, "passive", going)
    assert "1,200 of 50,000 rows · 3 of 9 tables · 1.5 GB of 3.0 GB · about 1 min 35 s left" in shown(client)


WAITS = {"in_step_at": "2030-05-06T07:08:09+00:00", "waits": True, "left_s": 47.2}


@pytest.mark.parametrize(
    ("role", "stale", "text"),
    [
        ("passive", WAITS, "data as of 2030-05-06 07:08 UTC: that of gateway-b may be newer. It waits for 47 s more"),
        ("passive", {**WAITS, "left_s": None}, "may be newer. It does not serve."),
        ("passive", {**WAITS, "in_step_at": ""}, "data of which time is not known"),
        ("active", {**WAITS, "waits": False}, "This gateway serves data as of 2030-05-06 07:08 UTC"),
    ],
)
def test_data_that_may_be_older_is_said_to_be(
    client: Any, formed: FakeAgent, role: str, stale: Any, text: str
) -> None:
    formed.role = role
    formed.data = data_status(synchronous=False, stale=stale)
    part = shown(client)
    assert text in part and "hsmx-bad" in part and describe(formed.verb_status()).remedy  # type: ignore[union-attr]


def test_wal_kept_for_the_other_gateway(client: Any, formed: FakeAgent) -> None:
    formed.data = data_status()
    assert "<dt>WAL kept for gateway-b:</dt><dd>16 MB</dd>" in shown(client)
    scene(formed, "passive", following_status())
    assert "WAL kept" not in shown(client)


def test_hostile_text_of_the_data_is_shown_harmlessly(client: Any, formed: FakeAgent) -> None:
    formed.data = data_status(problem="<script>alert(1)</script>")
    assert "<script>alert" not in client.get(PREFIX + "/").text


def test_the_readiness_text_stays_the_agents(client: Any, formed: FakeAgent) -> None:
    formed.data = data_status(synchronous=False, degraded_since_s=60.0)
    assert "Yes." in client.get(PREFIX + "/status.json?parts=1").json["parts"]["readiness"]


@pytest.mark.parametrize(
    ("count", "text"),
    [(-1, "0 B"), (512, "512 B"), (1536, "1.5 kB"), (16 << 20, "16 MB"), (3 << 29, "1.5 GB"), (1 << 52, "4096 TB")],
)
def test_sizes(count: int, text: str) -> None:
    assert words.size(count) == text
