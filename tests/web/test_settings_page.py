"""The page Network / Cluster settings of a formed cluster."""

from __future__ import annotations

import ast
import copy
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

import flask_hsmx_cluster
from flask_hsmx_cluster import Finding, PeerUnavailable
from flask_hsmx_cluster.web.diagram import diagram
from flask_hsmx_cluster.words import cluster as words

from .conftest import PREFIX
from .fake_agent import PEER_ID, FakeAgent, cluster_settings, peer_status, port

GOOD = {
    "base_revision": "1", "enabled": "y", "action": "save",
    "vip0-address": "10.0.0.100/24", "vip0-port": "lan0", "vip1-address": "", "vip1-port": "",
    "sync-mine-port": "sync0", "sync-mine-address": "192.168.254.1/30",
    "sync-other-port": "sync0", "sync-other-address": "192.168.254.2/30",
    "backup-mine-port": "back0", "backup-mine-address": "172.31.0.1/30",
    "backup-other-port": "back0", "backup-other-address": "172.31.0.2/30",
    "heartbeat_ms": "100", "ping_pongs": "5", "lease_s": "2", "boot_hold_s": "3", "announce_refresh_s": "100",
    "references": "10.0.0.254",
}


def value(page: str, name: str) -> str:
    """Return what a field shows: the value of an input, the choice of a select, the text of a textarea."""
    if found := re.search(rf'<input[^>]*name="{name}"[^>]*>', page):
        return unescape((re.search(r'value="([^"]*)"', found[0]) or ["", ""])[1])
    if found := re.search(rf'<textarea[^>]*name="{name}"[^>]*>(.*?)</textarea>', page, re.S):
        return unescape(found[1]).strip()
    found = re.search(rf'<select[^>]*name="{name}"[^>]*>(.*?)</select>', page, re.S)
    assert found, name
    chosen = re.search(r"<option selected value=\"([^\"]*)\"", found[1])
    return unescape(chosen[1]) if chosen else ""


def messages(page: str, name: str) -> str:
    """Return what stands below a field."""
    field = re.search(rf'id="{name}-messages">(.*?)</div>', page, re.S)
    return unescape(re.sub(r"<[^>]+>", " ", field[1])) if field else ""


def save(client: Any, **changes: str) -> Any:
    data = {**GOOD, **{name.replace("__", "-"): text for name, text in changes.items()}}
    return client.post(PREFIX + "/", data=data)


# ---- looking ----


def test_the_network_of_guests_is_not_cut_because_the_other_gateway_is_off(formed: FakeAgent) -> None:
    status = formed.verb_status()
    status["paths"] = [{"name": "service", "kind": "service", "port": "lan0", "state": "down", "rtt_ms": None}]
    status["peer"]["role"] = "unknown"
    drawn = diagram(status)["network"]
    assert (drawn["state"], drawn["peer_state"]) == ("up", "down")
    status["peer"]["role"] = "passive"  # heard over a cable of its own: the network between them is cut
    assert diagram(status)["network"]["state"] == "down"


def test_since_the_start() -> None:
    node = {"since_s": 65, "why": "has just started", "phase": "following"}
    assert words.because({"cluster": {}, "node": node}) == "For 1 min 5 s, since it started."


def test_it_says_what_is_so(client: Any, formed: FakeAgent) -> None:
    page = client.get(PREFIX + "/").text
    for text in ("This gateway is active: it answers on 10.0.0.100.", "The other one, gateway-b, stands by.",
                 "For 1 day 2 h: took over: 5 of 5 probes unanswered on sync and on backup.",
                 "Would a fail-over work now?", "not replicated"):
        assert text in page
    for name, text in GOOD.items():
        if name not in ("action", "enabled"):
            assert value(page, name) == text, name


def test_it_says_the_same_on_the_other_side(client: Any, formed: FakeAgent) -> None:
    formed.role, formed.peer = "passive", {**peer_status(), "role": "active"}
    assert "This gateway stands by. gateway-b is active: it answers on 10.0.0.100." in client.get(PREFIX + "/").text


@pytest.mark.parametrize(
    ("peer", "text"),
    [({"role": "unknown"}, "is not heard"), ({"maintenance": True}, "is in maintenance"),
     ({"role": "active"}, "says that it is active too")],
)
def test_the_other_one(client: Any, formed: FakeAgent, peer: Any, text: str) -> None:
    formed.peer = {**peer_status(), **peer}
    assert text in client.get(PREFIX + "/").text


def test_alarms_and_cut_cables(client: Any, formed: FakeAgent) -> None:
    formed.paths_down = {"sync"}
    formed.alarms = [{"key": "cut", "severity": "warning", "text": "The sync cable is cut.",
                      "remedy": "Plug it in.", "since_s": 61}]
    page = client.get(PREFIX + "/").text
    assert "The sync cable is cut." in page and "Plug it in." in page and "1 min 1 s" in page
    assert "no carrier on sync0" in page and "hsmx-line-down" in page and "✕" in page


def test_hostile_names_are_shown_harmlessly(client: Any, formed: FakeAgent) -> None:
    bad = "<script>alert(1)</script>{{7*7}}"
    formed.peer = {**peer_status(), "name": bad}
    formed.ports.append(port("x'\"><b>{0}"))
    texts = [client.get(PREFIX + path).text for path in ("/", "/failover")]
    for text in [*texts, *client.get(PREFIX + "/status.json?parts=1").json["parts"].values()]:
        assert "<script>alert" not in text and "'\"><b>" not in text


def test_ports_are_those_that_exist(client: Any, formed: FakeAgent) -> None:
    page = client.get(PREFIX + "/").text
    offered = re.search(r'<select[^>]*name="vip0-port"[^>]*>(.*?)</select>', page, re.S)
    assert offered and re.findall(r'value="([^"]*)"', offered[1]) == ["", "lan0", "sync0", "back0", "spare0"]
    assert "No address yet: spare0." in page and 'href="/network/settings"' in page


def test_agent_absent(client: Any) -> None:
    for path in ("/", "/events", "/failover", "/create", "/join", "/conflict"):
        answer = client.get(PREFIX + path)
        assert answer.status_code == 503
        assert "The cluster agent is not running on this gateway." in answer.text
        assert "systemctl start hsmx-cluster-agent" in answer.text
    assert save(client).status_code == 503


# ---- saving ----


def test_save(client: Any, formed: FakeAgent) -> None:
    answer = save(client, heartbeat_ms="200", vip1__address="10.0.0.101/24", vip1__port="lan0", vip1__virtual_mac="y",
                  references="10.0.0.254, 10.0.0.253")
    assert answer.status_code == 303
    expected = cluster_settings()
    expected["advanced"] |= {"heartbeat_ms": 200, "references": ["10.0.0.254", "10.0.0.253"]}
    expected["virtual_ips"].append({"address": "10.0.0.101/24", "port": "lan0", "off_subnet": False,
                                    "virtual_mac": True})
    assert formed.calls[-1] == ("propose", {"settings": expected, "base_revision": 1})
    assert "Saved as revision 2 and in force on both gateways." in client.get(PREFIX + "/").text


def test_save_without_the_other_gateway(client: Any, formed: FakeAgent) -> None:
    formed.delivered = False
    save(client)
    page = client.get(PREFIX + "/").text
    assert "it gets this as soon as it is" in page and "does not have the latest settings yet" in page


FIELD_CHECKS = [
    ("vip0-address", "10.0.0.0/24", "address of its network"),
    ("vip0-address", "10.0.0.255/24", "broadcast"),
    ("vip0-address", "127.0.0.1/8", "loopback"),
    ("vip0-address", "224.0.0.1/24", "multicast"),
    ("vip0-address", "0.0.0.0/24", "unspecified"),
    ("vip0-address", "::1/64", "loopback"),
    ("vip0-address", "ff02::1/64", "multicast"),
    ("vip0-address", "::/64", "unspecified"),
    ("vip0-address", "fe80::1/64", "link-local"),
    ("vip0-address", "fe80::1%lan0/64", "not an IP address"),
    ("vip0-address", "10.0.0.100", "prefix length, for example 10.0.0.100/24"),
    ("vip0-address", "10.0.0.100/33", "1 to 32"),
    ("vip0-address", "10.0.0.100/255.255.255.0", "1 to 32"),
    ("vip0-address", "the usual one", "not an IP address"),
    ("vip0-address", "", "Enter the address"),
    ("vip0-address", "<img src=x onerror=alert(1)>", "not an IP address"),
    ("vip0-address", "{{7*7}}{0.__class__}", "not an IP address"),
    ("vip0-port", "eth99", "no port named eth99"),
    ("vip0-port", "", "Choose the port"),
    ("vip0-port", "{0.__class__}\"><script>", "no port named"),
    ("sync-mine-address", "", "Enter the address"),
    ("sync-other-address", "nonsense", "not an IP address"),
    ("backup-other-address", "", "Enter the address"),
    ("heartbeat_ms", "soon", "from 50 to 5000"),
    ("heartbeat_ms", "49", "from 50 to 5000"),
    ("heartbeat_ms", "", "from 50 to 5000"),
    ("heartbeat_ms", "9" * 100, "from 50 to 5000"),
    ("ping_pongs", "2", "from 3 to 20"),
    ("lease_s", "1.5", "from 2 to 30"),
    ("boot_hold_s", "-1", "from 1 to 120"),
    ("announce_refresh_s", "101", "from 10 to 100"),
    ("references", "router", "router: This is not an IP address."),
    ("references", "1.1.1.1 1.1.1.2 1.1.1.3 1.1.1.4 1.1.1.5", "At most 4"),
]


@pytest.mark.parametrize(("name", "text", "message"), FIELD_CHECKS)
def test_field_checks_lose_nothing(client: Any, formed: FakeAgent, name: str, text: str, message: str) -> None:
    typed = {name.replace("-", "__"): text, "vip1__address": "10.0.0.77/24", "vip1__port": "lan0"}
    answer = save(client, **typed)
    assert answer.status_code == 422
    assert message in messages(answer.text, name)
    assert value(answer.text, name) == text
    assert value(answer.text, "vip1-address") == "10.0.0.77/24"
    assert "<script>" not in answer.text and "<img" not in answer.text
    assert "propose" not in dict(formed.calls)


WHOLE_FORM_CHECKS = [
    ({"vip0__address": "10.0.0.1/24"}, "vip0-address", "own address"),
    ({"vip0__address": "10.9.0.100/24"}, "vip0-address", "tick that it need not"),
    ({"vip1__address": "10.0.0.100/24", "vip1__port": "lan0"}, "vip1-address", "entered twice"),
    ({"sync__mine__address": "192.168.254.9/30"}, "sync-mine-address", "has not the address"),
    ({"sync__other__address": "192.168.254.1/30"}, "sync-other-address", "Both gateways have"),
    ({"backup__mine__port": "sync0", "backup__mine__address": "192.168.254.1/30"}, "backup-mine-port", "one cable"),
    ({"backup__other__address": "192.168.254.2/30"}, "backup-other-address", "do not overlap"),
    ({"heartbeat_ms": "1000"}, "lease_s", "Make the lease longer"),
    ({"references": "10.0.0.100"}, "references", "proves nothing"),
]


@pytest.mark.parametrize(("changes", "name", "message"), WHOLE_FORM_CHECKS)
def test_whole_form_checks_stand_beside_the_field(
    client: Any, formed: FakeAgent, changes: Any, name: str, message: str
) -> None:
    answer = save(client, **changes)
    assert answer.status_code == 422
    assert message in messages(answer.text, name)
    for changed, text in changes.items():
        assert value(answer.text, changed.replace("__", "-")) == text


def test_off_subnet_is_allowed_when_ticked(client: Any, formed: FakeAgent) -> None:
    assert save(client, vip0__address="10.9.0.100/24", vip0__off_subnet="y").status_code == 303


def test_findings_of_the_agent_stand_beside_the_field(client: Any, formed: FakeAgent) -> None:
    formed.findings = [
        Finding("virtual_ip_in_use", "02:11 answers for 10.0.0.100.", "Find it.", "virtual_ips.0.address"),
        Finding("x", "The other end is odd.", "", f"links.sync.{PEER_ID}.address"),
        Finding("peer", "The other gateway does not answer.", "Switch it on."),
    ]
    answer = save(client)
    assert "02:11 answers for 10.0.0.100." in messages(answer.text, "vip0-address")
    assert "The other end is odd." in messages(answer.text, "sync-other-address")
    assert "The other gateway does not answer." in answer.text
    assert messages(answer.text, "sync-mine-address") == ""


def test_second_virtual_ip_alone_is_found(client: Any, formed: FakeAgent) -> None:
    answer = save(client, vip0__address="", vip0__port="", vip1__address="10.0.0.5/24", vip1__port="lan0")
    assert "Enter the address" in messages(answer.text, "vip0-address")
    assert value(answer.text, "vip1-address") == "10.0.0.5/24"


def test_refused_by_the_agent(client: Any, formed: FakeAgent) -> None:
    formed.refusals["propose"] = PeerUnavailable("gateway-b did not confirm.", "Try again.")
    answer = save(client, heartbeat_ms="150")
    assert answer.status_code == 502 and "gateway-b did not confirm." in answer.text
    assert value(answer.text, "heartbeat_ms") == "150"


def test_somebody_was_faster(client: Any, formed: FakeAgent) -> None:
    formed.settings = {**cluster_settings(), "virtual_ips": [
        {"address": "10.0.0.200/24", "port": "lan0", "off_subnet": False, "virtual_mac": False}]}
    formed.revision = 7
    answer = save(client)
    assert answer.status_code == 409 and "Somebody saved other settings meanwhile" in answer.text
    assert "10.0.0.200/24 on lan0" in answer.text and "≠" in answer.text
    assert value(answer.text, "vip0-address") == "10.0.0.100/24"
    assert value(answer.text, "base_revision") == "7"
    assert save(client, base_revision="7").status_code == 303


@pytest.mark.parametrize("revision", ["", "-1", "1e3", "9" * 5000, "<b>"])
def test_hostile_base_revision(client: Any, formed: FakeAgent, revision: str) -> None:
    assert save(client, base_revision=revision).status_code == 409
    assert "propose" not in dict(formed.calls)


def test_check_without_saving(client: Any, formed: FakeAgent) -> None:
    answer = save(client, action="check", heartbeat_ms="150")
    assert "Both clocks agree." in answer.text and value(answer.text, "heartbeat_ms") == "150"
    formed.findings = [Finding("virtual_ip_in_use", "In use.", "Choose another.", "virtual_ips.0.address")]
    answer = save(client, action="check")
    assert "In use." in messages(answer.text, "vip0-address")
    assert "propose" not in dict(formed.calls)


def test_unticking_enable_asks_first(client: Any, formed: FakeAgent) -> None:
    data = {name: text for name, text in GOOD.items() if name != "enabled"}
    answer = client.post(PREFIX + "/", data=data)
    assert answer.status_code == 302 and answer.location.endswith("/leave")
    assert formed.settings is not None


# ---- the virtual IP moves while the page is open ----


def test_a_form_made_by_the_other_gateway_is_turned(client: Any, formed: FakeAgent) -> None:
    answer = save(client, node="b" * 32, vip0__address="10.0.0.77/24",
                  sync__mine__address="192.168.254.2/30", sync__other__address="192.168.254.1/30")
    assert answer.status_code == 409 and "propose" not in dict(formed.calls)
    assert "gateway-a answers here now" in answer.text and value(answer.text, "node") == "a" * 32
    assert value(answer.text, "sync-mine-address") == "192.168.254.1/30"
    assert value(answer.text, "sync-other-address") == "192.168.254.2/30"
    assert value(answer.text, "vip0-address") == "10.0.0.77/24"


def test_the_dialog_follows_whether_a_fail_over_would_work(client: Any, formed: FakeAgent) -> None:
    parts = client.get(PREFIX + "/status.json?parts=1").json["parts"]
    assert "would not work now" not in parts["plan_failover"]
    formed.alarms = [{"key": "x", "severity": "warning", "text": "x", "remedy": "", "since_s": 1}]
    parts = client.get(PREFIX + "/status.json?parts=1").json["parts"]
    assert "It would not work now" in parts["plan_failover"]


def test_what_a_cut_path_measured_before_is_not_shown(client: Any, formed: FakeAgent) -> None:
    formed.paths_down = {"sync"}
    page = client.get(PREFIX + "/").text
    row = page[page.index('<th scope="row">sync'):]
    assert "%" not in row[: row.index("</tr>")]


# ---- fetching the other gateway's addresses ----


def test_fetch_fills_identical_names_only(client: Any, formed: FakeAgent) -> None:
    answer = save(client, action="fetch", sync__other__address="", sync__other__port="",
                  backup__other__address="1.2.3.4/24", vip0__address="half typed")
    assert value(answer.text, "sync-other-address") == "192.168.254.2/30"
    assert value(answer.text, "sync-other-port") == "sync0"
    assert value(answer.text, "backup-other-address") == "1.2.3.4/24"
    assert "back0: the other gateway has no port of this name" in answer.text
    assert value(answer.text, "vip0-address") == "half typed"


def test_fetch_takes_the_address_in_the_subnet_of_this_column(client: Any, formed: FakeAgent) -> None:
    formed.ports[0]["addresses"] = ["10.0.0.1/24", "fd00::1/64"]
    formed.peer_ports[0]["addresses"] = ["10.0.0.2/24", "fd00::2/64", "fe80::2/64"]
    for mine, other in (("10.0.0.1/24", "10.0.0.2/24"), ("fd00::1/64", "fd00::2/64")):
        answer = save(client, action="fetch", service__mine__port="lan0", service__mine__address=mine)
        assert value(answer.text, "service-other-address") == other
        matched = client.get(PREFIX + "/peer-ports", query_string={"lan0": mine}).json["matched"]
        assert matched["lan0"] == other
    assert "lan0" in client.get(PREFIX + "/peer-ports", query_string={"lan0": "<nonsense>"}).json["unmatched"]


def test_fetch_as_json(client: Any, formed: FakeAgent) -> None:
    formed.peer_ports[0] = port("lan0", "10.1.0.2/24", "10.0.0.2/24")
    formed.peer_ports[1] = port("sync0", "10.5.0.1/24", "10.6.0.1/24")
    found = client.get(PREFIX + "/peer-ports").json
    assert found["matched"] == {"lan0": "10.0.0.2/24"}
    assert set(found["unmatched"]) == {"sync0", "back0", "spare0"}
    assert found["only_there"] == ["backup1"]


def test_fetch_without_the_other_gateway(client: Any, formed: FakeAgent) -> None:
    formed.refusals["peer_ports"] = PeerUnavailable("gateway-b does not answer.", "Check the cable.")
    assert "gateway-b does not answer. Check the cable." in save(client, action="fetch").text
    answer = client.get(PREFIX + "/peer-ports", headers={"Accept": "application/json"})
    assert answer.status_code == 502 and answer.json["error"]["message"] == "gateway-b does not answer."


# ---- actions ----


def test_fail_over_says_what_it_will_do(client: Any, formed: FakeAgent) -> None:
    page = client.get(PREFIX + "/failover").text
    assert "gateway-a gives up 10.0.0.100" in page and "gateway-b takes 10.0.0.100 over" in page
    assert client.post(PREFIX + "/failover").status_code == 303
    assert "gateway-b is active now. It took 6.2 ms." in client.get(PREFIX + "/").text


def test_fail_over_refused(client: Any, formed: FakeAgent) -> None:
    formed.peer = None
    answer = client.post(PREFIX + "/failover")
    assert answer.status_code == 409 and "There is nobody to fail over to." in answer.text


def test_maintenance(client: Any, formed: FakeAgent) -> None:
    assert "hands 10.0.0.100 over to gateway-b first" in client.get(PREFIX + "/maintenance").text
    client.post(PREFIX + "/maintenance", data={"on": "1", "duration_s": "900"})
    assert formed.maintenance_s == 900
    assert "15 min" in client.get(PREFIX + "/").text
    assert "End maintenance?" in client.get(PREFIX + "/maintenance").text
    client.post(PREFIX + "/maintenance", data={"on": "0"})
    assert formed.maintenance_s is None
    assert client.post(PREFIX + "/maintenance", data={"on": "1", "duration_s": "1e99"}).status_code == 409


def test_leave(client: Any, formed: FakeAgent) -> None:
    assert "gateway-b goes on alone" in client.get(PREFIX + "/leave").text
    client.post(PREFIX + "/leave", data={"force": "y"})
    assert formed.calls[-1] == ("leave", {"force": True})
    assert "leave there too" in client.get(PREFIX + "/").text


def test_events(client: Any, formed: FakeAgent) -> None:
    page = client.get(PREFIX + "/events").text
    assert "Event 120" in page and "10.0.0.100 silent on lan0 for 52 ms" in page
    assert "before=71" in page and "Event 70" in client.get(PREFIX + "/events?before=71").text
    assert client.get(PREFIX + "/events?before=drop%20table").status_code == 200


def test_settings_that_are_not_in_force_are_told(client: Any, formed: FakeAgent) -> None:
    formed.role, formed.peer = "standalone", None
    formed.alarms = [{"key": "settings_not_in_force", "severity": "critical", "since_s": 5.0,
                      "text": "The cluster settings are not in force on this gateway: There is no port lan0.",
                      "remedy": "It is tried again every few seconds by itself."}]
    page = unescape(client.get(PREFIX + "/").text)
    assert "its settings are not in force here" in page and "There is no port lan0." in page
    for text in ("joined yet", "when the other gateway has joined", "✓ healthy"):
        assert text not in page
    assert "tried again every few seconds" in page


def test_kinds_of_events_are_shown_in_words(client: Any, formed: FakeAgent) -> None:
    page = client.get(PREFIX + "/events").text
    for text in ("Became active", "Alarm: heartbeats over Synchronisation", "Of a later version"):
        assert text in page
    assert "alarm_path" not in page and "of_a_later_version" not in page
    kinds = {event["kind"] for event in client.get(f"{PREFIX}/api/events").json["events"]}
    assert kinds == {"active", "alarm_path_sync", "of_a_later_version"}, "programs get the key"


def kinds_recorded() -> set[str]:
    """Return the kinds of events that this version records, from its source."""
    found = set()
    for path in Path(flask_hsmx_cluster.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and node.args and isinstance(first := node.args[0], ast.Constant):
                called = getattr(node.func, "attr", getattr(node.func, "id", ""))
                if called in ("record", "note", "News"):
                    found.add(first.value)
    return found


def test_every_kind_of_event_has_words_of_its_own(app: Flask) -> None:
    kinds = kinds_recorded()
    assert {"active", "peer_lost", "clone", "left", "mended", "verify_differs", "replaced"} <= kinds
    with app.test_request_context():
        unnamed = [kind for kind in kinds if "_" in kind and words.event_kind(kind) == words.event_kind(f"{kind}_")]
        assert not unnamed
        for key in ("path_sync", "loss_lan0 (Ethernet)", "carrier_lan0", "unseen_lan0", "conflict_br_lan0", "peer",
                    "clone", "reference", "disk", "database", "hold", "stale", "stale_wait", "of_a_later_version",
                    "apply_stopped", "not_following", "scopes_differ", "schema_key_differs", "table_identity",
                    "wal_kept", "peer_apply_stopped"):
            assert "_" not in words.event_kind(f"alarm_{key}").replace("br_lan0", "")
        assert words.event_kind("alarm_conflict_br_lan0") == "Alarm: address conflict on br_lan0"
        assert words.event_kind("") == words.event_kind("_") == "Event"


def test_conflict(client: Any, formed: FakeAgent) -> None:
    theirs = copy.deepcopy(cluster_settings())
    theirs["advanced"]["heartbeat_ms"] = 250
    formed.conflict = {"revision": 2, "author": "gateway-b", "changed_at": "", "settings": theirs}
    assert "Compare them and choose" in client.get(PREFIX + "/").text
    page = client.get(PREFIX + "/conflict").text
    assert "100 ms" in page and "250 ms" in page and page.count("≠") == 1
    assert client.post(PREFIX + "/conflict", data={"keep": "both"}).status_code == 409
    assert client.post(PREFIX + "/conflict", data={"keep": "theirs"}).status_code == 303
    assert formed.settings == theirs
    assert client.get(PREFIX + "/conflict").status_code == 302


def test_no_id_stands_twice_on_a_page(make_app: Any, formed: FakeAgent) -> None:
    client = make_app().test_client()
    for path in ("/", "/failover", "/maintenance", "/leave", "/events"):
        page = client.get(PREFIX + path).text
        ids = re.findall(r'\sid="([^"]*)"', page)
        assert sorted(ids) == sorted(set(ids)), path
        assert "csrf_token" in page or path == "/events"
