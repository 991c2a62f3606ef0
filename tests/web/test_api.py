"""The REST API."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import PREFIX
from .fake_agent import CODE, OWN_ID, PEER_ID, FakeAgent, cluster_settings, compared, conflict_of, kept_row

HEADERS = {"X-HSMX-Cluster": "1"}


def post(client: Any, path: str, **body: Any) -> Any:
    return client.post(f"{PREFIX}/api/{path}", json=body, headers=HEADERS)


@pytest.mark.parametrize("path", ["status", "settings", "ports", "peer-ports", "events"])
def test_reading(client: Any, formed: FakeAgent, path: str) -> None:
    answer = client.get(f"{PREFIX}/api/{path}")
    assert answer.status_code == 200
    assert answer.json == getattr(formed, "verb_" + path.replace("-", "_"))()


def test_events_are_paged(client: Any, formed: FakeAgent) -> None:
    found = client.get(f"{PREFIX}/api/events?limit=3&before=50").json["events"]
    assert [event["id"] for event in found] == [49, 48, 47]
    client.get(f"{PREFIX}/api/events?limit=500")
    assert formed.calls[-1] == ("events", {"limit": 500, "before": None})


@pytest.mark.parametrize(
    "query",
    ["events?limit=501", "events?limit=0", "events?limit=false", "events?limit=", "events?limit=1.5", "events?limit=¹",
     "events?before=null", "events?before=0", "events?before=9&before=8", "firewall?" + "&".join(["peer=10.0.0.9"] * 9),
     "firewall?peer=" + "a" * 65, "data/quarantine?after=x", "data/quarantine?limit=-1", "data/quarantine?limit=0",
     "data/quarantine?limit=201", "data/quarantine?after=99999999999999999999999", "data/quarantine?state=lost",
     "data/quarantine?table=" + "a" * 201, "data/quarantine?batch=" + "0" * 31, "data/quarantine?node=" + "c" * 33,
     "data/quarantine/1?node=" + "c" * 33, "data/quarantine/export?format=x",
     "data/quarantine/export?table=" + "a" * 201, "data/quarantine/export?batch=" + "0" * 41],
)  # fmt: skip
def test_a_query_against_its_description_is_neither_bent_nor_left_out(
    client: Any, formed: FakeAgent, query: str
) -> None:
    """Who mistypes a limit or a filter shall not take other rows for those that were asked for."""
    answer = client.get(f"{PREFIX}/api/{query}")
    name = query.partition("?")[2].partition("=")[0]
    assert answer.status_code == 400 and answer.json["error"]["message"].startswith(f"{name} "), answer.text
    assert formed.calls == []


def test_what_a_query_does_not_know_is_left_out(client: Any, formed: FakeAgent) -> None:
    assert client.get(f"{PREFIX}/api/events?limit=3&_=1700000000").status_code == 200


def test_who_may_not_look_is_not_told_what_is_wrong_with_a_query(make_app: Any, formed: FakeAgent) -> None:
    client = make_app(permission=lambda action: False).test_client()
    assert client.get(f"{PREFIX}/api/events?limit=0").status_code == 403


def test_any_value_of_the_header_will_do(client: Any, formed: FakeAgent) -> None:
    """No other site's page can send even an empty one unasked."""
    for value in ("", "1"):
        answer = client.post(f"{PREFIX}/api/maintenance", json={"on": False}, headers={"X-HSMX-Cluster": value})
        assert answer.status_code == 200


def test_a_whole_life(client: Any, agent: FakeAgent) -> None:
    agent.form(paired=False)
    settings = {**cluster_settings(paired=False)}
    agent.verb_leave()
    assert post(client, "create", settings=settings).json["code"] == CODE
    assert post(client, "pairing-code").json["code"] == CODE
    assert post(client, "leave", force=True).json == {"left": True, "peer_informed": False}
    ends = {"sync": {"port": "sync0", "address": "192.168.254.1/30"}}
    assert post(client, "join", address="192.168.254.2", code=CODE, ends=ends).json["peer"] == "gateway-b"
    assert post(client, "failover").json["to"] == "gateway-a"
    assert post(client, "maintenance", on=True, duration_s=600).json == {"on": True, "left_s": 600}
    assert post(client, "settings", settings=cluster_settings(), base_revision=1).json["revision"] == 2
    assert post(client, "preflight", settings=cluster_settings()).json["findings"] == []


def test_findings_are_listed(client: Any, formed: FakeAgent) -> None:
    settings = cluster_settings()
    settings["advanced"]["heartbeat_ms"] = 2000
    answer = post(client, "settings", settings=settings, base_revision=1)
    assert answer.status_code == 422
    assert answer.json["error"]["findings"][0]["field"] == "advanced.lease_s"


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("settings", {"settings": cluster_settings(), "base_revision": 0}, 409),
        ("settings", {"settings": [], "base_revision": 1}, 400),
        ("settings", {"settings": {}, "base_revision": 1}, 422),
        ("settings", {"settings": cluster_settings(), "base_revision": "1"}, 400),
        ("settings", {"settings": {**cluster_settings(), "nodes": [{}] * 9}, "base_revision": 1}, 422),
        ("failover", {"force": True}, 400),
        ("maintenance", {"on": "yes"}, 400),
        ("join", {"address": ["x"], "code": "x", "ends": {}}, 400),
        ("leave", {"force": 1}, 400),
        ("data/quarantine/reapply", {"row_id": "1"}, 400),
        ("data/quarantine/reapply", {"row_id": True}, 400),
        ("data/quarantine/discard", {"ids": "all"}, 400),
    ],
)
def test_hostile_bodies(client: Any, formed: FakeAgent, path: str, body: Any, code: int) -> None:
    answer = post(client, path, **body)
    assert answer.status_code == code
    assert answer.json["error"]["message"]


# ---- the shared data ----


def test_the_data_is_read_under_its_own_path(client: Any, formed: FakeAgent) -> None:
    formed.keep(PEER_ID, kept_row(1), kept_row(2, table_name="room"))
    formed.verified = compared("public.voucher")
    get = lambda path: client.get(f"{PREFIX}/api/data{path}")  # noqa: E731
    assert get("").json == formed.verb_status()["data"]
    assert [one["waiting"] for one in get("").json["quarantine"]] == [0, 2]
    assert set(get("/coverage").json) == {"replicable", "counts", "tables", "warnings"}
    assert get(f"/quarantine?node={PEER_ID}&table=public.room").json["total"] == 1
    assert get(f"/quarantine/2?node={PEER_ID}").json == kept_row(2, table_name="room")
    assert get("/verify").json == formed.verified
    assert [row["id"] for row in get(f"/quarantine/export?node={PEER_ID}").json] == [1, 2]
    assert get(f"/quarantine/export?format=csv&node={PEER_ID}").text.startswith("id,text,")


def test_changes_of_the_data(client: Any, formed: FakeAgent) -> None:
    formed.keep(PEER_ID, kept_row(1), kept_row(2))
    formed.conflict_of[1] = conflict_of()
    answer = post(client, "data/quarantine/reapply", row_id=1, node=PEER_ID)
    assert answer.status_code == 409 and answer.json["error"]["code"] == "conflict"
    assert answer.json["error"]["present"]["minutes"] == "90" and answer.json["error"]["can_overwrite"]
    seen = answer.json["error"]["seen"]
    again = {"row_id": 1, "node": PEER_ID, "overwrite": True, "seen": seen}
    assert post(client, "data/quarantine/reapply", **again).json == {"made": True}
    assert post(client, "data/quarantine/discard", ids=[2], node=PEER_ID).json == {"discarded": 1}
    assert post(client, "data/verify").json["under_way"]
    assert post(client, "replace").status_code == 409
    formed.peer["role"] = "unknown"  # type: ignore[index]
    assert post(client, "replace").json == {"code": CODE, "expires_in_s": 600, "replaced": "gateway-b"}


@pytest.mark.parametrize(
    "path",
    ["/quarantine?node=c", "/quarantine/7", "/quarantine/export?node=c"],
)
def test_hostile_questions_about_the_data(client: Any, formed: FakeAgent, path: str) -> None:
    answer = client.get(f"{PREFIX}/api/data{path}")
    assert answer.status_code == 409 and answer.json["error"]["message"]


def test_there_is_no_agent_to_ask_about_the_data(client: Any) -> None:
    for path in ("", "/quarantine", "/quarantine/1", "/quarantine/export", "/verify"):
        answer = client.get(f"{PREFIX}/api/data{path}")
        assert answer.status_code == 503 and answer.json["error"]["code"] == "agent_unavailable"


@pytest.mark.parametrize("data", [b"{", b"[1]", b"\xff\xfe", b"[" * 30000, b'{"on": ' + b"1" * 70000 + b"}", b"null"])
def test_what_is_not_an_object(client: Any, formed: FakeAgent, data: bytes) -> None:
    answer = client.post(f"{PREFIX}/api/maintenance", data=data, content_type="application/json", headers=HEADERS)
    assert answer.status_code == 400
    assert formed.calls == []


def test_agent_absent(client: Any) -> None:
    answer = client.get(f"{PREFIX}/api/status")
    assert answer.status_code == 503
    assert answer.json["error"]["code"] == "agent_unavailable" and answer.json["error"]["remedy"]


def test_status_json_is_the_status(client: Any, formed: FakeAgent) -> None:
    found = client.get(PREFIX + "/status.json").json
    assert found["node"]["id"] == OWN_ID and "parts" not in found
    parts = client.get(PREFIX + "/status.json?parts=1").json["parts"]
    assert "This gateway is active" in parts["headline"] and "<svg" in parts["diagram"]


def test_status_json_without_agent(client: Any) -> None:
    assert client.get(PREFIX + "/status.json").json["error"]["code"] == "agent_unavailable"
    answer = client.get(PREFIX + "/status.json?parts=1")
    assert answer.status_code == 503 and "not running" in answer.json["parts"]["headline"]
