"""What the page and the command line say of files, and what an operator does there."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest
from flask import Flask

from .conftest import PREFIX
from .fake_agent import FakeAgent, Json, files
from .fake_agent import files_tree as tree

ASKS = files(tree("asks", asks=300, of=1200, examples=["a<b>.html"]))
PROGRESS = {"tree": "portal", "files": 10, "size": 1024, "of_files": 40, "of_size": 4096}
STATES: dict[str, tuple[Json, str, str]] = {
    "same": (files(tree("synchronised")), "ok", "1,200 files, 2.0 MB, the same on gateway-b"),
    "copying": (files(tree("copying"), progress=PROGRESS), "info", "10 of 40 files, 1.0 kB of 4.0 kB"),
    "asks": (ASKS, "bad", "300 deletions wait for you"),
    "asks there": (files(tree("asks_there", asks=300), role="active"), "bad",
                   "300 deletions wait for you on gateway-b"),
    "failed": (files(tree("failed", error="it <broke>.", remedy="Mend it.")), "warn",
               "could not be copied: it <broke>. Mend it."),
    "problem": (files(tree("waiting"), problem="rsync is not installed."), "warn", "rsync is not installed."),
    "unreadable": (files(tree("synchronised", unreadable_count=3)), "ok", "3 cannot be read"),
}


@pytest.mark.parametrize("state", STATES)
def test_each_state_has_a_sign_and_a_sentence(client: Any, app: Flask, formed: FakeAgent, state: str) -> None:
    formed.files, kind, text = STATES[state]
    part = client.get(PREFIX + "/status.json?parts=1").json["parts"]["files"]
    assert text in unescape(part) and f"hsmx-message hsmx-{kind}" in part and "<broke>" not in part
    said = app.test_cli_runner().invoke(args=["cluster", "files", "status"])
    assert said.exit_code == 0 and text in said.output, said.output


def test_nothing_is_said_where_nothing_is_declared(client: Any, app: Flask, formed: FakeAgent) -> None:
    assert not client.get(PREFIX + "/status.json?parts=1").json["parts"]["files"].strip()
    assert "No files are kept as one" in client.get(PREFIX + "/files").text


def test_deletions_are_allowed_by_a_button_and_by_a_command(client: Any, app: Flask, formed: FakeAgent) -> None:
    formed.files = ASKS
    page = client.get(PREFIX + "/files").text
    assert "a&lt;b&gt;.html" in page and "Delete them here, too" in page
    token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page)
    data = {"csrf_token": token[1]} if token else {}
    done = client.post(PREFIX + "/files/portal/allow", data=data, follow_redirects=True)
    assert done.status_code == 200 and ("files_allow", {"tree": "portal"}) in formed.calls
    assert client.post(PREFIX + "/files/sync", data=data).status_code == 303
    assert ("files_sync", {}) in formed.calls
    said = app.test_cli_runner().invoke(args=["cluster", "files", "allow-deletions", "portal"])
    assert "300 deletions are done now" in said.output, said.output
