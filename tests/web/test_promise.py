"""*What this pair promises*: the page, the command line, and REST."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient

from flask_hsmx_cluster.decision.bounds import Fault

from .conftest import PREFIX
from .fake_agent import FakeAgent

PAGE, REST = f"{PREFIX}/promise", f"{PREFIX}/api/promise"


def told(client: FlaskClient) -> dict[str, tuple[int | None, int | None]]:
    return {one["fault"]: (one["none_ms"], one["two_ms"]) for one in client.get(REST).get_json()["promises"]}


def test_the_page_is_linked_and_has_each_fault(client: FlaskClient, formed: FakeAgent) -> None:
    assert f'href="{PAGE}"' in client.get(f"{PREFIX}/").get_data(as_text=True)
    text = client.get(PAGE).get_data(as_text=True)
    assert all(f'id="{fault.value}"' in text for fault in Fault)
    assert "a heartbeat each 100 ms, a lease of 2 s" in text and text.count("while it lasts") == 2
    assert "wait for the database" not in text and "services and hooks" not in text


def test_it_counts_with_the_clusters_settings(client: FlaskClient, formed: FakeAgent) -> None:
    quick = told(client)
    assert formed.settings is not None
    formed.settings["advanced"].update(heartbeat_ms=1000, lease_s=4)
    slow = told(client)
    assert quick["power_off"][0] == 191 and slow["power_off"][0] == 1316
    assert slow["isolation"] == (0, None) and slow["request"] == quick["request"]
    assert "a heartbeat each 1000 ms, a lease of 4 s" in client.get(PAGE).get_data(as_text=True)


def test_it_counts_with_what_the_addresses_wait_for(client: FlaskClient, formed: FakeAgent) -> None:
    bare = told(client)["power_off"][0]
    assert bare is not None
    formed.services = {"services": [], "hooks": [], "checks": [], "conntrack": None, "internet": None}
    assert told(client)["power_off"][0] == bare + 1000


def test_before_there_is_a_cluster(client: FlaskClient, agent: FakeAgent) -> None:
    assert "in no cluster yet" in client.get(PAGE).get_data(as_text=True)
    assert client.get(REST).get_json()["formed"] is False


@pytest.mark.parametrize("path", [PAGE, REST])
def test_who_may_not_look_sees_nothing(make_app: Callable[..., Flask], formed: FakeAgent, path: str) -> None:
    assert make_app(permission=lambda action: False).test_client().get(path).status_code == 403


def test_the_command_line(app: Flask, formed: FakeAgent) -> None:
    run = app.test_cli_runner().invoke
    text = run(args=["cluster", "promise"]).output
    assert "Heartbeats each 100 ms, a lease of 2 s" in text
    assert "! Nothing at all passes between the two, and both reach guests" in text
    assert "nobody answers: 0.20 s; two have the address: never" in text
    assert len(json.loads(run(args=["cluster", "promise", "--json"]).output)["promises"]) == len(Fault)
