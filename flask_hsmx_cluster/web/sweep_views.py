"""Many quarantined changes at once: asked first, done by the agent batch after batch, with true progress."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, redirect, render_template, request, url_for

from ..errors import RequestRefused
from ..extension import state as extension
from ..translate import gettext as _
from ..words import cluster as words
from ..words import quarantine as quarantine_words
from . import forms
from .access import needs
from .gateways import gateways_of, name_of, row_ids
from .pages import Answer, call, demand, page

#: Rows that are named before something is done to all of them.
NAMED = 5


def register(blueprint: Blueprint) -> None:
    """Add the pages."""
    for path, view, method in (
        ("", sweep_page, "GET"),
        ("", sweep, "POST"),
        ("/progress", sweep_progress, "GET"),
        ("/stop", sweep_stop, "POST"),
    ):
        blueprint.add_url_rule(f"/quarantine/many{path}", view.__name__, view, methods=[method])


@needs("administer")
def sweep_page() -> Answer:
    """Say what it will do, and to how many rows: those that were ticked, or all of a table or of a rejoin."""
    status, node = call("status"), request.args.get("node", "")
    action, deed = _deed(request.args.get("action", ""))
    table, batch, ids = request.args.get("table", "")[:200], request.args.get("batch", "")[:40], []
    which, upto = "", 0
    if "all" in request.args:
        found = call("quarantine", node=node, table=table, batch=batch, state=deed.state, limit=NAMED)
        total, upto, named = found["total"], found["newest"], [row["text"] for row in found["rows"]]
        kept_at = next((one["kept_at"] for one in found["batches"] if one["batch"] == batch), "")
        which = quarantine_words.choice(table, kept_at)
    else:
        ids = row_ids(request.args.getlist("id"))
        total, table, batch = len(ids), "", ""
        named = [call("quarantine_row", row_id=row, node=node)["text"] for row in ids[:NAMED]]
    if not total:
        raise RequestRefused(_("There is no such row in quarantine."), _("Look at the list again."))
    what = " ".join(filter(None, (quarantine_words.changes(total), which)))
    return page(
        "sweep", status=status, node=node, name=name_of(gateways_of(status), node), action=action, deed=deed,
        what=what, table=table, batch=batch, upto=upto, ids=ids, named=named, total=total,
        form=forms.ActionForm(formdata=None),
    )  # fmt: skip


@needs("administer")
def sweep() -> Answer:
    """Begin it. What comes of it stands above the list, with how far it is."""
    demand(forms.ActionForm())
    node = request.form.get("node", "")
    action, _found = _deed(request.form.get("action", ""))
    chosen: dict[str, Any]
    if (upto := request.form.get("upto", 0, type=int)) > 0:
        table, batch = request.form.get("table", "")[:200], request.form.get("batch", "")[:40]
        chosen = {"upto": upto, "table": table, "batch": batch}
    else:
        chosen = {"ids": row_ids(request.form.getlist("id"))}
    call("sweep", action=action, node=node, **chosen)
    return redirect(url_for(".quarantine", node=node), 303)


@needs("administer")
def sweep_stop() -> Answer:
    """Stop it; what was done stays done."""
    demand(forms.ActionForm())
    node = request.form.get("node", "")
    call("sweep_stop", node=node)
    return redirect(url_for(".quarantine", node=node), 303)


@needs("view")
def sweep_progress() -> Answer:
    """Return the part of the page that changes."""
    node = request.args.get("node", "")
    return render_template(
        "hsmx_cluster/parts/sweep.html", words=words, say=quarantine_words, node=node, swept=call("swept", node=node),
        may=extension().allows("administer"), form=forms.ActionForm(formdata=None))


def _deed(action: str) -> tuple[str, quarantine_words.Deed]:
    deeds = quarantine_words.deeds()
    if action not in deeds:
        raise RequestRefused(_("It is not said what is to be done."), _("Press one of the buttons below the list."))
    return action, deeds[action]
