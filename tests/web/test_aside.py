"""The page about what was put aside: what, since when, how large, how to look into it, how to delete it."""

from __future__ import annotations

import shlex
from html import unescape
from typing import Any

import pytest
from flask import Flask

from flask_hsmx_cluster.errors import PeerUnavailable
from flask_hsmx_cluster.words import aside as words

from .conftest import PREFIX
from .fake_agent import OWN_ID, PEER_ID, FakeAgent, data_status, put_aside

PAGE = PREFIX + "/aside"
FORMER = "_20290102030405"


@pytest.fixture
def kept(formed: FakeAgent) -> FakeAgent:
    """The other gateway has put something aside, twice."""
    formed.data = data_status()
    formed.aside[PEER_ID] = [put_aside(), put_aside(FORMER, kept_at="", tables=60)]
    return formed


def shown(client: Any, path: str, code: int = 200) -> str:
    answer = client.get(path)
    assert answer.status_code == code
    return unescape(answer.text)


def test_what_is_kept_since_when_how_large_and_how_to_look_into_it(client: Any, kept: FakeAgent) -> None:
    assert "Nothing is put aside on gateway-a." in shown(client, PAGE)
    page = shown(client, f"{PAGE}?node={PEER_ID}")
    assert "Kept since 2030-05-06" in page and "2 tables, about 52 rows, 24 kB" in page and "of this cluster" in page
    assert "Kept since a moment that is not known" in page and "and 58 more" in page
    assert """sudo -u postgres psql 'hsmx' -c 'TABLE "hsmx_cluster_aside"."public.voucher"'""" in page
    assert "pg_dump --schema='hsmx_cluster_aside_20290102030405' 'hsmx' > aside.sql" in page
    assert f'href="/network/cluster/aside?node={PEER_ID}"' in shown(client, f"{PREFIX}/quarantine?node={PEER_ID}")


def test_deleting_says_what_is_lost_and_needs_a_tick(client: Any, kept: FakeAgent) -> None:
    name = f"hsmx_cluster_aside{FORMER}"
    page = shown(client, f"{PAGE}/delete?node={PEER_ID}&name={name}")
    assert "cannot be brought back" in page and "60 tables" in page and "on gateway-b" in page
    answer = client.post(f"{PAGE}/delete", data={"node": PEER_ID, "name": name})
    assert "Tick this" in answer.text and len(kept.aside[PEER_ID]) == 2
    answer = client.post(f"{PAGE}/delete", data={"node": PEER_ID, "name": name, "sure": "y"})
    assert answer.status_code == 303 and [one["name"] for one in kept.aside[PEER_ID]] == ["hsmx_cluster_aside"]
    assert "It is deleted: 60 tables" in shown(client, answer.location)
    for other in (name, "public", "x" * 5000, ""):
        assert "nothing put aside by that name" in shown(client, f"{PAGE}/delete?node={PEER_ID}&name={other}", 409)


def test_a_gateway_that_is_away_and_data_that_is_not_shared(client: Any, kept: FakeAgent) -> None:
    kept.refusals["aside"] = PeerUnavailable("The other gateway does not answer.", "Switch it on.")
    page = shown(client, f"{PAGE}?node={PEER_ID}")
    assert "What lies on gateway-b cannot be shown now: The other gateway does not answer." in page


def test_nothing_is_deleted_without_permission_or_token(make_app: Any, kept: FakeAgent) -> None:
    form = {"node": PEER_ID, "name": "hsmx_cluster_aside", "sure": "y"}
    answer = make_app().test_client().post(f"{PAGE}/delete", data=form)
    assert answer.status_code == 409 and "Nothing was done" in answer.text
    app: Flask = make_app(permission=lambda action: action == "view", WTF_CSRF_ENABLED=False)
    client = app.test_client()
    assert "Delete" not in shown(client, f"{PAGE}?node={PEER_ID}")
    assert client.get(f"{PAGE}/delete?node={PEER_ID}&name=hsmx_cluster_aside").status_code == 403
    assert client.post(f"{PAGE}/delete", data=form).status_code == 403
    assert len(kept.aside[PEER_ID]) == 2


def test_hostile_names_stay_one_word_of_a_command_and_no_markup(client: Any, kept: FakeAgent) -> None:
    name = """x'; rm -rf / #"<b>\u202e"""
    kept.aside[PEER_ID] = [put_aside(listed=[{"table": name, "copy": name, "rows": 1, "bytes": 1}])]
    answer = client.get(f"{PAGE}?node={PEER_ID}")
    assert "<b>" not in answer.text and "\u202e" not in answer.text
    command = words.look_command(name, "hsmx_cluster_aside", name)
    assert shlex.split(command) == ["sudo", "-u", "postgres", "psql", name, "-c", 'TABLE "hsmx_cluster_aside"."'
                                    + name.replace('"', '""') + '"']
    assert shlex.split(words.dump_command(name, name))[3:6] == ["pg_dump", f"--schema={name}", name]


def test_from_the_command_line_and_by_rest(run: Any, client: Any, kept: FakeAgent) -> None:
    assert "Nothing is put aside." in run("database", "aside").output
    found = run("database", "aside", "--on", "gateway-b").output
    assert "hsmx_cluster_aside: Kept since 2030-05-06" in found and "psql 'hsmx'" in found and "pg_dump" in found
    order = ("database", "aside", "--on", "gateway-b", "--delete", "hsmx_cluster_aside")
    assert "Delete 2 tables" in run(*order, code=1).stderr and len(kept.aside[PEER_ID]) == 2
    assert "It is deleted: 2 tables" in run(*order, "--yes").output
    assert "nothing put aside by that name" in run(*order, "--yes", code=1).stderr
    path = PREFIX + "/api/data/aside"
    assert [one["tables"] for one in client.get(f"{path}?node={PEER_ID}").json["sets"]] == [60]
    form = {"name": f"hsmx_cluster_aside{FORMER}", "node": PEER_ID}
    assert client.post(f"{path}/delete", json=form).status_code == 403
    assert client.post(f"{path}/delete", json=form, headers={"X-HSMX-Cluster": "1"}).json["tables"] == 60
    assert client.get(f"{path}?node={OWN_ID}").json["sets"] == []
