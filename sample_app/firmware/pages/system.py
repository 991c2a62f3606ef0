"""What belongs to this gateway alone: firewall, performance, language, licence, backup."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import datetime
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from flask import abort, current_app, flash, redirect, render_template, request, send_file, url_for
from flask.typing import ResponseReturnValue
from flask_wtf import FlaskForm
from sqlalchemy import select
from wtforms import BooleanField, IntegerField, SelectField, StringField, ValidationError
from wtforms.validators import InputRequired, Length, NumberRange, Optional, Regexp

from flask_hsmx_cluster import HSMXCluster
from flask_hsmx_cluster.errors import ClusterError
from flask_hsmx_cluster.firewall.rules import Peer, Use

from .. import firewall as firewall_rules
from ..models import (
    Backup,
    BackupSettings,
    Base,
    FirewallRule,
    Language,
    Licence,
    Performance,
    db,
)
from . import blueprint
from .certificates import days_left
from .choices import titled

MAX_RULES = firewall_rules.MAX_RULES


class LanguageForm(FlaskForm):  # type: ignore[misc]
    """Language and formats."""

    interface = SelectField("Language of these pages", choices=titled(
        {"en": "English", "de": "Deutsch", "fr": "Français", "it": "Italiano"}
    ))
    date_format = SelectField("Dates", choices=["31.12.2026", "31/12/2026", "12/31/2026", "2026-12-31"])
    time_zone = SelectField("Time zone", choices=["Europe/Zurich", "Europe/Berlin", "Europe/London", "Europe/Paris",
                                                  "America/New_York", "Asia/Tokyo", "UTC"])


class LicenceForm(FlaskForm):  # type: ignore[misc]
    """A new licence key."""

    key = StringField("Licence key", [
        InputRequired("Enter the key."),
        Regexp(r"^[0-9A-F]{5}(-[0-9A-F]{5}){4}$", message="A key has five groups of five: 0-9 and A-F, with dashes."),
    ])


class PerformanceForm(FlaskForm):  # type: ignore[misc]
    """Limits of this machine."""

    connections = IntegerField("Connections at once", [InputRequired("Enter a number."), NumberRange(1024, 4194304)])
    guest_mbit = IntegerField("Per guest, Mbit/s", [InputRequired("Enter a number."), NumberRange(1, 10000)])
    uplink_mbit = IntegerField("Uplink, Mbit/s", [InputRequired("Enter a number."), NumberRange(1, 100000)])
    dns_cache = BooleanField("Keep DNS answers for guests")


def _text(value: str | None) -> str:
    return (value or "").strip()


class RuleForm(FlaskForm):  # type: ignore[misc]
    """A firewall rule."""

    action = SelectField("Action", choices=["allow", "refuse"])
    protocol = SelectField("Protocol", choices=["tcp", "udp", "icmp"])
    port = IntegerField("Port", [Optional(), NumberRange(1, 65535)])
    source = StringField("Source", [Length(max=49)], filters=[_text], render_kw={"placeholder": "anybody"})
    note = StringField("Note", [Length(max=60)], filters=[_text])

    def validate(self, extra_validators: Any = None) -> bool:
        fine = bool(super().validate(extra_validators))
        # Here and not in validate_port: an empty optional field is not asked.
        has_ports = self.protocol.data != "icmp"
        if not self.port.errors and has_ports != (self.port.data is not None):
            problem = "Enter a port from 1 to 65535." if has_ports else "ICMP has no ports; leave this empty."
            self.port.errors = [problem]
            fine = False
        return fine

    def validate_source(self, field: StringField) -> None:
        if field.data:
            try:
                field.data = str(ip_network(field.data))
            except ValueError:
                raise ValidationError("Enter an address or a network, such as 10.0.0.3 or 10.0.0.0/24.") from None


class BackupForm(FlaskForm):  # type: ignore[misc]
    """When to back up."""

    daily = BooleanField("Back up every day")
    hour = SelectField("At", coerce=int, choices=titled({hour: f"{hour:02d}:00" for hour in range(24)}))
    keep = IntegerField("Keep the last", [InputRequired("Enter a number."), NumberRange(1, 30)])


class ActionForm(FlaskForm):  # type: ignore[misc]
    """A button: nothing but the protection against forged requests."""


def _edit(form: Any, row: Base, template: str, **context: Any) -> ResponseReturnValue:
    """Show a form for a row of its own, and save it."""
    if form.validate_on_submit():
        form.populate_obj(row)
        db.session.commit()
        flash("Saved.", "good")
        return redirect(url_for(f"firmware.{template}"))
    return render_template(f"firmware/{template}.html", form=form, row=row, **context)


@blueprint.route("/system/language", methods=["GET", "POST"])
def language() -> ResponseReturnValue:
    row = db.session.get_one(Language, 1)
    return _edit(LanguageForm(obj=row), row, "language")


@blueprint.route("/system/licence", methods=["GET", "POST"])
def licence() -> ResponseReturnValue:
    row = db.session.get_one(Licence, 1)
    return _edit(LicenceForm(obj=row), row, "licence", days_left=days_left(row.valid_until))


@blueprint.route("/system/performance", methods=["GET", "POST"])
def performance() -> ResponseReturnValue:
    row = db.session.get_one(Performance, 1)
    memory = _memory()
    return _edit(
        PerformanceForm(obj=row), row, "performance",
        load=min(100, round(100 * os.getloadavg()[0] / (os.cpu_count() or 1))), cores=os.cpu_count(), memory=memory,
    )


def _memory() -> tuple[int, int]:
    """Return used and present memory, MB."""
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        total, free = (int(lines[name].split()[0]) // 1024 for name in ("MemTotal", "MemAvailable"))
    except (OSError, KeyError, ValueError):
        return 0, 1
    return total - free, total


@blueprint.route("/system/firewall", methods=["GET", "POST"])
def firewall() -> ResponseReturnValue:
    form = RuleForm()
    rules = db.session.scalars(select(FirewallRule).order_by(FirewallRule.id)).all()
    if form.validate_on_submit():
        if len(rules) >= MAX_RULES:
            flash(f"There are {MAX_RULES} rules already; delete one first.", "bad")
        else:
            rule = FirewallRule()
            form.populate_obj(rule)
            db.session.add(rule)
            _save_rules()
            flash("The rule is added.", "good")
        return redirect(url_for("firmware.firewall"))
    told, problem = _cluster_rules(request.args.get("peer", ""))
    return render_template(
        "firmware/firewall.html", form=form, rules=rules, action=ActionForm(), told=told, problem=problem,
        too_open=firewall_rules.too_open, both=_both_versions(told, rules) if told else {},
        peers=" ".join(dict.fromkeys(rule["source"] for rule in told["rules"])) if told else "",
        advised="since" if told and any(one["use"] == Use.SSH for one in told["services"]) else "before",
        not_in_force=firewall_rules.load_problem(firewall_rules.result_file(current_app.config)),
    )


@blueprint.post("/system/firewall/cluster/<version>")
def add_cluster_rules(version: str) -> ResponseReturnValue:
    """Add the rules for the other gateway that are not there yet."""
    if not ActionForm().validate_on_submit():
        abort(400, "The form has expired. Go back and try again.")
    told, problem = _cluster_rules(request.form.get("peer", ""))
    if told is None or version not in firewall_rules.VERSIONS:
        abort(409, problem)
    present = db.session.scalars(select(FirewallRule).order_by(FirewallRule.id)).all()
    added = firewall_rules.missing(_rows(told, firewall_rules.VERSIONS[version]), present)
    if len(present) + len(added) > MAX_RULES:
        flash(f"There may be {MAX_RULES} rules; delete some first.", "bad")
    else:
        db.session.add_all(added)
        _save_rules()
        flash(f"{len(added)} rules are added." if added else "All of these rules were there already.", "good")
    return redirect(url_for("firmware.firewall"))


def _cluster_rules(named: str) -> tuple[dict[str, Any] | None, str]:
    """Return what the cluster says of the firewall, or why it says nothing."""
    cluster: HSMXCluster = current_app.extensions["firmware_cluster"]
    try:
        return cluster.firewall(named.replace(",", " ").split()[:8]), ""
    except ClusterError as error:
        return None, f"{error.message} {error.remedy}"


def _rows(told: dict[str, Any], version: str) -> list[FirewallRule]:
    peers = [Peer(ip_address(rule["source"]), rule["link"] or None) for rule in told["rules"]]
    connections = any(one["use"] == "connections" for one in told["services"])
    return firewall_rules.cluster_rows([version], peers, connections)


def _both_versions(told: dict[str, Any], rules: Sequence[FirewallRule]) -> dict[str, list[FirewallRule]]:
    """Return by kind of firmware the rules of this gateway with the cluster's added."""
    return {kind: [*rules, *firewall_rules.missing(_rows(told, version), rules)]
            for kind, version in firewall_rules.VERSIONS.items()}


def _save_rules() -> None:
    """Commit, and let the network daemon know."""
    db.session.commit()
    rows = db.session.scalars(select(FirewallRule).order_by(FirewallRule.id))
    firewall_rules.save(current_app.config["FIRMWARE_STATE_DIR"], rows)


@blueprint.post("/system/firewall/<int:rule_id>/delete")
def delete_rule(rule_id: int) -> ResponseReturnValue:
    if not ActionForm().validate_on_submit():
        abort(400, "The form has expired. Go back and try again.")
    rule = db.session.get(FirewallRule, rule_id) or abort(404)
    db.session.delete(rule)
    _save_rules()
    flash("The rule is deleted.", "good")
    return redirect(url_for("firmware.firewall"))


@blueprint.route("/system/backup", methods=["GET", "POST"])
def backup() -> ResponseReturnValue:
    row = db.session.get_one(BackupSettings, 1)
    rows = db.session.scalars(select(Backup).order_by(Backup.id.desc())).all()
    return _edit(BackupForm(obj=row), row, "backup", rows=rows, action=ActionForm())


@blueprint.post("/system/backup/now")
def backup_now() -> ResponseReturnValue:
    if not ActionForm().validate_on_submit():
        abort(400, "The form has expired. Go back and try again.")
    made_at = datetime.now().replace(microsecond=0)
    folder = _backup_folder()
    folder.mkdir(exist_ok=True)
    name = f"backup-{made_at:%Y%m%d-%H%M%S}.json"
    text = json.dumps(_everything(), default=str, indent=1)
    (folder / name).write_text(text)
    old = db.session.scalar(select(Backup).where(Backup.name == name))
    if old is None:
        db.session.add(Backup(name=name, made_at=made_at, size=len(text.encode())))
    kept = db.session.get_one(BackupSettings, 1).keep
    for surplus in db.session.scalars(select(Backup).order_by(Backup.id.desc()).offset(kept)).all():
        (folder / surplus.name).unlink(missing_ok=True)
        db.session.delete(surplus)
    db.session.commit()
    flash(f"{name} is made.", "good")
    return redirect(url_for("firmware.backup"))


def _backup_folder() -> Path:
    state: Path = current_app.config["FIRMWARE_STATE_DIR"]
    return state / "backups"


def _everything() -> dict[str, list[dict[str, Any]]]:
    """Return every row of every table of the firmware, without the licence key."""
    found: dict[str, list[dict[str, Any]]] = {}
    for table in Base.metadata.sorted_tables:
        rows = [dict(row) for row in db.session.execute(select(table)).mappings()]
        found[table.name] = [{key: value for key, value in row.items() if key != "key"} for row in rows]
    return found


@blueprint.get("/system/backup/<int:backup_id>")
def download_backup(backup_id: int) -> ResponseReturnValue:
    # A backup holds what guests must keep private; looking at pages does not include taking it home.
    from . import require_administrator

    require_administrator()
    row = db.session.get(Backup, backup_id) or abort(404)
    path = _backup_folder() / row.name
    if not path.is_file():
        abort(404, "The file of this backup is gone.")
    return send_file(path, as_attachment=True, download_name=row.name)
