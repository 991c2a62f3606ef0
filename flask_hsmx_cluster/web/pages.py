"""What every page does: ask the agent, demand a fresh form, be drawn with the status around it."""

from __future__ import annotations

from typing import Any

from flask import flash, render_template
from werkzeug.wrappers import Response as BaseResponse

from ..errors import RequestRefused
from ..extension import state
from ..translate import gettext as _
from ..words import arbiter as arbiter_words
from ..words import cluster as words
from ..words import data as data_words
from ..words import files as files_words
from ..words import preference as preference_words
from ..words import renewal as renewal_words
from ..words import services as services_words
from ..words import take_over as take_over_words
from . import forms
from .diagram import describe, diagram

#: Category of the extension's flashed messages.
FLASH = "hsmx-cluster"

Answer = str | BaseResponse | tuple[str, int]


def call(verb: str, **arguments: Any) -> dict[str, Any]:
    """Call the agent.

    :raises ClusterError: what it answered.
    """
    return state().call(verb, **arguments)


def demand(form: Any) -> None:
    """Raise unless a form without fields to correct is in order: its token is missing or old."""
    if not form.validate_on_submit():
        raise RequestRefused(
            _("Nothing was done: the page was open for too long, or the request came from elsewhere."),
            _("Go back, and press the button again."),
        )


def status_context(status: dict[str, Any]) -> dict[str, Any]:
    """Return what the parts of a page that show the status need."""
    return {
        "status": status, "drawing": diagram(status), "drawing_text": describe(status),
        "data": data_words.describe(status), "services": services_words.describe(status),
        "preference": preference_words.describe(status), "files": files_words.describe(status),
        "renewal": renewal_words.summary(status["renewal"]),
        "arbiter": arbiter_words.describe(status),
        "may": state().allows("administer"),
        "may_take_over": (possible := take_over_words.possible(status)),
        "take_over_plan": take_over_words.plan(status) if possible else [],
    }


def page(template: str, /, **context: Any) -> str:
    """Return a page."""
    if context.get("status"):
        context = {**status_context(context["status"]), **context}
    context.setdefault("may", state().allows("administer"))
    context.setdefault("actions", _action_forms())
    return render_template(f"hsmx_cluster/{template}.html", **context)


def say_saved(answer: dict[str, Any], paired: bool) -> None:
    """Flash what became of settings that were proposed.

    :param paired: there is another gateway that is to get them.
    """
    if not paired:
        text = _("Saved as revision %(n)s.", n=answer["revision"])
    elif answer["delivered"]:
        text = _("Saved as revision %(n)s and in force on both gateways.", n=answer["revision"])
    else:
        text = _("Saved as revision %(n)s. The other gateway is not reachable: it gets this as soon as it is.",
                 n=answer["revision"])
    flash(text, FLASH)
    if answer["unprobed"]:
        flash(words.unprobed(answer["unprobed"]), FLASH)


def ports() -> list[dict[str, Any]]:
    """Return this gateway's network ports."""
    found: list[dict[str, Any]] = call("ports")["ports"]
    return found


def _action_forms() -> dict[str, Any]:
    """Return the small forms behind the buttons."""
    return {
        "plain": forms.ActionForm(formdata=None), "maintenance": forms.MaintenanceForm(formdata=None),
        "leave": forms.LeaveForm(formdata=None),
    }
