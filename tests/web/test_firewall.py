"""The page *Firewall rules for the other gateway*, ``flask cluster firewall``, and the same as REST."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from flask_hsmx_cluster import HSMXCluster
from flask_hsmx_cluster.errors import Finding

from .conftest import PREFIX
from .fake_agent import FakeAgent

PAGE = f"{PREFIX}/firewall"


def run(app: Flask, *arguments: str) -> tuple[int, str]:
    result = app.test_cli_runner().invoke(args=["cluster", "firewall", *arguments])
    return result.exit_code, result.output


def test_the_page_shows_the_rules_of_the_settings_in_force(client: FlaskClient, formed: FakeAgent) -> None:
    text = client.get(PAGE).text
    for shown in ("22/tcp", "80/tcp", "5432/tcp", "5555/udp", "192.168.254.2", "Files, over ssh",
                  "iptables -I INPUT -s 172.31.0.2/32 -p udp --dport 5555",
                  "ip saddr 192.168.254.2 tcp dport 22 accept"):
        assert shown in text, shown
    assert "873" not in text and "<form method=\"get\"" not in text
    assert f'href="{PAGE}"' in client.get(f"{PREFIX}/").text


def test_a_mixed_pair_is_told_why_there_are_two(client: FlaskClient, formed: FakeAgent) -> None:
    formed.peer_firmware = "5.2.02"
    text = client.get(PAGE).text
    assert "873/tcp" in text and "22/tcp" in text and "the other one 5.2.02" in text and "keep both until both" in text


def test_a_port_of_ones_own_keeps_its_purpose(client: FlaskClient, formed: FakeAgent) -> None:
    formed.peer_firmware, formed.file_ports = "5.2.02", {"ssh": 2222, "rsync": 8730}
    text = client.get(PAGE).text
    assert "need port 8730 before 5.2.03, and port 2222 from then on" in text
    rows = re.findall(r"(\d+)/tcp</span></th><td><code>[^<]*</code></td><td>(Files[^<]*)<", text)
    assert set(rows) == {("2222", "Files, over ssh"), ("8730", "Files, over an rsync daemon")}


def test_before_there_is_a_cluster_the_addresses_are_asked_for(client: FlaskClient, agent: FakeAgent) -> None:
    assert f'href="{PAGE}"' in client.get(f"{PREFIX}/").text
    text = client.get(PAGE).text
    assert "Addresses of the other gateway" in text and "/tcp" not in text
    text = client.get(f"{PAGE}?peer=10.99.0.2%20fd00::2").text
    assert "ip6tables -I INPUT -s fd00::2/128 -p tcp --dport 22" in text and 'value="10.99.0.2 fd00::2"' in text
    assert agent.calls[-1] == ("firewall", {"peers": ["10.99.0.2", "fd00::2"]})


def test_what_lets_in_more_is_said(client: FlaskClient, formed: FakeAgent) -> None:
    formed.findings = [Finding("firewall_range", "5432/tcp <is> open.", "Name one.", blocking=False)]
    formed.firewall_closes = False
    text = client.get(PAGE).text
    assert "5432/tcp &lt;is&gt; open." in text and "Name one." in text and "closes anything" in text
    formed.firewall_closes = None
    assert "could not be read" in client.get(PAGE).text


def test_rest_answers_the_same(client: FlaskClient, formed: FakeAgent) -> None:
    told = client.get(f"{PREFIX}/api/firewall").get_json()
    assert {(rule["port"], rule["source"]) for rule in told["rules"]} == {
        (port, source) for port in (80, 22, 5432, 5555) for source in ("192.168.254.2", "172.31.0.2")}  # fmt: skip
    assert len(client.get(f"{PREFIX}/api/firewall?peer=10.0.0.9").get_json()["rules"]) == 4


@pytest.mark.parametrize("path", [PAGE, f"{PREFIX}/api/firewall"])
def test_who_may_not_look_sees_nothing(make_app: Callable[..., Flask], formed: FakeAgent, path: str) -> None:
    assert make_app(permission=lambda action: False).test_client().get(path).status_code == 403


def test_the_command_line(app: Flask, formed: FakeAgent) -> None:
    code, text = run(app, "rules")
    assert code == 0 and "22/tcp  192.168.254.2" in text and "Both gateways speak alike" in text
    assert run(app, "rules", "--format", "nft")[1].startswith("# Rules for the other gateway, for `nft -f`")
    assert "iptables -I INPUT" in run(app, "rules", "--format", "iptables")[1]
    assert len(json.loads(run(app, "rules", "--json")[1])["rules"]) == 8
    assert run(app, "check") == (0, "No rule lets in more than single addresses.\n")
    formed.findings = [Finding("firewall_range", "It is open.", "Name one.", blocking=False)]
    code, text = run(app, "check")
    assert code == 1 and "It is open." in text and "Name one." in text


def test_the_command_line_before_there_is_a_cluster(app: Flask, agent: FakeAgent) -> None:
    assert run(app, "rules")[0] == 1
    code, text = run(app, "rules", "--peer", "10.99.0.2")
    assert code == 0 and "10.99.0.2" in text and "firmware 5.2.03 on both" in text


def with_host_rules(make_app: Callable[..., Flask], *rules: Any) -> Flask:
    app = make_app()
    cluster: HSMXCluster = HSMXCluster(permission=lambda action: True)
    del app.extensions["hsmx_cluster"]
    cluster._register_blueprint = False
    cluster.init_app(app)
    cluster.firewall_rules(lambda: rules)
    return app


def test_the_hosts_own_rules_are_checked(make_app: Callable[..., Flask], formed: FakeAgent) -> None:
    narrow = {"protocol": "tcp", "port": 5432, "source": "192.168.254.2"}
    portal = {"protocol": "tcp", "port": 80, "for_others": True}
    app = with_host_rules(make_app, narrow, portal)
    assert run(app, "check")[0] == 0
    app = with_host_rules(make_app, narrow, portal, {**narrow, "source": "192.168.254.0/24", "note": "cluster"})
    code, text = run(app, "check")
    assert code == 1 and "192.168.254.0/24" in text and "rule 3 (“cluster”)" in text
    code, text = run(with_host_rules(make_app, {"port": "many"}), "check")
    assert code == 1 and "Rule 1 of the firewall cannot be read" in text
