"""The commands about what one gateway has and the other one may not: compare, list, export, make again, watch."""

from __future__ import annotations

import sys
import time
from functools import partial

import click

from ..errors import AgentUnavailable, RequestRefused
from ..extension import state as extension
from ..signals import event_recorded
from ..translate import gettext as _
from ..words import cluster as words
from ..words import quarantine as quarantine_words
from .base import Command, Function, Json, call, cluster, command, print_json, say
from .data import database

#: How often the state of a comparison is asked for, s.
VERIFY_LOOK_EVERY_S = 0.5
#: How often new events are asked for, s.
WATCH_EVERY_S = 2.0


@command
def verify(as_json: bool) -> None:
    """Compare the shared tables of both gateways, while writes go on. Ends with 1 if they differ."""
    found = call("verify")
    while found["under_way"]:
        if found["progress"] and not as_json:
            say(quarantine_words.progress(found).text, err=True)
        time.sleep(VERIFY_LOOK_EVERY_S)
        found = call("verified")
    if found["error"]:
        raise RequestRefused(found["error"], _("See whether both databases run."))
    result = found["result"]
    if as_json:
        print_json(result)
    else:
        for one in result["tables"]:
            if one["equal"] and quarantine_words.own(one):
                continue
            keys = "; ".join(",".join(key) for key in one["differing"])
            say(f"{'=' if one['equal'] else '≠'} {one['table']}: {one['rows']} {keys}".rstrip())
        say(_("Both gateways have the same data.") if result["equal"] else _("The data differs."))
    if not result["equal"]:
        sys.exit(1)


def on_gateway(function: Function) -> Function:
    """Add the option that names the gateway on which the rows lie."""
    text = "Name of the gateway on which they lie. Default: this one."
    return click.option("--on", "name", default="", metavar="GATEWAY", help=text)(function)


def node_of(name: str) -> str:
    """Return the id of a gateway by its name; empty for this one.

    :raises RequestRefused: no gateway is called so.
    """
    if not name:
        return ""
    for node in (call("settings")["settings"] or {"nodes": []})["nodes"]:
        if name in (node["name"], node["node_id"]):
            return str(node["node_id"])
    raise RequestRefused(_("No gateway is called %(name)s.", name=name), _("Look at `flask cluster status`."))


@partial(command, group=database)
@click.option("--after", type=click.IntRange(min=0), default=0, help="Begin after this row.")
@click.option("--table", default="", help="Only rows of this table.")
@click.option("--state", type=click.Choice(["kept", "reapplied", "discarded", "all"]), default="kept")
@click.option("--row", type=click.IntRange(min=1), help="Show one row with its values.")
@click.option("--rejoin", default="", metavar="BATCH", help="Only what was kept at one rejoin.")
@click.option("--export", type=click.Choice(["csv", "json"]), help="Print all rows in this form.")
@on_gateway
def quarantine(
    after: int, table: str, state: str, row: int | None, rejoin: str, export: str | None, name: str, as_json: bool
) -> None:
    """List what this gateway wrote and the other one never had."""
    node = node_of(name)
    if row is not None:
        found = call("quarantine_row", row_id=row, node=node)
        return print_json(found) if as_json else _print_row(found)

    def ask(after: int, whole: bool = False) -> Json:
        wanted = "" if state == "all" else state
        return call("quarantine", after=after, node=node, table=table, state=wanted, batch=rejoin, whole=whole)

    def piece(row_id: int, which: str, column: str, offset: int) -> Json:
        return call("quarantine_value", row_id=row_id, which=which, column=column, offset=offset, node=node)

    if export is not None:
        write = quarantine_words.as_csv if export == "csv" else quarantine_words.as_json
        rows = quarantine_words.every_row(lambda after: ask(after, True), ask(0, True), piece)
        for line in write(rows):
            click.echo(line, nl=False)
        return None
    found = ask(after)
    if as_json:
        return print_json(found)
    for one in found["rows"]:
        say(f"{one['id']}: {one['text']}")
    say(quarantine_words.count(found["waiting"]))
    for one in found["batches"]:
        say(_("Kept at %(at)s: %(n)s, --rejoin %(batch)s", at=quarantine_words.moment(one["kept_at"]), n=one["rows"],
              batch=one["batch"]))
    if found["after"] is not None:
        say(_("There are more: --after %(id)s", id=found["after"]))
    for one in (call("status")["data"] or {}).get("quarantine", ()):
        if one["waiting"] and one["node"] != found["node"]:
            say(_("%(n)s on %(name)s: --on %(name)s", n=one["waiting"], name=one["name"]))
    return None


def _print_row(row: Json) -> None:
    say(f"{row['id']}: {row['text']} ({quarantine_words.state(row['state'])})")
    print_lines(quarantine_words.lines(row), _("before"), _("after"))


def print_lines(lines: list[quarantine_words.Line], left: str, right: str, *, err: bool = False) -> None:
    for line in lines:
        sign = "≠" if line.differs else " "
        say(f"  {sign} {line.column}: {left} {line.cells[0]} | {right} {line.cells[1]}", err=err)


@cluster.command("watch", cls=Command)
@click.option("--after", type=click.IntRange(min=0), help="Begin behind this event. Default: with new ones.")
@click.option("--once", is_flag=True, help="Print where to go on, and end.")
def watch(after: int | None, once: bool) -> None:
    """Print events as they happen, and send the host's signals for them. Runs until it is stopped."""
    def show(_sender: object, **event: object) -> None:
        say(f"{event['at']} {words.event_kind(str(event['kind']))}: {event['text']}")

    with event_recorded.connected_to(show):
        while True:
            try:
                after = extension().send_events(after)
            except AgentUnavailable:
                if once:
                    raise
            if once:
                return say(str(after))
            time.sleep(WATCH_EVERY_S)
