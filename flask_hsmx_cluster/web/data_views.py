"""The pages about the shared data: quarantine and comparison. Each works without JavaScript."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, flash, redirect, render_template, request, stream_with_context, url_for

from ..errors import AgentUnavailable, ClusterError, DataConflict, RequestRefused
from ..extension import state as extension
from ..translate import gettext as _
from ..words import cluster as words
from ..words import quarantine as quarantine_words
from . import forms
from .access import needs
from .gateways import active_name, gateways_of, name_of, row_id, where_to_look
from .pages import FLASH, Answer, call, demand, page

#: Rows of one page.
PAGE_ROWS = 50
#: Rows asked for at once by an export; the agent gives fewer where they are long.
EXPORT_ROWS = 200
_TYPES = {"csv": "text/csv; charset=utf-8", "json": "application/json"}


def register(blueprint: Blueprint) -> None:
    """Add the pages."""
    for path, view, method in (
        ("/quarantine", quarantine, "GET"),
        ("/quarantine/row", quarantine_row, "GET"),
        ("/quarantine/export", export, "GET"),
        ("/quarantine/reapply", reapply, "POST"),
        ("/verify", verify_page, "GET"),
        ("/verify", verify, "POST"),
        ("/verify/progress", verify_progress, "GET"),
    ):
        blueprint.add_url_rule(path, view.__name__, view, methods=[method])


# ---- quarantine ----


@needs("view")
def quarantine() -> Answer:
    """List what one gateway wrote and the other one never had."""
    status = call("status")
    gateways = gateways_of(status)
    node = request.args.get("node") or where_to_look(gateways)
    table, of = request.args.get("table", "")[:200], request.args.get("state", "kept")
    after = max(0, request.args.get("after", 0, type=int))
    batch = request.args.get("batch", "")[:40]
    problem, found, swept = None, None, None
    try:
        found = call("quarantine", node=node, table=table, state=of, batch=batch, after=after, limit=PAGE_ROWS)
        swept = call("swept", node=node)
    except AgentUnavailable:
        raise
    except ClusterError as error:  # the other gateway may be away: what lies here is a click away
        problem = error
    for one in gateways:
        if found is not None and one["node"] == node:
            one["waiting"] = found["waiting"]
    return page(
        "quarantine", status=status, gateways=gateways, node=node, name=name_of(gateways, node), table=table, of=of,
        batch=batch, after=after, found=found, problem=problem, swept=swept, say=quarantine_words,
        form=forms.ActionForm(formdata=None),
    )  # fmt: skip


@needs("view")
def quarantine_row() -> Answer:
    """Show one row with its values, before and after."""
    status, node, row = call("status"), request.args.get("node", ""), row_id(request.args.get("id"))
    found = call("quarantine_row", row_id=row, node=node)
    return page(
        "quarantine_row", status=status, node=node, name=name_of(gateways_of(status), node), row=found,
        lines=quarantine_words.lines(found), say=quarantine_words, form=forms.ActionForm(formdata=None),
    )  # fmt: skip


@needs("administer")
def reapply() -> Answer:
    """Make a change again on the active gateway; where it does not fit, show both values and ask."""
    form = forms.ReapplyForm()
    demand(form)
    node, row = form.node.data or "", row_id(form.row_id.data)
    sure = form.overwrite.data == "1"
    if sure and not form.sure.data:
        form.sure.errors = [_("Tick this to put the quarantined value in the place of the present one.")]
    try:
        call("reapply", row_id=row, node=node, overwrite=sure and bool(form.sure.data), seen=form.seen.data or "")
    except DataConflict as found:
        return _conflict_page(found, form, row, node)
    flash(_("It is made: row %(n)s of the quarantine is in force again.", n=row), FLASH)
    return redirect(url_for(".quarantine", node=node), 303)


def _conflict_page(found: DataConflict, form: forms.ReapplyForm, row: int, node: str) -> Answer:
    status = call("status")
    shown = call("quarantine_row", row_id=row, node=node)
    fresh = forms.ReapplyForm(formdata=None, data={
        "row_id": str(row), "node": node, "overwrite": "1", "seen": found.seen})
    fresh.sure.errors = list(form.sure.errors)
    return page(
        "quarantine_conflict", status=status, error=found, row=shown, node=node, form=fresh,
        lines=quarantine_words.conflict(found), active=active_name(status), say=quarantine_words,
    ), 409  # fmt: skip


@needs("view")
def export() -> Answer:
    """Give the rows as a file."""
    return exported(request.args.get("format", ""))


def exported(form: str) -> Response:
    """Return the rows that the query asks for as a file.

    :raises RequestRefused: there is no such format.
    """
    if form not in _TYPES:
        raise RequestRefused(_("Rows are exported as csv or as json."))
    node, table = request.args.get("node", ""), request.args.get("table", "")[:200]
    of, batch = request.args.get("state", "kept"), request.args.get("batch", "")[:40]

    def ask(after: int) -> dict[str, Any]:
        return call(
            "quarantine", node=node, table=table, state=of, batch=batch, after=after, limit=EXPORT_ROWS, whole=True)

    def piece(row_id: int, which: str, column: str, offset: int) -> dict[str, Any]:
        return call("quarantine_value", row_id=row_id, which=which, column=column, offset=offset, node=node)

    first = ask(0)  # what is wrong is told before the file begins
    write = quarantine_words.as_csv if form == "csv" else quarantine_words.as_json
    rows = quarantine_words.every_row(ask, first, piece)
    response = Response(stream_with_context(write(rows)), content_type=_TYPES[form])
    response.headers["Content-Disposition"] = f'attachment; filename="quarantine.{form}"'
    response.headers["Cache-Control"] = "no-store"
    return response


# ---- comparing ----


@needs("view")
def verify_page() -> Answer:
    """Show how far a comparison of both gateways is, or what came of the last one."""
    return page("verify", status=call("status"), **_comparison())


@needs("administer")
def verify() -> Answer:
    """Begin a comparison."""
    demand(forms.ActionForm())
    call("verify")
    return redirect(url_for(".verify_page"), 303)


@needs("view")
def verify_progress() -> Answer:
    """Return the part of the page that changes."""
    return render_template("hsmx_cluster/parts/verify.html", words=words, **_comparison())


def _comparison() -> dict[str, Any]:
    state, problem = None, None
    try:
        state = call("verified")
    except AgentUnavailable:
        raise
    except ClusterError as error:  # the passive gateway compares; it may be away
        problem = error
    going = quarantine_words.progress(state) if state and state["under_way"] else None
    return {"compared": state, "going": going, "problem": problem, "say": quarantine_words,
            "may": extension().allows("administer"), "form": forms.ActionForm(formdata=None)}
