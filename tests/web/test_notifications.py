"""The page *Notifications* and ``flask cluster notify``: what they show, take and never tell."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from flask.testing import FlaskClient

from flask_hsmx_cluster.settings.notify import Target

from .conftest import PREFIX
from .fake_agent import FakeAgent

PAGE = f"{PREFIX}/notifications"
TYPED = {"name": "night", "address": "mail.example.com", "security": "tls", "user": "gateway", "password": "geheim",
         "sender": "g@example.com", "recipients": "a@example.com, b@example.com", "least": "critical",
         "repeat_min": "30", "remind_h": "24", "enabled": "y"}  # fmt: skip
ROW = Target("night", "mail", "mail.example.com", "gateway", "", "tls", "g@example.com",
             ("a@example.com", "b@example.com"), least="critical").as_dict()  # fmt: skip
STANDING = {"name": "night", "waiting": 0, "failures": 0, "error": "", "delivered_s": 5.0, "next_s": None,
            "speaks": True}  # fmt: skip


def send(client: FlaskClient, path: str, revision: int = 1, **typed: str) -> Any:
    return client.post(f"{PAGE}{path}", data={"base_revision": str(revision), **typed})


def held(agent: FakeAgent) -> list[dict[str, Any]]:
    assert agent.settings is not None
    rows: list[dict[str, Any]] = agent.settings.get("notify", [])
    return rows


@pytest.fixture
def told(formed: FakeAgent) -> FakeAgent:
    """A cluster with a target."""
    assert formed.settings is not None
    formed.settings["notify"] = [dict(ROW)]
    formed.notify = [dict(STANDING)]
    return formed


def run(app: Flask, *arguments: str, text: str = "") -> Result:
    return app.test_cli_runner().invoke(args=["cluster", "notify", *arguments], input=text)


def test_one_of_each_kind_is_added(client: FlaskClient, formed: FakeAgent) -> None:
    assert "Nobody is told of alarms yet" in client.get(PAGE).text
    assert send(client, "/mail", **TYPED).status_code == 303
    assert held(formed) == [{**ROW, "password": "geheim"}]
    common = {"least": "warning", "repeat_min": "5", "remind_h": "0", "enabled": "y"}
    hook = {"name": "noc", "address": "https://x.example/a?b=1", "fingerprint": "AB:" * 31 + "AB", **common}
    assert send(client, "/webhook", revision=2, **hook, password="key").status_code == 303
    assert send(client, "/syslog", revision=3, name="log", address="udp://192.0.2.7", **common).status_code == 303
    assert [one["kind"] for one in held(formed)] == ["mail", "webhook", "syslog"]
    assert held(formed)[1]["fingerprint"] == "ab" * 32 and held(formed)[2]["repeat_min"] == 5


@pytest.mark.parametrize(
    ("kind", "typed", "message"),
    [
        ("mail", {"name": "a b"}, "is no name for a notification target"),
        ("mail", {"address": "http://mail"}, "cannot be used as the server"),
        ("mail", {"sender": "g@example.com\r\nBcc: x@example.com"}, "cannot be read"),
        ("mail", {"sender": "g@example.com> SIZE=1"}, "is no e-mail address"),
        ("mail", {"recipients": ""}, "Nobody gets the mails"),
        ("mail", {"security": "none"}, "for everybody to read"),
        ("mail", {"repeat_min": "0"}, "A whole number from 1 to 1440"),
        ("webhook", {"address": "file:///etc/passwd"}, "cannot be used as the server"),
        ("webhook", {"address": "gopher://x/"}, "cannot be used as the server"),
        ("webhook", {"address": "https://user:pw@x.example/"}, "cannot be used as the server"),
        ("webhook", {"address": "https://x.example/", "fingerprint": "zz"}, "not that of a certificate"),
        ("syslog", {"address": "unix:dev/log"}, "cannot be used as the server"),
        ("syslog", {"address": "tcp://x:99999"}, "cannot be used as the server"),
    ],
)
def test_what_is_wrong_is_shown_and_no_password_comes_back(
    client: FlaskClient, formed: FakeAgent, kind: str, typed: dict[str, str], message: str
) -> None:
    answer = send(client, f"/{kind}", **{**TYPED, **typed})
    assert answer.status_code == 422 and message in answer.text and "geheim" not in answer.text
    assert not held(formed)


def test_how_it_is_can_be_seen_and_its_password_cannot(client: FlaskClient, told: FakeAgent) -> None:
    assert "Everything was delivered" in client.get(PAGE).text
    told.notify[0] |= {"failures": 3, "error": "mail.example.com refuses <the> connection."}
    page = client.get(PAGE).text
    assert "Not reached 3 times in a row: mail.example.com refuses &lt;the&gt; connection." in page
    form = client.get(f"{PAGE}/target/night").text
    assert 'value="a@example.com, b@example.com"' in form and "geheim" not in form
    assert client.get(f"{PAGE}/target/other").status_code != 200


def test_a_change_keeps_the_name_and_leaves_the_password_to_the_agent(client: FlaskClient, told: FakeAgent) -> None:
    changed = {**TYPED, "name": "else", "password": "", "least": "info"}
    assert send(client, "/target/night", **changed).status_code == 303
    assert held(told) == [{**ROW, "least": "info"}]
    assert send(client, "/target/night", revision=1, **TYPED).status_code == 409, "somebody saved meanwhile"


def test_the_test_says_what_the_server_said(client: FlaskClient, told: FakeAgent) -> None:
    assert send(client, "/target/night/test").status_code == 303
    assert "delivered. It answered 200 OK." in client.get(PAGE).text
    told.tested |= {"delivered": False, "answer": "mail.example.com refuses the connection."}
    send(client, "/target/night/test")
    assert "not delivered. mail.example.com refuses the connection." in client.get(PAGE).text


def test_it_is_removed(client: FlaskClient, told: FakeAgent) -> None:
    assert send(client, "/target/night/remove").status_code == 303
    assert held(told) == []


def test_ids_are_there_once_and_each_label_has_its_field(client: FlaskClient, told: FakeAgent) -> None:
    import re

    page = client.get(PAGE).text
    ids, labels = re.findall(r' id="([^"]+)"', page), re.findall(r'<label for="([^"]+)"', page)
    assert len(ids) == len(set(ids)) and set(labels) <= set(ids) and "mail-address" in labels


def test_who_may_only_look_cannot_change(make_app: Any, told: FakeAgent) -> None:
    app: Flask = make_app(WTF_CSRF_ENABLED=False, permission=lambda action: action == "view")
    viewer = app.test_client()
    assert "Add a webhook" not in viewer.get(PAGE).text
    for path in ("/mail", "/target/night", "/target/night/remove", "/target/night/test"):
        assert send(viewer, path, **TYPED).status_code == 403


def test_the_command_line_does_the_same(app: Flask, told: FakeAgent) -> None:
    assert "Everything was delivered" in run(app, "list").stdout
    (row,) = json.loads(run(app, "list", "--json").stdout)["targets"]
    assert row["standing"]["failures"] == 0 and row["password"] == ""
    added = run(app, "add", "webhook", "noc", "--address", "https://x.example/", "--password-stdin", text="key\n")
    assert added.exit_code == 0, added.output
    assert held(told)[1] == Target("noc", "webhook", "https://x.example/", password="key").as_dict()
    assert run(app, "add", "webhook", "noc", "--address", "https://x.example/").exit_code == 1
    assert run(app, "add", "syslog", "log", "--address", "file:///x").exit_code == 1
    assert run(app, "change", "noc", "--least", "critical", "--off").exit_code == 0
    assert held(told)[1]["least"] == "critical" and held(told)[1]["enabled"] is False
    assert "It answered 200 OK." in run(app, "test", "noc").output
    told.tested["delivered"] = False
    assert run(app, "test", "noc").exit_code == 1
    assert run(app, "remove", "noc").exit_code == 0 and len(held(told)) == 1


def test_other_pages_keep_them(client: FlaskClient, told: FakeAgent) -> None:
    from flask_hsmx_cluster.editing.networks import kept

    assert told.settings is not None
    assert kept(told.settings)["notify"] == [ROW]
