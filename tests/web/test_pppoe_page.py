"""The page *PPPoE connections* and ``flask cluster pppoe``: what they show, take and never tell."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from flask.testing import FlaskClient

from flask_hsmx_cluster.errors import RequestRefused

from .conftest import PREFIX
from .fake_agent import FakeAgent
from .test_settings_page import messages

PAGE = f"{PREFIX}/pppoe"
ROW = {
    "name": "fibre", "port": "lan0", "user": "hotel", "password": "", "service": "", "concentrator": "", "mtu": 1492,
    "default_route": True, "enabled": True,
}  # fmt: skip
TYPED = {"name": "fibre", "port": "lan0", "user": "hotel", "password": "geheim", "mtu": "1492",
         "default_route": "y", "enabled": "y"}  # fmt: skip


def send(client: FlaskClient, path: str = "", revision: int = 1, **typed: str) -> Any:
    return client.post(f"{PAGE}{path}", data={"base_revision": str(revision), **typed})


def held(agent: FakeAgent) -> list[dict[str, Any]]:
    assert agent.settings is not None
    rows: list[dict[str, Any]] = agent.settings.get("pppoe", [])
    return rows


@pytest.fixture
def dialled(formed: FakeAgent) -> FakeAgent:
    """A cluster with a connection that is up."""
    assert formed.settings is not None
    formed.settings["pppoe"] = [dict(ROW)]
    formed.pppoe = [{"name": "fibre", "state": "up", "text": "up with 10.60.0.10", "interface": "ppp0", "since_s": 61}]
    return formed


def run(app: Flask, *arguments: str, text: str = "") -> Result:
    return app.test_cli_runner().invoke(args=["cluster", "pppoe", *arguments], input=text)


def test_one_is_added(client: FlaskClient, formed: FakeAgent) -> None:
    answer = send(client, **TYPED)
    assert answer.status_code == 303 and held(formed) == [{**ROW, "password": "geheim"}]


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ({"name": "a b"}, "is no name for a connection"),
        ({"port": ""}, "Choose a port"),
        ({"user": ""}, "has no user name"),
        ({"mtu": "9"}, "A whole number from 576 to 1500"),
        ({"password": "geheim\x07"}, "At most 200 bytes"),
        ({"port": "sync0"}, "303"),
    ],
)
def test_what_is_wrong_is_shown_at_its_field_and_no_password_comes_back(
    client: FlaskClient, formed: FakeAgent, typed: dict[str, str], message: str
) -> None:
    answer = send(client, **{**TYPED, **typed})
    if message == "303":  # a cable between the gateways: odd, but allowed
        assert answer.status_code == 303 and "the cable between the two gateways" in client.get(PAGE).text
        return
    assert answer.status_code == 422 and message in answer.text and "geheim" not in answer.text
    assert not held(formed)


def test_how_it_is_can_be_seen_and_its_password_cannot(client: FlaskClient, dialled: FakeAgent) -> None:
    page = client.get(PAGE).text
    assert "Up with 10.60.0.10" in page and "ppp0" in page and "geheim" not in page
    assert client.get(f"{PAGE}/fibre").status_code == 200
    assert client.get(f"{PAGE}/other").status_code != 200


def test_a_change_keeps_the_name_and_leaves_the_password_to_the_agent(client: FlaskClient, dialled: FakeAgent) -> None:
    assert send(client, "/fibre", **{**TYPED, "name": "else", "password": "", "mtu": "1400"}).status_code == 303
    assert held(dialled) == [{**ROW, "mtu": 1400}]
    assert send(client, "/fibre", revision=1, **TYPED).status_code == 409, "somebody saved meanwhile"


def test_it_is_removed(client: FlaskClient, dialled: FakeAgent) -> None:
    assert send(client, "/fibre/remove").status_code == 303
    assert held(dialled) == []


def test_it_is_connected_and_disconnected(client: FlaskClient, dialled: FakeAgent) -> None:
    for wish in ("disconnect", "connect"):
        assert send(client, f"/fibre/{wish}").status_code == 303
        assert ("pppoe", {"name": "fibre", "connect": wish == "connect"}) in dialled.calls
    dialled.refusals["pppoe"] = RequestRefused("Connections are dialled on the active gateway only.")
    assert "active gateway only" in send(client, "/fibre/connect").text


def test_who_may_only_look_cannot_change(make_app: Any, dialled: FakeAgent) -> None:
    app: Flask = make_app(WTF_CSRF_ENABLED=False, permission=lambda action: action == "view")
    viewer = app.test_client()
    assert "Disconnect" not in viewer.get(PAGE).text
    for path in ("", "/fibre", "/fibre/remove", "/fibre/connect"):
        assert send(viewer, path, **TYPED).status_code == 403


def test_the_command_line_does_the_same(app: Flask, dialled: FakeAgent) -> None:
    assert "up with 10.60.0.10" in run(app, "list").stdout
    (row,) = json.loads(run(app, "list", "--json").stdout)["connections"]
    assert row["standing"]["state"] == "up" and row["password"] == ""
    options = ("--port", "lan0", "--user", "x", "--no-default-route", "--password-stdin")
    assert run(app, "add", "spare", *options, text="geheim\n").exit_code == 0
    assert held(dialled)[1] == {**ROW, "name": "spare", "user": "x", "password": "geheim", "default_route": False}
    assert run(app, "add", "spare", *options, text="geheim\n").exit_code == 1
    assert run(app, "change", "spare", "--mtu", "1400", "--off").exit_code == 0
    assert (held(dialled)[1]["mtu"], held(dialled)[1]["enabled"]) == (1400, False)
    assert run(app, "remove", "spare").exit_code == 0 and len(held(dialled)) == 1
    assert run(app, "disconnect", "fibre").exit_code == 0
    assert ("pppoe", {"name": "fibre", "connect": False}) in dialled.calls
    assert run(app, "remove", "nobody").exit_code == 1


def test_the_rest_api_takes_a_wish(client: FlaskClient, dialled: FakeAgent) -> None:
    wish = {"name": "fibre", "connect": True}
    answer = client.post(f"{PREFIX}/api/pppoe", json=wish, headers={"X-HSMX-Cluster": "1"})
    assert answer.status_code == 200 and ("pppoe", {"name": "fibre", "connect": True}) in dialled.calls


@pytest.mark.parametrize("path", ["pppoe/fibre/remove", "pppoe", "pppoe/fibre", "networks/remove", "networks/add/list"])
def test_outside_of_a_cluster_nothing_is_done(client: FlaskClient, agent: FakeAgent, path: str) -> None:
    answer = client.post(f"{PREFIX}/{path}", data={"base_revision": "0", "names": "10.0.0.9"})
    assert answer.status_code in (302, 303) and answer.location == f"{PREFIX}/"


@pytest.mark.parametrize("field", ["user", "service", "concentrator"])
def test_what_is_too_long_is_refused_and_not_cut(client: FlaskClient, formed: FakeAgent, field: str) -> None:
    assert send(client, **{**TYPED, field: "x" * 200}).status_code == 303 and held(formed)[0][field] == "x" * 200
    formed.form()
    assert send(client, **{**TYPED, field: "x" * 201}).status_code == 422 and held(formed) == []


@pytest.mark.parametrize("field", ["user", "password", "service", "concentrator"])
@pytest.mark.parametrize("text", ["é" * 150, "a\tb", "a\0b", "x" * 5000])
def test_a_text_that_pppd_cannot_take_is_told_beside_its_field(
    client: FlaskClient, formed: FakeAgent, field: str, text: str
) -> None:
    answer = send(client, **{**TYPED, field: text})
    assert answer.status_code == 422 and held(formed) == []
    assert "At most 200 bytes" in messages(answer.text, field) and "cannot be read" not in answer.text


def test_a_password_that_is_no_text_is_refused_in_words(app: Flask, formed: FakeAgent) -> None:
    arguments = ["cluster", "pppoe", "add", "fibre", "--port", "lan0", "--user", "hotel", "--password-stdin"]
    result = app.test_cli_runner().invoke(args=arguments, input=b"geh\xe9im\n")
    assert result.exit_code == 1 and "not in UTF-8" in result.output and "geh" not in result.output
