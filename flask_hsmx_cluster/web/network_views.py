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
    "advertise": network_forms.AdvertiseForm,
    "alias": network_forms.AliasForm,
    "list": network_forms.AliasListForm,
    "route": network_forms.RouteForm,
}


def register(blueprint: Blueprint) -> None:
    """Add the page."""
    for path, view, method in (
        ("/networks", networks, "GET"),
        ("/networks/add/<kind>", add_network, "POST"),
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
    """Add a network, an alias, a list of aliases, or a route; or change a network's router advertisements."""
    held = call("settings")
    if not held["formed"] or kind not in _FORMS:
        return redirect(url_for(".index"))
    form = _FORMS[kind](prefix=f"{kind}-")
    if form.base_revision.data != str(held["revision"]):
        form.base_revision.data = str(held["revision"])
        form.attach([_overtaken()])
        return _networks_page(held, 409, **{kind: form})
    wanted = form.typed(held["settings"]) if form.validate_on_submit() else None
    if wanted is None:
        return _networks_page(held, 422, **{kind: form})
    try:
        if form.attach(rules.check(settings.from_dict(wanted), {held["node_id"]: pages.ports()})):
            return _networks_page(held, 422, **{kind: form})
        answer = call("propose", settings=wanted, base_revision=held["revision"])
    except AgentUnavailable:
        raise
    except ChecksFailed as error:
        form.attach(error.findings)
        return _networks_page(held, 422, **{kind: form})
    except ClusterError as error:
        form.attach([Finding(error.code, error.message, error.remedy)])
        return _networks_page(held, http_status(error), **{kind: form})
    for findings in form.findings.values():
        for finding in findings:  # what does not stop it is worth knowing all the same
            flash(f"{finding.text} {finding.remedy}".strip(), FLASH)
    say_saved(answer, len(wanted["nodes"]) > 1)
    return redirect(url_for(".networks"), 303)


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


def _overtaken() -> Finding:
    return Finding(
        "overtaken", _("Somebody saved other settings meanwhile."), _("Look at the list, and press the button again."))


def _networks_page(held: dict[str, Any], code: int = 200, **forms: network_forms._NetworkForm) -> tuple[str, int]:
    text = request.args.get("filter", "")[:64]
    found = network_lists.entries(held["settings"], text)
    last = max(0, (len(found) - 1) // PAGE)
    number = min(max(request.args.get("page", 0, type=int), 0), last)
    ports = pages.ports()
    for kind, make in _FORMS.items():
        form = forms.setdefault(
            kind, make(formdata=None, prefix=f"{kind}-", data={"base_revision": str(held["revision"])}))
        form.offer(ports, held["settings"])
    advertises = any(one.get("advertise") for one in held["settings"].get("networks", []))
    counts = {key: len(held["settings"].get(key, [])) for key in ("networks", "aliases", "routes")}
    page = pages.page(
        "networks", held=held, forms=forms, opened=next((kind for kind in forms if forms[kind].errors
        or forms[kind].findings), ""), entries=found[number * PAGE : (number + 1) * PAGE], found=len(found),
        counts=counts, filter=text, number=number, last=last, title=network_forms.title, advertising=advertising,
        advertised={one["port"]: one for one in call("status")["router_advertisements"]} if advertises else {},
        remove=network_forms.RemoveForm(formdata=None, data={"base_revision": str(held["revision"])}),
    )
    return page, code
