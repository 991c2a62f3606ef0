"""What the commands share: their group, ``--json``, how errors and findings are told, and typed options."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click
from flask.cli import AppGroup

from ..editing import fields
from ..errors import ChecksFailed, ClusterError, Finding
from ..extension import state
from ..settings import model as settings
from ..settings import rules
from ..translate import gettext as _
from ..words import cluster as words

Json = dict[str, Any]
Function = TypeVar("Function", bound=Callable[..., Any])

cluster = AppGroup("cluster", help="Run this gateway in a high-availability cluster.")


class Command(click.Command):
    """A command whose errors are told to people, not thrown at them."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ClusterError as error:
            if ctx.params.get("as_json"):
                print_json({"error": error.as_dict()})
            complain(error)
            ctx.exit(1)


def command(function: Callable[..., Any], group: click.Group = cluster) -> click.Command:
    """Make a command with the option ``--json`` out of a function."""
    name = function.__name__.strip("_").replace("_", "-")
    option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    return group.command(name, cls=Command)(option(function))


def say(text: str, *, err: bool = False) -> None:
    """Print a line."""
    click.echo(words.visible(text), err=err)


def complain(error: ClusterError) -> None:
    say(f"Error: {error.message}", err=True)
    if isinstance(error, ChecksFailed):
        for finding in error.findings:
            print_finding(finding, err=True)
    elif error.remedy:
        say(error.remedy, err=True)


def print_finding(finding: Finding, *, err: bool = False) -> None:
    where = f" [{finding.field}]" if finding.field else ""
    say(f"  {'✕' if finding.blocking else '!'} {finding.text}{where}", err=err)
    if finding.remedy:
        say(f"    {finding.remedy}", err=err)


def print_json(data: Json) -> None:
    for line in json.dumps(data, indent=2, ensure_ascii=False).split("\n"):
        say(line)  # its escapes are JSON's, too


def call(verb: str, **arguments: Any) -> Json:
    return state().call(verb, **arguments)


class Typed(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """An option whose text is read by a function of ``fields``."""

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        self.name = name
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._read(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


END = Typed("ADDRESS/PREFIX@PORT", fields.end)


def ends(function: Function) -> Function:
    """Add the options that name this gateway's own ends."""
    for name, required, text in (
        ("--service", False, "Own address in the guests' network."),
        ("--backup", False, "Own address on the backup interface."),
        ("--sync", True, "Own address on the cable between the gateways."),
    ):
        function = click.option(name, type=END, required=required, help=text)(function)
    return function


def save(held: Json, wanted: Json, as_json: bool) -> None:
    """Check settings in dict form, propose them to the agent, and say what became of them.

    :param held: the agent's answer to ``settings``, on which they are based.
    """
    answer = propose(held, wanted)
    if as_json:
        return print_json(answer)
    say(_("Saved as revision %(n)s.", n=answer["revision"]))
    if not answer["delivered"] and len(wanted["nodes"]) > 1:
        say(_("The other gateway is not reachable: it gets this as soon as it is."))
    if answer["unprobed"]:
        say(words.unprobed(answer["unprobed"]))
    return None


def propose(held: Json, wanted: Json) -> Json:
    """Check settings in dict form, propose them to the agent, and return its answer."""
    checked(wanted, held["node_id"])
    return call("propose", settings=wanted, base_revision=held["revision"])


def checked(wanted: Json, node_id: str) -> None:
    """Raise if the settings make no sense; the agent checks them again."""
    findings = rules.check(settings.from_dict(wanted), {node_id: call("ports")["ports"]})
    if any(finding.blocking for finding in findings):
        raise ChecksFailed(findings)
