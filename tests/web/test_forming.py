"""Forming a cluster from the pages."""

from __future__ import annotations

from typing import Any

import pytest

from flask_hsmx_cluster import Finding, PeerUnavailable

from .conftest import PREFIX
from .fake_agent import CODE, OWN_ID, FakeAgent, cluster_settings
from .test_settings_page import GOOD, messages, value

NEW = {name: text for name, text in GOOD.items() if "-other-" not in name}
JOIN = {"address": "192.168.254.2", "code": CODE, "sync-port": "sync0", "sync-address": "192.168.254.1/30"}


def test_two_clear_ways(client: Any, agent: FakeAgent) -> None:
    page = client.get(PREFIX + "/").text
    assert "Create a cluster on this gateway" in page and "Join a cluster" in page and "not replicated" in page


@pytest.mark.parametrize(
    ("base", "browser", "why"),
    [
        ("http://10.0.0.1", "127.0.0.1", "you reached this page at 10.0.0.1, which is on lan0"),
        ("http://10.0.0.1:8080", "127.0.0.1", "you reached this page at 10.0.0.1, which is on lan0"),
        ("http://gateway.example", "10.0.0.50", "your computer, 10.0.0.50, is in the network of lan0"),
        ("http://[::1", "127.0.0.1", ""),
        ("http://localhost", "127.0.0.1", ""),
    ],
)
def test_the_port_of_this_page_is_proposed(client: Any, agent: FakeAgent, base: str, browser: str, why: str) -> None:
    host = base.removeprefix("http://")
    page = client.get(PREFIX + "/create", headers={"Host": host}, environ_overrides={"REMOTE_ADDR": browser}).text
    assert value(page, "vip0-port") == ("lan0" if why else "")
    assert (why in page) if why else ("Proposed because" not in page)


def test_create(client: Any, agent: FakeAgent) -> None:
    answer = client.post(PREFIX + "/create", data=NEW)
    assert answer.status_code == 200 and answer.headers["Cache-Control"] == "no-store"
    assert CODE in answer.text and 'data-countdown="600"' in answer.text and "192.168.254.1" in answer.text
    _verb, arguments = next(call for call in agent.calls if call[0] == "create")
    assert arguments["settings"] == {**cluster_settings(paired=False), "cluster_id": ""}
    assert not answer.headers.getlist("Set-Cookie")
    page = client.get(PREFIX + "/").text
    assert "Waiting for the other gateway" in page and CODE not in page
    assert "-other-" not in page
    assert CODE in client.post(PREFIX + "/pairing-code").text


def test_create_again_leads_to_the_cluster(client: Any, formed: FakeAgent) -> None:
    assert client.post(PREFIX + "/create", data=NEW).status_code == 302
    assert client.get(PREFIX + "/create").status_code == 302
    assert client.get(PREFIX + "/join").status_code == 302


def test_create_refused_loses_nothing(client: Any, agent: FakeAgent) -> None:
    agent.findings = [Finding("virtual_ip_in_use", "02:11 answers.", "Find it.", "virtual_ips.0.address")]
    answer = client.post(PREFIX + "/create", data={**NEW, "lease_s": "7"})
    assert answer.status_code == 422 and agent.settings is None
    assert "02:11 answers." in messages(answer.text, "vip0-address")
    assert value(answer.text, "lease_s") == "7"
    answer = client.post(PREFIX + "/create", data={**NEW, "vip0-address": "10.0.0.100"})
    assert "prefix length" in messages(answer.text, "vip0-address")


def test_create_check_only(client: Any, agent: FakeAgent) -> None:
    answer = client.post(PREFIX + "/create", data={**NEW, "action": "check"})
    assert "The virtual IP is free." in answer.text and agent.settings is None


def test_join(client: Any, agent: FakeAgent) -> None:
    data = {**JOIN, "backup-port": "back0", "backup-address": "172.31.0.1/30", "address": " 192.168.254.2:8080 "}
    assert client.post(PREFIX + "/join", data=data).status_code == 303
    assert agent.calls[-1] == ("join", {
        "address": "192.168.254.2:8080", "code": CODE,
        "ends": {"sync": {"port": "sync0", "address": "192.168.254.1/30"},
                 "backup": {"port": "back0", "address": "172.31.0.1/30"}}})
    page = client.get(PREFIX + "/").text
    assert "joined the cluster of gateway-b" in page and "This gateway stands by." in page


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("address", "", "required"),
        ("address", "gateway-a", "not an IP address"),
        ("address", "127.0.0.1", "loopback"),
        ("address", "10.0.0.1:0", "1 to 65535"),
        ("address", "10.0.0.1:99999999999999", "1 to 65535"),
        ("address", "http://10.0.0.1/peer?x=1", "not an IP address"),
        ("code", "", "required"),
        ("sync-address", "", "Enter the address"),
        ("sync-port", "eth99", "no port named"),
        ("backup-port", "back0", "Enter the address on back0"),
    ],
)
def test_join_field_checks(client: Any, agent: FakeAgent, name: str, text: str, message: str) -> None:
    answer = client.post(PREFIX + "/join", data={**JOIN, name: text})
    assert answer.status_code == 422
    field = "backup-address" if name == "backup-port" else name
    assert message in messages(answer.text, field)
    assert value(answer.text, name) == text
    assert "join" not in dict(agent.calls)


def test_join_with_a_wrong_code(client: Any, agent: FakeAgent) -> None:
    answer = client.post(PREFIX + "/join", data={**JOIN, "code": "WRONG"})
    assert answer.status_code == 403
    assert "The code is wrong or has expired." in answer.text[answer.text.index('id="code-messages"'):]
    assert value(answer.text, "sync-address") == "192.168.254.1/30"


def test_join_with_findings(client: Any, agent: FakeAgent) -> None:
    agent.findings = [Finding("clock", "The clocks differ by 9 s.", "Set them."),
                      Finding("address", "Not there.", "", f"links.sync.{OWN_ID}.address")]
    answer = client.post(PREFIX + "/join", data=JOIN)
    assert answer.status_code == 422 and "The clocks differ by 9 s." in answer.text
    assert "Not there." in messages(answer.text, "sync-address")
    assert agent.settings is None


def test_join_without_answer(client: Any, agent: FakeAgent) -> None:
    agent.refusals["join"] = PeerUnavailable("192.168.254.2 does not answer.", "Check the cable.")
    answer = client.post(PREFIX + "/join", data=JOIN)
    assert answer.status_code == 502 and "Check the cable." in answer.text
