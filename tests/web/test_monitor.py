"""``/metrics``, ``/health`` and ``/role``: what monitors read, and who may."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from flask_hsmx_cluster.errors import AgentUnavailable, ConfigError
from flask_hsmx_cluster.web import monitor

from .conftest import PREFIX
from .fake_agent import FakeAgent, data_status

TOKEN = "a-token-of-a-monitor"
LINE = re.compile(r'hsmx_cluster_[a-z_]+(\{([a-z]+="([^"\\\n]|\\.)*",?)+\})? -?[0-9.e+-]+')


def test_metrics_are_in_the_format_of_prometheus(client: FlaskClient, formed: FakeAgent) -> None:
    formed.data = data_status()
    formed.alarms = [{"key": 'odd"\n\\', "severity": "critical", "text": "x", "remedy": "", "since_s": 1.0}]
    formed.notify = [{"name": "night", "waiting": 2, "failures": 1, "error": "", "delivered_s": None, "next_s": 1.0,
                      "speaks": True}]  # fmt: skip
    (seen,) = (one.certificate for one in formed.renewing.facts.values() if one.name == "gateway-a")
    ends = seen.not_after if seen else 0
    answer = client.get(f"{PREFIX}/metrics")
    assert answer.status_code == 200 and answer.content_type.startswith("text/plain; version=0.0.4")
    lines = answer.text.splitlines()
    assert all(LINE.fullmatch(line) for line in lines if not line.startswith("# ")), answer.text
    types = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(types) == len(set(types))
    for line in (
        'hsmx_cluster_role{role="active"} 1', 'hsmx_cluster_role{role="passive"} 0', "hsmx_cluster_takeovers_total 3",
        'hsmx_cluster_path_up{path="sync"} 1', 'hsmx_cluster_path_rtt_seconds{path="sync"} 0.00031',
        'hsmx_cluster_alarms{severity="critical"} 1', 'hsmx_cluster_notifications_waiting{target="night"} 2',
        f'hsmx_cluster_certificate_expires_timestamp_seconds{{gateway="gateway-a"}} {ends}',
        'hsmx_cluster_job_last_run_seconds{job="heartbeat"} 0.1', "hsmx_cluster_ready 0",
        'hsmx_cluster_alarm{key="odd\\"\\n\\\\",severity="critical"} 1',
    ):  # fmt: skip
        assert line in lines, line


def test_a_token_lets_a_monitor_in_and_nothing_else_does(make_app: Any, formed: FakeAgent) -> None:
    app = make_app(permission=lambda action: False, HSMX_CLUSTER_METRICS_TOKEN=TOKEN)
    client = app.test_client()
    for path in ("metrics", "health", "role"):
        assert client.get(f"{PREFIX}/{path}", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
        for wrong in ("", f"Basic {TOKEN}", "Bearer", "Bearer ", f"Bearer {TOKEN}x", "Bearer ä"):
            assert client.get(f"{PREFIX}/{path}", headers={"Authorization": wrong}).status_code == 403, (path, wrong)
    assert client.get(f"{PREFIX}/api/status", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 403


def test_without_a_configured_token_none_lets_in(make_app: Any, formed: FakeAgent) -> None:
    client = make_app(permission=lambda action: False).test_client()
    assert client.get(f"{PREFIX}/metrics", headers={"Authorization": "Bearer "}).status_code == 403


def test_health_and_role_are_public_if_the_host_says_so(make_app: Any, formed: FakeAgent) -> None:
    client = make_app(permission=lambda action: False, HSMX_CLUSTER_PUBLIC_HEALTH="true").test_client()
    assert client.get(f"{PREFIX}/health").text == "healthy\n"
    assert client.get(f"{PREFIX}/role").text == "active\n"
    assert client.get(f"{PREFIX}/metrics").status_code == 403


def test_role_is_503_on_any_but_the_active_gateway(client: FlaskClient, formed: FakeAgent) -> None:
    formed.role = "passive"
    answer = client.get(f"{PREFIX}/role", headers={"Accept": "application/json"})
    assert (answer.status_code, answer.json) == (503, {"role": "passive"})
    assert client.get(f"{PREFIX}/health").status_code == 200


def test_without_an_agent_nothing_is_healthy(make_app: Any, tmp_path: Path) -> None:
    client = make_app(HSMX_CLUSTER_STATE_DIR=str(tmp_path / "nowhere")).test_client()
    assert [client.get(f"{PREFIX}/{path}").status_code for path in ("health", "role", "metrics")] == [503, 503, 503]
    assert client.get(f"{PREFIX}/role").text == "unknown\n"


def test_a_flood_of_strangers_leaves_room_for_the_operator(make_app: Any, formed: FakeAgent) -> None:
    client = make_app(permission=lambda action: False, HSMX_CLUSTER_PUBLIC_HEALTH=True).test_client()
    asked = []
    formed.verb_status = lambda status=formed.verb_status: asked.append(1) or status()  # type: ignore[method-assign, func-returns-value]
    began = time.monotonic()
    for _ in range(50):
        assert client.get(f"{PREFIX}/role").status_code == 200 == client.get(f"{PREFIX}/health").status_code
    assert len(asked) <= 1 + (time.monotonic() - began) / monitor.FRESH_S


def test_an_ill_gateway_says_why(client: FlaskClient, formed: FakeAgent) -> None:
    status = formed.verb_status()
    status["node"]["health"] = [{"key": "disk_0", "text": "the disk is nearly full", "moves": True}]
    formed.verb_status = lambda: status  # type: ignore[method-assign]
    answer = client.get(f"{PREFIX}/health")
    assert (answer.status_code, answer.text) == (503, "unhealthy: the disk is nearly full\n")


def test_a_refusal_of_the_agent_is_no_error_of_the_web_app(client: FlaskClient, formed: FakeAgent) -> None:
    formed.refusals["status"] = AgentUnavailable("It does not answer.")
    assert client.get(f"{PREFIX}/metrics").status_code == 503


@pytest.mark.parametrize("token", ["short", "with spaces in between it", 7, "ä" * 20])
def test_a_token_that_cannot_be_one_is_refused(make_app: Any, token: object) -> None:
    with pytest.raises(ConfigError, match="HSMX_CLUSTER_METRICS_TOKEN"):
        make_app(HSMX_CLUSTER_METRICS_TOKEN=token)
