"""flask cluster ..."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from sqlalchemy import create_engine

from flask_hsmx_cluster import Finding, joined, signals
from flask_hsmx_cluster.agent.config import AgentConfig
from flask_hsmx_cluster.cli.agent import CONFIG_FD
from flask_hsmx_cluster.errors import DataConflict, RequestRefused

from .fake_agent import (
    CODE,
    OWN_ID,
    PEER_ID,
    FakeAgent,
    cluster_settings,
    compared,
    comparing,
    conflict_of,
    data_status,
    following_status,
    kept_row,
)
from .test_settings_page import kinds_recorded

KINDS = kinds_recorded()

CREATE = ["create", "--virtual-ip", "10.0.0.100/24@lan0", "--sync", "192.168.254.1/30@sync0",
          "--backup", "172.31.0.1/30@back0", "--reference", "10.0.0.254"]


def run(app: Flask, *arguments: str) -> Result:
    return app.test_cli_runner().invoke(args=["cluster", *arguments])


def answer(app: Flask, *arguments: str) -> Any:
    result = run(app, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_create(app: Flask, agent: FakeAgent) -> None:
    assert answer(app, *CREATE) == {"code": CODE, "expires_in_s": 600, "revision": 1}
    _verb, arguments = agent.calls[-1]
    assert arguments["settings"] == {**cluster_settings(paired=False), "cluster_id": ""}
    assert CODE in run(app, "pairing-code").stdout
    assert answer(app, "pairing-code")["code"] == CODE


def test_create_with_everything(app: Flask, agent: FakeAgent) -> None:
    result = run(app, *CREATE, "--virtual-ip", "2001:db8::5/64@lan0,off-subnet,virtual-mac", "--service",
                 "10.0.0.1/24@lan0", "--heartbeat-ms", "50", "--ping-pongs", "3", "--lease-s", "4")
    assert result.exit_code == 0, result.output
    assert CODE in result.stdout and "flask cluster join 192.168.254.1" in result.stdout
    settings = agent.calls[-1][1]["settings"]
    assert settings["virtual_ips"][1] == {
        "address": "2001:db8::5/64", "port": "lan0", "off_subnet": True, "virtual_mac": True}
    assert [link["kind"] for link in settings["links"]] == ["sync", "backup", "service"]
    assert settings["advanced"]["lease_s"] == 4


@pytest.mark.parametrize(
    ("virtual_ip", "message"),
    [("10.0.0.100/24", "ADDRESS/PREFIX@PORT"), ("10.0.0.0/24@lan0", "address of its network"),
     ("10.0.0.100@lan0", "prefix length"), ("10.0.0.100/24@lan0,shiny", "no option shiny"), ("@", "ADDRESS/PREFIX")],
)
def test_create_with_a_wrong_address(app: Flask, agent: FakeAgent, virtual_ip: str, message: str) -> None:
    result = run(app, "create", "--virtual-ip", virtual_ip, "--sync", "192.168.254.1/30@sync0")
    assert result.exit_code == 2 and message in result.stderr
    assert agent.calls == []


def test_findings_go_to_stderr(app: Flask, agent: FakeAgent) -> None:
    result = run(app, *CREATE, "--heartbeat-ms", "2000")
    assert result.exit_code == 1 and result.stdout == ""
    assert "Make the lease longer" in result.stderr and "[advanced.lease_s]" in result.stderr
    assert agent.settings is None


def test_errors_as_json(app: Flask, agent: FakeAgent) -> None:
    result = run(app, *CREATE, "--heartbeat-ms", "2000", "--json")
    error = json.loads(result.stdout)["error"]
    assert (result.exit_code, error["code"]) == (1, "findings")
    assert error["findings"][0]["field"] == "advanced.lease_s"


def test_join(app: Flask, agent: FakeAgent) -> None:
    heard: list[str] = []

    def listener(sender: object, peer: str) -> None:
        heard.append(peer)

    with joined.connected_to(listener):
        found = answer(app, "join", "192.168.254.2:8080", CODE, "--sync", "192.168.254.1/30@sync0")
    assert found["peer"] == "gateway-b" and heard == ["gateway-b"]
    assert agent.calls[-1][1] == {"address": "192.168.254.2:8080", "code": CODE,
                                  "ends": {"sync": {"port": "sync0", "address": "192.168.254.1/30"}}}


@pytest.mark.parametrize("typed", [[], ["-"]])
def test_the_code_need_not_stand_in_the_process_list(app: Flask, agent: FakeAgent, typed: list[str]) -> None:
    arguments = ["cluster", "join", "192.168.254.2", *typed, "--sync", "192.168.254.1/30@sync0", "--json"]
    result = app.test_cli_runner().invoke(args=arguments, input=f" {CODE}\n")
    assert json.loads(result.stdout)["peer"] == "gateway-b"
    assert agent.calls[-1][1]["code"] == CODE


def test_join_with_a_wrong_code(app: Flask, agent: FakeAgent) -> None:
    result = run(app, "join", "192.168.254.2", "WRONG", "--sync", "192.168.254.1/30@sync0")
    assert result.exit_code == 1
    assert result.stderr == ("Error: The code is wrong or has expired.\n"
                             "Ask for a new code on the first gateway.\n")


@pytest.mark.parametrize("address", ["gateway-a", "10.0.0.1:x", "10.0.0.1:0", "[::1", "224.0.0.1", "-"])
def test_join_at_a_wrong_address(app: Flask, agent: FakeAgent, address: str) -> None:
    assert run(app, "join", address, CODE, "--sync", "192.168.254.1/30@sync0").exit_code == 2
    assert agent.calls == []


def test_join_over_ipv6(app: Flask, agent: FakeAgent) -> None:
    answer(app, "join", "[2001:db8::1]:8080", CODE, "--sync", "192.168.254.1/30@sync0")
    assert agent.calls[-1][1]["address"] == "[2001:db8::1]:8080"


def test_status(app: Flask, formed: FakeAgent) -> None:
    assert answer(app, "status") == formed.verb_status()
    formed.alarms = [{"key": "x", "severity": "warning", "text": "The sync cable is cut.", "remedy": "Mend it.",
                      "since_s": 3}]
    text = run(app, "status").stdout
    for part in ("This gateway is active: it answers on 10.0.0.100.", "The other one, gateway-b, stands by.",
                 "Would a fail-over work now? No.", "sync: works", "! The sync cable is cut. Mend it.",
                 "not replicated"):
        assert part in text


def test_status_of_the_data(app: Flask, formed: FakeAgent) -> None:
    formed.data = data_status()
    said = "Data: ✓ Every write is confirmed by both gateways.\n  WAL kept for gateway-b: 16 MB\n"
    for text in (run(app, "status").stdout, run(app, "database", "status").stdout):
        assert said in text and "Database: 35 MB, PostgreSQL 15.10" in text
    assert "Files are not replicated" in run(app, "status").stdout
    assert answer(app, "database", "status") == formed.verb_status()["data"]


def test_status_of_a_first_copy(app: Flask, formed: FakeAgent) -> None:
    formed.role = "passive"
    formed.data = following_status(
        step="copies the other gateway's data", done=1200, total=50000, copying=True, under_way=True)
    text = run(app, "database", "status").stdout
    assert "i The first copy is under way: this gateway copies the other gateway's data." in text
    assert "1,200 of 50,000 rows" in text


def test_status_of_data_that_is_not_shared(app: Flask, agent: FakeAgent) -> None:
    assert "not in a cluster" in run(app, "database", "status").stdout
    agent.form()
    assert "flask cluster database prepare" in run(app, "database", "status").stdout
    assert answer(app, "database", "status") is None
    assert "Data:" not in run(app, "status").stdout


def test_status_alone(app: Flask, agent: FakeAgent) -> None:
    assert "works alone" in run(app, "status").stdout


def test_agent_absent(app: Flask) -> None:
    result = run(app, "status", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["error"]["code"] == "agent_unavailable"
    assert "systemctl start hsmx-cluster-agent" in result.stderr


def test_failover(app: Flask, formed: FakeAgent) -> None:
    assert answer(app, "failover") == {"took_ms": 6.2, "to": "gateway-b"}
    assert "gateway-a is active now. It took 6.2 ms." in run(app, "failover").stdout


def test_maintenance(app: Flask, formed: FakeAgent) -> None:
    assert answer(app, "maintenance", "on", "--duration-s", "600") == {"on": True, "left_s": 600}
    assert answer(app, "maintenance", "off") == {"on": False, "left_s": 0}
    assert run(app, "maintenance", "perhaps").exit_code == 2


def test_leave(app: Flask, formed: FakeAgent) -> None:
    assert answer(app, "leave", "--force") == {"left": True, "peer_informed": False}


def test_events(app: Flask, formed: FakeAgent) -> None:
    assert [event["id"] for event in answer(app, "events", "--limit", "2")["events"]] == [120, 119]
    assert "Event 49" in run(app, "events", "--before", "50").stdout


def test_preflight(app: Flask, agent: FakeAgent) -> None:
    assert answer(app, "preflight")["findings"] == []
    agent.findings = [Finding("clock", "The clocks differ.", "Set them.")]
    result = run(app, "preflight")
    assert result.exit_code == 1 and "✕ The clocks differ." in result.stdout and "Set them." in result.stdout


def test_settings(app: Flask, formed: FakeAgent) -> None:
    assert answer(app, "settings") == formed.verb_settings()
    text = run(app, "settings").stdout
    assert "10.0.0.100/24 on lan0" in text and "Synchronisation, gateway-b" in text


def test_edits(app: Flask, formed: FakeAgent) -> None:
    formed.ports[0]["addresses"].append("10.9.0.1/24")
    edits = ["heartbeat_ms=200", "stale_wait_s=never", "references=10.0.0.254 10.0.0.253",
             "virtual_ip.2=10.0.0.101/24@lan0",
             "backup.gateway-a=", "backup.gateway-b=", "service.gateway-a=10.9.0.1/24@lan0",
             "service.gateway-b=10.9.0.2/24@lan0"]
    found = answer(app, "settings", *(part for edit in edits for part in ("--set", edit)))
    assert found == {"revision": 2, "delivered": True, "unprobed": 0}
    saved = formed.settings
    assert saved is not None
    assert saved["advanced"]["heartbeat_ms"] == 200 and saved["advanced"]["stale_wait_s"] is None
    assert saved["advanced"]["references"] == ["10.0.0.254", "10.0.0.253"]
    assert len(saved["virtual_ips"]) == 2
    assert {link["kind"]: link["ends"] for link in saved["links"]}["service"] == {
        OWN_ID: {"port": "lan0", "address": "10.9.0.1/24"}, PEER_ID: {"port": "lan0", "address": "10.9.0.2/24"}}
    assert "backup" not in [link["kind"] for link in saved["links"]]


@pytest.mark.parametrize(
    "edit",
    ["heartbeat_ms", "heartbeat_ms=fast", "colour=red", "sync.nobody=10.0.0.1/24@lan0", "virtual_ip.3=10.0.0.9/24@lan0",
     "sync.gateway-a=nonsense", "references=a", "heartbeat_ms=1", "virtual_ip.1="],
)
def test_wrong_edits(app: Flask, formed: FakeAgent, edit: str) -> None:
    result = run(app, "settings", "--set", edit)
    assert result.exit_code == 1 and "Error:" in result.stderr
    assert formed.revision == 1


def test_edit_outside_a_cluster(app: Flask, agent: FakeAgent) -> None:
    assert "not in a cluster" in run(app, "settings", "--set", "lease_s=3").stderr
    assert "not in a cluster" in run(app, "settings").stdout


def test_agent_is_started_with_its_configuration(make_app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql+psycopg://hsmx:secret@db/hsmx"
    app = make_app(db=create_engine(url), HSMX_CLUSTER_NODE_NAME="gateway-a")
    started: list[Any] = []

    class Started(Exception):
        pass

    def execve(path: str, arguments: list[str], environment: dict[str, str]) -> None:
        descriptor = int(environment[CONFIG_FD])
        assert os.get_inheritable(descriptor)
        with os.fdopen(descriptor, "rb") as config:
            started.append((path, arguments, environment, config.read()))
        raise Started

    monkeypatch.setattr(os, "execve", execve)
    assert isinstance(run(app, "agent").exception, Started)
    path, arguments, environment, text = started[0]
    assert (path, arguments) == (sys.executable, [sys.executable, "-m", "flask_hsmx_cluster.agent"])
    config = AgentConfig.from_json(text)
    assert (config.database_url, config.node_name) == (url, "gateway-a")
    assert (config.peer_path, config.pair_path) == ("/network/cluster/peer", "/network/cluster/pair")
    assert "secret" not in " ".join([*arguments, *environment.values()])


# ---- quarantine ----


def test_quarantine_lists_what_waits_and_where_else(app: Flask, formed: FakeAgent) -> None:
    formed.keep(PEER_ID, kept_row(1), kept_row(2))
    assert "Nothing waits in quarantine." in run(app, "database", "quarantine").stdout
    assert "2 on gateway-b: --on gateway-b" in run(app, "database", "quarantine").stdout
    text = run(app, "database", "quarantine", "--on", "gateway-b").stdout
    assert "1: voucher 8841 created 11:02:13 on gateway-b" in text and "2 changes wait." in text
    assert answer(app, "database", "quarantine", "--on", "gateway-b")["total"] == 2
    row = run(app, "database", "quarantine", "--on", "gateway-b", "--row", "1").stdout
    assert "minutes: before – | after 60" in row
    exported = run(app, "database", "quarantine", "--on", "gateway-b", "--export", "json").stdout
    assert [row["id"] for row in json.loads(exported)] == [1, 2]
    wrong = run(app, "database", "quarantine", "--on", "gateway-z")
    assert wrong.exit_code == 1 and "No gateway is called gateway-z" in wrong.stderr


def test_a_guests_text_does_not_act_on_the_terminal(app: Flask, formed: FakeAgent) -> None:
    """It could clear the screen, forge lines, or have the terminal type commands."""
    text = "\x1b]0;owned\x07\nroom 12 deleted\u202e\x9b2J"
    formed.keep(OWN_ID, kept_row(1, text=text, new_row={"id": text}))
    formed.conflict_of[1] = DataConflict(text, kind="changed", wanted={"id": text}, present={"id": text})
    formed.refusals["discard"] = RequestRefused(text, text)
    for arguments in (["quarantine"], ["quarantine", "--row", "1"], ["reapply", "1"], ["discard", "1"],
                      ["quarantine", "--json"], ["reapply", "1", "--json"]):
        result = run(app, "database", *arguments)
        assert r"\u001b]0;owned" in result.output
        assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(result.output) and "\nroom" not in result.output
        if "--json" in arguments:
            json.loads(result.stdout)


def test_a_conflict_is_shown_side_by_side(app: Flask, formed: FakeAgent) -> None:
    formed.keep(OWN_ID, kept_row(1))
    formed.conflict_of[1] = conflict_of(seen="")
    result = run(app, "database", "reapply", "1")
    assert result.exit_code == 1 and "≠ minutes: quarantined 60 | present 90" in result.stderr
    result = run(app, "database", "reapply", "1", "--json")
    assert json.loads(result.stdout)["error"]["present"]["minutes"] == "90"
    assert answer(app, "database", "reapply", "1", "--overwrite") == {"made": True}
    assert "0 rows are discarded" in run(app, "database", "discard", "1").stdout


def test_verify_tells_its_progress(app: Flask, formed: FakeAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flask_hsmx_cluster.cli.quarantine.VERIFY_LOOK_EVERY_S", 0.0)
    monkeypatch.setattr(formed, "verb_verify", comparing)
    formed.verified = compared("public.voucher")
    result = run(app, "verify")
    assert result.exit_code == 1 and "Table 3 of 4, public.voucher" in result.stderr
    assert "≠ public.voucher: 120000 8841; 8847" in result.stdout and "hsmx_cluster." not in result.stdout


def test_replace(app: Flask, formed: FakeAgent) -> None:
    refused = run(app, "replace")
    assert refused.exit_code == 1 and "is not dead" in refused.stderr
    assert formed.peer is not None
    formed.peer["role"] = "unknown"
    text = run(app, "replace").stdout
    assert "gateway-b is forgotten" in text and CODE in text


# ---- signals ----


def test_watch_sends_a_signal_for_each_new_event(app: Flask, formed: FakeAgent) -> None:
    seen: list[tuple[str, int]] = []

    def note(_sender: object, kind: str, id: int, **_rest: object) -> None:
        seen.append((kind, id))

    with signals.event_recorded.connected_to(note):
        assert run(app, "watch", "--once").stdout.strip() == "120", "what happened before is no news"
        assert seen == []
        result = run(app, "watch", "--once", "--after", "5")
    assert [number for _kind, number in seen] == list(range(6, 121)) and "120" in result.stdout.splitlines()[-1]
    assert "Alarm: heartbeats over Synchronisation: Event 118" in result.stdout


def test_events_have_signals_of_their_own(app: Flask, formed: FakeAgent) -> None:
    became: list[object] = []

    def note(sender: object, **event: object) -> None:
        became.append((sender, event["kind"], event["text"]))

    with signals.became_active.connected_to(note), signals.rejoined.connected_to(note):
        run(app, "watch", "--once", "--after", "118")
    assert became == [(app, "active", "Event 120")]
    assert set(signals.BY_KIND) <= set(KINDS)


def test_what_is_done_to_the_quarantine_is_signalled(app: Flask, formed: FakeAgent) -> None:
    formed.keep(OWN_ID, kept_row(1), kept_row(2))
    seen: list[dict[str, object]] = []

    def note(_sender: object, **told: object) -> None:
        seen.append(told)

    with signals.quarantine_reapplied.connected_to(note), signals.quarantine_discarded.connected_to(note):
        run(app, "database", "reapply", "1")
        run(app, "database", "discard", "2")
    assert seen == [{"row_id": 1, "node": ""}, {"discarded": 1, "node": ""}]
