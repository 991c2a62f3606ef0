"""Networks, IP aliases and PPPoE on a real pair, by the pages alone; the kernels of both gateways are read back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from sample_app.demo import free_ports
from sample_app.forward import Forwarder, Target
from sample_app.lab import Gateway, Lab, form
from sample_app.lab.concentrator import Concentrator, pppd_on_this_kernel
from sample_app.machines import APP, Machines

from ..lab.hotel import wait_until
from .looks import VIEWS, flaws
from .test_click_through import CLUSTER, PATIENCE_MS, logged_in, pytestmark  # noqa: F401  (its marks are this module's)

USER, PASSWORD = "hotel@provider.example", 'a "secret" \\ #1'
GUESTS, ALIASES = "10.5.0.1", ["10.0.0.31", "10.0.0.32", "10.0.0.33"]


@pytest.fixture
def pair() -> Iterator[SimpleNamespace]:
    """Return a formed pair with a provider on lan1, and the addresses of both gateways' pages."""
    with contextlib.ExitStack() as stack:
        lab = stack.enter_context(Lab(app=APP, lans=2))
        for gateway in lab.gateways:
            gateway.environment["HSMX_CLUSTER_PPPD"] = pppd_on_this_kernel()
        machines = stack.enter_context(contextlib.closing(Machines(lab)))
        machines.start()
        form(lab)
        stack.enter_context(Concentrator(lab, {USER: PASSWORD}).running())
        port = free_ports(24680)
        forwarder = Forwarder(lab.client, {port: Target("A", "10.0.0.1"), port + 1: Target("B", "10.0.0.2")})
        forwarder.start()
        stack.callback(forwarder.close)
        yield SimpleNamespace(lab=lab, a=f"http://127.0.0.1:{port}", b=f"http://127.0.0.1:{port + 1}")


@pytest.fixture
def page(browser: Any, pair: SimpleNamespace) -> Iterator[Any]:
    context = browser.new_context(**VIEWS["desktop, light"])
    context.set_default_timeout(30_000)
    errors: list[str] = []
    context.on("weberror", lambda error: errors.append(str(error.error)))
    yield logged_in(context, pair.a)
    context.close()
    assert not errors


def test_added_changed_removed_and_moved(page: Any, pair: SimpleNamespace) -> None:
    lab = pair.lab
    paste_aliases(page, pair)
    only_on(lab, lab.a, ALIASES)
    add_network(page)
    only_on(lab, lab.a, [*ALIASES, GUESTS])
    remove_alias(page, ALIASES[2])
    only_on(lab, lab.a, [*ALIASES[:2], GUESTS])
    assert not any(gateway.holds(ALIASES[2]) for gateway in lab.gateways)

    dial(page, pair)
    wait_until(lambda: has_session(lab.a))
    switch(page, "off")
    wait_until(lambda: not has_session(lab.a))
    switch(page, "on")
    wait_until(lambda: has_session(lab.a))
    assert not has_session(lab.b)

    fail_over(page)
    only_on(lab, lab.b, [*ALIASES[:2], GUESTS])
    wait_until(lambda: has_session(lab.b))
    assert not has_session(lab.a)
    told_on_both(page, pair)


def only_on(lab: Lab, active: Gateway, addresses: list[str]) -> None:
    """Wait until the kernel of the active gateway has them; that of the other one has none."""
    wait_until(lambda: all(active.holds(address) for address in addresses), lambda: active.namespace.run("ip", "addr"))
    assert not any(lab.other(active).holds(address) for address in addresses)


def has_session(gateway: Gateway) -> bool:
    return "peer 10.60.0.1" in gateway.namespace.run("ip", "-4", "addr")


def looked_at(page: Any, name: str) -> None:
    """Look at a page in light and dark, on a desk and on a phone."""
    for view, options in VIEWS.items():
        page.set_viewport_size(options["viewport"])
        page.emulate_media(color_scheme=options["color_scheme"])
        page.evaluate("() => Promise.allSettled(document.getAnimations().map((one) => one.finished))")  # of colours
        assert not flaws(page), (name, view)
    page.set_viewport_size(VIEWS["desktop, light"]["viewport"])


def paste_aliases(page: Any, pair: SimpleNamespace) -> None:
    """Paste a list with a mistake; nothing of it is taken until it is corrected."""
    page.goto(pair.a + CLUSTER)
    page.click("a:text-is('IP aliases and networks')")
    page.click("summary:has-text('Add many IP aliases')")
    page.fill("#list-lines", f"{ALIASES[0]} web server\n10.0.0.300 mail\n{ALIASES[1]}\n{ALIASES[2]} old printer\n")
    page.select_option("#list-port", "lan0")
    page.click("form[action$='/list'] button")
    page.wait_for_selector("#list-lines-messages:has-text('Line 2, 10.0.0.300')")
    looked_at(page, "aliases-wrong")
    assert page.input_value("#list-port") == "lan0"
    assert not any(gateway.holds(address) for gateway in pair.lab.gateways for address in ALIASES)
    page.fill("#list-lines", page.input_value("#list-lines").replace("10.0.0.300 mail\n", ""))
    page.click("form[action$='/list'] button")
    page.wait_for_selector(f"th:has-text('{ALIASES[2]}/32')", timeout=PATIENCE_MS)
    assert "web server" in page.inner_text(f"tr:has(th:has-text('{ALIASES[0]}'))")


def add_network(page: Any) -> None:
    page.click("summary:has-text('Add a network')")
    page.fill("#network-address", f"{GUESTS}/16")
    page.select_option("#network-port", "lan1")
    page.fill("#network-name", "guests")
    page.click("form[action$='/network'] button")
    page.wait_for_selector(f"th:has-text('{GUESTS}/16')", timeout=PATIENCE_MS)
    looked_at(page, "networks-list")


def remove_alias(page: Any, address: str) -> None:
    page.check(f"tr:has(th:has-text('{address}')) input[type=checkbox]")
    page.click("button:text('Remove what is ticked')")
    page.wait_for_selector(f"th:has-text('{address}')", state="detached")


def dial(page: Any, pair: SimpleNamespace) -> None:
    """Add a connection: first with too little, then right."""
    page.click("a:text-is('PPPoE connections')")
    page.click("summary:has-text('Add a connection')")
    page.fill("#name", "fibre")
    page.select_option("#port", "lan1")
    page.click("form[action$='/pppoe'] button:text-is('Add')")
    page.wait_for_selector("#user-messages")
    looked_at(page, "pppoe-wrong")
    page.fill("#user", USER)
    page.fill("#password", PASSWORD)
    page.check("#default_route")
    page.click("form[action$='/pppoe'] button:text-is('Add')")
    shows(page, "Up with 10.60.0.")
    looked_at(page, "pppoe-up")


def shows(page: Any, words: str) -> None:
    """Wait until the page of the connections says it; it is loaded again and again, as a person does."""

    def says() -> bool:
        page.wait_for_selector("h2:text-is('fibre')")
        if words in page.inner_text("main"):
            return True
        page.reload()
        return False

    wait_until(says, lambda: str(page.inner_text("main")))


def switch(page: Any, way: str) -> None:
    page.click("a:text('Change')")
    page.set_checked("#enabled", way == "on")
    looked_at(page, f"pppoe-{way}")
    page.click("button:text-is('Save')")
    shows(page, "Is switched off" if way == "off" else "Up with 10.60.0.")


def fail_over(page: Any) -> None:
    page.click("nav >> text=Cluster settings")
    page.wait_for_selector(".hsmx-ready.hsmx-ok", timeout=PATIENCE_MS)
    page.click("a:has-text('Fail over')")
    page.click("dialog[open] button:has-text('Fail over')")
    page.get_by_text("Gateway B is active now.").wait_for()


def told_on_both(page: Any, pair: SimpleNamespace) -> None:
    """Both gateways list the same, and each says whether the connection is up here."""
    for address, words in ((pair.a, "This gateway is not the active one"), (pair.b, "Up with 10.60.0.")):
        if address == pair.b:
            page = logged_in(page.context, address)
        page.goto(address + CLUSTER + "networks")
        assert page.locator("tbody tr").count() == 3
        page.goto(address + CLUSTER + "pppoe")
        shows(page, words)
        looked_at(page, f"pppoe-moved-{words[:2]}")
