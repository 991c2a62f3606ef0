"""Network settings: the ports of this gateway and its own addresses."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from flask import current_app, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_wtf import FlaskForm

from .. import network
from . import blueprint

#: How long saving waits for the daemon, s.
PATIENCE_S = 1.5


@blueprint.route("/network/settings", methods=["GET", "POST"])
def network_settings() -> ResponseReturnValue:
    form = FlaskForm()  # only for its protection against forged requests: the fields depend on the ports
    ports, stated = network.read_ports(), _stated()
    typed = {port.name: request.form.get(f"addresses-{port.name}", "") for port in ports}
    typed |= {name: "\n".join(addresses) for name, addresses in stated.items() if name in typed}
    problem = None
    if form.validate_on_submit():
        try:
            settings = network.save_settings(
                _state(), {name: tuple(text.split()) for name, text in typed.items()}, _result()
            )
        except network.NetworkSettingsError as error:
            problem = error
        else:
            _announce(settings.revision)
            return redirect(url_for("firmware.network_settings"))
    saved, damage = _saved()
    if request.method == "GET":
        typed = {port.name: "\n".join(stated.get(port.name) or _shown(port, saved)) for port in ports}
    result = _result()
    return render_template(
        "firmware/network.html", form=form, ports=ports, typed=typed, problem=problem or damage, result=result,
        pending=saved is not None and (result is None or result.revision < saved.revision),
        reached=_reached(ports), stated=stated,
    ), 422 if problem else 200


def _reached(ports: list[network.Port]) -> str:
    """Return the own address that the browser came by; empty if it came by another way."""
    host = request.host.rsplit(":", 1)[0].strip("[]")
    return host if any(address.split("/")[0] == host for port in ports for address in port.own) else ""


def _state() -> Path:
    state: Path = current_app.config["FIRMWARE_STATE_DIR"]
    return state


def _result() -> network.Result | None:
    configured = current_app.config["FIRMWARE_NETWORK_RESULT"]
    return network.load_result(Path(configured) if configured else _state() / network.RESULT_FILE)


def _stated() -> Mapping[str, tuple[str, ...]]:
    """Return what the cluster settings say of ports while this gateway is in a cluster: that is changed there only."""
    stated = network.load_stated(Path(current_app.config["HSMX_CLUSTER_STATE_DIR"]) / network.STATED_FILE)
    return stated.ports if stated.in_cluster else {}


def _saved() -> tuple[network.Settings | None, network.NetworkSettingsError | None]:
    try:
        return network.load_settings(_state()), None
    except network.NetworkSettingsError as error:
        return None, error


def _shown(port: network.Port, saved: network.Settings | None) -> tuple[str, ...]:
    return saved.ports.get(port.name, port.own) if saved else port.own


def _announce(revision: int) -> None:
    """Wait a moment for the daemon, then say what became of the settings."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        result = _result()
        if result and result.revision >= revision:
            if result.errors:
                flash("Saved, but not everything could be applied: " + " ".join(result.errors), "bad")
            else:
                flash("Saved and applied.", "good")
            return
        time.sleep(0.05)
    flash("Saved. The network daemon has not applied it yet; is it running?", "warn")
