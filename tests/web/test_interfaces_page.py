"""The section *Network interface*: two columns, the icon, what both kernels have; page, REST and command line."""

from __future__ import annotations

import copy
import json
import re
from html import unescape
from typing import Any

import pytest
from flask import Flask

from flask_hsmx_cluster import Finding, PeerUnavailable
from flask_hsmx_cluster.errors import ChecksFailed

from .conftest import PREFIX
from .fake_agent import OWN_ID, PEER_ID, FakeAgent, port
from .test_cli import run
from .test_settings_page import GOOD, messages, value

MINE, OTHER = "203.0.113.2/29\n2001:db8:9::2/64", "203.0.113.3/29\n2001:db8:9::3/64"
WAN = {"port": "wan0", "addresses": {OWN_ID: MINE.split(), PEER_ID: OTHER.split()}, "apart": False}


@pytest.fixture
def formed(formed: FakeAgent) -> FakeAgent:
    formed.ports.append(port("wan0", *MINE.split()))
    formed.peer_ports.append(port("wan0", *OTHER.split()))
    return formed


def sent(**changes: str) -> dict[str, str]:
    """Return what the page sends with lan0 as it is, and wan0 as given."""
    rows = {"interfaces-0-port": "lan0", "interfaces-0-mine": "10.0.0.1/24", "interfaces-0-other": "",
            "interfaces-1-port": "wan0", "interfaces-1-mine": MINE, "interfaces-1-other": ""}
    return {**GOOD, **rows, **{name.replace("__", "-"): text for name, text in changes.items()}}


def save(client: Any, **changes: str) -> Any:
    return client.post(PREFIX + "/", data=sent(**changes))


def entries(agent: FakeAgent) -> Any:
    assert agent.settings is not None
    return agent.settings.get("interfaces", [])


def notes(page: str) -> list[str]:
    """Return what became of fetching, or of reading back."""
    section = page[page.index('id="hsmx-interfaces"'):]
    section = section[: section.index("</section>")]
    found = re.findall(r'<p class="hsmx-note[^>]*>.*?</p>|<li class="hsmx-[a-z]+">.*?</li>', section, re.S)
    return [" ".join(unescape(re.sub(r"<[^>]+>", " ", one)).split()) for one in found]


# ---- looking ----


def test_two_columns_for_every_configured_port_but_the_cables(client: Any, formed: FakeAgent) -> None:
    formed.ports.append({**port("dsl0", "192.0.2.9/24"), "leased": ["192.0.2.9/24"]})
    page = client.get(PREFIX + "/").text
    assert [value(page, f"interfaces-{at}-port") for at in (0, 1)] == ["lan0", "wan0"]
    assert "interfaces-2-port" not in page, "neither cables nor ports without an address"
    assert value(page, "interfaces-1-mine") == MINE and value(page, "interfaces-1-other") == ""
    assert "sync0 and back0, the cables between the gateways" in page
    assert "dsl0: the address comes from DHCP" in page
    assert ("peer_ports", {}) not in formed.calls, "the other gateway is asked on demand only"


def test_alone_there_is_no_such_section_and_nothing_is_lost(client: Any, formed: FakeAgent) -> None:
    formed.form(paired=False)
    assert formed.settings is not None
    formed.settings["interfaces"] = [{**WAN, "addresses": {OWN_ID: MINE.split()}}]
    assert "hsmx-interfaces" not in client.get(PREFIX + "/").text
    assert client.post(PREFIX + "/", data={**GOOD, "heartbeat_ms": "200"}).status_code == 303
    assert entries(formed)[0]["port"] == "wan0"


# ---- saving ----


def test_saved_for_both_gateways_and_read_back(client: Any, formed: FakeAgent) -> None:
    answer = save(client, interfaces__1__other=OTHER)
    assert answer.status_code == 303 and answer.location == PREFIX + "/?read_back=1#hsmx-interfaces"
    assert entries(formed) == [WAN], "lan0, as it was shown, stays the gateways' own business"
    page = client.get(answer.location).text
    assert notes(page) == ["✓ wan0: gateway-a has 203.0.113.2/29, 2001:db8:9::2/64.",
                           "✓ wan0: gateway-b has 203.0.113.3/29, 2001:db8:9::3/64."]
    assert value(page, "interfaces-1-other") == OTHER
    assert save(client, interfaces__1__other=OTHER, base_revision="2", heartbeat_ms="200").location == PREFIX + "/"


def test_after_saving_the_page_says_what_the_other_kernel_really_has(client: Any, formed: FakeAgent) -> None:
    formed.peer_ports[-1]["addresses"] = ["203.0.113.6/29"]
    page = client.get(save(client, interfaces__1__other="203.0.113.3/29").location).text
    assert notes(page)[1] == ("✕ wan0: gateway-b has 203.0.113.6/29; 203.0.113.3/29 is missing; "
                              "203.0.113.6/29 is not of these settings.")
    formed.refusals["peer_ports"] = PeerUnavailable("gateway-b does not answer.", "Check the cable.")
    page = client.get(PREFIX + "/?read_back=1").text
    assert notes(page)[0] == "! gateway-b does not answer. Check the cable."
    assert notes(page)[2] == "✕ wan0: gateway-b has not answered: what it has is not known."


def test_reading_back_keeps_what_was_typed(client: Any, formed: FakeAgent) -> None:
    answer = save(client, action="read_back", interfaces__1__other="half typed")
    assert value(answer.text, "interfaces-1-other") == "half typed" and entries(formed) == []


def test_a_field_that_is_emptied_leaves_the_gateway_to_itself(client: Any, formed: FakeAgent) -> None:
    save(client, interfaces__1__other=OTHER)
    assert save(client, base_revision="2", interfaces__1__other="").status_code == 303
    assert entries(formed) == [{**WAN, "addresses": {OWN_ID: MINE.split()}}]
    save(client, base_revision="3", interfaces__1__mine="", interfaces__1__other="")
    assert entries(formed) == []


def test_the_other_gateways_page_has_the_columns_swapped(client: Any, formed: FakeAgent) -> None:
    answer = save(client, node=PEER_ID, interfaces__1__mine=OTHER, interfaces__1__other=MINE)
    assert answer.status_code == 409 and "gateway-a answers here now" in answer.text
    assert value(answer.text, "interfaces-1-mine") == MINE and value(answer.text, "interfaces-1-other") == OTHER


@pytest.mark.parametrize(("changes", "field", "words"), [
    ({"interfaces__1__other": "203.0.113.2/29"}, "interfaces-1-other", "203.0.113.2 is in use: gateway-a has it"),
    ({"interfaces__1__other": "10.0.0.100/24"}, "interfaces-1-other", "is a virtual IP"),
    ({"interfaces__1__other": "203.0.113.9/29"}, "interfaces-1-other", "in different networks"),
    ({"interfaces__1__other": "203.0.113.7/29"}, "interfaces-1-other", "the broadcast address"),
    ({"interfaces__1__other": "203.0.113.0/29"}, "interfaces-1-other", "the address of its network"),
    ({"interfaces__1__other": "224.0.0.9/24"}, "interfaces-1-other", "a multicast address"),
    ({"interfaces__1__other": "127.0.0.9/8"}, "interfaces-1-other", "a loopback address"),
    ({"interfaces__1__other": "203.0.113.3"}, "interfaces-1-other", "Add the prefix length"),
    ({"interfaces__1__other": "203.0.113.3/29\nnonsense"}, "interfaces-1-other", "nonsense: This is not an IP address"),
    ({"interfaces__1__other": "1.2.3.4/8 " * 9}, "interfaces-1-other", "At most 8 addresses"),
    ({"interfaces__1__mine": "10.0.0.9/16", "interfaces__1__apart": "y"}, "interfaces-1-mine", "the wrong port"),
])  # fmt: skip
def test_what_is_wrong_is_said_beside_its_field_and_nothing_is_lost(
    client: Any, formed: FakeAgent, changes: dict[str, str], field: str, words: str
) -> None:
    answer = save(client, vip1__address="10.0.0.55/24", vip1__port="lan0", **changes)
    assert answer.status_code == 422 and words in messages(answer.text, field), messages(answer.text, field)
    for name, text in sent(**changes).items():
        if name.startswith("interfaces") and not name.endswith("apart"):
            assert value(answer.text, name).split() == text.split()
    assert value(answer.text, "vip1-address") == "10.0.0.55/24" and entries(formed) == []


def test_different_subnets_can_be_ticked(client: Any, formed: FakeAgent) -> None:
    assert save(client, interfaces__1__other="198.51.100.3/29", interfaces__1__apart="y").status_code == 303
    assert entries(formed)[0]["apart"] is True


def test_what_the_agents_find_stands_beside_its_field(client: Any, formed: FakeAgent) -> None:
    finding = Finding("port_missing", "gateway-b has no network port wan0.", "", f"interfaces.wan0.{PEER_ID}")
    formed.refusals["propose"] = ChecksFailed([finding])
    answer = save(client, interfaces__1__other=OTHER)
    assert "no network port wan0" in messages(answer.text, "interfaces-1-other")


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "../../etc/passwd", "wan0\x1b[2J", "x" * 5000, ""])
def test_a_forged_row_changes_nothing(client: Any, formed: FakeAgent, name: str) -> None:
    answer = save(client, interfaces__1__port=name, interfaces__1__other="203.0.113.3/29")
    assert answer.status_code == 422 and "<script>alert" not in answer.text and entries(formed) == []


def test_thousands_of_forged_rows_are_cut_short(client: Any, formed: FakeAgent) -> None:
    many = {f"interfaces-{at}-port": f"port{at}" for at in range(900)}
    answer = client.post(PREFIX + "/", data={**GOOD, **many, "action": "read_back"})
    assert answer.status_code == 200 and answer.text.count('<fieldset class="hsmx-link">') == 64


@pytest.mark.parametrize("at", ["²", "٣", "9" * 5000, "-1", ""])
def test_names_of_fields_that_no_page_makes_are_passed_over(client: Any, formed: FakeAgent, at: str) -> None:
    answer = client.post(PREFIX + "/", data={**sent(interfaces__1__other=OTHER), f"interfaces-{at}-port": "x"})
    assert answer.status_code == 303 and entries(formed) == [WAN]


def test_more_ports_than_the_page_has_room_for(client: Any, formed: FakeAgent) -> None:
    formed.ports += [port(f"lan0.{at}", f"10.99.{at}.1/24") for at in range(1, 100)]
    assert formed.settings is not None
    last = {"port": "lan0.99", "addresses": {OWN_ID: ["10.99.99.1/24"]}, "apart": False}
    formed.settings["interfaces"] = [last]
    page = client.get(PREFIX + "/").text
    assert value(page, "interfaces-0-port") == "lan0.99" and "37 more ports are not shown here" in page
    assert page.count('<fieldset class="hsmx-link">') == 64
    changed = {"interfaces-0-port": "wan0", "interfaces-0-mine": MINE, "interfaces-0-other": OTHER}
    assert client.post(PREFIX + "/", data={**GOOD, **changed}).status_code == 303
    assert entries(formed) == [last, WAN], "what is not shown is not lost"


# ---- the icon ----


def test_the_icon_fills_identical_names_and_tells_of_the_others(client: Any, formed: FakeAgent) -> None:
    formed.peer_ports += [port("eth7", "192.0.2.9/24")]
    formed.ports += [port("dmz0", "192.0.2.1/29")]
    answer = save(client, action="fetch_interfaces", vip0__address="half typed", interfaces__2__port="dmz0",
                  interfaces__2__mine="192.0.2.1/29")
    assert answer.status_code == 200 and entries(formed) == []
    assert value(answer.text, "interfaces-0-other") == "10.0.0.2/24"
    assert value(answer.text, "interfaces-1-other") == OTHER
    assert value(answer.text, "interfaces-2-other") == "" and value(answer.text, "vip0-address") == "half typed"
    assert notes(answer.text) == [
        "✓ Filled in: lan0, wan0. Nothing is saved yet.",
        "! dmz0 is only on this gateway.",
        "! backup1 is only on the other gateway, or has no address here.",
        "! eth7 is only on the other gateway, or has no address here.",
    ]


def test_the_icon_replaces_nothing_that_was_typed(client: Any, formed: FakeAgent) -> None:
    answer = save(client, action="fetch_interfaces", interfaces__0__other="10.0.0.2/24",
                  interfaces__1__other="203.0.113.4/29")
    assert value(answer.text, "interfaces-1-other") == "203.0.113.4/29"
    assert notes(answer.text)[:2] == [
        "✓ lan0: the other gateway has what stands here.",
        "! wan0: what stands here was kept. The other gateway has 203.0.113.3/29, 2001:db8:9::3/64.",
    ]


def test_the_icon_without_the_other_gateway(client: Any, formed: FakeAgent) -> None:
    formed.refusals["peer_ports"] = PeerUnavailable("gateway-b does not answer.", "Check the cable.")
    answer = save(client, action="fetch_interfaces", interfaces__1__other="half typed")
    assert notes(answer.text) == ["! gateway-b does not answer. Check the cable."]
    assert value(answer.text, "interfaces-1-other") == "half typed"


def test_the_icon_with_hostile_names(client: Any, formed: FakeAgent) -> None:
    names = ["<script>alert(1)</script>", "wan0\x1b[2J\x00", "\u202e0naw", "y" * 100_000, "é", "{{ 7*7 }}"]
    formed.peer_ports = [port(name, "203.0.113.3/29") for name in names]
    answer = save(client, action="fetch_interfaces")
    assert value(answer.text, "interfaces-1-other") == "" and "<script>alert" not in answer.text
    assert "\x1b" not in answer.text and "\u202e" not in answer.text and "y" * 64 not in answer.text
    assert "49" not in " ".join(notes(answer.text)) and len(notes(answer.text)) == 8
    formed.peer_ports = [port(f"port{at}", "203.0.113.3/29") for at in range(1000)]
    answer = save(client, action="fetch_interfaces")
    assert notes(answer.text)[-1] == "! 982 more are unmatched." and len(notes(answer.text)) == 21
    formed.peer_ports *= 10
    answer = save(client, action="fetch_interfaces")
    assert len(notes(answer.text)) == 1 and value(answer.text, "interfaces-1-other") == ""
    formed.peer_ports = [port("wan0", "203.0.113.3/29"), port("wan0", "203.0.113.4/29")]
    answer = save(client, action="fetch_interfaces")
    assert value(answer.text, "interfaces-1-other") == "" and "several times" in notes(answer.text)[1]


# ---- who may ----


def test_who_may_only_look_changes_nothing(make_app: Any, formed: FakeAgent) -> None:
    client = make_app(WTF_CSRF_ENABLED=False, permission=lambda action: action == "view").test_client()
    page = client.get(PREFIX + "/?read_back=1").text
    assert "203.0.113.2/29" in page and "You may look at these settings" in page
    assert save(client, interfaces__1__other=OTHER).status_code == 403
    assert save(client, action="fetch_interfaces").status_code == 403
    assert client.get(PREFIX + "/api/interfaces").status_code == 200


# ---- REST and command line ----


def test_rest_tells_of_rows_kernels_and_what_fetching_would_fill_in(client: Any, formed: FakeAgent) -> None:
    save(client, interfaces__1__other=OTHER)
    told = client.get(PREFIX + "/api/interfaces").json
    assert told["interfaces"][1] == {"port": "wan0", "mine": MINE.split(), "other": OTHER.split(), "apart": False,
                                     "stated": True}
    assert [one["ok"] for one in told["read_back"]] == [True, True] and told["unanswered"] is None
    assert told["fetched"] == {"lan0": ["10.0.0.2/24"], "wan0": OTHER.split()}
    assert told["unmatched"] == ["backup1 is only on the other gateway, or has no address here."]
    formed.refusals["peer_ports"] = PeerUnavailable("gateway-b does not answer.", "Check the cable.")
    told = client.get(PREFIX + "/api/interfaces").json
    assert told["unanswered"]["message"] == "gateway-b does not answer." and told["fetched"] == {}


def test_rest_outside_of_a_cluster(client: Any, agent: FakeAgent) -> None:
    answer = client.get(PREFIX + "/api/interfaces")
    assert answer.status_code == 409 and "not in a cluster" in answer.json["error"]["message"]


def test_rest_sets_them_as_any_setting(client: Any, formed: FakeAgent) -> None:
    wanted = {**copy.deepcopy(formed.settings or {}), "interfaces": [WAN]}
    answer = client.post(PREFIX + "/api/settings", json={"settings": wanted, "base_revision": 1},
                         headers={"X-HSMX-Cluster": "1"})
    assert answer.status_code == 200 and entries(formed) == [WAN]


def test_the_command_line_sets_shows_and_empties(app: Flask, formed: FakeAgent) -> None:
    result = run(app, "network", "set-interface", "wan0", "gateway-b", *OTHER.split())
    assert result.exit_code == 0 and entries(formed) == [{**WAN, "addresses": {PEER_ID: OTHER.split()}}]
    told = json.loads(run(app, "network", "interfaces", "--json").stdout)
    assert [row["port"] for row in told["interfaces"]] == ["lan0", "wan0"] and told["read_back"][0]["ok"]
    assert "✓ wan0: gateway-b has 203.0.113.3/29" in run(app, "network", "interfaces").stdout
    assert "Own addresses on wan0, gateway-b" in run(app, "settings").stdout
    assert run(app, "network", "set-interface", "wan0", "gateway-b").exit_code == 0 and entries(formed) == []


def test_a_gateway_of_many_vlans_has_its_page(client: Any, formed: FakeAgent) -> None:
    formed.ports += [{**formed.ports[0], "name": f"lan0.{at}", "addresses": [f"10.{at}.7.1/24"]} for at in range(1, 99)]
    assert client.get(PREFIX + "/").status_code == 200


def test_the_tick_beside_a_port_stays_until_it_is_taken_away(app: Flask, formed: FakeAgent) -> None:
    for option, apart in ((["--apart"], True), ([], True), (["--together"], False)):
        assert run(app, "network", "set-interface", "wan0", "gateway-b", *OTHER.split(), *option).exit_code == 0
        assert [one["apart"] for one in entries(formed)] == [apart]


@pytest.mark.parametrize("arguments", [
    ("wan0", "gateway-c", "203.0.113.3/29"), ("wan0", "gateway-b", "203.0.113.2/29"), ("wan0", "gateway-b", "nonsense"),
    ("sync0", "gateway-b", "192.168.254.9/30"), ("<wan>", "gateway-b", "203.0.113.3/29"),
])  # fmt: skip
def test_the_command_line_refuses_nonsense(app: Flask, formed: FakeAgent, arguments: tuple[str, ...]) -> None:
    result = run(app, "network", "set-interface", *arguments, "--json")
    assert result.exit_code == 1 and "error" in json.loads(result.stdout) and entries(formed) == []


def test_the_command_line_fetches(app: Flask, formed: FakeAgent) -> None:
    told = json.loads(run(app, "network", "fetch-interfaces", "--json").stdout)
    assert told["filled"] == {"lan0": ["10.0.0.2/24"], "wan0": OTHER.split()} and told["revision"] == 2
    assert [one["port"] for one in entries(formed)] == ["lan0", "wan0"] and entries(formed)[1] == WAN
    told = json.loads(run(app, "network", "fetch-interfaces", "--json").stdout)
    assert told["filled"] == {} and len(told["unmatched"]) == 1
    formed.refusals["peer_ports"] = PeerUnavailable("gateway-b does not answer.", "Check the cable.")
    assert run(app, "network", "fetch-interfaces").exit_code == 1
