"""The sample firmware through Flask's test client: every page, who may do what, and its network settings."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.exc import InternalError

from flask_hsmx_cluster.extension import state
from sample_app.firmware import create_app, network
from sample_app.firmware.models import db
from sample_app.firmware.navigation import NAVIGATION

PAGES = [item.path for _, items in NAVIGATION for item in items]
OWN_PAGES = [path for path in PAGES if path != "/network/cluster/"]

PORTS = [
    network.Port("lan0", "02:00:00:00:00:01", True, 1500, ("10.0.0.1/24",), ("10.0.0.100/32",)),
    network.Port("sync0", "02:00:00:00:00:02", False, 1500, ("10.99.0.1/24",)),
]


@pytest.fixture
def firmware(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    monkeypatch.setattr(network, "read_ports", lambda: PORTS)
    app = create_app({
        "TESTING": True, "WTF_CSRF_ENABLED": False, "FIRMWARE_STATE_DIR": tmp_path, "FIRMWARE_NAME": "Gateway A",
        "FIRMWARE_DEMO_DATE": "2026-05-31", "SQLALCHEMY_DATABASE_URI": f"sqlite:///{tmp_path / 'firmware.sqlite'}",
        "HSMX_CLUSTER_STATE_DIR": str(tmp_path / "cluster"),
    })
    yield app
    with app.app_context():
        db.engine.dispose()


def log_in(app: Flask, user: str) -> FlaskClient:
    client = app.test_client()
    assert client.post("/login", data={"user": user, "password": user}).status_code == 302
    return client


def backup(client: FlaskClient) -> dict[str, list[dict[str, object]]]:
    with client.get("/system/backup/1") as answer:
        found: dict[str, list[dict[str, object]]] = json.loads(answer.data)
        return found


@pytest.fixture
def admin(firmware: Flask) -> FlaskClient:
    return log_in(firmware, "admin")


@pytest.fixture
def viewer(firmware: Flask) -> FlaskClient:
    return log_in(firmware, "viewer")


@pytest.mark.parametrize("path", OWN_PAGES)
def test_every_page_is_there_and_marks_itself_in_the_navigation(admin: FlaskClient, path: str) -> None:
    answer = admin.get(path)
    assert answer.status_code == 200
    assert f'href="{path}" aria-current="page"' in answer.text
    assert answer.text.count("<h1>") == 1


@pytest.mark.parametrize("path", OWN_PAGES)
def test_no_page_needs_inline_script_or_another_host(admin: FlaskClient, path: str) -> None:
    text = admin.get(path).text
    assert not re.search(r"<script(?![^>]*\ssrc=)|\son\w+=|\sstyle=|<style", text)
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", text)


def test_the_extensions_page_wears_the_firmwares_layout(admin: FlaskClient) -> None:
    text = admin.get("/network/cluster/").text  # No agent runs, and the page says so.
    assert 'href="/network/cluster/" aria-current="page"' in text
    assert "Foyer" in text


@pytest.mark.parametrize("path", PAGES)
def test_a_stranger_is_sent_to_the_login_page(firmware: Flask, path: str) -> None:
    answer = firmware.test_client().get(path)
    assert answer.status_code == 302
    assert answer.location.startswith("/login?next=")


def test_login_leads_back_but_never_elsewhere(firmware: Flask) -> None:
    demo = {"user": "admin", "password": "admin"}
    assert firmware.test_client().post("/login?next=/vouchers", data=demo).location == "/vouchers"
    for elsewhere in ("//evil.example", "https://evil.example/", "/\\evil.example", "javascript:1"):
        client = firmware.test_client()
        assert client.post("/login", query_string={"next": elsewhere}, data=demo).location == "/"


def test_a_wrong_password_is_refused_and_says_so(firmware: Flask) -> None:
    answer = firmware.test_client().post("/login", data={"user": "admin", "password": "viewer"})
    assert answer.status_code == 200
    assert "User or password is wrong." in answer.text


@pytest.mark.parametrize(
    "path", ["/vouchers", "/portal", "/network/settings", "/system/language", "/system/firewall",
             "/system/firewall/1/delete", "/system/backup/now", "/network/cluster/failover"],
)
def test_view_only_changes_nothing(viewer: FlaskClient, path: str) -> None:
    assert viewer.post(path, data={"count": 3, "hours": 24, "devices": 1}).status_code == 403


def test_view_only_sees_disabled_forms_and_no_backups(viewer: FlaskClient, admin: FlaskClient) -> None:
    assert "Your user may look, but not change anything." in viewer.get("/vouchers").text
    admin.post("/system/backup/now")
    assert viewer.get("/system/backup/1").status_code == 403
    assert "key" not in backup(admin)["licence"][0]


def test_forms_refuse_a_request_without_the_token(firmware: Flask, admin: FlaskClient) -> None:
    firmware.config["WTF_CSRF_ENABLED"] = True
    assert admin.post("/system/backup/now").status_code == 400
    assert "vouchers created" not in admin.post(
        "/vouchers", data={"count": 3, "hours": 24, "devices": 1}, follow_redirects=True
    ).text


def test_vouchers_are_created(admin: FlaskClient) -> None:
    data = {"count": 3, "hours": 72, "devices": 2, "note": "Chess <club>"}
    text = admin.post("/vouchers", data=data, follow_redirects=True).text
    assert "3 vouchers created." in text
    assert text.count("Chess &lt;club&gt;") == 3


@pytest.mark.parametrize(
    "change", [{"count": "0"}, {"count": "51"}, {"count": "x"}, {"hours": "5"}, {"note": "x" * 61}]
)
def test_impossible_vouchers_are_refused_and_nothing_typed_is_lost(admin: FlaskClient, change: dict[str, str]) -> None:
    answer = admin.post("/vouchers", data={"count": "4", "hours": "24", "devices": "2", "note": "typed", **change})
    assert answer.status_code == 200
    assert "vouchers created" not in answer.text
    assert 'class="problem"' in answer.text
    assert ("typed" if "note" not in change else "xxx") in answer.text


@pytest.mark.parametrize("rule", [
    {"protocol": "tcp", "port": ""}, {"protocol": "tcp", "port": "70000"}, {"protocol": "icmp", "port": "80"},
    {"protocol": "tcp", "port": "80", "source": "10.0.0.1/24"}, {"protocol": "gre", "port": "1"},
])
def test_impossible_firewall_rules_are_refused(admin: FlaskClient, rule: dict[str, str]) -> None:
    assert 'class="problem"' in admin.post("/system/firewall", data={"action": "allow", **rule}).text


def test_a_cluster_port_open_to_many_is_pointed_out(admin: FlaskClient) -> None:
    assert "name one address" not in admin.get("/system/firewall").text
    rule = {"action": "allow", "protocol": "udp", "port": "5555", "source": "10.99.0.0/24"}
    assert "name one address" in admin.post("/system/firewall", data=rule, follow_redirects=True).text


def test_two_gateways_are_seeded_alike_but_for_what_is_their_own(tmp_path: Path) -> None:
    found = []
    for name in ("Gateway A", "Gateway B"):
        folder = tmp_path / name
        app = create_app({
            "TESTING": True, "WTF_CSRF_ENABLED": False, "FIRMWARE_STATE_DIR": folder, "FIRMWARE_NAME": name,
            "FIRMWARE_DEMO_DATE": "2026-05-31", "SQLALCHEMY_DATABASE_URI": f"sqlite:///{folder / 'firmware.sqlite'}",
        })
        client = log_in(app, "admin")
        client.post("/system/backup/now")
        found.append(backup(client))
        with app.app_context():
            db.engine.dispose()
    one, other = found
    assert {name for name in one if one[name] != other[name]} == {"licence", "certificate", "interface", "port_address"}
    assert {row["kind"] for row, theirs in zip(one["interface"], other["interface"], strict=True) if row != theirs} == {
        "wan"}


# What is shared


def test_what_the_firmware_shares(firmware: Flask) -> None:
    with firmware.app_context():
        found = state().coverage()
    kinds = {table.name.removeprefix("public."): table.kind for table in found.tables}
    assert len(kinds) == len(db.metadata.tables) >= 14
    assert {name for name, kind in kinds.items() if kind == "local"} == {
        "language", "licence", "performance", "certificate", "firewall_rule", "backup", "backup_settings"}
    assert [name for name, kind in kinds.items() if kind == "bulk"] == ["accounting"]
    assert {table.name: table.rows for table in found.tables if table.rows} == {"public.interface": "kind <> 'wan'"}
    assert all(table.declared for table in found.tables)
    assert not found.warnings


def test_the_page_of_what_is_shared_wears_the_firmwares_layout(viewer: FlaskClient) -> None:
    text = viewer.get("/network/cluster/coverage").text
    assert "Foyer" in text and "public.voucher" in text and "The database is not PostgreSQL" in text
    assert not re.search(r"<script(?![^>]*\ssrc=)|\son\w+=|\sstyle=|<style", text)


# Network settings


def test_network_settings_show_own_and_shared_addresses_apart(admin: FlaskClient) -> None:
    text = admin.get("/network/settings").text
    assert ">10.0.0.1/24</textarea>" in text
    assert "10.0.0.100/32" in text
    assert "shared, held now" in text


def test_what_the_cluster_settings_state_is_changed_there_only(admin: FlaskClient, tmp_path: Path) -> None:
    (tmp_path / "cluster").mkdir()
    stated = {"in_cluster": True, "ports": {"lan0": ["10.0.0.3/24"]}, "replaced": {}}
    network.write_whole(tmp_path / "cluster" / network.STATED_FILE, stated)
    text = admin.get("/network/settings").text
    assert "Set on <a href=\"/network/cluster/#hsmx-interfaces\">" in text and ">10.0.0.3/24</textarea>" in text
    admin.post("/network/settings", data={"addresses-lan0": "10.66.0.5/24", "addresses-sync0": "10.99.0.2/24"})
    assert json.loads((tmp_path / "network.json").read_text())["ports"] == {
        "lan0": ["10.0.0.3/24"], "sync0": ["10.99.0.2/24"]
    }
    network.write_whole(tmp_path / "cluster" / network.STATED_FILE, {**stated, "in_cluster": False})
    admin.post("/network/settings", data={"addresses-lan0": "10.66.0.5/24", "addresses-sync0": "10.99.0.2/24"})
    assert json.loads((tmp_path / "network.json").read_text())["ports"]["lan0"] == ["10.66.0.5/24"]


def test_saving_writes_the_file_for_the_daemon(
    admin: FlaskClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sample_app.firmware.pages.network.PATIENCE_S", 0)
    data = {"addresses-lan0": "10.0.0.5/24\r\nfd00::5/64", "addresses-sync0": "", "addresses-eth7": "10.9.9.9/24"}
    text = admin.post("/network/settings", data=data, follow_redirects=True).text
    assert "is it running?" in text
    assert json.loads((tmp_path / "network.json").read_text()) == {
        "revision": 1, "ports": {"lan0": ["10.0.0.5/24", "fd00::5/64"], "sync0": []}
    }
    network.write_whole(tmp_path / "network-result.json", {"revision": 1, "errors": [], "managed": []})
    assert "is it running?" not in admin.get("/network/settings").text


@pytest.mark.parametrize(("typed", "problem"), [
    ("10.0.0.5", "add the prefix length"),
    ("lan", "add the prefix length"),
    ("10.0.0.300/24", "not an address"),
    ("10.0.0.0/24", "the network&#39;s own address"),
    ("10.0.0.255/24", "broadcast"),
    ("127.0.0.1/8", "loopback"),
    ("224.0.0.1/24", "multicast"),
    ("0.0.0.0/0", "unspecified"),
    ("::/64", "unspecified"),
    ("fe80::1/64", "link-local"),
    ("250.0.0.1/24", "reserved"),
    ("10.0.0.5/24 10.0.0.5/24", "entered twice"),
    ("10.99.0.7/24", "the same network"),
    (" ".join(f"10.0.0.{number}/24" for number in range(1, 11)), "At most 8"),
])
def test_impossible_addresses_are_refused_and_nothing_typed_is_lost(
    admin: FlaskClient, tmp_path: Path, typed: str, problem: str
) -> None:
    answer = admin.post("/network/settings", data={"addresses-lan0": typed, "addresses-sync0": "10.99.0.1/24"})
    assert answer.status_code == 422
    assert problem in answer.text
    assert f">{typed}</textarea>" in answer.text
    assert not (tmp_path / "network.json").exists()


def test_a_damaged_settings_file_is_named_not_fatal(admin: FlaskClient, tmp_path: Path) -> None:
    (tmp_path / "network.json").write_text('{"revision": ')
    assert "network.json is damaged" in admin.get("/network/settings").text


def test_a_write_on_the_passive_gateway_is_explained(admin: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The firmware does nothing for it: the page comes with the extension, in the firmware's layout."""

    class Refused(Exception):
        sqlstate = "25006"

    def refuse() -> None:
        raise InternalError("INSERT ...", {}, Refused("This gateway is not the active one: public.voucher is shared"))

    monkeypatch.setattr(db.session, "commit", refuse)
    answer = admin.post("/vouchers", data={"count": 3, "hours": 24, "devices": 1})
    assert answer.status_code == 409 and "This was not saved" in answer.text and "Foyer" in answer.text
    assert answer.text.count("<h1>") == 1
    monkeypatch.undo()
    assert admin.get("/vouchers").status_code == 200


def test_an_address_of_the_plan_is_changed_and_a_wrong_one_is_not(admin: FlaskClient, viewer: FlaskClient) -> None:
    page = "/network/interfaces/wan/1"
    answer = admin.post(page, data={"address": "198.51.100.7", "note": "x"})
    assert answer.status_code == 200 and "add the prefix length" in answer.text
    admin.post(page, data={"address": "198.51.100.7/24", "note": "moved"})
    assert "198.51.100.7/24" in admin.get("/network/interfaces").text and "moved" in viewer.get(page).text
    assert viewer.post(page, data={"address": "198.51.100.8/24", "note": ""}).status_code == 403
    assert admin.get("/network/interfaces/wan/99").status_code == 404
