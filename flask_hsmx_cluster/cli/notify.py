"""``flask cluster notify ...``: who is told of alarms and important events."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import click

from ..editing import notify as edits
from ..errors import RequestRefused
from ..settings import notify
from ..translate import gettext as _
from .base import Json, call, cluster, command, print_json, save, say

Function = TypeVar("Function", bound=Callable[..., Any])


@cluster.group("notify")
def notify_group() -> None:
    """Who is told of alarms and important events: by e-mail, webhook or syslog."""


#: More than a password can have, characters.
_LONGEST_LINE = 4096

_notify_command = partial(command, group=notify_group)


def _options(function: Function) -> Function:
    """Add the options of a target; one that is not given keeps what it was."""
    for name, kind, text in (
        ("--remind-h", int, "A reminder while an alarm lasts, after so many hours; 0: none."),
        ("--repeat-min", int, "The same alarm again at the earliest after so many minutes."),
        ("--least", click.Choice(notify.SEVERITIES), "The least severity that is told."),
        ("--fingerprint", str, "SHA-256 of the server's certificate, if no authority vouches for it."),
        ("--to", "recipients", "E-mail: to whom; several are separated by commas."),
        ("--from", "sender", "E-mail: the sender's address."),
        ("--user", str, "E-mail: user name, if the server wants one."),
        ("--security", click.Choice(list(notify.SECURITY)), "E-mail: how the server is spoken to."),
        ("--address", str, "Mail server, webhook's URL, or udp://, tcp:// or unix: of a syslog server."),
    ):
        names = (name, kind) if kind in ("recipients", "sender") else (name,)
        function = click.option(*names, type=str if isinstance(kind, str) else kind, help=text)(function)
    function = click.option("--on/--off", "enabled", default=None, help="Whether it is told anything.")(function)
    return click.option("--password-stdin", is_flag=True,
                        help="Read the password, or the webhook's signing key, from the input.")(function)


@_notify_command
def _list(as_json: bool) -> None:
    """List the targets, and how they are on this gateway."""
    rows, standing = edits.targets(_held()["settings"]), edits.standing(call("status"))
    if as_json:
        return print_json({"targets": [{**row, "standing": standing.get(row["name"])} for row in rows]})
    for row in rows:
        sign, _kind, text = edits.in_words(row, standing.get(row["name"]))
        say(f"{sign} {row['name']:16} {row['kind']:8} {row['address']:40} {text}")
    if not rows:
        say(_("Nobody is told of alarms."))
    return None


@_notify_command
@click.argument("kind", type=click.Choice(notify.KINDS))
@click.argument("name")
@_options
def add(kind: str, name: str, as_json: bool, password_stdin: bool, **given: Any) -> None:
    """Add a target. Test it afterwards."""
    row = {**notify.Target(name, kind, "").as_dict(), **_given(given, password_stdin)}
    held = _held()
    save(held, edits.saved(held["settings"], row, new=True), as_json)


@_notify_command
@click.argument("name")
@_options
def change(name: str, as_json: bool, password_stdin: bool, **given: Any) -> None:
    """Change a target; what is not given stays. For another server or user name the password is needed again."""
    held = _held()
    row = {**edits.named(held["settings"], name), **_given(given, password_stdin)}
    save(held, edits.saved(held["settings"], row, new=False), as_json)


@_notify_command
@click.argument("name")
def remove(name: str, as_json: bool) -> None:
    """Remove a target."""
    held = _held()
    save(held, edits.removed(held["settings"], name), as_json)


@_notify_command
@click.argument("name")
@click.pass_context
def test(context: click.Context, name: str, as_json: bool) -> None:
    """Send a test message from this gateway, and print what the server said. It fails if that was not delivered."""
    answer = call("notify_test", name=name)
    if as_json:
        print_json(answer)
    else:
        say(edits.tested(name, answer), err=not answer["delivered"])
    if not answer["delivered"]:
        context.exit(1)


def _held() -> Json:
    held = call("settings")
    if not held["formed"]:
        raise RequestRefused("This gateway is not in a cluster.", "Create one, or join one.")
    return held


def _given(options: Json, password: bool) -> Json:
    given = {key: value for key, value in options.items() if value is not None}
    if "recipients" in given:
        given["recipients"] = edits.recipients(given["recipients"])
    if "fingerprint" in given:
        given["fingerprint"] = edits.fingerprint(given["fingerprint"])
    if password:
        try:
            given["password"] = sys.stdin.readline(_LONGEST_LINE).rstrip("\r\n")
        except UnicodeDecodeError:
            raise RequestRefused("The password is not in UTF-8.", "Write it with another encoding.") from None
    return given
