"""``flask cluster pppoe ...``: PPPoE connections, which are dialled on the active gateway only."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import click

from ..editing import pppoe as pppoe_edits
from ..errors import RequestRefused
from ..settings import pppoe
from ..translate import gettext as _
from .base import Json, call, cluster, command, print_json, save, say

Function = TypeVar("Function", bound=Callable[..., Any])


@cluster.group("pppoe")
def pppoe_group() -> None:
    """PPPoE connections: they are dialled on the active gateway only."""


#: More than a password can have, characters.
_LONGEST_LINE = 4096

_pppoe_command = partial(command, group=pppoe_group)


def _options(function: Function) -> Function:
    """Add the options of a connection; one that is not given keeps what it was."""
    for name, kind, text in (
        ("--mtu", int, f"Bytes; {pppoe.MTU[1]} is usual."),
        ("--ac", str, "Only this access concentrator may answer."),
        ("--service", str, "Service name, if the provider wants one."),
        ("--user", str, "User name."),
        ("--port", str, "Network port, alike on both gateways."),
    ):
        function = click.option(name, type=kind, help=text)(function)
    function = click.option("--default-route/--no-default-route", default=None,
                            help="Whether the internet is reached through it.")(function)
    function = click.option("--on/--off", "enabled", default=None, help="Whether it is dialled.")(function)
    return click.option("--password-stdin", is_flag=True, help="Read the password from the input.")(function)


@_pppoe_command
def _list(as_json: bool) -> None:
    """List the connections, and how they are on this gateway."""
    rows, standing = pppoe_edits.connections(_held()["settings"]), pppoe_edits.standing(call("status"))
    if as_json:
        return print_json({"connections": [{**row, "standing": standing.get(row["name"])} for row in rows]})
    for row in rows:
        now = standing.get(row["name"])
        say(f"{row['name']:16} {row['port']:15} {now['text'] if now else pppoe_edits.unknown()}")
    if not rows:
        say(_("There is none."))
    return None


@_pppoe_command
@click.argument("name")
@_options
def add(name: str, as_json: bool, password_stdin: bool, **given: Any) -> None:
    """Add a connection. Its password is asked for, or read from the input."""
    row = {**vars(pppoe.Connection(name, "", "", "")), **_given(given), "password": _password(password_stdin)}
    held = _held()
    save(held, pppoe_edits.saved(held["settings"], row, new=True), as_json)


@_pppoe_command
@click.argument("name")
@_options
def change(name: str, as_json: bool, password_stdin: bool, **given: Any) -> None:
    """Change a connection; what is not given stays. For another port or user name the password is needed again."""
    held = _held()
    row = {**pppoe_edits.named(held["settings"], name), **_given(given)}
    if password_stdin:
        row["password"] = _password(True)
    save(held, pppoe_edits.saved(held["settings"], row, new=False), as_json)


@_pppoe_command
@click.argument("name")
def remove(name: str, as_json: bool) -> None:
    """Remove a connection."""
    held = _held()
    save(held, pppoe_edits.removed(held["settings"], name), as_json)


@_pppoe_command
@click.argument("name")
def connect(name: str, as_json: bool) -> None:
    """Dial a connection now, whatever was decided before."""
    _wish(name, True, as_json)


@_pppoe_command
@click.argument("name")
def disconnect(name: str, as_json: bool) -> None:
    """Disconnect a connection until somebody connects it, or the role moves."""
    _wish(name, False, as_json)


def _wish(name: str, on: bool, as_json: bool) -> None:
    answer = call("pppoe", name=name, connect=on)
    if as_json:
        return print_json(answer)
    return say(_("%(name)s is dialled now.", name=name) if on else _("%(name)s is disconnected.", name=name))


def _held() -> Json:
    held = call("settings")
    if not held["formed"]:
        raise RequestRefused("This gateway is not in a cluster.", "Create one, or join one.")
    return held


def _given(options: Json) -> Json:
    names = {"ac": "concentrator"}
    return {names.get(key, key): value for key, value in options.items() if value is not None}


def _password(from_input: bool) -> str:
    if from_input:
        try:
            return sys.stdin.readline(_LONGEST_LINE).rstrip("\r\n")
        except UnicodeDecodeError:
            raise RequestRefused("The password is not in UTF-8.", "Write it with another encoding.") from None
    return str(click.prompt(_("Password"), hide_input=True, err=True))
