"""A fail-over on a running pair reaches a monitor in the guests' network: once, signed, and from the survivor."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.server
import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

from flask_hsmx_cluster.settings.notify import Target
from sample_app.lab import Gateway, Lab, form, wait_for_roles
from sample_app.lab.namespace import Namespace

from .hotel import wait_until

KEY = "a key that both know"


class Monitor:
    """Notes the news that a webhook gets, and whether each message was signed."""

    def __init__(self) -> None:
        self.news: list[dict[str, Any]] = []
        self.signed: list[bool] = []

    def count(self, state: str, key: str) -> int:
        return sum((one["state"], one["key"]) == (state, key) for one in self.news)

    def take(self, headers: Any, body: bytes) -> None:
        expected = hmac.new(KEY.encode(), headers["X-HSMX-Timestamp"].encode() + b"." + body, hashlib.sha256)
        self.signed.append(headers["X-HSMX-Signature"] == f"sha256={expected.hexdigest()}")
        self.news += json.loads(body)["news"]

    @contextlib.contextmanager
    def listening(self, where: Namespace, port: int) -> Iterator[None]:
        take = self.take

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                take(self.headers, self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: Any) -> None: ...

        with http.server.HTTPServer(("", 0), Handler, bind_and_activate=False) as server:
            server.socket.close()
            server.socket = where.socket(socket.AF_INET, socket.SOCK_STREAM)
            server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.server_address = ("0.0.0.0", port)
            server.socket.bind(server.server_address)
            server.server_activate()
            thread = threading.Thread(target=server.serve_forever, args=(0.05,))
            thread.start()
            try:
                yield
            finally:
                server.shutdown()
                thread.join()


def told_by(gateway: Gateway) -> str:
    """Return what the job that tells people did last."""
    return str(next(job["result"] for job in gateway.call("status")["jobs"] if job["name"] == "notifications"))


def test_a_fail_over_reaches_a_monitor_once() -> None:
    monitor = Monitor()
    with contextlib.ExitStack() as stack:
        lab = stack.enter_context(Lab(sync="switch", backup="switch"))
        lab.start()
        form(lab)
        stack.enter_context(monitor.listening(lab.client, 8080))
        active, survivor = lab.a, lab.b
        held = active.call("settings")
        target = Target("noc", "webhook", "http://10.0.0.50:8080/alarms", password=KEY)
        wanted = {**held["settings"], "notify": [target.as_dict()]}
        active.call("propose", settings=wanted, base_revision=held["revision"])
        assert active.cli("notify", "test", "noc")["answer"] == "10.0.0.50 answered 204 No Content"
        wait_until(lambda: told_by(survivor) == "told the active gateway", lambda: told_by(survivor))
        lab.faults.power_off(active)
        wait_until(
            lambda: monitor.count("event", "active") and monitor.count("raised", "peer"),
            lambda: f"{monitor.news} {survivor.log('agent')[-3000:]}",
        )
        lab.faults.power_on(active)
        wait_for_roles(lab, active=survivor)
        wait_until(lambda: told_by(active) == "told the active gateway", lambda: told_by(active))
    happened = Counter((one["state"], one["key"], one["gateway"]) for one in monitor.news if one["state"] != "test")
    assert happened["event", "active", survivor.node_name] == 1 == happened["raised", "peer", survivor.node_name]
    assert set(happened.values()) == {1} and all(monitor.signed), happened
