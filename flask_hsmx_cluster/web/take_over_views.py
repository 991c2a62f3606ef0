"""The page on which an operator ends this gateway's wait for the other one."""

from __future__ import annotations

from flask import Blueprint, flash, redirect, url_for

from ..translate import gettext as _
from . import forms
from .access import needs
from .pages import FLASH, Answer, call, page, status_context


def register(blueprint: Blueprint) -> None:
    """Add the page and what it sends."""
    blueprint.add_url_rule("/take-over", "take_over_page", take_over_page, methods=["GET"])
    blueprint.add_url_rule("/take-over", "take_over", take_over, methods=["POST"])


@needs("administer")
def take_over_page() -> Answer:
    """Say what taking over may do."""
    return page("take_over", form=forms.TakeOverForm(formdata=None), **status_context(call("status")))


@needs("administer")
def take_over() -> Answer:
    """Take over."""
    form = forms.TakeOverForm()
    if not form.validate_on_submit():
        return page("take_over", form=form, **status_context(call("status"))), 422
    call("take_over", by=form.by.data)
    flash(_("This gateway takes the virtual IPs now."), FLASH)
    return redirect(url_for(".index"), 303)
