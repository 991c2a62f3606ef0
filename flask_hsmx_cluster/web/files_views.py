"""The page *Files*: how both gateways' files stand, and the deletions that wait for a person."""

from __future__ import annotations

from flask import Blueprint, flash, redirect, url_for

from ..translate import gettext as _
from . import forms
from .access import needs
from .pages import FLASH, Answer, call, demand, page


def register(blueprint: Blueprint) -> None:
    """Add the actions."""
    blueprint.add_url_rule("/files", "files", files, methods=["GET"])
    blueprint.add_url_rule("/files/sync", "sync_files", sync_files, methods=["POST"])
    blueprint.add_url_rule("/files/<name>/allow", "allow_deletions", allow_deletions, methods=["POST"])


@needs("view")
def files() -> Answer:
    """Show them."""
    return page("files", status=call("status"))


@needs("administer")
def sync_files() -> Answer:
    """Look at all files now."""
    demand(forms.ActionForm())
    call("files_sync")
    flash(_("All files are looked at now."), FLASH)
    return redirect(url_for(".files"), 303)


@needs("administer")
def allow_deletions(name: str) -> Answer:
    """Let the deletions be done that wait."""
    demand(forms.ActionForm())
    answer = call("files_allow", tree=name)
    flash(_("%(n)s deletions are done now.", n=f"{answer['allowed']:,}"), FLASH)
    return redirect(url_for(".files"), 303)
