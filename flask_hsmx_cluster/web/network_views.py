"""The page *IP aliases and networks*: what lives on the active gateway only, beside the virtual IPs."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, flash, redirect, request, url_for

from ..editing import networks as network_lists
from ..errors import AgentUnavailable, ChecksFailed, ClusterError, Finding, RequestRefused
from ..settings import model as settings
from ..settings import rules
from ..translate import gettext as _
from ..words import advertising
from . import network_forms, pages
from .access import needs
from .answers import http_status
from .pages import FLASH, Answer, call, demand, say_saved

#: Rows of a page.
PAGE = 100

_FORMS: dict[str, type[network_forms._NetworkForm]] = {
    "network": network_forms.NetworkForm,
    "alias": network_forms.AliasForm,
    "list": network_forms.AliasListForm,
    "route": network_forms.RouteForm,
}

#: Forms by which an entry is changed, by its key.
_CHANGED = {"networks": "network", "aliases": "alias"}


def register(blueprint: Blueprint) -> None:
    """Add the page."""
    for path, view, method in (
        ("/networks", networks, "GET"),
        ("/networks/add/<kind>", add_network, "POST"),
        ("/networks/<any(network, alias):kind>/<name>", edit_network, "GET"),
        ("/networks/<any(network, alias):kind>/<name>", change_network, "POST"),
        ("/networks/remove", remove_networks, "POST"),
    ):
        blueprint.add_url_rule(path, view.__name__, view, methods=[method])


@needs("view")
def networks() -> Answer:
    """Show them, a hundred at a time."""
    held = call("settings")
    return _networks_page(held) if held["formed"] else redirect(url_for(".index"))


@needs("administer")
def add_network(kind: str) -> Answer:
    """Add a network, an alias, a list of aliases, or a route."""
    held = call("settings")
    if not held["formed"] or kind not in _FORMS:
        return redirect(url_for(".index"))
    form = _FORMS[kind](prefix=f"{kind}-")
    code = _save(form, held)
    return redirect(url_for(".networks"), 303) if code is None else _networks_page(held, code, **{kind: form})


@needs("administer")
def edit_network(kind: str, name: str) -> Answer:
    """Show a network or an alias to be changed."""
    held = call("settings")
    if not held["formed"]:
        return redirect(url_for(".index"))
    one = network_lists.named(held["settings"], _FORMS[kind].key, name)
    data = {
        "address": one.address, "port": one.port, "name": one.words, "note": one.words, "advertise": one.advertise,
        "dns": one.dns, "base_revision": str(held["revision"]),
    }
    return _edit_page(kind, one, _FORMS[kind](formdata=None, prefix=f"{kind}-", data=data))


@needs("administer")
def change_network(kind: str, name: str) -> Answer:
    """Change a network or an alias."""
    held = call("settings")
    if not held["formed"]:
        return redirect(url_for(".index"))
    one = network_lists.named(held["settings"], _FORMS[kind].key, name)
    form = _FORMS[kind](prefix=f"{kind}-")
    form.entry = name
    code = _save(form, held)
    return redirect(url_for(".networks"), 303) if code is None else _edit_page(kind, one, form, code)


@needs("administer")
def remove_networks() -> Answer:
    """Remove what was ticked."""
    form = network_forms.RemoveForm()
    demand(form)
    held, names = call("settings"), request.form.getlist("names")[: 2 * PAGE]
    if not held["formed"]:
        return redirect(url_for(".index"), 303)
    if not names:
        raise RequestRefused(_("Nothing was ticked."), _("Go back, and tick what shall be removed."))
    if form.base_revision.data != str(held["revision"]):
        raise RequestRefused(_overtaken().text, _overtaken().remedy)
    answer = call("propose", settings=network_lists.removed(held["settings"], names), base_revision=held["revision"])
    say_saved(answer, len(held["settings"]["nodes"]) > 1)
    return redirect(url_for(".networks"), 303)


def _save(form: network_forms._NetworkForm, held: dict[str, Any]) -> int | None:
    """Save what was typed. Returns None, or the status of the page that shows what is wrong with it."""
    if form.base_revision.data != str(held["revision"]):
        form.base_revision.data = str(held["revision"])
        form.attach([_overtaken()])
        return 409
    wanted = form.typed(held["settings"]) if form.validate_on_submit() else None
    if wanted is None:
        return 422
    try:
        if form.attach(rules.check(settings.from_dict(wanted), {held["node_id"]: pages.ports()})):
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


def _edit_page(
    kind: str, one: network_lists.Entry, form: network_forms._NetworkForm, code: int = 200
) -> tuple[str, int]:
    form.port.suggest(pages.ports())
    return pages.page("network_edit", kind=kind, one=one, form=form), code


def _networks_page(held: dict[str, Any], code: int = 200, **forms: network_forms._NetworkForm) -> tuple[str, int]:
    text = request.args.get("filter", "")[:64]
    found = network_lists.entries(held["settings"], text)
    last = max(0, (len(found) - 1) // PAGE)
    number = min(max(request.args.get("page", 0, type=int), 0), last)
    ports = pages.ports()
    for kind, make in _FORMS.items():
        form = forms.setdefault(
            kind, make(formdata=None, prefix=f"{kind}-", data={"base_revision": str(held["revision"])}))
        form.port.suggest(ports)
    advertises = any(one.get("advertise") for one in held["settings"].get("networks", []))
    counts = {key: len(held["settings"].get(key, [])) for key in ("networks", "aliases", "routes")}
    page = pages.page(
        "networks", held=held, forms=forms, opened=next((kind for kind in forms if forms[kind].errors
        or forms[kind].findings), ""), entries=found[number * PAGE : (number + 1) * PAGE], found=len(found),
        counts=counts, filter=text, number=number, last=last, title=network_forms.title, kinds=_CHANGED,
        advertising=advertising,
        advertised={one["port"]: one for one in call("status")["router_advertisements"]} if advertises else {},
        remove=network_forms.RemoveForm(formdata=None, data={"base_revision": str(held["revision"])}),
    )
    return page, code
