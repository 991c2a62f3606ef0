"""The web server of the lab page, on 127.0.0.1 only."""

from __future__ import annotations

import logging
import threading
from typing import Any

from flask import Flask, Response, abort, render_template, request
from flask.typing import ResponseReturnValue
from werkzeug.serving import make_server

from ..lab import Lab
from ..machines import Machines
from .bench import Bench, Refused

#: What the page's own requests carry; another site's page cannot send it without being asked for leave first.
_HEADER = "X-Lab"


def create_app(bench: Any, links: dict[str, str], virtual_ip: str) -> Flask:
    """Return the lab page.

    :param bench: a :class:`Bench`, or anything with its ``act`` and ``snapshot``.
    :param links: addresses of the web pages of ``a``, ``b`` and ``virtual``.
    """
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = 4096

    @app.before_request
    def _only_from_here() -> None:
        # A foreign name that resolves to 127.0.0.1 must not get in.
        if request.host.rsplit(":", 1)[0] not in ("127.0.0.1", "localhost"):
            abort(403)
        if request.method == "POST" and request.headers.get(_HEADER) != "1":
            abort(403)

    @app.after_request
    def _protect(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'"
        response.headers["Cache-Control"] = "no-store"
        return response

    @app.get("/")
    def page() -> ResponseReturnValue:
        return render_template("lab.html", links=links, virtual_ip=virtual_ip)

    @app.get("/state.json")
    def state() -> ResponseReturnValue:
        found: dict[str, Any] = bench.snapshot()
        return found

    @app.post("/act")
    def act() -> ResponseReturnValue:
        asked = request.get_json(silent=True)
        if not isinstance(asked, dict) or not all(isinstance(value, str) for value in asked.values()):
            abort(400)
        try:
            bench.act(asked.get("action", ""), asked.get("gateway", ""), asked.get("cable", ""))
        except Refused as error:
            return {"refused": str(error)}, 409
        found: dict[str, Any] = bench.snapshot()
        return found

    return app


class LabPage:
    """The page of a running lab; serves from the moment it is made until ``close``."""

    def __init__(self, lab: Lab, machines: Machines, links: dict[str, str], port: int) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self.bench = Bench(lab, machines)
        self._server = make_server(
            "127.0.0.1", port, create_app(self.bench, links, lab.virtual_ip), threaded=True
        )
        self._thread = threading.Thread(target=self._server.serve_forever, name="lab page", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving, and end what the page had started."""
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()
        self.bench.close()
