"""A real browser, the sample firmware with a fake agent behind it, and the lab page with a fake lab."""

from __future__ import annotations

import contextlib
import logging
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from werkzeug.serving import make_server

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from sample_app.firmware import create_app  # noqa: E402
from sample_app.firmware.models import db  # noqa: E402
from sample_app.lab_page.bench import Refused  # noqa: E402
from sample_app.lab_page.server import create_app as create_lab_page  # noqa: E402

from ..web.fake_agent import PEER_ID, FakeAgent, compared, files, files_tree, kept_row  # noqa: E402

_CHROMIUM = shutil.which("chromium")


@contextlib.contextmanager
def serving(app: Flask) -> Iterator[str]:
    """Serve an app on a free port of 127.0.0.1."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    if _CHROMIUM is None:
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as runner:
        browser = runner.chromium.launch(
            executable_path=_CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def firmware(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of a firmware that is the active gateway of a cluster."""
    state = tmp_path_factory.mktemp("firmware")
    app = create_app({
        "FIRMWARE_STATE_DIR": state, "FIRMWARE_NAME": "Gateway A", "FIRMWARE_DEMO_DATE": "2026-05-31",
        "SQLALCHEMY_DATABASE_URI": f"sqlite:///{state / 'firmware.sqlite'}", "HSMX_CLUSTER_STATE_DIR": str(state),
    })
    agent = FakeAgent()
    agent.form()
    agent.keep(PEER_ID, kept_row(1), kept_row(2))
    agent.verified = compared("public.voucher")
    agent.files = files(files_tree("asks", asks=300, of=1200, examples=[f"images/{'a_long_name_' * 12}.jpeg"],
                                   aside=f"/var/lib/hsmx-cluster/files/aside/{'portal' * 20}"))  # fmt: skip
    with agent.listening(Path(state, "agent.sock")), serving(app) as address:
        yield address
    with app.app_context():
        db.engine.dispose()


class FakeBench:
    """Stands in for a lab: remembers what it was asked to do."""

    def __init__(self) -> None:
        self.acts: list[tuple[str, str, str]] = []
        self.pulled: set[str] = set()
        self.off: set[str] = set()
        self.formed = True

    def act(self, action: str, gateway: str, cable: str) -> None:
        self.acts.append((action, gateway, cable))
        if action == "pull":
            self.pulled.add(f"{cable}-{gateway}")
        elif action == "plug":
            self.pulled.discard(f"{cable}-{gateway}")
        elif action == "power_off":
            self.off.add(gateway)
        elif action == "failover":
            raise Refused("The passive gateway is not ready.")

    def snapshot(self) -> dict[str, Any]:
        active = "b" if "a" in self.off else "a"
        gateways = {
            name: {
                "power": name not in self.off, "agent": "dead" if name in self.off else "running",
                "role": "off" if name in self.off else "active" if name == active else "passive",
                "why": "took over: 5 of 5 probes unanswered", "ready": True, "reasons": [],
                "alarms": ["The sync cable is cut."], "holds": name == active,
            }
            for name in "ab"
        }
        client = {"columns": "-" * 200 + "9" * 300 + "0003" + "9" * 96, "newest": 1, "column_ms": 50, "ever": True,
                  "silent_ms": 0}
        log = [{"ago_s": 3, "at": 1.0, "text": "Gateway A powered off", "kind": "action", "outage_ms": 57}]
        return {"formed": self.formed, "forming": False, "gateways": gateways, "pulled": sorted(self.pulled),
                "client": client, "log": log}


@pytest.fixture
def bench() -> FakeBench:
    return FakeBench()


@pytest.fixture
def lab_page(bench: FakeBench) -> Iterator[str]:
    links = {"a": "http://127.0.0.1:1", "b": "http://127.0.0.1:2", "virtual": "http://127.0.0.1:3"}
    with serving(create_lab_page(bench, links, "10.0.0.100")) as address:
        yield address
