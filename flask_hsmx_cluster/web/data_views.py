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
from .pages import FLASH, Answer, call, demand, page

#: Rows of one page.
PAGE_ROWS = 50
#: Rows asked for at once by an export; the agent gives fewer where they are long.
EXPORT_ROWS = 200
#: Rows that are named before they are discarded.
NAMED = 5
_TYPES = {"csv": "text/csv; charset=utf-8", "json": "application/json"}


def register(blueprint: Blueprint) -> None:
    """Add the pages."""
    for path, view, method in (
        ("/quarantine", quarantine, "GET"),
        ("/quarantine/row", quarantine_row, "GET"),
        ("/quarantine/export", export, "GET"),
        ("/quarantine/reapply", reapply, "POST"),
        ("/quarantine/discard", discard_page, "GET"),
        ("/quarantine/discard", discard, "POST"),
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
    gateways = _gateways(status)
    node = request.args.get("node") or _where_to_look(gateways)
    table, of = request.args.get("table", "")[:200], request.args.get("state", "kept")
    after = max(0, request.args.get("after", 0, type=int))
    problem, found = None, None
    try:
        found = call("quarantine", node=node, table=table, state=of, after=after, limit=PAGE_ROWS)
    except AgentUnavailable:
        raise
    except ClusterError as error:  # the other gateway may be away: what lies here is a click away
        problem = error
    for one in gateways:
        if found is not None and one["node"] == node:
            one["waiting"] = found["waiting"]
    return page(
        "quarantine", status=status, gateways=gateways, node=node, name=_name(gateways, node), table=table, of=of,
        after=after, found=found, problem=problem, say=quarantine_words, form=forms.ActionForm(formdata=None),
    )  # fmt: skip


@needs("view")
def quarantine_row() -> Answer:
    """Show one row with its values, before and after."""
    status, node, row = call("status"), request.args.get("node", ""), _row_id(request.args.get("id"))
    found = call("quarantine_row", row_id=row, node=node)
    return page(
        "quarantine_row", status=status, node=node, name=_name(_gateways(status), node), row=found,
        lines=quarantine_words.lines(found), say=quarantine_words, form=forms.ActionForm(formdata=None),
    )  # fmt: skip


@needs("administer")
def reapply() -> Answer:
    """Make a change again on the active gateway; where it does not fit, show both values and ask."""
    form = forms.ReapplyForm()
    demand(form)
    node, row = form.node.data or "", _row_id(form.row_id.data)
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
        lines=quarantine_words.conflict(found), active=_active(status), say=quarantine_words,
    ), 409  # fmt: skip


@needs("administer")
def discard_page() -> Answer:
    """Say what discarding will do."""
    status, node = call("status"), request.args.get("node", "")
    ids = _row_ids(request.args.getlist("id"))
    named = [call("quarantine_row", row_id=row, node=node)["text"] for row in ids[:NAMED]]
    return page(
        "discard", status=status, node=node, name=_name(_gateways(status), node), ids=ids, named=named,
        form=forms.ActionForm(formdata=None),
    )  # fmt: skip


@needs("administer")
def discard() -> Answer:
    """Discard rows."""
    demand(forms.ActionForm())
    node, ids = request.form.get("node", ""), _row_ids(request.form.getlist("id"))
    done = call("discard", ids=ids, node=node)["discarded"]
    flash(_("1 change is discarded.") if done == 1 else _("%(n)s changes are discarded.", n=done), FLASH)
    return redirect(url_for(".quarantine", node=node), 303)


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
    of = request.args.get("state", "kept")

    def ask(after: int) -> dict[str, Any]:
        return call("quarantine", node=node, table=table, state=of, after=after, limit=EXPORT_ROWS, whole=True)

    first = ask(0)  # what is wrong is told before the file begins
    write = quarantine_words.as_csv if form == "csv" else quarantine_words.as_json
    response = Response(stream_with_context(write(quarantine_words.every_row(ask, first))), content_type=_TYPES[form])
    response.headers["Content-Disposition"] = f'attachment; filename="quarantine.{form}"'
    response.headers["Cache-Control"] = "no-store"
    return response


def _gateways(status: dict[str, Any]) -> list[dict[str, Any]]:
    """Return both gateways with what waits there; this one first."""
    data, own = status["data"] or {}, status["node"]["id"]
    found = [dict(one) for one in data.get("quarantine", [])]
    return sorted(found, key=lambda one: one["node"] != own)


def _where_to_look(gateways: list[dict[str, Any]]) -> str:
    return next((str(one["node"]) for one in gateways if one["waiting"]), gateways[0]["node"] if gateways else "")


def _name(gateways: list[dict[str, Any]], node: str) -> str:
    return next((str(one["name"]) for one in gateways if one["node"] == node), _("this gateway"))


def _active(status: dict[str, Any]) -> str:
    """Return the name of the active gateway."""
    peer = status["peer"]
    return str(peer["name"] if peer and status["node"]["role"] != "active" else status["node"]["name"])


def _row_id(text: str | None) -> int:
    if not (text and text.isascii() and text.isdigit() and len(text) < 19 and int(text)):
        raise RequestRefused(_("There is no such row in quarantine."), _("Look at the list again."))
    return int(text)


def _row_ids(texts: list[str]) -> list[int]:
    if not 0 < len(texts) <= 1000:
        raise RequestRefused(_("No row was chosen."), _("Tick the rows, then press the button again."))
    return [_row_id(text) for text in texts]


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
