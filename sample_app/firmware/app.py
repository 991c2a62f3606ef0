"""The application factory."""

from __future__ import annotations

import fcntl
import os
import secrets
import threading
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flask import Flask, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import func, select
from werkzeug.exceptions import HTTPException

from flask_hsmx_cluster import HSMXCluster

from . import config as configuration
from . import firewall, services
from .access import current_user, permits
from .demo_data import HOTEL, demo_rows
from .models import Base, FirewallRule, Language, db
from .navigation import NAVIGATION
from .pages import blueprint

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_RULES = select(FirewallRule).order_by(FirewallRule.id)
_DATE_FORMATS = {"31.12.2026": "%d.%m.%Y", "31/12/2026": "%d/%m/%Y", "12/31/2026": "%m/%d/%Y", "2026-12-31": "%Y-%m-%d"}


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    """Return the firmware.

    :param config: takes precedence over what the environment says (see :mod:`sample_app.firmware.config`).

    Making the app touches no file: ``flask cluster agent`` makes one too, under another user. The state directory
    is filled when the first request comes in.
    """
    app = Flask(__name__)
    app.config.from_mapping(configuration.from_environment())
    app.config.from_mapping(config or {})
    db.init_app(app)
    app.register_blueprint(blueprint)
    if app.config["FIRMWARE_SERVICES"]:
        app.config.setdefault("HSMX_CLUSTER_SERVICES", services.SERVICES)
        app.config.setdefault("HSMX_CLUSTER_HOOKS", services.HOOKS)
    cluster = HSMXCluster(permission=permits)
    cluster.init_app(app, db)
    cluster.firewall_rules(lambda: firewall.as_stated(db.session.scalars(_RULES)))
    app.extensions["firmware_cluster"] = cluster
    app.register_error_handler(HTTPException, _show_error)
    app.context_processor(_for_every_page)
    app.add_template_filter(_day, "day")
    app.after_request(_protect)
    app.wsgi_app = _Prepared(app, app.wsgi_app)  # type: ignore[method-assign]
    return app


class _Prepared:
    """Fills the state directory before the first request is answered."""

    def __init__(self, app: Flask, inner: WSGIApplication) -> None:
        self._app = app
        self._inner = inner
        self._lock = threading.Lock()
        self._done = False

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if not self._done:
            with self._lock:
                if not self._done:
                    prepare(self._app)
                    self._done = True
        return self._inner(environ, start_response)


def prepare(app: Flask) -> None:
    """Make the state directory, the secret key, the tables and the demo data, unless they are there."""
    state: Path = app.config["FIRMWARE_STATE_DIR"]
    state.mkdir(parents=True, exist_ok=True)
    # Workers start together: one fills, the others wait.
    with open(state / "prepare.lock", "w") as lock, app.app_context():
        fcntl.flock(lock, fcntl.LOCK_EX)
        app.secret_key = app.secret_key or _secret_key(state / "secret-key")
        Base.metadata.create_all(db.engine)
        if db.session.scalar(select(Language.id)) is None:
            db.session.add_all(demo_rows(app.config["FIRMWARE_NAME"], _demo_day(app.config["FIRMWARE_DEMO_DATE"])))
            _count_on_from_demo_rows()
            db.session.add_all(firewall.seeds(app.config))
            db.session.commit()
        firewall.save(state, db.session.scalars(_RULES))


def _count_on_from_demo_rows() -> None:
    """The demo rows bring their numbers along; PostgreSQL's sequences do not know of them."""
    if db.engine.dialect.name != "postgresql":
        return
    for table in Base.metadata.sorted_tables:
        column = table.autoincrement_column
        if column is not None:
            sequence = func.pg_get_serial_sequence(table.name, column.name)
            largest = select(func.max(column)).scalar_subquery()
            moved = select(func.setval(sequence, largest)).where(sequence.is_not(None), largest.is_not(None))
            db.session.execute(moved)


def _secret_key(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        key = secrets.token_hex(32)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(key)
        return key


def _demo_day(text: str) -> datetime:
    return datetime.combine(date.fromisoformat(text) if text else date.today(), time())


def _for_every_page() -> dict[str, Any]:
    user = current_user()
    return {"navigation": NAVIGATION, "user": user, "hotel": HOTEL, "may_change": user is not None and user.administers}


def _day(value: datetime) -> str:
    """Return a date as this gateway's language settings want it."""
    if "date_format" not in g:
        row = db.session.get(Language, 1)
        g.date_format = row.date_format if row else ""
    return value.strftime(_DATE_FORMATS.get(g.date_format, "%d.%m.%Y"))


def _show_error(error: HTTPException) -> ResponseReturnValue:
    if error.code == 403 and current_user() is None and request.method == "GET":
        return redirect(url_for("firmware.login", next=request.full_path.rstrip("?")))
    return render_template("firmware/error.html", error=error), error.code or 500


def _protect(response: Any) -> Any:
    headers = response.headers
    headers.setdefault("Content-Security-Policy", "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; "
                                                  "form-action 'self'; base-uri 'none'; object-src 'none'")
    headers.setdefault("X-Content-Type-Options", "nosniff")
    headers.setdefault("Referrer-Policy", "same-origin")
    return response
