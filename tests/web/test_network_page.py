"""The page *IP aliases and networks*, with what people and others may send to it."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from flask_hsmx_cluster.errors import Finding, RequestRefused

from .conftest import PREFIX
from .fake_agent import FakeAgent

PAGE = f"{PREFIX}/networks"


def held(agent: FakeAgent) -> dict[str, Any]:
    assert agent.settings is not None
    return agent.settings


def add(client: FlaskClient, kind: str, revision: int = 1, **typed: str) -> Any:
    data = {f"{kind}-base_revision": str(revision), **{f"{kind}-{name}": value for name, value in typed.items()}}
    return client.post(f"{PAGE}/add/{kind}", data=data)


def fill(agent: FakeAgent, count: int) -> None:
    held(agent)["aliases"] = [
        {"address": f"10.50.{at // 250}.{at % 250 + 1}/32", "port": "lan0", "note": f"room <{at}>"}
        for at in range(count)
    ]


@pytest.mark.parametrize(
    ("kind", "typed", "key", "row"),
    [
        ("network", {"address": "10.20.0.1/16", "port": "lan0", "name": "guests"}, "networks",
         {"address": "10.20.0.1/16", "port": "lan0", "name": "guests"}),
        ("alias", {"address": " 10.0.0.7 ", "port": "lan0", "note": "printers"}, "aliases",
         {"address": "10.0.0.7/32", "port": "lan0", "note": "printers"}),
        ("list", {"lines": "10.0.0.7 printers\r\n# no\r\n", "port": "lan0"}, "aliases",
         {"address": "10.0.0.7/32", "port": "lan0", "note": "printers"}),
        ("route", {"destination": "10.77.0.0/16", "via": "10.0.0.9"}, "routes",
         {"destination": "10.77.0.0/16", "via": "10.0.0.9", "port": None}),
    ],
)
def test_one_is_added_and_shown(
    client: FlaskClient, formed: FakeAgent, kind: str, typed: dict[str, str], key: str, row: dict[str, Any]
) -> None:
    answer = add(client, kind, **typed)
    assert answer.status_code == 303 and answer.location == PAGE
    assert held(formed)[key] == [row]
    page = client.get(PAGE).text
    assert "in force on both gateways" in page and str(row.get("address", row.get("destination"))) in page


def test_a_thousand_are_shown_a_hundred_at_a_time_and_found(client: FlaskClient, formed: FakeAgent) -> None:
    fill(formed, 1000)
    page = client.get(PAGE).text
    assert "1,000 IP aliases" in page and "Page 1 of 10" in page and page.count('name="names"') == 100
    assert "room &lt;99&gt;" in page and "room <99>" not in page
    assert "Page 10 of 10" in client.get(f"{PAGE}?page=99999").text
    for wrong in ("-1", "x", "", "9" * 40):
        assert client.get(PAGE, query_string={"page": wrong}).status_code == 200
    found = client.get(f"{PAGE}?filter=ROOM+<77>").text
    assert found.count('name="names"') == 1 and "10.50.0.78/32" in found
    assert "None has this in it" in client.get(PAGE, query_string={"filter": "\"><script>" + "x" * 5000}).text


@pytest.mark.parametrize(
    ("kind", "typed", "field"),
    [("alias", {"address": "10.0.0.7"}, "alias-address"), ("list", {"lines": "10.0.0.6\n10.0.0.7"}, "list-lines"),
     ("network", {"address": "10.20.0.1/16"}, "network-address")],
)
def test_an_address_that_another_machine_has_is_told_beside_its_row(
    client: FlaskClient, formed: FakeAgent, kind: str, typed: dict[str, str], field: str
) -> None:
    where = "networks.0.address" if kind == "network" else f"aliases.{kind == 'list':d}.address"
    formed.findings = [Finding("address_in_use", "Another machine (02:66) answers for it.", "Choose another.", where)]
    answer = add(client, kind, port="lan0", **typed)
    assert answer.status_code == 422 and answer.text.count("Another machine (02:66) answers for it.") == 1
    beside = answer.text[answer.text.index(f'name="{field}"'):]
    assert "Another machine" in beside[: beside.index('class="hsmx-field"')]


def test_the_page_says_how_long_it_takes_and_what_was_not_looked_for(client: FlaskClient, formed: FakeAgent) -> None:
    formed.unprobed = 250
    assert "a hundred take ten seconds" in client.get(PAGE).text
    add(client, "alias", address="10.0.0.7", port="lan0")
    assert "250 of the new addresses were not looked for" in client.get(PAGE).text


def test_a_long_list_is_pasted(client: FlaskClient, formed: FakeAgent) -> None:
    lines = "\n".join(f"10.50.{at // 250}.{at % 250 + 1} room {at}" for at in range(1000))
    assert add(client, "list", lines=lines, port="lan0").status_code == 303
    assert len(held(formed)["aliases"]) == 1000


@pytest.mark.parametrize(
    ("kind", "typed", "message"),
    [
        ("network", {"address": "10.20.0.1", "port": "lan0"}, "Add the prefix length"),
        ("network", {"address": "10.20.0.1/16"}, "Choose a port"),
        ("network", {"address": "10.20.0.1/16", "port": "../lan0"}, "is on no network port"),
        ("network", {}, "This is not an IP address"),
        ("alias", {"address": "10.0.0.1", "port": "lan0"}, "own address"),
        ("alias", {"address": "10.0.0.7", "port": "lan0", "note": "x" * 65}, "At most 64 characters"),
        ("alias", {"address": "<script>", "port": "lan0"}, "This is not an IP address"),
        ("list", {"lines": "10.0.0.7\njunk\n10.0.0.300", "port": "lan0"}, "Line 2, junk"),
        ("list", {"lines": "", "port": "lan0"}, "There is no address"),
        ("list", {"lines": "10.0.0.7\n" * 40000, "port": "lan0"}, "too long"),
        ("list", {"lines": "10.0.0.7\n10.0.0.7", "port": "lan0"}, "entered twice"),
        ("route", {"destination": "10.77.0.0/16", "via": "10.99.0.1"}, "none of the shared networks"),
        ("route", {"destination": "anywhere", "via": "10.0.0.9"}, "with its prefix length"),
    ],
)
def test_what_makes_no_sense_is_refused_and_kept(
    client: FlaskClient, formed: FakeAgent, kind: str, typed: dict[str, str], message: str
) -> None:
    answer = add(client, kind, **typed)
    assert answer.status_code == 422 and message in answer.text
    assert "<script>" not in answer.text.replace("<script src", "")
    assert "propose" not in [verb for verb, _arguments in formed.calls]
    for value in typed.values():
        if len(value) < 60 and "\n" not in value and "<" not in value:
            assert value in answer.text, "what was typed is still there"


def test_a_warning_stops_nothing_and_is_told(client: FlaskClient, formed: FakeAgent) -> None:
    assert add(client, "alias", address="10.66.0.1", port="sync0").status_code == 303
    assert "no client is there" in client.get(PAGE).text


def test_who_has_an_old_page_is_told(client: FlaskClient, formed: FakeAgent) -> None:
    formed.revision = 5
    answer = add(client, "alias", address="10.0.0.7", port="lan0", revision=4)
    assert answer.status_code == 409 and "Somebody saved other settings" in answer.text and "10.0.0.7" in answer.text
    assert add(client, "alias", address="10.0.0.7", port="lan0", revision=5).status_code == 303


def test_what_the_agent_refuses_is_shown(client: FlaskClient, formed: FakeAgent) -> None:
    formed.refusals["propose"] = RequestRefused("gateway-b has a version that knows no networks yet.", "Update it.")
    answer = add(client, "alias", address="10.0.0.7", port="lan0")
    assert answer.status_code == 409 and "knows no networks yet" in answer.text


def test_what_is_ticked_is_removed(client: FlaskClient, formed: FakeAgent) -> None:
    fill(formed, 3)
    names = ["10.50.0.1", "10.50.0.3"]
    answer = client.post(f"{PAGE}/remove", data={"base_revision": "1", "names": names})
    assert answer.status_code == 303
    assert [one["address"] for one in held(formed)["aliases"]] == ["10.50.0.2/32"]


@pytest.mark.parametrize(
    "data",
    [
        {"base_revision": "1"},
        {"base_revision": "1", "names": ["10.99.0.1"]},
        {"base_revision": "7", "names": ["10.50.0.1"]},
        {"names": ["10.50.0.1"]},
        {"base_revision": "1", "names": ["../../etc", "<script>"]},
    ],
)
def test_nothing_else_is_removed(client: FlaskClient, formed: FakeAgent, data: dict[str, Any]) -> None:
    fill(formed, 3)
    answer = client.post(f"{PAGE}/remove", data=data)
    assert answer.status_code == 409 and "<script>" not in answer.text.replace("<script src", "")
    assert len(held(formed)["aliases"]) == 3


def test_the_settings_page_does_not_lose_them(client: FlaskClient, formed: FakeAgent) -> None:
    fill(formed, 3)
    page = client.get(f"{PREFIX}/")
    assert "IP aliases and networks" in page.text
    data = {
        "base_revision": "1", "enabled": "y", "vip0-address": "10.0.0.100/24", "vip0-port": "lan0",
        "sync-mine-port": "sync0", "sync-mine-address": "192.168.254.1/30",
        "sync-other-port": "sync0", "sync-other-address": "192.168.254.2/30",
        "heartbeat_ms": "200", "ping_pongs": "5", "lease_s": "2", "boot_hold_s": "3", "announce_refresh_s": "100",
        "stale_wait_s": "60", "action": "save",
    }
    answer = client.post(f"{PREFIX}/", data=data)
    assert answer.status_code == 303, answer.text
    assert held(formed)["advanced"]["heartbeat_ms"] == 200 and len(held(formed)["aliases"]) == 3


def test_who_may_only_look_sees_no_button(make_app: Any, formed: FakeAgent) -> None:
    app: Flask = make_app(WTF_CSRF_ENABLED=False, permission=lambda action: action == "view")
    client = app.test_client()
    fill(formed, 1)
    page = client.get(PAGE).text
    assert "10.50.0.1/32" in page and 'name="names"' not in page and "Add a network" not in page
    assert add(client, "alias", address="10.0.0.7", port="lan0").status_code == 403
    assert client.post(f"{PAGE}/remove", data={"names": ["10.50.0.1"]}).status_code == 403
    assert f"{PAGE}/alias/" not in page and client.get(f"{PAGE}/alias/10.50.0.1").status_code == 403
    assert change(client, "alias", "10.50.0.1", address="10.50.0.9", port="lan0").status_code == 403


def test_a_request_from_elsewhere_adds_nothing(make_app: Any, formed: FakeAgent) -> None:
    client = make_app(WTF_CSRF_ENABLED=True).test_client()
    answer = add(client, "alias", address="10.0.0.7", port="lan0")
    assert answer.status_code == 422 and "aliases" not in held(formed)
    assert client.post(f"{PAGE}/remove", data={"base_revision": "1", "names": ["x"]}).status_code == 409


def test_other_kinds_and_no_cluster(client: FlaskClient, agent: FakeAgent) -> None:
    assert client.get(PAGE).status_code == 302
    assert add(client, "alias", address="10.0.0.7", port="lan0").status_code == 302
    agent.form()
    assert add(client, "voucher", address="10.0.0.7").status_code == 302


def change(client: FlaskClient, kind: str, entry: str, revision: int = 1, **typed: str) -> Any:
    data = {f"{kind}-base_revision": str(revision), **{f"{kind}-{field}": value for field, value in typed.items()}}
    return client.post(f"{PAGE}/{kind}/{entry}", data=data)


def test_an_alias_is_changed_in_its_place(client: FlaskClient, formed: FakeAgent) -> None:
    fill(formed, 3)
    page = client.get(PAGE).text
    assert f'href="{PAGE}/alias/10.50.0.2"' in page and "0 networks, 3 IP aliases, 0 routes" in page
    form = client.get(f"{PAGE}/alias/10.50.0.2").text
    assert 'value="10.50.0.2/32"' in form and 'value="room &lt;1&gt;"' in form
    assert '<option selected value="lan0">' in form
    answer = change(client, "alias", "10.50.0.2", address="10.50.0.9", port="lan0", note="office")
    assert answer.status_code == 303 and answer.location == PAGE
    assert [(one["address"], one["note"]) for one in held(formed)["aliases"]] == [
        ("10.50.0.1/32", "room <0>"), ("10.50.0.9/32", "office"), ("10.50.0.3/32", "room <2>")]
    assert change(client, "alias", "10.50.0.9", 1, address="10.50.0.8", port="lan0").status_code == 409
    assert change(client, "alias", "10.50.0.2", 2, address="10.50.0.8", port="lan0").status_code == 409, "it is gone"
    assert client.get(f"{PAGE}/alias/10.50.0.2").status_code == 409
    assert client.get(f"{PAGE}/network/10.50.0.9").status_code == 409, "it is none"
    assert client.get(f"{PAGE}/route/10.50.0.9").status_code == 404
    wrong = change(client, "alias", "10.50.0.9", 2, address="10.50.0.1", port="lan0", note="twice")
    assert wrong.status_code == 422 and "is entered twice" in wrong.text and 'value="twice"' in wrong.text
    held(formed)["aliases"] = held(formed)["aliases"][:1]
    assert "1 IP alias," in client.get(PAGE).text and "1 entry" in client.get(PAGE).text


def test_router_advertisements_are_switched_on_and_off_and_shown(client: FlaskClient, formed: FakeAgent) -> None:
    told = {"advertise": "slaac", "dns": "2001:db8:20::1"}
    typed = {"address": "2001:db8:20::1/64", "port": "lan0", "name": "guests"}
    assert add(client, "network", **typed, **told).status_code == 303
    assert held(formed)["networks"] == [{**typed, **told}]
    page = client.get(PAGE).text
    assert "guests make their own addresses; sent for 2 h, the last one 1 min 4 s ago" in page
    assert "DNS server: 2001:db8:20::1" in page
    formed.role = "passive"
    assert "sent by the active gateway, which this one is not" in client.get(PAGE).text
    form = client.get(f"{PAGE}/network/2001:db8:20::1").text
    assert '<option selected value="slaac">' in form and form.count('value="2001:db8:20::1"') == 1
    assert 'value="2001:db8:20::1/64"' in form and 'value="guests"' in form
    assert change(client, "network", "2001:db8:20::1", 2, **typed, advertise="dhcp").status_code == 303
    assert held(formed)["networks"] == [{**typed, "advertise": "dhcp"}]
    assert change(client, "network", "2001:db8:20::1", 3, **typed, advertise="").status_code == 303
    assert held(formed)["networks"] == [typed] and "Router advertisements:" not in client.get(PAGE).text


@pytest.mark.parametrize(
    ("address", "typed", "message"),
    [
        ("2001:db8:20::1/64", {"advertise": "slaac", "dns": "fe80::1"}, "link-local"),
        ("2001:db8:20::1/64", {"advertise": "slaac", "dns": "10.0.0.1"}, "is no IPv6 address"),
        ("2001:db8:20::1/64", {"advertise": "slaac", "dns": "<b>"}, "not an IP address"),
        ("2001:db8:20::1/64", {"dns": "2001:db8:20::1"}, "Nothing tells guests"),
        ("2001:db8:20::1/64", {"advertise": "<b>"}, "Choose one of those"),
        ("2001:db8:30::1/60", {"advertise": "slaac"}, "is no /64"),
        ("10.20.0.1/16", {"advertise": "slaac"}, "is an IPv4 network"),
    ],
)
def test_advertisements_that_make_no_sense_are_refused(
    client: FlaskClient, formed: FakeAgent, address: str, typed: dict[str, str], message: str
) -> None:
    held(formed)["networks"] = [
        {"address": address, "port": "lan0", "name": ""}
        for address in ("10.20.0.1/16", "2001:db8:20::1/64", "2001:db8:30::1/60")
    ]
    before = [dict(row) for row in held(formed)["networks"]]
    answer = change(client, "network", address.partition("/")[0], address=address, port="lan0", **typed)
    assert answer.status_code == 422 and message in answer.text
    assert "<b>" not in answer.text and held(formed)["networks"] == before
