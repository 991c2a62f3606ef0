"""The page Quarantine: what lies where, in words; made again with open eyes, discarded, exported."""

from __future__ import annotations

import csv
import io
import json
from html import unescape
from typing import Any

import pytest
from flask import Flask

from flask_hsmx_cluster.control import error_from_dict
from flask_hsmx_cluster.errors import DataConflict, PeerUnavailable, RequestRefused

from .conftest import PREFIX
from .fake_agent import OWN_ID, PEER_ID, FakeAgent, compared, conflict_of, kept_row

PAGE = PREFIX + "/quarantine"


@pytest.fixture
def waiting(formed: FakeAgent) -> FakeAgent:
    """Three rows wait on the other gateway, none here."""
    formed.keep(PEER_ID, kept_row(1), kept_row(2), kept_row(3, table_name="room", text="room 12 deleted 11:03:00 on x"))
    return formed


def shown(client: Any, path: str = PAGE, code: int = 200) -> str:
    answer = client.get(path)
    assert answer.status_code == code
    return unescape(answer.text)


def made(agent: FakeAgent) -> list[dict[str, Any]]:
    return [arguments for verb, arguments in agent.calls if verb == "reapply"]


# ---- looking ----


def test_it_opens_where_something_waits_and_names_both_gateways(client: Any, waiting: FakeAgent) -> None:
    page = shown(client)
    assert "On gateway-a" in page and "On gateway-b" in page
    assert "voucher 8841 created 11:02:13 on gateway-b" in page and "public.voucher" in page
    assert f'href="/network/cluster/quarantine?node={PEER_ID}" aria-current="page"' in page
    assert "Nothing waits in quarantine on gateway-a." in shown(client, f"{PAGE}?node={OWN_ID}")


def test_the_settings_page_links_to_it_with_the_count(client: Any, waiting: FakeAgent) -> None:
    page = shown(client, PREFIX + "/")
    assert f'href="/network/cluster/quarantine?node={PEER_ID}">Quarantine on gateway-b: 3 …</a>' in page
    waiting.quarantine[PEER_ID].clear()
    assert "Quarantine on" not in shown(client, PREFIX + "/")


def test_rows_are_narrowed_down_by_table_and_state(client: Any, waiting: FakeAgent) -> None:
    waiting.quarantine[PEER_ID][1]["state"] = "discarded"
    page = shown(client, f"{PAGE}?node={PEER_ID}&table=public.room")
    assert "room 12 deleted" in page and "voucher 8841" not in page and "1 of 1" in page
    page = shown(client, f"{PAGE}?node={PEER_ID}&state=discarded")
    assert "voucher 8842" in page and "voucher 8841" not in page and "Make again" not in page
    assert "There is no such row" in shown(client, f"{PAGE}?node={PEER_ID}&table=public.none")


def test_pages_follow_one_another(client: Any, formed: FakeAgent) -> None:
    formed.keep(OWN_ID, *(kept_row(number) for number in range(1, 121)))
    page, seen = shown(client), []
    for _ in range(5):
        seen += [number for number in range(1, 121) if f"voucher {8840 + number} created" in page]
        if "Next page" not in page:
            break
        following = page.split('">Next page')[0].rpartition('href="')[2]
        page = shown(client, following)
    assert seen == list(range(1, 121)) and "First page" in page


def test_what_lies_on_a_gateway_that_is_away_is_said_to_be_unknown(client: Any, waiting: FakeAgent) -> None:
    waiting.refusals["quarantine"] = PeerUnavailable("The other gateway does not answer.", "Switch it on.")
    page = shown(client)
    assert "What lies on gateway-b cannot be shown now: The other gateway does not answer." in page
    assert "On gateway-a" in page


def test_without_shared_data_there_is_a_sentence(client: Any, formed: FakeAgent) -> None:
    formed.refusals["quarantine"] = RequestRefused("This gateway's database is not shared.", "Make it ready.")
    assert "database is not shared" in shown(client)


def test_a_row_with_its_values(client: Any, formed: FakeAgent) -> None:
    formed.keep(OWN_ID, kept_row(1, operation="update", old_row={"id": "8841", "minutes": "30", "note": None},
                                 new_row={"id": "8841", "minutes": "60", "note": None}, shortened=True))
    page = shown(client, f"{PAGE}/row?id=1")
    assert page.index("minutes") < page.index('<th scope="row">id'), "what differs comes first"
    assert "<td>30</td>" in page and "<td>60</td>" in page and "empty (NULL)" in page and "are shortened here" in page


@pytest.mark.parametrize("query", ["", "id=0", "id=-1", "id=x", "id=1%00", f"id={'9' * 20}", "id=%D9%A1", "id=7"])
def test_a_row_that_does_not_exist(client: Any, waiting: FakeAgent, query: str) -> None:
    assert "There is no" in shown(client, f"{PAGE}/row?{query}", 409)


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "<b>%(x)s%"])
def test_hostile_values_are_shown_harmlessly(client: Any, formed: FakeAgent, text: str) -> None:
    formed.keep(OWN_ID, kept_row(1, text=text, note=text, table_name=text, new_row={text: text}))
    formed.conflict_of[1] = DataConflict(text, text, kind="changed", wanted={text: text}, present={text: "x"})
    for answer in (client.get(PAGE), client.get(f"{PAGE}/row?id=1"), client.get(f"{PAGE}/many?action=discard&id=1"),
                   client.post(f"{PAGE}/reapply", data={"row_id": "1"})):
        assert answer.status_code in (200, 409) and text not in answer.text


def test_hostile_queries(client: Any, waiting: FakeAgent) -> None:
    long, other = "table=" + "x" * 5000, "node=" + "c" * 32
    for query in ("node=%00%27", long, "after=-5", "after=nonsense", "state=%3Cb%3E", other):
        assert client.get(f"{PAGE}?{query}").status_code in (200, 409)
    assert all(len(arguments.get("table", "")) <= 200 for verb, arguments in waiting.calls if verb == "quarantine")


# ---- making again ----


def test_make_again(client: Any, waiting: FakeAgent) -> None:
    answer = client.post(f"{PAGE}/reapply", data={"row_id": "1", "node": PEER_ID})
    assert answer.status_code == 303 and waiting.quarantine[PEER_ID][0]["state"] == "reapplied"
    assert "row 1 of the quarantine is in force again" in shown(client, answer.location)


def test_a_conflict_shows_both_values_and_changes_nothing(client: Any, waiting: FakeAgent) -> None:
    waiting.conflict_of[1] = conflict_of()
    answer = client.post(f"{PAGE}/reapply", data={"row_id": "1", "node": PEER_ID})
    page = unescape(answer.text)
    assert answer.status_code == 409 and waiting.quarantine[PEER_ID][0]["state"] == "kept"
    assert "Now on gateway-a" in page and "<td>60</td>" in page and "<td>90</td>" in page
    assert "What is on gateway-a now is lost by that" in page and f'name="seen" value="{"5" * 64}"' in page


def test_overwriting_needs_a_tick_of_its_own(client: Any, waiting: FakeAgent) -> None:
    waiting.conflict_of[1] = conflict_of()
    form = {"row_id": "1", "node": PEER_ID, "overwrite": "1", "seen": "5" * 64}
    answer = client.post(f"{PAGE}/reapply", data=form)
    assert answer.status_code == 409 and "Tick this" in answer.text
    assert not made(waiting)[-1]["overwrite"]
    assert client.post(f"{PAGE}/reapply", data={"row_id": "1", "node": PEER_ID, "sure": "y"}).status_code == 409
    assert not made(waiting)[-1]["overwrite"], "a tick without having seen the conflict is none"
    assert client.post(f"{PAGE}/reapply", data={**form, "sure": "y"}).status_code == 303
    assert made(waiting)[-1] == {"row_id": 1, "node": PEER_ID, "overwrite": True, "seen": "5" * 64}


def test_a_row_that_changed_after_it_was_shown_is_shown_again(client: Any, waiting: FakeAgent) -> None:
    waiting.conflict_of[1] = conflict_of(seen="6" * 64)
    form = {"row_id": "1", "node": PEER_ID, "overwrite": "1", "seen": "5" * 64, "sure": "y"}
    answer = client.post(f"{PAGE}/reapply", data=form)
    assert answer.status_code == 409 and "6" * 64 in answer.text and waiting.quarantine[PEER_ID][0]["state"] == "kept"


@pytest.mark.parametrize("kind", ["gone", "unique", "reference", "rule", "schema"])
def test_what_overwriting_cannot_mend_is_not_offered(client: Any, waiting: FakeAgent, kind: str) -> None:
    waiting.conflict_of[1] = conflict_of(kind)
    answer = client.post(f"{PAGE}/reapply", data={"row_id": "1", "node": PEER_ID})
    assert answer.status_code == 409 and "Overwrite" not in answer.text and "Discard" in answer.text


def test_a_conflict_survives_its_way_over_the_socket() -> None:
    found = error_from_dict(conflict_of().as_dict())
    assert isinstance(found, DataConflict)
    assert (found.kind, found.seen, found.present and found.present["minutes"]) == ("changed", "5" * 64, "90")
    assert found.as_dict() == conflict_of().as_dict()
    big = DataConflict("x", kind="changed", wanted={str(n): "y" * 100000 for n in range(50)})
    assert len(json.dumps(big.as_dict())) < 20000
    assert isinstance(error_from_dict({"code": "conflict", "present": "x", "wanted": [1]}), DataConflict)


@pytest.mark.parametrize("path", ["/quarantine/reapply", "/quarantine/many", "/quarantine/many/stop", "/verify"])
def test_nothing_changes_without_a_token(make_app: Any, waiting: FakeAgent, path: str) -> None:
    answer = make_app().test_client().post(PREFIX + path, data={"row_id": "1", "id": "1", "node": PEER_ID})
    assert answer.status_code == 409 and "Nothing was done" in answer.text
    assert not {verb for verb, _arguments in waiting.calls} & {"reapply", "sweep", "sweep_stop", "verify"}


def test_who_may_only_look_sees_no_button(make_app: Any, waiting: FakeAgent) -> None:
    app: Flask = make_app(permission=lambda action: action == "view", WTF_CSRF_ENABLED=False)
    client = app.test_client()
    for path in (PAGE, f"{PAGE}/row?id=1&node={PEER_ID}", PREFIX + "/verify"):
        page = client.get(path).text.replace('<button class="hsmx-button">Show</button>', "")
        assert "<button" not in page and "Discard" not in page, path
    assert client.get(f"{PAGE}/many?action=discard&id=1").status_code == 403
    assert client.post(f"{PAGE}/reapply", data={"row_id": "1"}).status_code == 403
    assert client.get(f"{PAGE}/export?format=csv&node={PEER_ID}").status_code == 200


HOSTILE = "\x1b]0;owned\x07\nroom 12 deleted\u202eexe.\x9b2J<script>"


def test_a_guests_text_turns_no_line_around_and_is_no_markup(client: Any, formed: FakeAgent) -> None:
    formed.keep(OWN_ID, kept_row(1, text=f"voucher {HOSTILE}", new_row={"id": "1", "code": HOSTILE}))
    formed.conflict_of[1] = DataConflict(f"voucher {HOSTILE} was changed.", kind="changed", wanted={"code": HOSTILE},
                                         present={"code": HOSTILE}, seen="5" * 64)
    formed.verified = compared("public.guest")
    formed.verified["result"]["tables"][0]["differing"] = [[HOSTILE]]
    answers = [client.get(f"{PAGE}?node={OWN_ID}"), client.get(f"{PAGE}/row?id=1"),
               client.get(f"{PAGE}/many?action=discard&id=1"), client.post(f"{PAGE}/reapply", data={"row_id": "1"}),
               client.get(f"{PREFIX}/verify")]
    for answer in answers:
        assert r"\u202eexe." in answer.text and "\u202e" not in answer.text and "\x1b" not in answer.text
        assert "&lt;script&gt;" in answer.text and "<script>\n" not in answer.text


# ---- exporting ----


def test_export_as_csv_has_every_row_and_no_formula(client: Any, formed: FakeAgent) -> None:
    rows = [kept_row(number) for number in range(1, 452)]
    rows[6] |= {"text": "=1+1", "note": "@SUM(A1)"}
    formed.keep(OWN_ID, *rows)
    answer = client.get(f"{PAGE}/export?format=csv")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="quarantine.csv"'
    assert answer.content_type.startswith("text/csv") and answer.headers["Cache-Control"] == "no-store"
    table = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["id"] for row in table] == [str(number) for number in range(1, 452)]
    assert json.loads(table[0]["new_row"])["code"] == "KX7-22Q"
    assert table[6]["text"] == "'=1+1" and table[6]["note"] == "'@SUM(A1)"


@pytest.mark.parametrize("form", ["csv", "json"])
def test_an_export_is_whole_though_a_page_of_it_was_refused_for_a_moment(
    client: Any, formed: FakeAgent, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """The agent refuses who asks too often, and the other gateway may be away for a second: half a file was given."""
    monkeypatch.setattr("flask_hsmx_cluster.words.quarantine.EXPORT_RETRY_S", 0.0)
    formed.keep(OWN_ID, *(kept_row(number) for number in range(1, 700)))
    give, refused = formed.verb_quarantine, []

    def sometimes(**arguments: Any) -> Any:
        if arguments["after"] and arguments["after"] not in refused:
            refused.append(arguments["after"])
            raise RequestRefused("Too many requests.", "Wait a second.")
        return give(**arguments)

    monkeypatch.setattr(formed, "verb_quarantine", sometimes)
    answer = client.get(f"{PAGE}/export?format={form}")
    rows = answer.json if form == "json" else list(csv.DictReader(io.StringIO(answer.text)))
    assert [int(row["id"]) for row in rows] == list(range(1, 700)) and len(refused) == 3


@pytest.mark.parametrize("form", ["csv", "json"])
def test_an_export_has_long_values_whole(client: Any, formed: FakeAgent, form: str) -> None:
    """Of a row of more than 100 kB it had the beginnings only."""
    formed.keep(OWN_ID, kept_row(1), kept_row(2, shortened=True, old_row={"id": "2", "photo": "ab…"},
                                              new_row={"id": "2", "photo": "cd…", "note": None}))
    formed.long_values = {(2, "old_row", "photo"): "abé" * 1500, (2, "new_row", "photo"): "cd" * 1000}
    answer = client.get(f"{PAGE}/export?format={form}")
    rows = answer.json if form == "json" else [
        {name: json.loads(text) if name in ("old_row", "new_row") and text else text for name, text in row.items()}
        for row in csv.DictReader(io.StringIO(answer.text))]
    assert rows[1]["old_row"] == {"id": "2", "photo": "abé" * 1500}
    assert rows[1]["new_row"] == {"id": "2", "photo": "cd" * 1000, "note": None}
    assert rows[1]["shortened"] in (False, "false")


def test_export_as_json_is_one_array(client: Any, waiting: FakeAgent) -> None:
    answer = client.get(f"{PAGE}/export?format=json&node={PEER_ID}&table=public.voucher")
    assert [row["id"] for row in answer.json] == [1, 2]
    assert client.get(f"{PAGE}/export?format=json&node={OWN_ID}").json == []
    asked = [arguments for verb, arguments in waiting.calls if verb == "quarantine"]
    assert all(one["whole"] for one in asked)


def test_what_is_wrong_is_told_before_the_file_begins(client: Any, waiting: FakeAgent) -> None:
    assert client.get(f"{PAGE}/export?format=exe").status_code == 409
    waiting.refusals["quarantine"] = PeerUnavailable("The other gateway does not answer.")
    answer = client.get(f"{PAGE}/export?format=csv")
    assert answer.status_code == 502 and "Content-Disposition" not in answer.headers
