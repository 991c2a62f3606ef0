"""The pages about the data as they are shown: light, dark, on a phone, by keyboard, and while something goes on."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.looks import VIEWS, flaws

from .conftest import PREFIX
from .fake_agent import PEER_ID, FakeAgent, compared, comparing, conflict_of, data_status, kept_row, peer_status
from .test_browser import browser, page, pytestmark  # noqa: F401  # fixtures, and where they are possible


def scene(agent: FakeAgent) -> None:
    long = {"id": "1", "note": "x" * 400, "name": "Maria-Antonia von und zu Hohenlohe"}
    agent.keep(PEER_ID, kept_row(1), kept_row(2, operation="update", old_row={**long, "note": "y"}, new_row=long,
                                              text="guest " + "5f3a" * 12 + " changed 11:04:10 on gateway-b"))
    agent.conflict_of[1] = conflict_of()


PAGES = {
    "list": f"/quarantine?node={PEER_ID}", "row": f"/quarantine/row?node={PEER_ID}&id=2",
    "discard": f"/quarantine/many?action=discard&node={PEER_ID}&id=1&id=2", "verify": "/verify", "replace": "/replace",
}


@pytest.mark.parametrize("view", VIEWS)
def test_no_page_is_faint_wide_or_nameless(page: Any, formed: FakeAgent, view: str) -> None:  # noqa: F811
    scene(formed)
    formed.peer = {**peer_status(), "role": "unknown"}
    page.set_viewport_size(VIEWS[view]["viewport"])
    page.emulate_media(color_scheme=VIEWS[view]["color_scheme"])
    for verified in (compared(), compared("public.voucher"), comparing()):
        formed.verified = verified
        for name, path in PAGES.items():
            page.goto(PREFIX + path)
            assert flaws(page) == {}, (name, view)
    page.goto(f"{PREFIX}/quarantine/row?node={PEER_ID}&id=1")
    page.get_by_role("button", name="Make it again").click()
    page.get_by_text("This change does not fit any more").first.wait_for()
    assert flaws(page) == {}
    assert [one for one in page.complaints if "409" not in one] == []


def test_a_comparison_is_followed_to_its_end(page: Any, formed: FakeAgent) -> None:  # noqa: F811
    formed.data = data_status()
    page.goto(PREFIX + "/verify")
    page.get_by_role("button", name="Compare now").click()
    page.get_by_text("It begins.").wait_for(timeout=4000)
    formed.verified = comparing()
    page.get_by_text("280,000 of 360,100 rows").wait_for(timeout=4000)
    bar = page.get_by_role("progressbar", name="Comparison")
    assert bar.evaluate("bar => [bar.value, bar.max]") == [280000, 360100]
    formed.verified = compared()
    page.get_by_text("Both gateways have the same data.").wait_for(timeout=4000)
    page.get_by_role("button", name="Compare now").wait_for()
    asked = len(formed.calls)
    page.wait_for_timeout(2500)
    assert len(formed.calls) == asked, "what is over is not asked for"
    assert page.complaints == []


def test_all_rows_of_a_page_are_ticked_at_once(page: Any, formed: FakeAgent) -> None:  # noqa: F811
    scene(formed)
    page.goto(f"{PREFIX}/quarantine?node={PEER_ID}")
    everything, boxes = page.get_by_label("All on this page"), page.locator("input[name=id]")
    everything.check()
    assert [box.is_checked() for box in boxes.all()] == [True, True]
    boxes.first.uncheck()
    assert not everything.is_checked()
    everything.check()
    page.get_by_role("button", name="Discard the ticked ones").click()
    page.get_by_text("Discard 2 changes?").wait_for()
    assert page.complaints == []


def test_what_is_under_way_is_followed_to_its_end_and_stopped(page: Any, formed: FakeAgent) -> None:  # noqa: F811
    scene(formed)
    formed.sweeping = {"under_way": True, "total": 120000, "done": 30000}
    page.goto(f"{PREFIX}/quarantine?node={PEER_ID}")
    page.get_by_role("link", name="Discard all of these").click()
    page.get_by_role("button", name="Discard", exact=True).click()
    page.get_by_text("30,000 of 120,000").wait_for()
    formed.swept = formed.swept | {"done": 60000}
    page.get_by_text("60,000 of 120,000").wait_for()
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("60,000 changes discarded. It was stopped.").wait_for()
    assert page.complaints == []


def test_rows_are_chosen_and_discarded_by_keyboard(page: Any, formed: FakeAgent) -> None:  # noqa: F811
    scene(formed)
    page.goto(f"{PREFIX}/quarantine?node={PEER_ID}")
    page.locator("input[name=id]").first.focus()
    page.keyboard.press("Space")
    page.get_by_role("button", name="Discard the ticked ones").focus()
    page.keyboard.press("Enter")
    page.get_by_text("Discard 1 change?").wait_for()
    page.get_by_role("button", name="Discard", exact=True).focus()
    page.keyboard.press("Enter")
    page.get_by_text("1 change discarded.").wait_for()
    assert [row["state"] for row in formed.quarantine[PEER_ID]] == ["discarded", "kept"]
    assert page.complaints == []
