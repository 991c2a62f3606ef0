"""The page *Notifications*: who is told of alarms, how that works, and a test."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, flash, redirect, url_for

from ..editing import notify as edits
from ..errors import AgentUnavailable, ChecksFailed, ClusterError, Finding, RequestRefused
from ..settings import model as settings
from ..settings import notify_rules
from ..translate import gettext as _
from . import pages
from .access import needs
from .answers import http_status
from .notify_forms import FORMS, TargetActionForm, TargetForm
from .pages import FLASH, Answer, call, demand, say_saved


def register(blueprint: Blueprint) -> None:
    """Add the pages."""
    for path, view, method in (
        ("/notifications", notifications, "GET"),
        ("/notifications/<any(mail, webhook, syslog):kind>", add_target, "POST"),
        ("/notifications/target/<name>", edit_target, "GET"),
        ("/notifications/target/<name>", change_target, "POST"),
        ("/notifications/target/<name>/remove", remove_target, "POST"),
        ("/notifications/target/<name>/test", test_target, "POST"),
    ):
        blueprint.add_url_rule(path, view.__name__, view, methods=[method])


@needs("view")
def notifications() -> Answer:
    """Show the targets."""
    held = call("settings")
    return _list_page(held) if held["formed"] else redirect(url_for(".index"))


@needs("administer")
def add_target(kind: str) -> Answer:
    """Add one."""
    held = call("settings")
    if not held["formed"]:
        return redirect(url_for(".index"))
    form = FORMS[kind]()
    code = _save(form, held, None)
    return redirect(url_for(".notifications"), 303) if code is None else _list_page(held, code, form)


@needs("administer")
def edit_target(name: str) -> Answer:
    """Show one to be changed."""
    held = call("settings")
    if not held["formed"]:
        return redirect(url_for(".index"))
    row = edits.named(held["settings"], name)
    return _edit_page(held, name, FORMS[row["kind"]].shown(row, held["revision"]))


@needs("administer")
def change_target(name: str) -> Answer:
    """Change one."""
    held = call("settings")
    if not held["formed"]:
        return redirect(url_for(".index"))
    form = FORMS[edits.named(held["settings"], name)["kind"]]()
    code = _save(form, held, name)
    return redirect(url_for(".notifications"), 303) if code is None else _edit_page(held, name, form, code)


@needs("administer")
def remove_target(name: str) -> Answer:
    """Remove one."""
    form = TargetActionForm()
    demand(form)
    held = call("settings")
    if not held["formed"]:
        return redirect(url_for(".index"), 303)
    if form.base_revision.data != str(held["revision"]):
        raise RequestRefused(_overtaken().text, _overtaken().remedy)
    answer = call("propose", settings=edits.removed(held["settings"], name), base_revision=held["revision"])
    say_saved(answer, len(held["settings"]["nodes"]) > 1)
    return redirect(url_for(".notifications"), 303)


@needs("administer")
def test_target(name: str) -> Answer:
    """Send a test message, and show what the server said."""
    demand(TargetActionForm())
    flash(edits.tested(name, call("notify_test", name=name)), FLASH)
    return redirect(url_for(".notifications"), 303)


def _save(form: TargetForm, held: dict[str, Any], name: str | None) -> int | None:
    """Save what was typed. Returns None, or the status of the page that shows what is wrong with it."""
    if form.base_revision.data != str(held["revision"]):
        form.base_revision.data = str(held["revision"])
        form.attach([_overtaken()])
        return 409
    if not form.validate_on_submit():
        return 422
    try:
        wanted = edits.saved(held["settings"], form.row(name), new=name is None)
        mine = f"notify.{edits.position(wanted, form.row(name)['name'])}."
        found = notify_rules.check(settings.from_dict(wanted))
        if form.attach([one for one in found if one.field.startswith(mine)]):
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
    say_saved(answer, len(wanted["nodes"]) > 1)
    return None


def _overtaken() -> Finding:
    return Finding(
        "overtaken", _("Somebody saved other settings meanwhile."), _("Look at the list, and press the button again."))


def _list_page(held: dict[str, Any], code: int = 200, wrong: TargetForm | None = None) -> tuple[str, int]:
    revision, status = {"base_revision": str(held["revision"])}, call("status")
    forms = [wrong if wrong is not None and wrong.kind == kind else form(formdata=None, data=revision)
             for kind, form in FORMS.items()]  # fmt: skip
    page = pages.page(
        "notifications", status=status, held=held, forms=forms, opened=wrong.kind if wrong else "", edits=edits,
        targets=edits.targets(held["settings"]), standing=edits.standing(status),
        action=TargetActionForm(formdata=None, data=revision),
    )
    return page, code


def _edit_page(held: dict[str, Any], name: str, form: TargetForm, code: int = 200) -> tuple[str, int]:
    revision = {"base_revision": str(held["revision"])}
    page = pages.page("notification_edit", held=held, form=form, name=name,
                      action=TargetActionForm(formdata=None, data=revision))
    return page, code
