"""The page about what a gateway has put aside before it became a copy of the other one."""

from __future__ import annotations

from flask import Blueprint, flash, redirect, request, url_for

from ..errors import AgentUnavailable, ClusterError, RequestRefused
from ..translate import gettext as _
from ..words import aside as aside_words
from . import forms
from .access import needs
from .gateways import gateways_of, name_of
from .pages import FLASH, Answer, call, demand, page


def register(blueprint: Blueprint) -> None:
    """Add the pages."""
    for path, view, method in (
        ("", aside, "GET"),
        ("/delete", aside_delete_page, "GET"),
        ("/delete", aside_delete, "POST"),
    ):
        blueprint.add_url_rule(f"/aside{path}", view.__name__, view, methods=[method])


@needs("view")
def aside() -> Answer:
    """Show what is kept aside, since when, how large, and how to look into it."""
    status = call("status")
    gateways = gateways_of(status)
    node = request.args.get("node") or status["node"]["id"]
    problem, found = None, None
    try:
        found = call("aside", node=node)
    except AgentUnavailable:
        raise
    except ClusterError as error:  # the other gateway may be away: what lies here is a click away
        problem = error
    return page(
        "aside", status=status, gateways=gateways, node=node, name=name_of(gateways, node), found=found,
        problem=problem, say=aside_words,
    )  # fmt: skip


@needs("administer")
def aside_delete_page() -> Answer:
    """Say what deleting will do."""
    return _delete_page(forms.AsideForm(formdata=None), request.args.get("node", ""), request.args.get("name", ""))


@needs("administer")
def aside_delete() -> Answer:
    """Delete a set."""
    form = forms.AsideForm()
    node, name = request.form.get("node", ""), request.form.get("name", "")
    if not form.validate_on_submit() and form.sure.errors and not form.errors.get("csrf_token"):
        return _delete_page(form, node, name)
    demand(form)
    gone = call("aside_delete", name=name[:63], node=node)
    flash(_("It is deleted: %(what)s.", what=aside_words.amount(gone)), FLASH)
    return redirect(url_for(".aside", node=node), 303)


def _delete_page(form: forms.AsideForm, node: str, name: str) -> Answer:
    status = call("status")
    kept = next((one for one in call("aside", node=node)["sets"] if one["name"] == name), None)
    if kept is None:
        raise RequestRefused(_("There is nothing put aside by that name."), _("Look at the list again."))
    return page("aside_delete", status=status, node=node, name=name_of(gateways_of(status), node), kept=kept, form=form,
                say=aside_words)
