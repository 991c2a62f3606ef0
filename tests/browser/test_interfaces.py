"""The section *Network interface* in a browser, by keyboard, with and without a script."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sample_app.firmware import create_app
from sample_app.firmware.models import db

from ..web.fake_agent import FakeAgent, port
from .conftest import serving
from .looks import VIEWS, flaws
from .test_firmware_pages import CLUSTER, logged_in


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """Return the address of a firmware whose other gateway has some ports of the same names."""
    app = create_app({
        "FIRMWARE_STATE_DIR": tmp_path, "FIRMWARE_NAME": "Gateway A", "FIRMWARE_DEMO_DATE": "2026-05-31",
        "SQLALCHEMY_DATABASE_URI": f"sqlite:///{tmp_path / 'firmware.sqlite'}", "HSMX_CLUSTER_STATE_DIR": str(tmp_path),
    })
    agent = FakeAgent()
    agent.form()
    agent.ports += [port("wan0", "203.0.113.2/29", "2001:db8:9::2/64"), port("dmz0", "192.0.2.1/28")]
    agent.peer_ports += [port("wan0", "203.0.113.6/29"), port("<b>bold</b>" + "x" * 300, "192.0.2.9/24")]
    with agent.listening(tmp_path / "agent.sock"), serving(app) as address:
        yield address
    with app.app_context():
        db.engine.dispose()


@pytest.mark.parametrize(("view", "script"), [("desktop, light", True), ("phone, dark", False)])
def test_fetched_corrected_saved_and_read_back(browser: Any, site: str, view: str, script: bool) -> None:
    page = logged_in(browser, site, **VIEWS[view])
    if not script:  # the page is measured by scripts of its own, so that only ours is kept away
        page.route("**/cluster.js", lambda route: route.abort())
    page.goto(site + CLUSTER)
    page.fill("#vip1-address", "half typed")
    page.focus("button[value=fetch_interfaces]")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Filled in: lan0, wan0. Nothing is saved yet.")
    assert page.input_value("#interfaces-1-other") == "203.0.113.6/29" and page.input_value("#interfaces-2-other") == ""
    assert page.input_value("#vip1-address") == "half typed"
    section = page.inner_text("#hsmx-interfaces")
    assert "dmz0 is only on this gateway." in section and "“<b>bold</b>xxxxxxxxxxxxxxxxxxxxx…”" in section
    assert page.locator("#hsmx-interfaces b").count() == 0 and not flaws(page)
    page.fill("#vip1-address", "")
    page.fill("#interfaces-1-other", "203.0.113.2/29")
    page.click("button:text-is('Save')")
    page.wait_for_selector("#interfaces-1-other-messages:has-text('is in use')")
    assert page.input_value("#interfaces-0-other") == "10.0.0.2/24" and not flaws(page)
    page.fill("#interfaces-1-other", "203.0.113.3/29")
    page.click("button:text-is('Save')")
    page.wait_for_selector("text=wan0: gateway-b has 203.0.113.6/29; 203.0.113.3/29 is missing")
    assert page.get_by_text("lan0: gateway-b has 10.0.0.2/24.").count() == 1 and not flaws(page)
    page.context.close()
