"""The page *Certificates and upgrades*: both gateways side by side, and the guide through a renewal."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, flash, redirect, render_template, request, url_for

from ..extension import state
from ..translate import gettext as _
from ..words import cluster as words
from ..words import renewal as renewal_words
from . import forms
from .access import needs
from .pages import FLASH, Answer, call, demand, page


def register(blueprint: Blueprint) -> None:
    """Add the page and its actions."""
    for path, view, method in (
        ("", renewal, "GET"),
        ("/live", renewal_live, "GET"),
        ("/look", renewal_look, "POST"),
        ("/begin", renewal_begin, "POST"),
        ("/end", renewal_end, "POST"),
        ("/failover", renewal_failover_page, "GET"),
        ("/failover", renewal_failover, "POST"),
    ):
        blueprint.add_url_rule(f"/renewal{path}", view.__name__, view, methods=[method])


@needs("view")
def renewal() -> Answer:
    """Show it."""
    return page("renewal", **_context())


@needs("view")
def renewal_live() -> Answer:
    """Return the part of the page that changes by itself."""
    return render_template("hsmx_cluster/_renewal.html", **_context())


def _context() -> dict[str, Any]:
    status = call("status")
    return {"status": status, "told": status["renewal"], "say": renewal_words, "may": state().allows("administer")}


@needs("view")
def renewal_look() -> Answer:
    """Have both gateways look at their certificates now."""
    demand(forms.ActionForm())
    call("renewal_look")
    flash(_("Both gateways have looked at their certificates just now."), FLASH)
    return redirect(url_for(".renewal"), 303)


@needs("administer")
def renewal_begin() -> Answer:
    """Begin a renewal."""
    demand(forms.ActionForm())
    call("renewal_begin", kind=request.form.get("kind", ""))
    return redirect(url_for(".renewal"), 303)


@needs("administer")
def renewal_end() -> Answer:
    """End the renewal that is under way."""
    demand(forms.ActionForm())
    call("renewal_end")
    flash(_("The renewal is ended. Nothing else was changed."), FLASH)
    return redirect(url_for(".renewal"), 303)


@needs("administer")
def renewal_failover_page() -> Answer:
    """Say what the fail-over will do."""
    return page("renewal_failover", status=call("status"))


@needs("administer")
def renewal_failover() -> Answer:
    """Fail over, and go on with the guide."""
    demand(forms.ActionForm())
    answer = call("failover")
    flash(_("%(name)s is active now. It took %(time)s.", name=answer["to"],
            time=words.milliseconds(answer["took_ms"])), FLASH)  # fmt: skip
    return redirect(url_for(".renewal"), 303)
