"""What the script on the page does, in a real browser under a strict content security policy."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask, Response
from werkzeug.serving import make_server

from flask_hsmx_cluster.settings.notify import Target

from .conftest import PREFIX
from .fake_agent import FakeAgent, following_status, peer_status

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium"),
    pytest.mark.filterwarnings("default::ResourceWarning", "default::pytest.PytestUnraisableExceptionWarning"),
]

POLICY = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self'"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Any, app: Flask) -> Iterator[Any]:
    @app.after_request
    def strict(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = POLICY
        return response

    app.route("/favicon.ico")(lambda: ("", 204))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    context = browser.new_context(base_url=f"http://127.0.0.1:{server.server_port}")
    page = context.new_page()
    page.complaints = []
    page.on("console", lambda message: page.complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    try:
        yield page
    finally:
        context.close()
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_status_renews_itself(page: Any, formed: FakeAgent) -> None:
    page.goto(PREFIX + "/")
    page.fill("#vip0-address", "10.0.0.123/24")
    formed.verb_failover()
    page.get_by_text("This gateway stands by. gateway-b is active").wait_for(timeout=4000)
    assert page.input_value("#vip0-address") == "10.0.0.123/24"
    assert page.complaints == []


def test_the_first_copy_can_be_watched(page: Any, formed: FakeAgent) -> None:
    step = "copies the other gateway's data"
    formed.role, formed.peer = "passive", {**peer_status(), "role": "active"}
    formed.data = following_status(step=step, done=10, total=5000, copying=True, under_way=True)
    page.goto(PREFIX + "/")
    bar = page.get_by_role("progressbar", name="First copy")
    assert bar.evaluate("bar => [bar.value, bar.max]") == [10, 5000]
    formed.data = following_status(step=step, done=4000, total=5000, copying=True, under_way=True)
    page.get_by_text("4,000 of 5,000 rows").wait_for(timeout=4000)
    assert bar.evaluate("bar => bar.position") == 0.8
    formed.data = following_status(step=step, copying=True, under_way=True)
    page.locator("progress:indeterminate").wait_for(timeout=4000)
    formed.data = following_status()
    page.get_by_text("This gateway follows gateway-b.").wait_for(timeout=4000)
    assert bar.count() == 0
    formed.data = None
    page.get_by_role("heading", name="Data", exact=True).wait_for(state="detached", timeout=4000)
    assert page.complaints == []


def test_a_dialog_says_what_will_happen(page: Any, formed: FakeAgent) -> None:
    page.goto(PREFIX + "/")
    page.get_by_role("link", name="Fail over …").click()
    dialog = page.get_by_role("dialog")
    assert "gateway-b takes 10.0.0.100 over" in dialog.inner_text()
    dialog.get_by_role("link", name="Cancel").click()
    assert not dialog.is_visible() and "failover" not in dict(formed.calls)
    page.get_by_role("link", name="Fail over …").click()
    dialog.get_by_role("button", name="Fail over").click()
    page.get_by_text("gateway-b is active now.").wait_for()
    assert page.complaints == []


def test_fetch_fills_the_other_column(page: Any, formed: FakeAgent) -> None:
    page.goto(PREFIX + "/")
    page.fill("#sync-other-address", "")
    page.get_by_role("button", name="Fetch from gateway-b").click()
    page.get_by_text("back0: the other gateway has no port of this name").wait_for()
    assert page.input_value("#sync-other-address") == "192.168.254.2/30"
    assert page.complaints == []


def test_choosing_a_port_fills_in_its_address(page: Any, agent: FakeAgent) -> None:
    agent.ports[0]["addresses"] = ["10.0.0.1/24", "fd00::1/64"]
    page.goto(PREFIX + "/create")
    page.select_option("#sync-mine-port", "sync0")
    assert page.input_value("#sync-mine-address") == "192.168.254.1/30"
    page.select_option("#service-mine-port", "lan0")
    assert page.input_value("#service-mine-address") == "10.0.0.1/24"
    page.fill("#vip0-address", "10.0.0.100/24")
    page.select_option("#vip0-port", "lan0")
    page.get_by_role("button", name="Create the cluster").click()
    page.get_by_text("Good for another 9:5").wait_for()
    agent.form()
    page.get_by_role("heading", name="This gateway is active").wait_for(timeout=4000)
    assert page.complaints == []


def test_the_address_moves_to_the_other_gateway(page: Any, formed: FakeAgent) -> None:
    page.goto(PREFIX + "/")
    page.fill("#vip0-address", "10.0.0.123/24")
    page.evaluate("document.querySelector('[data-hsmx]').dataset.node = 'the other one'")
    page.get_by_text("The other gateway answers here now.").wait_for(timeout=4000)
    assert page.input_value("#vip0-address") == "10.0.0.123/24"
    page.goto(PREFIX + "/")
    page.evaluate("document.querySelector('[data-hsmx]').dataset.node = 'the other one'")
    page.locator("[data-hsmx][data-node^='aaaa']").wait_for(timeout=4000)


def test_what_was_said_goes_when_the_role_changes(page: Any, formed: FakeAgent) -> None:
    page.goto(PREFIX + "/")
    page.get_by_role("link", name="Fail over …").click()
    page.get_by_role("dialog").get_by_role("button", name="Fail over").click()
    page.get_by_text("gateway-b is active now.").wait_for()
    page.wait_for_timeout(1500)
    formed.role = "active"
    page.get_by_text("gateway-b is active now.").wait_for(state="detached", timeout=4000)


def test_agent_goes_and_comes_back(page: Any, formed: FakeAgent) -> None:
    page.goto(PREFIX + "/")
    page.route("**/status.json*", lambda route: route.fulfill(
        status=503, content_type="application/json",
        body='{"page": "absent", "parts": {"headline": "<h1>not running</h1>"}}'))
    page.get_by_role("heading", name="not running").wait_for(timeout=4000)
    page.unroute("**/status.json*")
    page.get_by_role("heading", name="This gateway is active").wait_for(timeout=4000)


CUT_OFF = """() => [...document.querySelectorAll(".hsmx-scroll")]
  .filter((node) => node.scrollWidth > node.clientWidth).map((node) => node.innerText.slice(0, 60))"""


def test_phone_has_no_sideways_scrolling(page: Any, formed: FakeAgent) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    assert formed.settings is not None
    network = {"address": "2001:db8:1111:2222::1/64", "port": "lan0.100", "name": "guests, 2nd floor"}
    formed.settings["networks"] = [network]
    formed.settings["aliases"] = [{"address": "10.0.0.7/32", "port": "lan0", "note": "interface-" + "x" * 50}]
    user = "u" * 60 + "@provider.example"
    formed.settings["pppoe"] = [{"name": "fibre", "port": "lan0.100", "user": user, "password": "", "service": "",
                                 "concentrator": "", "mtu": 1492, "default_route": True, "enabled": True}]
    target = Target("night", "mail", "m" * 60 + ".example.com", recipients=("n" * 60 + "@x.example",))
    formed.settings["notify"] = [target.as_dict()]
    for path in ("/", "/events", "/coverage", "/failover", "/networks", "/pppoe", "/pppoe/fibre", "/notifications",
                 "/notifications/target/night"):  # fmt: skip
        page.goto(PREFIX + path)
        page.evaluate("document.querySelectorAll('details').forEach((part) => part.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert page.evaluate(CUT_OFF) == [], "no column of a table is out of sight"


def test_long_words_of_an_event_do_not_widen_a_phones_page(page: Any, formed: FakeAgent) -> None:
    long = "interface-" + "x" * 80
    told = formed.verb_events(1)["events"][0] | {"text": long, "evidence": [long], "kind": "alarm_carrier_" + "x" * 60}
    formed.verb_events = lambda **_: {"events": [told]}  # type: ignore[method-assign]
    formed.alarms = [{"key": "x", "severity": "critical", "text": long, "remedy": long, "since_s": 1.0}]
    page.set_viewport_size({"width": 390, "height": 844})
    for path in ("/events", "/"):
        page.goto(PREFIX + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_aliases_are_pasted_found_and_removed(page: Any, formed: FakeAgent) -> None:
    page.goto(PREFIX + "/")
    page.get_by_role("link", name="IP aliases and networks").click()
    page.get_by_text("Add many IP aliases").click()
    page.get_by_label("One address on each line").fill("\n".join(f"10.50.0.{at + 1} room {at}" for at in range(200)))
    form = page.locator("form[action$='/add/list']")
    form.get_by_label("Port").select_option("lan0")
    form.get_by_role("button", name="Add").click()
    page.get_by_text("200 IP aliases").wait_for()
    page.get_by_label("Show only").fill("room 150")
    page.keyboard.press("Enter")
    page.get_by_text("1 entry").wait_for()
    page.get_by_label("Remove 10.50.0.151/32").check()
    page.get_by_role("button", name="Remove what is ticked").click()
    page.get_by_text("199 IP aliases").wait_for()
    assert formed.settings is not None and len(formed.settings["aliases"]) == 199


def test_a_pppoe_connection_is_added_disconnected_changed_and_removed(page: Any, formed: FakeAgent) -> None:
    page.goto(PREFIX + "/")
    page.get_by_role("link", name="PPPoE connections").click()
    page.get_by_text("Add a connection").click()
    for label, text in (("Name", "fibre"), ("User name", "hotel"), ("Password", "geheim")):
        page.get_by_label(label, exact=True).fill(text)
    page.get_by_label("Port").select_option("spare0")
    page.get_by_role("button", name="Add").click()
    page.get_by_role("heading", name="fibre").wait_for()
    assert "geheim" not in page.content()
    page.get_by_role("button", name="Disconnect fibre").click()
    page.get_by_text("fibre is disconnected until the role moves").wait_for()
    page.get_by_role("link", name="Change fibre").click()
    page.get_by_label("Switched on").uncheck()
    page.get_by_role("button", name="Save").click()
    page.get_by_text("switched off").wait_for()
    assert formed.settings is not None and formed.settings["pppoe"][0]["password"] == "", "the agent keeps what it has"
    page.get_by_role("link", name="Change fibre").click()
    page.get_by_role("button", name="Remove fibre").click()
    page.get_by_text("There is none yet.").wait_for()
    assert not page.complaints


def test_somebody_is_told_of_alarms_and_that_is_tested(page: Any, formed: FakeAgent) -> None:
    page.goto(PREFIX + "/")
    page.get_by_role("link", name="Notifications").click()
    page.get_by_text("Nobody is told of alarms yet").wait_for()
    page.get_by_text("Add an e-mail").click()
    form = page.locator("form[action$='/notifications/mail']")
    for label, text in (("Name", "night"), ("Mail server", "mail.example.com"), ("Sender", "g@example.com"),
                        ("User name", "gateway"), ("Password", "geheim")):  # fmt: skip
        form.get_by_label(label, exact=True).fill(text)
    form.get_by_label("Recipients").fill("night@")
    form.get_by_role("button", name="Add").click()
    page.get_by_text("'night@' is no e-mail address.").wait_for()
    form.get_by_label("Recipients").fill("night@example.com")
    form.get_by_label("Password", exact=True).fill("geheim")
    form.get_by_role("button", name="Add").click()
    page.get_by_role("heading", name="night").wait_for()
    assert "geheim" not in page.content()
    formed.tested |= {"delivered": False, "answer": "mail.example.com refuses the connection."}
    page.get_by_role("button", name="Test night").click()
    page.get_by_text("not delivered. mail.example.com refuses the connection.").wait_for()
    page.get_by_role("link", name="Change night").click()
    page.get_by_role("button", name="Remove night").click()
    page.get_by_text("Nobody is told of alarms yet").wait_for()
    assert not [one for one in page.complaints if "422" not in one], "422: the form that was not complete"
