"""The page *PPPoE connections*: what they are, how they are, and what an operator wants of them."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, flash, redirect, url_for

from ..editing import pppoe as pppoe_edits
from ..errors import AgentUnavailable, ChecksFailed, ClusterError, Finding, RequestRefused
from ..settings import model as settings
from ..settings import rules
from ..translate import gettext as _
from . import pages
from .access import needs
from .answers import http_status
from .pages import FLASH, Answer, call, demand, say_saved
from .pppoe_forms import PPPoEActionForm, PPPoEForm, wishes


def register(blueprint: Blueprint) -> None:
    """Add the pages."""
    for path, view, method in (
        ("/pppoe", pppoe, "GET"),
        ("/pppoe", add_pppoe, "POST"),
        ("/pppoe/<name>", edit_pppoe, "GET"),
        ("/pppoe/<name>", change_pppoe, "POST"),
        ("/pppoe/<name>/remove", remove_pppoe, "POST"),
        ("/pppoe/<name>/<any(connect, disconnect):wish>", command_pppoe, "POST"),
    ):
        blueprint.add_url_rule(path, view.__name__, view, methods=[method])


@needs("view")
def pppoe() -> Answer:
    """Show them."""
    held = call("settings")
    return _list_page(held) if held["formed"] else redirect(url_for(".index"))


@needs("administer")
def add_pppoe() -> Answer:
    """Add one."""
    held = call("settings")
    if not held["formed"]:
        return redirect(url_for(".index"))
    form = PPPoEForm()
    code = _save(form, held, None)
    return redirect(url_for(".pppoe"), 303) if code is None else _list_page(held, code, form)


@needs("administer")
def edit_pppoe(name: str) -> Answer:
    """Show one to be changed."""
    held = call("settings")
    if not held["formed"]:
        return redirect(url_for(".index"))
    row = pppoe_edits.named(held["settings"], name)
    return _edit_page(held, name, PPPoEForm(formdata=None, data={**row, "base_revision": str(held["revision"])}))


@needs("administer")
def change_pppoe(name: str) -> Answer:
    """Change one."""
    held = call("settings")
    if not held["formed"]:
        return redirect(url_for(".index"))
    pppoe_edits.named(held["settings"], name)
    form = PPPoEForm()
    code = _save(form, held, name)
    return redirect(url_for(".pppoe"), 303) if code is None else _edit_page(held, name, form, code)


@needs("administer")
def remove_pppoe(name: str) -> Answer:
    """Remove one."""
    form = PPPoEActionForm()
    demand(form)
    held = call("settings")
    if not held["formed"]:
        return redirect(url_for(".index"), 303)
    if form.base_revision.data != str(held["revision"]):
        raise RequestRefused(_overtaken().text, _overtaken().remedy)
    answer = call("propose", settings=pppoe_edits.removed(held["settings"], name), base_revision=held["revision"])
    say_saved(answer, len(held["settings"]["nodes"]) > 1)
    return redirect(url_for(".pppoe"), 303)


@needs("administer")
def command_pppoe(name: str, wish: str) -> Answer:
    """Connect or disconnect one."""
    demand(PPPoEActionForm())
    call("pppoe", name=name, connect=wish == "connect")
    flash(wishes()[wish] % {"name": name}, FLASH)
    return redirect(url_for(".pppoe"), 303)


def _save(form: PPPoEForm, held: dict[str, Any], name: str | None) -> int | None:
    """Save what was typed. Returns None, or the status of the page that shows what is wrong with it."""
    if form.base_revision.data != str(held["revision"]):
        form.base_revision.data = str(held["revision"])
        form.attach([_overtaken()])
        return 409
    if not form.validate_on_submit():
        return 422
    try:
        wanted = pppoe_edits.saved(held["settings"], form.row(name), new=name is None)
        mine = f"pppoe.{pppoe_edits.position(wanted, form.row(name)['name'])}."
        found = rules.check(settings.from_dict(wanted), {held["node_id"]: pages.ports()})
        if form.attach([one for one in found if one.blocking or one.field.startswith(mine)]):
            return 422
        answer = call("propose", settings=wanted, base_revision=held["revision"])
    except AgentUnavailable:
        raise
    except ChecksFailed as error:
        form.attach(error.findings)
        return 422
    except ClusterError as error:
        form.attach([Finding(error.code, error.message, error.remedy)])
        return http_status(error)
    for findings in form.findings.values():
        for finding in findings:  # what does not stop it is worth knowing all the same
            flash(f"{finding.text} {finding.remedy}".strip(), FLASH)
    say_saved(answer, len(wanted["nodes"]) > 1)
    return None


def _overtaken() -> Finding:
    return Finding(
        "overtaken", _("Somebody saved other settings meanwhile."), _("Look at the list, and press the button again."))


def _list_page(held: dict[str, Any], code: int = 200, form: PPPoEForm | None = None) -> tuple[str, int]:
    revision, opened = {"base_revision": str(held["revision"])}, form is not None
    form = form or PPPoEForm(formdata=None, data=revision)
    form.offer(pages.ports())
    status = call("status")
    page = pages.page(
        "pppoe", status=status, held=held, form=form, opened=opened, edits=pppoe_edits,
        connections=pppoe_edits.connections(held["settings"]), standing=pppoe_edits.standing(status),
        action=PPPoEActionForm(formdata=None, data=revision),
    )
    return page, code


def _edit_page(held: dict[str, Any], name: str, form: PPPoEForm, code: int = 200) -> tuple[str, int]:
    form.offer(pages.ports())
    revision = {"base_revision": str(held["revision"])}
    page = pages.page("pppoe_edit", held=held, form=form, name=name,
                      action=PPPoEActionForm(formdata=None, data=revision))
    return page, code
