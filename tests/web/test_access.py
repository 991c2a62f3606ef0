"""Permission and CSRF: who gets in, and what another site's page cannot do."""

from __future__ import annotations

import re
from typing import Any

import pytest
from flask import Flask, abort, redirect
from flask_wtf import CSRFProtect

from flask_hsmx_cluster.web.access import MAX_FORM

from .conftest import PREFIX
from .fake_agent import FakeAgent

PUBLIC = {"/pair", "/peer"}


#: A part of a path that varies: its converter with what it allows.
PART = re.compile(r"<(?:(\w+)(?:\((\w+)[^)]*\))?:)?\w+>")


def some(part: re.Match[str]) -> str:
    return {"path": "cluster.css", "int": "1", "any": part[2], None: "something"}[part[1]]


def rules(app: Flask) -> list[tuple[str, str]]:
    return [(method, PART.sub(some, rule.rule))
            for rule in app.url_map.iter_rules() if rule.rule.startswith(PREFIX)
            for method in sorted((rule.methods or set()) - {"OPTIONS", "HEAD"})]


def test_nothing_but_the_peer_endpoints_is_public(make_app: Any, formed: FakeAgent) -> None:
    app = make_app(permission=lambda action: False)
    client = app.test_client()
    tried = 0
    for method, path in rules(app):
        code = client.open(path, method=method).status_code
        assert (code == 403) == (path.removeprefix(PREFIX) not in PUBLIC), (method, path, code)
        tried += 1
    assert tried > 25


def test_viewers_change_nothing(make_app: Any, formed: FakeAgent) -> None:
    app = make_app(permission=lambda action: action == "view", WTF_CSRF_ENABLED=False)
    client = app.test_client()
    page = client.get(PREFIX + "/").text
    assert "Fail over" not in page and "You may look at these settings" in page
    for method, path in rules(app):
        if method == "POST" and path.removeprefix(PREFIX) not in {*PUBLIC, "/api/preflight"}:
            assert client.post(path, json={}, headers={"X-HSMX-Cluster": "1"}).status_code == 403, path
    assert not {verb for verb, _arguments in formed.calls} - {"status", "settings", "ports"}


@pytest.mark.parametrize("answer", ["yes", 1, ("/login", 302), object()])
def test_only_true_lets_in(make_app: Any, formed: FakeAgent, answer: object) -> None:
    assert make_app(permission=lambda action: answer).test_client().get(PREFIX + "/").status_code == 403


def test_the_host_may_redirect_to_its_login(make_app: Any, formed: FakeAgent) -> None:
    def permission(action: str) -> bool:
        abort(redirect("/login"))

    answer = make_app(permission=permission).test_client().get(PREFIX + "/")
    assert (answer.status_code, answer.location) == (302, "/login")


ACTIONS = ["/failover", "/maintenance", "/leave", "/pairing-code", "/conflict"]


@pytest.mark.parametrize("path", [*ACTIONS, "/", "/create", "/join"])
def test_no_action_without_token(make_app: Any, agent: FakeAgent, path: str) -> None:
    if path not in ("/create", "/join"):
        agent.form()
    answer = make_app().test_client().post(PREFIX + path, data={"keep": "mine", "on": "1"})
    assert answer.status_code in (409, 422)
    assert not {verb for verb, _arguments in agent.calls} - {"status", "settings", "ports"}


def test_the_forms_own_token_is_enough(make_app: Any, formed: FakeAgent) -> None:
    client = make_app().test_client()
    page = client.get(PREFIX + "/failover").text
    token = page.split('name="csrf_token" type="hidden" value="')[1].split('"')[0]
    assert client.post(PREFIX + "/failover", data={"csrf_token": token}).status_code == 303
    assert ("failover", {}) in formed.calls


def test_beside_a_host_wide_csrf_protection(make_app: Any, formed: FakeAgent) -> None:
    app = make_app()
    CSRFProtect(app)

    @app.post("/other")
    def other() -> str:
        return "done"

    client = app.test_client()
    assert client.post(PREFIX + "/peer", data=b"x", content_type="application/octet-stream").status_code == 200
    assert client.post(PREFIX + "/api/failover", json={}, headers={"X-HSMX-Cluster": "1"}).status_code == 200
    assert client.post(PREFIX + "/failover").status_code == 409
    assert client.post("/other").status_code == 400


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"data": "{}", "content_type": "text/plain", "headers": {"X-HSMX-Cluster": "1"}}, 403),
        ({"data": {"a": "b"}, "headers": {"X-HSMX-Cluster": "1"}}, 403),
        ({"json": {}}, 403),
        ({"json": {}, "headers": {"X-CSRFToken": "guessed"}}, 403),
        ({"json": {}, "headers": {"X-HSMX-Cluster": "1"}}, 200),
    ],
)
def test_api_needs_json_and_a_header(make_app: Any, formed: FakeAgent, options: Any, code: int) -> None:
    assert make_app().test_client().post(PREFIX + "/api/failover", **options).status_code == code


def test_pages_stay_out_of_caches_and_frames(client: Any, formed: FakeAgent) -> None:
    headers = client.get(PREFIX + "/").headers
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Frame-Options"] == "SAMEORIGIN"
    with client.get(PREFIX + "/static/cluster.css") as style:
        assert style.status_code == 200


def test_no_inline_script_or_style(client: Any, formed: FakeAgent) -> None:
    for path in ("/", "/events", "/coverage", "/failover", "/maintenance", "/leave"):
        page = client.get(PREFIX + path).text
        assert " style=" not in page and "<style" not in page and " onclick=" not in page
        assert page.count("<script") == 1 and '<script src="/' in page


def test_a_form_has_an_end(make_app: Any, formed: FakeAgent) -> None:
    client = make_app(WTF_CSRF_ENABLED=False).test_client()
    form = {"content_type": "application/x-www-form-urlencoded"}
    for path in ("/networks/add/list", "/failover", "/"):
        assert client.post(PREFIX + path, data=b"x=" + bytes(MAX_FORM), **form).status_code == 413
        endless = {"Transfer-Encoding": "chunked"}
        environ = {"wsgi.input": _Endless(), "wsgi.input_terminated": True}
        answer = client.post(PREFIX + path, headers=endless, environ_overrides=environ, **form)
        assert answer.status_code == 413
    assert formed.calls == []


class _Endless:
    def read(self, *_size: int) -> bytes:
        raise AssertionError("it must not be read")

    readline = read


@pytest.mark.parametrize("body", ["[" * 100_000, '{"duration_s": 1, "on": true}', '{"address": "\\ud800"}', "[1]", "7"])
def test_no_page_takes_json(make_app: Any, formed: FakeAgent, body: str) -> None:
    app = make_app(WTF_CSRF_ENABLED=False)
    client = app.test_client()
    for method, path in rules(app):
        if method == "POST" and not path.removeprefix(PREFIX).startswith(("/api/", *PUBLIC)):
            assert client.post(path, data=body, content_type="application/json").status_code < 500, path
