"""The lab page in a browser: the drawing tells the state, cables obey mouse and keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .conftest import FakeBench
from .looks import VIEWS, flaws


@pytest.fixture
def page(browser: Any, lab_page: str) -> Iterator[Any]:
    context = browser.new_context(**VIEWS["desktop, light"])
    page = context.new_page()
    page.goto(lab_page)
    page.wait_for_selector("#box-a.active")
    yield page
    context.close()


@pytest.mark.parametrize("view", VIEWS)
def test_it_looks_right(browser: Any, lab_page: str, view: str) -> None:
    context = browser.new_context(**VIEWS[view])
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(lab_page)
    page.wait_for_selector("#box-a.active")
    assert not flaws(page)
    context.close()
    assert not complaints


def test_a_click_pulls_a_cable_and_another_plugs_it(page: Any, bench: FakeBench) -> None:
    page.click("#lan-a text")
    page.wait_for_selector("#lan-a.pulled")
    assert page.get_attribute("#lan-a", "aria-pressed") == "true"
    page.click("#lan-a text")
    page.wait_for_selector("#lan-a:not(.pulled)")
    assert bench.acts == [("pull", "a", "lan"), ("plug", "a", "lan")]


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_the_keyboard_pulls_a_cable_too(page: Any, bench: FakeBench, key: str) -> None:
    page.focus("#sync-a")
    page.keyboard.press(key)
    page.wait_for_selector("#sync-a.pulled")
    assert page.get_attribute("#sync-a", "aria-label") == "Sync cable: pulled. Plug it in"
    assert bench.acts == [("pull", "a", "sync")]


def test_power_off_moves_the_address_and_says_so(page: Any, bench: FakeBench) -> None:
    page.click("#card-a >> text=Power off")
    page.wait_for_selector("#box-b.active")
    assert page.inner_text("#say") == "Gateway B holds the virtual IP."
    assert page.is_visible("#card-a >> text=Power on")
    assert page.inner_text("#outage") == "57 ms"
    assert bench.acts == [("power_off", "a", "")]


def test_a_refusal_is_shown_in_its_words(page: Any) -> None:
    page.click("#card-a >> text=Fail over")
    page.wait_for_selector("text=The passive gateway is not ready.")


def test_another_site_may_not_touch_the_lab(page: Any, lab_page: str, bench: FakeBench) -> None:
    assert page.request.post(f"{lab_page}/act", data={"action": "power_off", "gateway": "a"}).status == 403
    assert page.request.get(f"{lab_page}/state.json", headers={"Host": "evil.example"}).status == 403
    assert page.request.post(f"{lab_page}/act", data={"action": 1}, headers={"X-Lab": "1"}).status == 400
    assert bench.acts == []
