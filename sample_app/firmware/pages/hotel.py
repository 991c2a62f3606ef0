"""The hotel's pages: dashboard, guests, vouchers, portal text, access points."""

from __future__ import annotations

import secrets
from datetime import datetime
from pathlib import Path

from flask import current_app, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_wtf import FlaskForm
from sqlalchemy import func, or_, select
from wtforms import IntegerField, SelectField, StringField, TextAreaField
from wtforms.validators import InputRequired, Length, NumberRange

from ..chart import day_curve
from ..demo_data import CODE_LETTERS
from ..models import AccessPoint, Certificate, Guest, PortalText, Voucher, db
from ..network import read_ports
from . import blueprint
from .choices import titled

#: Rows on one page of a list.
PAGE = 25
VOUCHER_STATES = ("unused", "in use", "expired")


class VoucherForm(FlaskForm):  # type: ignore[misc]
    """A batch of vouchers."""

    count = IntegerField("How many", [InputRequired("Enter a number."), NumberRange(1, 50)], default=5)
    hours = SelectField("Valid for", coerce=int, default=24,
                        choices=titled({4: "4 hours", 24: "1 day", 72: "3 days", 168: "1 week"}))
    devices = IntegerField("Devices per voucher", [InputRequired("Enter a number."), NumberRange(1, 10)], default=2)
    note = StringField("Note", [Length(max=60)], render_kw={"placeholder": "Conference, Monday"})


class PortalForm(FlaskForm):  # type: ignore[misc]
    """What the portal says in one language."""

    title = StringField("Title", [InputRequired("A title is needed."), Length(max=80)])
    welcome = TextAreaField("Welcome", [InputRequired("A text is needed."), Length(max=1000)], render_kw={"rows": 5})
    button = StringField("Button", [InputRequired("The button needs a word."), Length(max=40)])


@blueprint.get("/")
def dashboard() -> ResponseReturnValue:
    online = db.session.scalar(select(func.count()).where(Guest.online)) or 0
    points = db.session.scalars(select(AccessPoint.up)).all()
    soonest = db.session.scalars(select(Certificate).order_by(Certificate.valid_until)).first()
    plans = db.session.execute(
        select(Guest.plan, func.count()).where(Guest.online).group_by(Guest.plan).order_by(func.count().desc())
    ).all()
    return render_template(
        "firmware/dashboard.html",
        online=online,
        rooms=db.session.scalar(select(func.count(Guest.room.distinct())).where(Guest.online)),
        unused=db.session.scalar(select(func.count()).where(Voucher.state == "unused")),
        points=len(points),
        points_up=sum(points),
        received_gb=(db.session.scalar(select(func.sum(Guest.received_mb))) or 0) / 1000,
        certificate=soonest,
        days_left=(soonest.valid_until - datetime.now()).days if soonest else None,
        plans=plans,
        curve=day_curve(online),
        ports=read_ports(),
    )


@blueprint.get("/guests")
def guests() -> ResponseReturnValue:
    words = request.args.get("q", "")[:80].strip()
    state = request.args.get("state", "online")
    page = max(1, request.args.get("page", 1, type=int))
    query = select(Guest)
    if words:
        like = f"%{words}%"
        query = query.where(or_(Guest.name.ilike(like), Guest.room.ilike(like), Guest.mac.ilike(like)))
    if state in ("online", "offline"):
        query = query.where(Guest.online == (state == "online"))
    total = db.session.scalar(select(func.count()).select_from(query.subquery())) or 0
    pages = max(1, -(-total // PAGE))
    page = min(page, pages)
    rows = db.session.scalars(
        query.order_by(Guest.room, Guest.name).offset((page - 1) * PAGE).limit(PAGE)
    ).all()
    return render_template(
        "firmware/guests.html", rows=rows, words=words, state=state, page=page, pages=pages, total=total
    )


@blueprint.route("/vouchers", methods=["GET", "POST"])
def vouchers() -> ResponseReturnValue:
    form = VoucherForm()
    if form.validate_on_submit():
        codes = [_new_code() for _ in range(form.count.data)]
        now = datetime.now().replace(microsecond=0)
        db.session.add_all(
            Voucher(code=code, hours=form.hours.data, devices=form.devices.data, note=form.note.data or "",
                    state="unused", created_at=now)
            for code in codes
        )
        db.session.commit()
        flash(f"{len(codes)} vouchers created. The first is {codes[0]}.", "good")
        return redirect(url_for("firmware.vouchers"))
    state = request.args.get("state", "")
    query = select(Voucher).order_by(Voucher.created_at.desc(), Voucher.id.desc())
    if state in VOUCHER_STATES:
        query = query.where(Voucher.state == state)
    rows = db.session.scalars(query.limit(100)).all()
    return render_template("firmware/vouchers.html", form=form, rows=rows, state=state, states=VOUCHER_STATES)


def _new_code() -> str:
    return "-".join("".join(secrets.choice(CODE_LETTERS) for _ in range(4)) for _ in range(3))


@blueprint.route("/portal", methods=["GET", "POST"])
def portal() -> ResponseReturnValue:
    texts = db.session.scalars(select(PortalText).order_by(PortalText.id)).all()
    chosen = next((text for text in texts if text.language == request.args.get("language")), texts[0])
    form = PortalForm(obj=chosen)
    if form.validate_on_submit():
        form.populate_obj(chosen)
        db.session.commit()
        _publish(chosen)
        flash("The portal text is saved.", "good")
        return redirect(url_for("firmware.portal", language=chosen.language))
    return render_template("firmware/portal.html", form=form, texts=texts, chosen=chosen, pages=_published())


def _publish(text: PortalText) -> None:
    """Write the page that guests get, as a whole: the cluster extension copies it to the other gateway."""
    directory = current_app.config["FIRMWARE_PORTAL_DIR"]
    if directory:
        path = Path(directory, f"{text.language}.html")
        new = path.with_name(f".{path.name}.new")
        new.write_text(render_template("firmware/portal_page.html", text=text))
        new.replace(path)


def _published() -> list[tuple[str, int]]:
    """Return name and length of each page in the directory, whichever gateway wrote it."""
    directory = current_app.config["FIRMWARE_PORTAL_DIR"]
    if not directory:
        return []
    return [(path.name, path.stat().st_size) for path in sorted(Path(directory).glob("[!.]*.html"))]


@blueprint.get("/network/access-points")
def access_points() -> ResponseReturnValue:
    rows = db.session.execute(
        select(AccessPoint, func.count(Guest.id))
        .outerjoin(Guest, (Guest.access_point_id == AccessPoint.id) & Guest.online)
        .group_by(AccessPoint.id)
        .order_by(AccessPoint.name)
    ).all()
    return render_template("firmware/access_points.html", rows=rows)
