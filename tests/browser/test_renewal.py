"""The renewal of both certificates, clicked through in a browser: guide, firmware's pages, the lab's reboot button."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from sample_app.demo import free_ports
from sample_app.forward import Forwarder, Target
from sample_app.lab import Lab, form
from sample_app.lab_page.server import LabPage
from sample_app.machines import APP, Machines

from ..lab.wire import Visitor, fingerprint, read
from .looks import VIEWS, flaws
from .test_click_through import PATIENCE_MS, logged_in

_MISSING = [name for name in ("ip", "bridge", "nft", "setpriv") if shutil.which(name) is None]
pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="the lab needs root, for its network namespaces"),
    pytest.mark.skipif(bool(_MISSING), reason=f"not installed: {', '.join(_MISSING)}"),
]
ADDRESSES = {"a": "10.0.0.1", "b": "10.0.0.2"}


@pytest.fixture
def pair() -> Iterator[SimpleNamespace]:
    """A formed pair with the firmware on it, each with its own SQLite; the pages of both and of the lab."""
    with contextlib.ExitStack() as stack:
        lab = stack.enter_context(Lab(app=APP))
        machines = stack.enter_context(contextlib.closing(Machines(lab)))
        machines.start()
        form(lab, "--boot-hold-s", "1")
        port = free_ports(24680)
        targets = {port + at: Target(name, host) for at, (name, host) in enumerate(ADDRESSES.items(), 1)}
        forwarder = Forwarder(lab.client, targets)
        forwarder.start()
        stack.callback(forwarder.close)
        links = {name: f"http://127.0.0.1:{port + at}" for at, name in enumerate(ADDRESSES, 1)}
        stack.enter_context(contextlib.closing(LabPage(lab, machines, {**links, "virtual": links["a"]}, port)))
        yield SimpleNamespace(bench=f"http://127.0.0.1:{port}", lab=lab, **links)


def test_both_certificates_are_renewed_by_clicks_alone(browser: Any, pair: SimpleNamespace) -> None:
    lab: Lab = pair.lab

    def shown(name: str) -> str:
        return fingerprint(read(lab.client, ADDRESSES[name]))

    old = {name: shown(name) for name in ADDRESSES}
    new: dict[str, str] = {}
    with contextlib.closing(browser.new_context(**VIEWS["desktop, light"])) as context:
        context.set_default_timeout(PATIENCE_MS)
        pages = {"a": logged_in(context, pair.a), "b": logged_in(context, pair.b)}
        bench = context.new_page()
        bench.goto(pair.bench)
        guide = pages["a"]
        guide.click("main >> a:text('Certificates and upgrades')")
        with Visitor(lab.client, lab.virtual_ip) as visitor:
            guide.click("button[aria-label='Begin: Renew the certificates']")
            for name, other in (("b", "a"), ("a", "b")):
                at_work = f"li:has-text('Install the new certificate on Gateway {name.upper()}')"
                guide.wait_for_selector(f"{at_work}[aria-current=step]")
                assert not flaws(guide)
                new[name] = make_and_install(pages[name])
                assert shown(name) == old[name], "in force after the reboot"
                bench.click(f"#card-{name} button:text('Reboot')")
                guide = pages[other]  # the rebooted gateway's pages are away for a moment
                guide.goto(getattr(pair, other) + "/network/cluster/renewal")
                seen = f"li:has-text('Gateway {name.upper()} shows the new certificate')"
                guide.wait_for_selector(f"{seen}[data-step=seen-done]")
                assert shown(name) == new[name]
                if name == "b":
                    assert visitor.seen[-1][0] == old["a"]
                    guide = pages["a"]
                    guide.goto(pair.a + "/network/cluster/renewal")
                    guide.click("a:text('Fail over …')")
                    guide.click("main >> button:text('Fail over')")
                    guide.get_by_text("Gateway B is active now.").wait_for()
            guide.get_by_text("Done: both gateways show their new certificates.").wait_for()
            assert not flaws(guide)
            text = guide.inner_text("main")
            for one in (*new.values(), *old.values()):
                assert ":".join(one[at : at + 2] for at in range(0, 64, 2)).upper() in text
            guide.click("button:text('Close it')")
            guide.get_by_text("The renewal is ended.").wait_for()
    assert {name: shown(name) for name in ADDRESSES} == new != old
    assert all(valid for _, valid in visitor.seen)
    assert list(dict.fromkeys(one for one, _ in visitor.seen)) == [old["a"], new["b"]]


def make_and_install(page: Any) -> str:
    """Have a gateway's page make and install a certificate; return its fingerprint as that page says it."""
    page.click("nav >> text=Certificates")
    page.fill("#days", "365")
    page.click("button:text('Make and install')")
    page.get_by_text("Reboot this gateway.").wait_for()
    return str(page.inner_text("main .note.warn code")).replace(":", "").lower()
