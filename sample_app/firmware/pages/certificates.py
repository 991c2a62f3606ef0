"""The certificates of this gateway, and the one of its HTTPS, which can be replaced here."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Any

from flask import current_app, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from flask_wtf import FlaskForm
from sqlalchemy import select
from wtforms import IntegerField, StringField, TextAreaField
from wtforms.validators import InputRequired, Length, NumberRange, Regexp

from ... import https
from ..models import Certificate, db
from . import blueprint


class UploadForm(FlaskForm):  # type: ignore[misc]
    """A certificate from elsewhere."""

    pem = TextAreaField("Certificate, chain and key (PEM)", [
        InputRequired("Paste the certificate and its key."), Length(max=https.MOST, message="This is too long."),
    ], render_kw={"rows": 5, "spellcheck": "false", "autocomplete": "off", "class": "code"})


class MakeForm(FlaskForm):  # type: ignore[misc]
    """A certificate that the gateway signs itself."""

    name = StringField("Name", [
        InputRequired("Enter a name."), Length(max=253),
        Regexp(r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$", message="Letters, digits, dots and dashes."),
    ], default="wifi.seeblick.example")
    days = IntegerField("Good for, days", [InputRequired("Enter a number."), NumberRange(1, 3650)], default=365)


@blueprint.get("/system/certificates")
def certificates() -> ResponseReturnValue:
    return _page()


@blueprint.post("/system/certificates/upload")
def upload_certificate() -> ResponseReturnValue:
    form = UploadForm()
    if not form.validate_on_submit():
        return _page(upload=form), 422
    try:
        return _installed(form.pem.data.encode())
    except https.CertificateRefused as error:
        form.pem.errors = [str(error)]
        return _page(upload=form), 422


@blueprint.post("/system/certificates/make")
def make_certificate() -> ResponseReturnValue:
    form = MakeForm()
    if not form.validate_on_submit():
        return _page(make=form), 422
    return _installed(https.make([form.name.data], form.days.data))


def _installed(content: bytes) -> ResponseReturnValue:
    https.install(_state(), content)
    flash("The certificate is installed. It is in force after a reboot.", "good")
    return redirect(url_for("firmware.certificates"))


def _page(upload: Any = None, make: Any = None) -> str:
    rows = db.session.scalars(select(Certificate).order_by(Certificate.valid_until)).all()
    own = current_app.config["FIRMWARE_HTTPS_PORT"]
    return render_template(
        "firmware/certificates.html", rows=[(row, days_left(row.valid_until)) for row in rows], own=own,
        in_force=https.shown(_state(), https.IN_FORCE) if own else None,
        installed=https.shown(_state(), https.INSTALLED) if own else None,
        upload=upload or UploadForm(formdata=None), make=make or MakeForm(formdata=None),
    )


def _state() -> Path:
    state: Path = current_app.config["FIRMWARE_STATE_DIR"]
    return state


def days_left(until: datetime) -> int:
    return (until.date() - date.today()).days
