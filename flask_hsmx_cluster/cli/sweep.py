"""The commands that decide on quarantined changes, one or many, and on what was put aside."""

from __future__ import annotations

import sys
import time
from functools import partial

import click

from ..errors import DataConflict, RequestRefused
from ..translate import gettext as _
from ..translate import ngettext
from ..words import aside as aside_words
from ..words import quarantine as quarantine_words
from .base import Function, Json, call, command, print_json, say
from .data import database
from .quarantine import node_of, on_gateway, print_lines

#: How often the state of what is under way is asked for, s.
LOOK_EVERY_S = 0.5


def _many(function: Function) -> Function:
    """Add the options that choose many rows."""
    for option in (
        click.option("--yes", is_flag=True, help="Do not ask."),
        click.option("--rejoin", default="", metavar="BATCH", help="All that was kept at one rejoin."),
        click.option("--table", default="", help="All of this table."),
        click.option("--all", "everything", is_flag=True, help="All there are."),
    ):
        function = option(function)
    return function


@partial(command, group=database)
@click.argument("row_ids", type=click.IntRange(min=1), nargs=-1)
@click.option("--overwrite", is_flag=True, help="Also where the row has been changed meanwhile; of one row only.")
@_many
@on_gateway
def reapply(
    row_ids: tuple[int, ...], overwrite: bool, everything: bool, table: str, rejoin: str, yes: bool, name: str,
    as_json: bool,
) -> None:
    """Make changes of the quarantine on the active gateway. Ends with 1 if some do not fit."""
    if len(row_ids) != 1:
        if overwrite:
            raise RequestRefused(_("Only one row at a time is overwritten."), _("Name one row."))
        return _sweep("reapply", row_ids, everything, table, rejoin, yes, name, as_json)
    try:
        found = call("reapply", row_id=row_ids[0], overwrite=overwrite, node=node_of(name))
    except DataConflict as error:
        if not as_json:
            print_lines(quarantine_words.conflict(error), _("quarantined"), _("present"), err=True)
        raise
    if as_json:
        return print_json(found)
    say(_("It is made."))
    return None


@partial(command, group=database)
@click.argument("row_ids", type=click.IntRange(min=1), nargs=-1)
@_many
@on_gateway
def discard(
    row_ids: tuple[int, ...], everything: bool, table: str, rejoin: str, yes: bool, name: str, as_json: bool
) -> None:
    """Take changes of the quarantine off the list; they stay in the table, marked."""
    if not row_ids:
        return _sweep("discard", row_ids, everything, table, rejoin, yes, name, as_json)
    found = call("discard", ids=list(row_ids), node=node_of(name))
    if as_json:
        return print_json(found)
    say(ngettext("1 row is discarded.", "%(n)s rows are discarded.", found["discarded"]))
    return None


@partial(command, group=database)
@click.argument("row_ids", type=click.IntRange(min=1), nargs=-1)
@_many
@on_gateway
def restore(
    row_ids: tuple[int, ...], everything: bool, table: str, rejoin: str, yes: bool, name: str, as_json: bool
) -> None:
    """Put discarded changes back on the list of what waits."""
    _sweep("restore", row_ids, everything, table, rejoin, yes, name, as_json)


def _sweep(
    action: str, row_ids: tuple[int, ...], everything: bool, table: str, rejoin: str, yes: bool, name: str,
    as_json: bool,
) -> None:
    node = node_of(name)
    if row_ids:
        found = call("sweep", action=action, ids=list(row_ids), node=node)
    elif everything or table or rejoin:
        deed = quarantine_words.deeds()[action]
        listed = call("quarantine", node=node, table=table, batch=rejoin, state=deed.state, limit=1)
        if not listed["total"]:
            raise RequestRefused(_("There is no such row in quarantine."), _("Look at the list again."))
        if not yes:
            say(deed.effect, err=True)
            click.confirm(deed.question % {"what": quarantine_words.changes(listed["total"])}, abort=True, err=True)
        found = call("sweep", action=action, upto=listed["newest"], node=node, table=table, batch=rejoin)
    else:
        raise RequestRefused(_("No row was chosen."), _("Name rows, or say --table, --rejoin or --all."))
    while found["under_way"]:
        if not as_json:
            say(quarantine_words.sweep(found).text, err=True)
        time.sleep(LOOK_EVERY_S)
        found = call("swept", node=node)
    _print_swept(found, as_json)
    if found["error"] or found["unfit"]:
        sys.exit(1)


def _print_swept(found: Json, as_json: bool) -> None:
    if as_json:
        return print_json(found)
    say(quarantine_words.swept(found))
    for one in found["reasons"]:
        say(f"  {quarantine_words.reason(one['kind'])}: {one['rows']:,}; {one['id']}: {one['example']}")
    if found["error"]:
        say(_("Then it failed: %(why)s", why=f"{found['error']} {found['remedy']}".rstrip()), err=True)
    return None


@partial(command, group=database)
@click.option("--delete", "delete", default="", metavar="NAME", help="Delete this set; it is gone then.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@on_gateway
def aside(delete: str, yes: bool, name: str, as_json: bool) -> None:
    """List what was put aside before this gateway became a copy of the other one, or delete a part of it."""
    node = node_of(name)
    found = call("aside", node=node)
    if delete:
        kept = next((one for one in found["sets"] if one["name"] == delete), None)
        if kept is None:
            raise RequestRefused(_("There is nothing put aside by that name."), _("Look at the list again."))
        if not yes:
            click.confirm(_("Delete %(what)s for good?", what=aside_words.amount(kept)), abort=True, err=True)
        gone = call("aside_delete", name=delete, node=node)
        return print_json(gone) if as_json else say(_("It is deleted: %(what)s.", what=aside_words.amount(gone)))
    if as_json:
        return print_json(found)
    if not found["sets"]:
        say(_("Nothing is put aside."))
    for kept in found["sets"]:
        say(f"{kept['name']}: {aside_words.title(kept)}: {aside_words.amount(kept)}")
        for one in kept["listed"]:
            say(f"  {aside_words.look_command(found['database'], kept['name'], one['copy'])}")
        say(f"  {aside_words.dump_command(found['database'], kept['name'])}")
    return None
