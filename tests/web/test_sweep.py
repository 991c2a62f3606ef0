"""Many quarantined changes at once: asked first, with true progress, on the page, the command line and by REST."""

from __future__ import annotations

from html import unescape
from typing import Any

import pytest
from flask import Flask

from flask_hsmx_cluster.errors import PeerUnavailable

from .conftest import PREFIX
from .fake_agent import NOT_SWEPT, OWN_ID, PEER_ID, FakeAgent, conflict_of, kept_row

PAGE = PREFIX + "/quarantine"
MANY = PAGE + "/many"
BATCH = "1" * 32


@pytest.fixture
def waiting(formed: FakeAgent) -> FakeAgent:
    """Three rows wait on the other gateway; one of another table and rejoin."""
    formed.keep(PEER_ID, kept_row(1), kept_row(2),
                kept_row(3, table_name="room", text="room 12 deleted 11:03:00 on x", batch=BATCH))
    return formed


def shown(client: Any, path: str, code: int = 200) -> str:
    answer = client.get(path)
    assert answer.status_code == code
    return unescape(answer.text)


def swept(agent: FakeAgent) -> list[dict[str, Any]]:
    return [arguments for verb, arguments in agent.calls if verb == "sweep"]


def states(agent: FakeAgent) -> list[str]:
    return [row["state"] for row in agent.quarantine[PEER_ID]]


# ---- the page ----


def test_it_says_what_it_will_do_first(client: Any, waiting: FakeAgent) -> None:
    page = shown(client, f"{MANY}?action=discard&node={PEER_ID}&id=1&id=2")
    assert "Discard 2 changes?" in page and "voucher 8841 created" in page and "written on gateway-b" in page
    assert not swept(waiting)
    answer = client.post(MANY, data={"action": "discard", "node": PEER_ID, "id": ["1", "2"], "upto": "0"})
    assert answer.status_code == 303 and states(waiting) == ["discarded", "discarded", "kept"]
    assert "2 changes discarded." in shown(client, answer.location)


def test_all_of_a_table_or_a_rejoin_and_none_that_was_not_there_yet(client: Any, waiting: FakeAgent) -> None:
    page = shown(client, f"{PAGE}?node={PEER_ID}&table=public.voucher")
    assert "on all of its pages: 2 changes" in page
    path = page.split('">Discard all of these')[0].rpartition('href="')[2]
    page = shown(client, path)
    assert "Discard 2 changes of the table public.voucher?" in page and 'name="upto" value="3"' in page
    waiting.keep(PEER_ID, kept_row(4))
    form = {"action": "discard", "node": PEER_ID, "table": "public.voucher", "upto": "3"}
    assert client.post(MANY, data=form).status_code == 303
    assert states(waiting) == ["discarded", "discarded", "kept", "kept"]
    page = shown(client, f"{MANY}?action=reapply&all=1&node={PEER_ID}&batch={BATCH}")
    assert "Make 1 change of the rejoin at 2030-05-06" in page and f'name="batch" value="{BATCH}"' in page
    client.post(MANY, data={"action": "reapply", "node": PEER_ID, "batch": BATCH, "upto": "4"})
    assert states(waiting) == ["discarded", "discarded", "reapplied", "kept"]


def test_the_list_is_narrowed_down_to_a_rejoin(client: Any, waiting: FakeAgent) -> None:
    page = shown(client, f"{PAGE}?node={PEER_ID}&batch={BATCH}")
    assert "room 12 deleted" in page and "voucher 8841" not in page and f'<option value="{BATCH}" selected>' in page
    assert f"batch={BATCH}&format=csv" in page


def test_what_was_discarded_can_be_taken_back(client: Any, waiting: FakeAgent) -> None:
    client.post(MANY, data={"action": "discard", "node": PEER_ID, "upto": "3"})
    page = shown(client, f"{PAGE}?node={PEER_ID}&state=discarded")
    assert "Take all of these back" in page and "Discard all" not in page and page.count('name="id"') == 3
    assert "Take it back" in shown(client, f"{PAGE}/row?node={PEER_ID}&id=1")
    client.post(MANY, data={"action": "restore", "node": PEER_ID, "id": "2"})
    assert states(waiting) == ["discarded", "kept", "discarded"]


def test_what_did_not_fit_is_listed_with_the_reason(client: Any, waiting: FakeAgent) -> None:
    waiting.conflict_of[2] = conflict_of()
    answer = client.post(MANY, data={"action": "reapply", "node": PEER_ID, "upto": "3"})
    page = shown(client, answer.location)
    assert "2 changes made again. 1 change did not fit: they still wait." in page
    assert "The row was changed on the active gateway, too: 1 change" in page and "voucher 8842 created" in page


def test_while_it_is_under_way_the_page_shows_how_far_it_is_and_it_can_be_stopped(
    client: Any, waiting: FakeAgent
) -> None:
    waiting.sweeping = {"under_way": True, "total": 120000, "done": 30000, "unfit": 10, "left_s": 90.0}
    page = shown(client, client.post(MANY, data={"action": "reapply", "node": PEER_ID, "upto": "3"}).location)
    assert 'value="30010" max="120000"' in page and "30,010 of 120,000" in page and "left" in page
    assert '<noscript><meta http-equiv="refresh"' in page and f'data-live="{MANY}/progress?node={PEER_ID}"' in page
    assert "data-running" in shown(client, f"{MANY}/progress?node={PEER_ID}")
    assert client.post(f"{MANY}/stop", data={"node": PEER_ID}).status_code == 303
    part = shown(client, f"{MANY}/progress?node={PEER_ID}")
    assert "data-running" not in part and "It was stopped." in part


def test_what_ended_it_is_said(client: Any, waiting: FakeAgent) -> None:
    waiting.swept = {**NOT_SWEPT, "action": "reapply", "total": 9, "done": 4, "error": "gateway-b <b> is away.",
                     "ended_at": "2030-05-06T07:08:21+00:00"}
    answer = client.get(f"{PAGE}?node={PEER_ID}")
    assert "Then it failed: gateway-b &lt;b&gt; is away." in answer.text and "what is done stays done" in answer.text


def test_only_a_few_rows_are_named(client: Any, formed: FakeAgent) -> None:
    formed.keep(OWN_ID, *(kept_row(number) for number in range(1, 41)))
    page = shown(client, f"{MANY}?action=discard&" + "&".join(f"id={number}" for number in range(1, 41)))
    assert "and 35 more" in page and page.count('name="id"') == 40
    page = shown(client, f"{MANY}?action=discard&all=1")
    assert "Discard 40 changes?" in page and "and 35 more" in page and page.count('name="id"') == 0


@pytest.mark.parametrize("data", [
    {"action": "discard"}, {"action": "discard", "id": "x"}, {"action": "discard", "id": ["1", "x"]},
    {"action": "discard", "id": ["1"] * 1001}, {"action": "drop", "id": "1"}, {"id": "1"},
    {"action": "discard", "upto": "-1"}, {"action": "discard", "upto": "all"},
])  # fmt: skip
def test_hostile_choices_do_nothing(client: Any, waiting: FakeAgent, data: dict[str, Any]) -> None:
    assert client.post(MANY, data={"node": PEER_ID, **data}).status_code == 409
    assert not swept(waiting)
    assert client.get(MANY, query_string={"node": PEER_ID, **data}).status_code == 409


def test_who_may_only_look_may_not(make_app: Any, waiting: FakeAgent) -> None:
    app: Flask = make_app(permission=lambda action: action == "view", WTF_CSRF_ENABLED=False)
    client = app.test_client()
    assert client.get(f"{MANY}?action=discard&all=1&node={PEER_ID}").status_code == 403
    assert client.post(MANY, data={"action": "discard", "upto": "3"}).status_code == 403
    assert client.post(f"{MANY}/stop").status_code == 403
    assert "Stop" not in shown(client, f"{MANY}/progress?node={PEER_ID}")


# ---- REST ----


def test_rest(client: Any, waiting: FakeAgent) -> None:
    header = {"X-HSMX-Cluster": "1"}
    path = PREFIX + "/api/data/quarantine"
    assert client.get(f"{path}?node={PEER_ID}&batch={BATCH}").json["total"] == 1
    order = {"action": "discard", "node": PEER_ID, "table": "public.voucher", "upto": 3}
    assert client.post(f"{path}/sweep", json=order).status_code == 403 and not swept(waiting)
    assert client.post(f"{path}/sweep", json=order, headers=header).json["done"] == 2
    assert client.get(f"{path}/sweep?node={PEER_ID}").json["action"] == "discard"
    assert client.post(f"{path}/sweep-stop", json={"node": PEER_ID}, headers=header).json["stopped"]
    assert client.post(f"{path}/sweep", json={"action": 5}, headers=header).status_code == 400


# ---- the command line ----


def test_many_from_the_command_line(run: Any, waiting: FakeAgent) -> None:
    found = run("database", "discard", "--table", "public.voucher", "--on", "gateway-b", code=1)
    assert "Discard 2 changes?" in found.stderr and not swept(waiting), "nobody has said yes"
    assert "2 changes discarded." in run(
        "database", "discard", "--table", "public.voucher", "--on", "gateway-b", "--yes").output
    assert swept(waiting)[-1] == {"action": "discard", "upto": 3, "node": PEER_ID, "table": "public.voucher",
                                  "batch": ""}
    assert "1 change taken back." in run("database", "restore", "2", "--on", "gateway-b").output
    waiting.conflict_of[2] = conflict_of()
    found = run("database", "reapply", "--all", "--yes", "--on", "gateway-b", code=1)
    assert "1 change made again. 1 change did not fit" in found.output
    assert "The row was changed on the active gateway, too: 1; 2: voucher 8842" in found.output
    for command in (("reapply",), ("discard",), ("restore",)):
        assert "No row was chosen" in run("database", *command, code=1).stderr
    assert "no such row" in run("database", "discard", "--table", "public.none", "--yes", code=1).stderr
    assert "one row at a time" in run("database", "reapply", "1", "2", "--overwrite", code=1).stderr


def test_the_command_line_waits_and_shows_how_far_it_is(
    run: Any, waiting: FakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_hsmx_cluster.cli.sweep.LOOK_EVERY_S", 0.0)
    waiting.sweeping = {"under_way": True, "total": 120000, "done": 30000}
    after = iter([{}, {"under_way": False, "done": 120000}])
    monkeypatch.setattr(waiting, "verb_swept", lambda node: waiting.swept | next(after))
    found = run("database", "discard", "--all", "--yes", "--on", "gateway-b")
    assert found.stderr.count("30,000 of 120,000") == 2 and "120,000 changes discarded." in found.output


def test_a_gateway_that_is_away(run: Any, client: Any, waiting: FakeAgent) -> None:
    waiting.refusals["sweep"] = PeerUnavailable("The other gateway does not answer.", "Switch it on.")
    assert "does not answer" in run("database", "restore", "1", "--on", "gateway-b", code=1).stderr
    assert client.post(MANY, data={"action": "discard", "node": PEER_ID, "id": "1"}).status_code == 502
