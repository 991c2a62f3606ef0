"""The description of the REST API for machines: it is of every route, and every answer is as it says."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable

from flask_hsmx_cluster.agent import control_server
from flask_hsmx_cluster.agent.firewall import _named as named_peers
from flask_hsmx_cluster.control import VERBS
from flask_hsmx_cluster.errors import ClusterError
from flask_hsmx_cluster.web import api, schemas

from .conftest import PREFIX
from .fake_agent import CODE, OWN_ID, PEER_ID, FakeAgent, Json, cluster_settings, data_status, kept_row, put_aside

schemathesis = pytest.importorskip("schemathesis")

#: Requests of each operation, valid and not; the more the longer: HSMX_REST_EXAMPLES=500 tests/run web
EXAMPLES = int(os.environ.get("HSMX_REST_EXAMPLES", "6"))
HEADERS = {"X-HSMX-Cluster": "1"}


class StrictAgent(FakeAgent):
    """Takes no argument that the real one refuses, and refuses what a test's scene does not hold."""

    def answer(self, line: bytes) -> Json:
        try:
            control_server._parse(line)
        except ClusterError as error:
            return {"ok": False, "error": error.as_dict()}
        return super().answer(line)

    def verb_firewall(self, peers: list[str]) -> Json:
        return super().verb_firewall([str(one.address) for one in named_peers(peers)])

    def verb_resolve_conflict(self, keep: str) -> Json:
        self.conflict = self.conflict or {"settings": cluster_settings()}
        return super().verb_resolve_conflict(keep)

    def verb_aside_delete(self, name: str, node: str = "") -> Json:
        self.aside[self._gateway(node)] = [{**put_aside(), "name": name}]
        return super().verb_aside_delete(name, node)


@pytest.fixture
def agent(socket_path: Path) -> Iterator[FakeAgent]:
    with StrictAgent().listening(socket_path) as agent:
        yield agent


def scene(agent: FakeAgent) -> None:
    """Bring back what requests have changed."""
    agent.form()
    agent.data = data_status()
    agent.quarantine = {OWN_ID: [kept_row(1)], PEER_ID: [kept_row(2)]}
    agent.aside = {OWN_ID: [put_aside()], PEER_ID: []}
    agent.renewing.guide = None


@pytest.fixture
def document(client: Any, agent: FakeAgent) -> Json:
    answer = client.get(f"{PREFIX}/api/openapi.json")
    assert answer.status_code == 200
    found: Json = answer.json
    return found


def test_every_route_is_in_it_and_nothing_else(app: Flask, document: Json) -> None:
    rules = {
        (rule.rule.removeprefix(f"{PREFIX}/api").replace("<int:row_id>", "{row_id}"), method)
        for rule in app.url_map.iter_rules() if rule.rule.startswith(f"{PREFIX}/api")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }  # fmt: skip
    told = {(path, method.upper()) for path, methods in document["paths"].items() for method in methods}
    assert told == rules == {(f"/{path}", method) for path, method in schemas.OPERATIONS}
    assert document["servers"] == [{"url": f"{PREFIX}/api"}]


def test_it_is_a_description_that_tools_can_read(document: Json) -> None:
    assert schemathesis.openapi.from_dict(document).validate() is None
    names = [one["operationId"] for methods in document["paths"].values() for one in methods.values()]
    assert len(names) == len(set(names))


def test_only_who_may_view_gets_it(make_app: Any, agent: FakeAgent) -> None:
    asked: list[str] = []
    client = make_app(permission=lambda action: asked.append(action) or False).test_client()
    answer = client.get(f"{PREFIX}/api/openapi.json")
    assert answer.status_code == 403 and answer.json["error"]["code"] == "not_allowed" and asked == ["view"]


@pytest.mark.parametrize("path", sorted(api.WRITE))
def test_its_arguments_are_those_of_the_agent(path: str, document: Json) -> None:
    """The web app takes nothing that the agent refuses by its form, as far as types and whether it must be there."""
    verb, _types = api.WRITE[path]
    table = control_server.ARGUMENTS[verb]
    operation = document["paths"][f"/{path}"]["post"]
    body = operation["requestBody"]["content"]["application/json"]["schema"]
    assert set(body["properties"]) == set(table)
    assert set(body["required"]) == {name for name, one in table.items() if one.required}
    assert (operation["x-permission"] == "administer") == VERBS[verb].changes
    for name, schema in body["properties"].items():
        lowest, highest, longest = schema.get("minimum"), schema.get("maximum"), schema.get("maxLength")
        for value, fits in (
            (lowest, True), (highest, True), (lowest is not None and lowest - 1, False),
            (highest is not None and highest + 1, False), ("a" * (longest or 0), True),
            ("a" * ((longest or 0) + 1), False),
        ):  # fmt: skip
            if value not in (None, False) and isinstance(value, int) == (lowest is not None) and (
                longest is not None or not isinstance(value, str)
            ):
                assert table[name].fits(value) is fits, (name, value)
        for value in schema.get("enum", ()):
            assert table[name].fits(value), (name, value)


def test_answers_of_a_whole_life_are_as_it_says(client: Any, agent: FakeAgent, document: Json) -> None:
    schema = schemathesis.openapi.from_dict(document)
    scene(agent)
    agent.phase = "holding"
    ends = {"sync": {"port": "sync0", "address": "192.168.254.1/30"}}
    told: list[tuple[str, Json | None]] = [
        ("take-over", {"by": "night manager"}), ("agent/restart", {"within_s": 20}),
        *((path, None) for path, method in schemas.OPERATIONS if method == "GET" and "{" not in path),
        ("data/quarantine/1", None),
        ("preflight", {"settings": cluster_settings()}),
        ("settings", {"settings": cluster_settings(), "base_revision": 1}),
        ("failover", {}), ("failover", {}), ("maintenance", {"on": True}), ("maintenance", {"on": False}),
        ("renewal/begin", {"kind": "certificate"}), ("renewal/look", {}), ("renewal/end", {}),
        ("data/verify", {}), ("data/quarantine/sweep", {"action": "discard", "upto": 5}),
        ("data/quarantine/sweep-stop", {}), ("data/quarantine/reapply", {"row_id": 2, "node": PEER_ID}),
        ("data/quarantine/discard", {"ids": [1]}), ("data/aside/delete", {"name": "hsmx_cluster_aside"}),
        ("files/sync", {}), ("files/allow-deletions", {"tree": "portal"}), ("pppoe", {"name": "isp", "connect": True}),
        ("notify/test", {"name": "noc"}), ("resolve-conflict", {"keep": "mine"}), ("pairing-code", {}),
        ("leave", {"force": True}), ("create", {"settings": cluster_settings(paired=False)}), ("leave", {}),
        ("join", {"address": "192.168.254.2", "code": CODE, "ends": ends}), ("status", None), ("settings", None),
    ]  # fmt: skip
    done = set()
    for path, body in told:
        url = f"{PREFIX}/api/{path}"
        answer = client.get(url) if body is None else client.post(url, json=body, headers=HEADERS)
        assert answer.status_code == 200, (path, answer.text)
        known = "data/quarantine/{row_id}" if path == "data/quarantine/1" else path
        method = "GET" if body is None else "POST"
        done.add((known, method))
        schema[f"/{known}"][method].validate_response(_response(answer))
    assert set(schemas.OPERATIONS) - done <= {("replace", "POST")}


def _response(answer: Any) -> Any:
    return schemathesis.Response.from_any(answer)


CHECKS = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance",
          "response_headers_conformance", "negative_data_rejection")  # fmt: skip


@pytest.mark.parametrize("mode", ["POSITIVE", "NEGATIVE"])
@pytest.mark.parametrize("permission", [True, False], ids=["allowed", "forbidden"])
def test_no_request_gets_an_answer_that_it_does_not_describe(
    make_app: Any, agent: FakeAgent, mode: str, permission: bool
) -> None:
    may = [True]
    app = make_app(WTF_CSRF_ENABLED=False, permission=lambda action: may[0])
    scene(agent)
    schema = schemathesis.openapi.from_wsgi(f"{PREFIX}/api/openapi.json", app)
    may[0] = permission
    checks = [getattr(schemathesis.checks, name) for name in CHECKS]
    tried = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        generation = getattr(schemathesis.GenerationMode, mode)

        @settings(
            max_examples=EXAMPLES if permission else 1, derandomize=True, database=None, deadline=None,
            phases=[Phase.generate], suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=generation))
        def ask(case: Any) -> None:
            nonlocal tried
            tried += 1
            before = len(agent.calls)
            response = case.call()
            case.validate_response(response, checks=checks)
            if not permission:
                assert response.status_code == 403 or (response.status_code == 404 and "{" in case.path)
                assert len(agent.calls) == before
            elif len(agent.calls) > before:
                scene(agent)

        try:
            ask()
        except Unsatisfiable:  # there is nothing that could be wrong with a request that has no arguments
            assert mode == "NEGATIVE" and not operation.body
    assert tried >= len(schemas.OPERATIONS) / 2


def test_what_another_sites_page_can_send_changes_nothing(client: Any, agent: FakeAgent) -> None:
    scene(agent)
    for path, method in schemas.OPERATIONS:
        if method == "POST":
            for options in ({"json": {}}, {"data": "{}", "content_type": "text/plain", "headers": HEADERS}):
                answer = client.post(f"{PREFIX}/api/{path}", **options)
                assert answer.status_code == 403 and json.loads(answer.data)["error"]["remedy"], path
    assert agent.calls == []
