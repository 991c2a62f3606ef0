"""The firmware's pages, the cluster pages among them, in a browser: light, dark, phone, keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from sample_app.firmware.navigation import NAVIGATION

from ..web.fake_agent import PEER_ID
from .looks import VIEWS, flaws

PAGES = [item.path for _, items in NAVIGATION for item in items]
CLUSTER = next(path for path in PAGES if "cluster" in path)
ROW = f"quarantine/row?id=1&node={PEER_ID}"
PAGES += [CLUSTER + part for part in (
    "events", "quarantine", ROW, "verify", "replace", "files", "firewall", "renewal", "notifications", "coverage",
)]  # fmt: skip


def logged_in(browser: Any, firmware: str, **options: Any) -> Any:
    page = browser.new_context(**options).new_page()
    page.goto(firmware + "/login")
    page.fill("#user", "admin")
    page.fill("#password", "admin")
    page.keyboard.press("Enter")
    page.wait_for_url(firmware + "/")
    return page


@pytest.fixture
def page(browser: Any, firmware: str) -> Iterator[Any]:
    page = logged_in(browser, firmware, **VIEWS["desktop, light"])
    yield page
    page.context.close()


@pytest.mark.parametrize("view", VIEWS)
def test_every_page_looks_right(browser: Any, firmware: str, view: str) -> None:
    page = logged_in(browser, firmware, **VIEWS[view])
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(f"{page.url}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(f"{page.url}: {error}"))
    found = {}
    for path in PAGES:
        page.goto(firmware + path)
        if wrong := flaws(page):
            found[path] = wrong
    page.context.close()
    assert not found
    assert not complaints


def test_the_login_page_looks_right(browser: Any, firmware: str) -> None:
    for options in VIEWS.values():
        context = browser.new_context(**options)
        page = context.new_page()
        page.goto(firmware + "/login")
        assert not flaws(page)
        context.close()


def test_the_first_tab_leads_past_the_navigation(page: Any) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")


def test_the_menu_of_a_phone_opens_with_the_keyboard(browser: Any, firmware: str) -> None:
    page = logged_in(browser, firmware, **VIEWS["phone, light"])
    assert not page.is_visible("nav[aria-label=Pages]")
    page.focus(".menu-button")
    page.keyboard.press("Enter")
    assert page.get_attribute(".menu-button", "aria-expanded") == "true"
    page.click("nav[aria-label=Pages] >> text=Vouchers")
    page.wait_for_url("**/vouchers")
    page.context.close()


def test_without_script_the_navigation_is_shown(browser: Any, firmware: str) -> None:
    page = logged_in(browser, firmware, **VIEWS["phone, light"], java_script_enabled=False)
    assert page.is_visible("nav[aria-label=Pages]")
    page.context.close()


def test_vouchers_are_made_with_the_keyboard_alone(page: Any, firmware: str) -> None:
    page.goto(firmware + "/vouchers")
    page.focus("#count")
    page.keyboard.press("Control+A")
    page.keyboard.type("3")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=3 vouchers created")
