"""The pages for people. Each works without JavaScript."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, flash, jsonify, make_response, redirect, render_template, request, url_for

from ..editing import fields
from ..editing import networks as network_lists
from ..errors import AgentUnavailable, ChecksFailed, ClusterError, Finding, PairingFailed
from ..extension import state
from ..settings import model as settings
from ..settings import rules
from ..translate import gettext as _
from ..words import cluster as words
from . import forms, interface_views, pages
from .access import needs
from .answers import http_status, json_error, wants_json
from .form_fields import Ports
from .pages import FLASH, Answer, call, demand, page, say_saved, status_context
from .proposal import proposed_port

#: Parts of the status that the page renews every second, each a template in ``parts/``.
PARTS = (
    "headline", "alarms", "diagram", "readiness", "virtual_ips", "paths", "data", "files", "services", "actions",
    "notices", "inside", "plan_failover", "plan_maintenance", "plan_leave",
)

def register(blueprint: Blueprint) -> None:
    """Add the pages."""
    for path, view, method in (
        ("/", index, "GET"),
        ("/", save, "POST"),
        ("/status.json", status_json, "GET"),
        ("/peer-ports", peer_ports, "GET"),
        ("/events", events, "GET"),
        ("/coverage", coverage, "GET"),
        ("/create", create_page, "GET"),
        ("/create", create, "POST"),
        ("/join", join_page, "GET"),
        ("/join", join, "POST"),
        ("/pairing-code", pairing_code, "POST"),
        ("/failover", failover_page, "GET"),
        ("/failover", failover, "POST"),
        ("/maintenance", maintenance_page, "GET"),
        ("/maintenance", maintenance, "POST"),
        ("/leave", leave_page, "GET"),
        ("/leave", leave, "POST"),
        ("/replace", replace_page, "GET"),
        ("/replace", replace, "POST"),
        ("/conflict", conflict_page, "GET"),
        ("/conflict", resolve_conflict, "POST"),
    ):
        blueprint.add_url_rule(path, view.__name__, view, methods=[method])
    blueprint.register_error_handler(ClusterError, problem)


def problem(error: ClusterError) -> Answer:
    """Show what the agent refused, or that it does not run."""
    if wants_json():
        return json_error(error)
    findings = error.findings if isinstance(error, ChecksFailed) else []
    absent = isinstance(error, AgentUnavailable)
    return page("agent_absent" if absent else "problem", error=error, findings=findings), http_status(error)


# ---- the settings page ----


@needs("view")
def index() -> Answer:
    """Show the state of the cluster, and its settings."""
    status = call("status")
    if status["cluster"] is None:
        return page("unformed", status=status)
    held, ports = call("settings"), pages.ports()
    data = forms.form_data(held["settings"], held["node_id"], held["revision"])
    form = forms.SettingsForm(formdata=None, data={**data, **interface_views.rows(held, ports)})
    return _settings_page(form, status, held, look="read_back" in request.args)


@needs("administer")
def save() -> Answer:
    """Save the settings, or do what another button of the form says."""
    held = call("settings")
    if not held["formed"]:
        return redirect(url_for(".index"))
    status, ports = call("status"), pages.ports()
    form = forms.SettingsForm()
    turned = form.turn_to(held["node_id"])
    form.offer(ports, own_id=held["node_id"], peer_id=_peer_id(held))
    if turned:
        form.attach([Finding(
            "other_gateway",
            _("%(name)s answers here now; it was the other gateway when this page was opened.",
              name=status["node"]["name"]),
            _("The two columns are swapped accordingly. Look at them, and save again."))])
        return _settings_page(form, status, held, code=409)
    if request.form.get("action") == "fetch":
        return _settings_page(form, status, held, unmatched=_fetch_into(form, ports))
    if request.form.get("action") == "fetch_interfaces":
        return _settings_page(form, status, held, interface_notes=interface_views.fetch_into(form, held))
    if request.form.get("action") == "read_back":
        return _settings_page(form, status, held, look=True)
    if not form.validate_on_submit():
        return _settings_page(form, status, held, code=422)
    if not form.enabled.data:
        return redirect(url_for(".leave_page"))
    if form.base_revision.data != str(held["revision"]):
        return _settings_page(form, status, held, code=409, overtaken=_overtaken(form, held))
    wanted = _typed_settings(form, held, ports)
    try:
        if form.attach(rules.check(settings.from_dict(wanted), {held["node_id"]: ports})):
            return _settings_page(form, status, held, code=422)
        if request.form.get("action") == "check":
            return _settings_page(form, status, held, checklist=_preflight(form, wanted))
        answer = call("propose", settings=wanted, base_revision=held["revision"])
    except ChecksFailed as error:
        form.attach(error.findings)
        return _settings_page(form, status, held, code=422)
    except AgentUnavailable:
        raise
    except ClusterError as error:
        form.attach([Finding(error.code, error.message, error.remedy)])
        return _settings_page(form, status, held, code=http_status(error))
    say_saved(answer, bool(form.peer_id))
    if wanted.get("interfaces") != held["settings"].get("interfaces"):  # then say what the kernels have of it
        return redirect(url_for(".index", read_back=1, _anchor="hsmx-interfaces"), 303)
    return redirect(url_for(".index"), 303)


def _settings_page(
    form: forms.SettingsForm, status: dict[str, Any], held: dict[str, Any], code: int = 200, look: bool = False,
    **extra: Any,
) -> tuple[str, int]:
    ports = pages.ports()
    if not form.own_id:
        form.offer(ports, own_id=held["node_id"], peer_id=_peer_id(held))
    extra |= interface_views.around(held, ports, look=look)
    return page("settings", form=form, status=status, held=held, ports=ports, proposal=None, **extra), code


def _overtaken(form: forms.SettingsForm, held: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return what differs between the form and the settings that somebody saved meanwhile.

    The form is then based on the present revision: saving again is a decision made with open eyes.
    """
    form.base_revision.data = str(held["revision"])
    typed = _typed_settings(form, held, pages.ports())
    return words.compare(typed, held["settings"])


def _typed_settings(form: forms.SettingsForm, held: dict[str, Any], ports: Ports) -> dict[str, Any]:
    """Return what was typed, with what stands on another page."""
    present = held["settings"]
    return {
        **form.to_settings(present["cluster_id"], present["nodes"]), **network_lists.kept(present),
        **interface_views.stated(form, held, ports),
    }


def _fetch_into(form: forms.SettingsForm, ports: Ports) -> list[Finding]:
    """Fill the other column; return what could not be filled, in words."""
    try:
        theirs = call("peer_ports")["ports"]
    except ClusterError as error:
        return [Finding(error.code, error.message, error.remedy, blocking=False)]
    form.offer(ports, theirs, own_id=form.own_id, peer_id=form.peer_id)
    return [_unmatched(name) for name in form.fill_other(ports, theirs)]


def _unmatched(name: str) -> Finding:
    return Finding(
        "port_unmatched",
        _("%(port)s: the other gateway has no port of this name with one clear address.", port=name),
        _("Enter the other gateway's port and address by hand."), blocking=False,
    )


@needs("view")
def status_json() -> Answer:
    """Return the agent's status; with ``?parts=1`` also the pieces of the page that show it."""
    try:
        status = call("status")
    except AgentUnavailable as error:
        if "parts" not in request.args:
            return json_error(error)
        parts = dict.fromkeys(PARTS, "")
        parts["headline"] = render_template("hsmx_cluster/parts/absent.html", error=error)
        response: Response = jsonify(error=error.as_dict(), parts=parts, page="absent")
        response.status_code = 503
        return response
    if "parts" in request.args:
        formed = status["cluster"] is not None
        status["parts"] = _parts(status) if formed else {}
        status["page"] = "formed" if formed else "unformed"
    return jsonify(status)


def _parts(status: dict[str, Any]) -> dict[str, str]:
    context = status_context(status)
    return {name: render_template(f"hsmx_cluster/parts/{name}.html", **context) for name in PARTS}


@needs("view")
def peer_ports() -> Answer:
    """Return the other gateway's ports, matched by name with this gateway's.

    The query may name addresses of this gateway by port: those beside which the others are to stand.
    """
    theirs = call("peer_ports")
    ports = pages.ports()
    proposals = forms.match_ports(ports, theirs["ports"], request.args)
    names = {port["name"] for port in ports}
    return jsonify(
        node_name=theirs["node_name"],
        ports=theirs["ports"],
        matched={name: address for name, address in proposals.items() if address},
        unmatched={name: _unmatched(name).text for name, address in proposals.items() if not address},
        only_there=[port["name"] for port in theirs["ports"] if port["name"] not in names],
    )


@needs("view")
def events() -> Answer:
    """Show what happened, newest first, with the evidence."""
    before = request.args.get("before", None, type=int)
    found = call("events", limit=50, before=before)["events"]
    older = found[-1]["id"] if len(found) == 50 else None
    return page("events", events=found, before=before, older=older)


@needs("view")
def coverage() -> Answer:
    """Show what is shared of every table and field, and why."""
    return page("coverage", coverage=state().coverage())


# ---- forming ----


@needs("administer")
def create_page() -> Answer:
    """Ask for the settings of a new cluster."""
    if _formed():
        return redirect(url_for(".index"))
    ports = pages.ports()
    proposal = proposed_port(ports)
    data = {"vip0": {"port": proposal.port}} if proposal else {}
    return _create_page(forms.SettingsForm(formdata=None, data=data), ports)


@needs("administer")
def create() -> Answer:
    """Create a cluster, and show the code for the other gateway."""
    held = call("settings")
    if held["formed"]:
        return redirect(url_for(".index"))
    ports = pages.ports()
    form = forms.SettingsForm()
    form.offer(ports, own_id=held["node_id"])
    if not form.validate_on_submit():
        return _create_page(form, ports, 422)
    wanted = form.to_settings("", [{"node_id": held["node_id"], "name": call("status")["node"]["name"]}])
    try:
        if form.attach(rules.check(settings.from_dict(wanted), {held["node_id"]: ports})):
            return _create_page(form, ports, 422)
        if request.form.get("action") == "check":
            return _create_page(form, ports, checklist=_preflight(form, wanted))
        answer = call("create", settings=wanted)
    except ChecksFailed as error:
        form.attach(error.findings)
        return _create_page(form, ports, 422)
    except AgentUnavailable:
        raise
    except ClusterError as error:
        form.attach([Finding(error.code, error.message, error.remedy)])
        return _create_page(form, ports, http_status(error))
    return _pairing_page(answer)


def _create_page(form: forms.SettingsForm, ports: Ports, code: int = 200, **extra: Any) -> tuple[str, int]:
    if not form.own_id:
        form.offer(ports, own_id=call("settings")["node_id"])
    return page("create", form=form, ports=ports, proposal=proposed_port(ports), **extra), code


@needs("administer")
def pairing_code() -> Answer:
    """Show a new code for the other gateway."""
    demand(forms.ActionForm())
    return _pairing_page(call("pairing_code"))


def _pairing_page(answer: dict[str, Any]) -> Answer:
    """Show a pairing code. It is in this answer only: in no cookie, address or log."""
    response = make_response(page(
        "pairing", code=answer["code"], expires_in_s=int(answer["expires_in_s"]), address=_own_address()))
    response.headers["Cache-Control"] = "no-store"
    return response


def _own_address() -> str:
    """Return this gateway's synchronisation address, at which the other one will ask."""
    held = call("settings")
    for link in held["settings"]["links"]:
        if link["kind"] == "sync" and held["node_id"] in link["ends"]:
            return words.bare(link["ends"][held["node_id"]]["address"])
    return ""


@needs("administer")
def join_page() -> Answer:
    """Ask for the other gateway's address and code."""
    if _formed():
        return redirect(url_for(".index"))
    return _join_page(forms.JoinForm(formdata=None), pages.ports())


@needs("administer")
def join() -> Answer:
    """Join the other gateway's cluster."""
    ports = pages.ports()
    form = forms.JoinForm()
    form.offer(ports)
    if not form.validate_on_submit():
        return _join_page(form, ports, 422)
    if request.form.get("action") == "check":
        return _join_page(form, ports, checklist=_preflight(form, None))
    try:
        answer = call("join", address=fields.peer(form.address.data), code=form.code.data, ends=form.ends())
    except AgentUnavailable:
        raise
    except ChecksFailed as error:
        form.attach(error.findings)
        return _join_page(form, ports, 422)
    except ClusterError as error:
        field = "code" if isinstance(error, PairingFailed) else ""
        form.attach([Finding(error.code, error.message, error.remedy, field)])
        return _join_page(form, ports, http_status(error))
    flash(_("This gateway has joined the cluster of %(peer)s.", peer=answer["peer"]), FLASH)
    return redirect(url_for(".index"), 303)


def _join_page(form: forms.JoinForm, ports: Ports, code: int = 200, **extra: Any) -> tuple[str, int]:
    form.offer(ports)
    return page("join", form=form, ports=ports, **extra), code


def _preflight(form: forms.ClusterForm, wanted: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Ask the agent for its checks; attach its findings and return the checklist."""
    answer = call("preflight", settings=wanted)
    form.attach([Finding(**finding) for finding in answer["findings"]])
    checked: list[dict[str, Any]] = answer["checked"]
    return checked


# ---- actions: each says what it will do before it does it ----


@needs("administer")
def failover_page() -> Answer:
    """Say what a fail-over will do."""
    return page("failover", **status_context(call("status")))


@needs("administer")
def failover() -> Answer:
    """Fail over."""
    demand(forms.ActionForm())
    answer = call("failover")
    flash(_("%(name)s is active now. It took %(time)s.", name=answer["to"],
            time=words.milliseconds(answer["took_ms"])), FLASH)
    return redirect(url_for(".index"), 303)


@needs("administer")
def maintenance_page() -> Answer:
    """Say what maintenance will do."""
    return page("maintenance", **status_context(call("status")))


@needs("administer")
def maintenance() -> Answer:
    """Switch maintenance on or off."""
    form = forms.MaintenanceForm()
    demand(form)
    if form.on.data == "1":
        answer = call("maintenance", on=True, duration_s=int(form.duration_s.data))
        flash(_("Maintenance is on for %(time)s.", time=words.duration(answer["left_s"])), FLASH)
    else:
        call("maintenance", on=False)
        flash(_("Maintenance is off: this gateway takes over again if the other one fails."), FLASH)
    return redirect(url_for(".index"), 303)


@needs("administer")
def leave_page() -> Answer:
    """Say what leaving will do."""
    return page("leave", **status_context(call("status")))


@needs("administer")
def leave() -> Answer:
    """Leave the cluster."""
    form = forms.LeaveForm()
    demand(form)
    before = call("status")
    answer = call("leave", force=form.force.data)
    flash(words.left(before, answer["peer_informed"]), FLASH)
    return redirect(url_for(".index"), 303)


@needs("administer")
def replace_page() -> Answer:
    """Say what replacing the other gateway will do."""
    return page("replace", form=forms.ReplaceForm(formdata=None), **status_context(call("status")))


@needs("administer")
def replace() -> Answer:
    """Forget the other gateway, and show a code for the one that takes its place."""
    form = forms.ReplaceForm()
    if not form.validate_on_submit():
        return page("replace", form=form, **status_context(call("status"))), 422
    return _pairing_page(call("replace"))


@needs("view")
def conflict_page() -> Answer:
    """Show two revisions side by side."""
    held = call("settings")
    if held["conflict"] is None:
        return redirect(url_for(".index"))
    lines = words.compare(held["settings"], held["conflict"]["settings"])
    return page("conflict", held=held, theirs=held["conflict"], lines=lines, form=forms.ConflictForm(formdata=None))


@needs("administer")
def resolve_conflict() -> Answer:
    """Keep one of two revisions."""
    form = forms.ConflictForm()
    demand(form)
    answer = call("resolve_conflict", keep=form.keep.data)
    flash(_("Settled: revision %(n)s is in force.", n=answer["revision"]), FLASH)
    return redirect(url_for(".index"), 303)


# ---- shared ----


def _formed() -> bool:
    return bool(call("settings")["formed"])


def _peer_id(held: dict[str, Any]) -> str:
    return next((str(node["node_id"]) for node in held["settings"]["nodes"] if node["node_id"] != held["node_id"]), "")
