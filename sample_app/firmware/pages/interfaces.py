"""The plan of addresses on ports, in the database: some rows belong to this gateway, the others to both."""

from __future__ import annotations

from flask import abort, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from flask_wtf import FlaskForm
from sqlalchemy import select
from wtforms import StringField, ValidationError
from wtforms.validators import InputRequired, Length

from ..models import Interface, db
from ..network import parse_address
from . import blueprint

KINDS = {"lan": "LAN", "wan": "WAN", "virtual": "virtual IP", "alias": "IP alias"}


class InterfaceForm(FlaskForm):  # type: ignore[misc]
    """An address of the plan."""

    address = StringField("Address", [InputRequired("Enter an address."), Length(max=49)])
    note = StringField("Note", [Length(max=60)])

    def validate_address(self, field: StringField) -> None:
        try:
            field.data = str(parse_address(field.data))
        except ValueError as error:
            raise ValidationError(str(error)) from None


@blueprint.get("/network/interfaces")
def interfaces() -> ResponseReturnValue:
    rows = db.session.scalars(select(Interface).order_by(Interface.port, Interface.kind, Interface.id)).all()
    return render_template("firmware/interfaces.html", rows=rows, kinds=KINDS)


@blueprint.route("/network/interfaces/<kind>/<int:number>", methods=["GET", "POST"])
def interface(kind: str, number: int) -> ResponseReturnValue:
    row = db.session.get(Interface, (kind, number)) or abort(404)
    form = InterfaceForm(obj=row)
    if form.validate_on_submit():
        form.populate_obj(row)
        db.session.commit()
        flash("Saved.", "good")
        return redirect(url_for("firmware.interfaces"))
    return render_template("firmware/interface.html", form=form, row=row, kinds=KINDS)
