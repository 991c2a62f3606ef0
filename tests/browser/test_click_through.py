"""The real thing in a browser: two gateways in the lab, formed, changed and failed over by their pages alone."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from sample_app.demo import free_ports
from sample_app.forward import Forwarder, Target
from sample_app.lab import Lab
from sample_app.lab_page.server import LabPage
from sample_app.machines import APP, Machines

from .looks import VIEWS, flaws

_MISSING = [name for name in ("ip", "bridge", "nft", "setpriv") if shutil.which(name) is None]
pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="the lab needs root, for its network namespaces"),
    pytest.mark.skipif(bool(_MISSING), reason=f"not installed: {', '.join(_MISSING)}"),
]

CLUSTER = "/network/cluster/"
#: What waits for both databases is waited for so long on a busy machine.
PATIENCE_MS = 60_000
ENDS = {"sync": "sync0", "backup": "backup0", "service": "lan0"}


@pytest.fixture
def demo() -> Iterator[SimpleNamespace]:
    """Start what the demo starts; return the addresses of its four pages."""
    with contextlib.ExitStack() as stack:
        lab = stack.enter_context(Lab(app=APP, postgres=True))
        machines = stack.enter_context(contextlib.closing(Machines(lab)))
        machines.start()
        port = free_ports(24480)
        hosts = {"a": "10.0.0.1", "b": "10.0.0.2", "virtual": lab.virtual_ip}
        targets = {port + at: Target(name, host) for at, (name, host) in enumerate(hosts.items(), 1)}
        forwarder = Forwarder(lab.client, targets)
        forwarder.start()
        stack.callback(forwarder.close)
        links = {name: f"http://127.0.0.1:{port + at}" for at, name in enumerate(hosts, 1)}
        stack.enter_context(contextlib.closing(LabPage(lab, machines, links, port)))
        yield SimpleNamespace(lab=f"http://127.0.0.1:{port}", machines=machines, **links)


@pytest.fixture
def context(browser: Any) -> Iterator[Any]:
    context = browser.new_context(**VIEWS["desktop, light"])
    context.set_default_timeout(30_000)
    yield context
    context.close()


def test_formed_changed_and_failed_over_by_the_pages(context: Any, demo: SimpleNamespace) -> None:
    errors: list[str] = []
    context.on("weberror", lambda error: errors.append(str(error.error)))
    a, b = logged_in(context, demo.a), logged_in(context, demo.b)
    form(a, b)
    for page, role in ((a, "active"), (b, "passive")):
        page.wait_for_selector(f".hsmx-hero .hsmx-role-{role}")
        page.wait_for_selector(".hsmx-ready.hsmx-ok")
        assert not flaws(page)
    for cable in ("sync", "backup", "service", "lan0 (Ethernet)"):
        assert "works" in a.inner_text(f"tr:has(th:has-text('{cable}'))")
    change(a, b)
    set_own_addresses(a, b, demo)
    virtual = context.new_page()  # signed in already: a browser's cookies do not tell ports apart
    virtual.goto(demo.virtual + CLUSTER)
    fail_over(a, virtual)
    bring_to_harm(context.new_page(), a, virtual, demo)
    leave(a, b, demo)
    assert not errors


def logged_in(context: Any, address: str) -> Any:
    page = context.new_page()
    page.goto(address + "/login")
    page.fill("#user", "admin")
    page.fill("#password", "admin")
    page.keyboard.press("Enter")
    page.wait_for_url(address + "/")
    page.click("nav >> text=Cluster settings")
    return page


def form(a: Any, b: Any) -> None:
    a.click("main >> a:text('Create a cluster')")
    assert a.input_value("#vip0-port") == "lan0", "the port of this page is proposed"
    for kind, port in ENDS.items():
        a.select_option(f"#{kind}-mine-port", port)
    a.click("summary:has-text('Advanced')")
    a.fill("#heartbeat_ms", "100")
    for address, words in (
        ("10.0.0.0/24", "is the address of its network"),
        ("10.0.0.1/24", "Choose an address that no machine has"),
        ("192.168.7.9/24", "in none of Gateway A's own networks on lan0"),
    ):
        a.fill("#vip0-address", address)
        a.click("button:text('Create the cluster')")
        a.wait_for_selector(f"#vip0-address-messages:has-text(\"{words}\")")
        assert a.input_value("#vip0-address") == address
        kept = [a.input_value(f"#{kind}-mine-address") for kind in ENDS]
        assert kept == ["10.99.0.1/24", "10.98.0.1/24", "10.0.0.1/24"]
        assert a.input_value("#heartbeat_ms") == "100"
    a.fill("#vip0-address", "10.0.0.100/24")
    a.click("button:text('Create the cluster')")
    code = a.inner_text(".hsmx-code")

    b.click("main >> a:text('Join a cluster')")
    b.fill("#address", "10.99.0.1")
    b.fill("#code", "WRONG")
    for kind, port in ENDS.items():
        b.select_option(f"#{kind}-port", port)
    b.click("button:text('Join the cluster')")
    b.wait_for_selector("#code-messages")
    b.fill("#code", code.lower())
    b.click("button:text('Join the cluster')")
    b.get_by_text("This gateway has joined the cluster of Gateway A.").wait_for()
    a.wait_for_url("**" + CLUSTER)


def change(a: Any, b: Any) -> None:
    """Change a setting on one gateway; it arrives on the other, whose columns are swapped."""
    a.click("summary:has-text('Advanced')")
    a.fill("#ping_pongs", "7")
    for kind in ENDS:
        a.fill(f"#{kind}-other-address", "")
    a.click(".hsmx-fetch")
    a.get_by_text("Filled in from the other gateway.").wait_for()
    theirs = ["10.99.0.2/24", "10.98.0.2/24", "10.0.0.2/24"]
    assert [a.input_value(f"#{kind}-other-address") for kind in ENDS] == theirs
    a.click("button:text-is('Save')")
    a.get_by_text("in force on both gateways").wait_for()
    b.reload()
    assert b.input_value("#ping_pongs") == "7"
    assert [b.input_value(f"#{kind}-mine-address") for kind in ENDS] == theirs


def set_own_addresses(a: Any, b: Any, demo: SimpleNamespace) -> None:
    """Give the other gateway one more own address, with the keyboard: fetch what it has, add to it, save."""
    a.goto(demo.a + CLUSTER)
    own = ["10.0.0.2/24", "fd00:0:0:1::2/64"]
    assert a.input_value("#interfaces-0-port") == "lan0" and a.input_value("#interfaces-0-other") == ""
    a.focus("button:text('Fetch own addresses of Gateway B')")
    a.keyboard.press("Enter")
    a.get_by_text("Filled in: lan0. Nothing is saved yet.").wait_for()
    assert a.input_value("#interfaces-0-other").split() == own
    for typed, words in (("10.0.0.1/24", "Gateway A has it on lan0"), ("10.0.0.22/16", "in different networks")):
        a.fill("#interfaces-0-other", "\n".join([*own, typed]))
        a.click("button:text-is('Save')")
        a.wait_for_selector(f"#interfaces-0-other-messages:has-text('{words}')")
        assert a.input_value("#interfaces-0-other").split() == [*own, typed]
    a.fill("#interfaces-0-other", "\n".join([*own, "10.0.0.22/24"]))
    a.click("button:text-is('Save')")
    a.get_by_text("lan0: Gateway B has 10.0.0.2/24, 10.0.0.22/24, fd00:0:0:1::2/64.").wait_for()
    assert demo.machines.lab.b.holds("10.0.0.22"), "read back from its kernel"
    b.goto(demo.b + "/network/settings")
    assert b.is_disabled("#addresses-lan0") and "10.0.0.22/24" in b.input_value("#addresses-lan0")
    b.goto(demo.b + CLUSTER)
    assert b.input_value("#interfaces-0-mine").split() == [*own, "10.0.0.22/24"]


def fail_over(a: Any, virtual: Any) -> None:
    """Fail over with the button; the page of the virtual IP becomes the other gateway's, and back."""
    for name in ("Gateway B", "Gateway A"):
        press_fail_over(a, name)
        virtual.wait_for_selector(f".served:has-text('Served by {name}')", timeout=PATIENCE_MS)
        virtual.wait_for_selector(".hsmx-hero .hsmx-role-active")
        a.wait_for_selector(".hsmx-ready.hsmx-ok", timeout=PATIENCE_MS)


def press_fail_over(a: Any, name: str) -> None:
    """Press the button until it is done. A machine too busy to confirm a write in time is told to repeat it."""
    done, refused = a.get_by_text(f"{name} is active now."), a.get_by_text("This was not done")
    for _ in range(5):
        a.wait_for_selector(".hsmx-ready.hsmx-ok", timeout=PATIENCE_MS)  # else the data is not on both yet
        a.click("a:has-text('Fail over')")
        assert f"{name} takes 10.0.0.100 over" in a.inner_text("dialog[open]")
        a.click("dialog[open] button:has-text('Fail over')")
        done.or_(refused).first.wait_for(timeout=PATIENCE_MS)
        if not refused.count():
            return
        assert "confirm" in a.inner_text("main"), a.inner_text("main")
        assert "Nothing was changed" in a.inner_text("main")
        a.click("text=Back to the cluster settings")
    raise AssertionError(f"refused again and again: {name} never confirmed the last write in time")


def bring_to_harm(lab: Any, a: Any, virtual: Any, demo: SimpleNamespace) -> None:
    """Pull the sync cable, then switch the active gateway off, on the lab page."""
    lab.goto(demo.lab)
    lab.click("#sync-a text")
    a.wait_for_selector("[data-part=alarms]:has-text('No heartbeats over sync; the other paths work.')")
    assert "Check the cable" in a.inner_text("[data-part=alarms]")
    a.wait_for_selector(".hsmx-hero .hsmx-role-active")
    lab.click("#sync-a text")
    a.wait_for_selector("[data-part=alarms]:not(:has(section))", state="attached")
    lab.click("#card-a >> text=Power off")
    virtual.wait_for_selector(".served:has-text('Served by Gateway B')")
    virtual.wait_for_selector("[data-part=alarms]:has-text('Gateway A is not heard')")
    assert virtual.locator(".hsmx-bus.hsmx-line-up").count() == 1, "guests have their network"
    lab.click("#card-a >> text=Power on")
    virtual.wait_for_selector(".hsmx-ready.hsmx-ok", timeout=2 * PATIENCE_MS)


def leave(a: Any, b: Any, demo: SimpleNamespace) -> None:
    b.goto(demo.b + CLUSTER + "events")
    assert "Gateway A is gone" in b.inner_text("main")
    deadline = time.monotonic() + 15
    a.goto(demo.a + CLUSTER)
    while not a.locator("a:has-text('Leave')").count():
        assert time.monotonic() < deadline, a.inner_text("body")
        a.wait_for_timeout(500)
        a.goto(demo.a + CLUSTER)
    a.click("a:has-text('Leave')")
    assert "Gateway B goes on alone with 10.0.0.100" in a.inner_text("dialog[open]")
    a.click("dialog[open] button:has-text('Leave')")
    a.get_by_text("This gateway has left the cluster.").wait_for()
    a.get_by_text("This gateway works alone").wait_for()
    b.goto(demo.b + CLUSTER)
    b.wait_for_selector(".hsmx-hero .hsmx-role-active")
