"""The REST API."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import PREFIX
from .fake_agent import CODE, OWN_ID, FakeAgent, cluster_settings

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
    client.get(f"{PREFIX}/api/events?limit=999999999")
    assert formed.calls[-1] == ("events", {"limit": 500, "before": None})


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
    ],
)
def test_hostile_bodies(client: Any, formed: FakeAgent, path: str, body: Any, code: int) -> None:
    answer = post(client, path, **body)
    assert answer.status_code == code
    assert answer.json["error"]["message"]


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
