"""Login and logout."""

from __future__ import annotations

import hmac

from flask import redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_wtf import FlaskForm
from wtforms import PasswordField, StringField
from wtforms.validators import InputRequired, Length

from ..access import USERS, local_target
from . import blueprint


class LoginForm(FlaskForm):  # type: ignore[misc]
    """User and password."""

    user = StringField("User", [InputRequired("Enter a user."), Length(max=40)],
                       render_kw={"autocomplete": "username", "autofocus": True, "autocapitalize": "none"})
    password = PasswordField("Password", [InputRequired("Enter the password."), Length(max=200)],
                             render_kw={"autocomplete": "current-password"})


@blueprint.route("/login", methods=["GET", "POST"])
def login() -> ResponseReturnValue:
    form = LoginForm()
    if form.validate_on_submit():
        user = USERS.get(form.user.data)
        if user and hmac.compare_digest(user.password.encode(), form.password.data.encode()):
            session.clear()
            session["user"] = user.name
            return redirect(local_target(request.args.get("next", "/")))
        form.password.errors = ["User or password is wrong."]
    return render_template("firmware/login.html", form=form, users=USERS.values())


@blueprint.post("/logout")
def logout() -> ResponseReturnValue:
    session.clear()
    return redirect(url_for("firmware.login"))
