"""The commands about the shared data: PostgreSQL itself, how the two follow, quarantine, verify."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import click

from ..extension import agent_config, state
from ..translate import gettext as _
from ..words import data as data_words
from .base import call, cluster, command, print_finding, print_json, say


@cluster.group("database")
def database() -> None:
    """Look after this gateway's PostgreSQL."""


@partial(command, group=database)
@click.option("--dsn", help="How a superuser reaches the host's database. "
              "Default: the Unix socket, as the system's user postgres.")
@click.option("--listen", multiple=True, metavar="ADDRESS", help="Own address on the sync or the backup link.")
@click.option("--credentials", type=click.Path(path_type=Path), help="Where the agent finds its password. "
              "Default: database.json in the state directory.")
@click.option("--check", is_flag=True, help="Only say what is missing.")
def prepare(
    dsn: str | None, listen: tuple[str, ...], credentials: Path | None, check: bool, as_json: bool
) -> None:
    """Make PostgreSQL ready for two gateways, once on each, and say what was changed."""
    from ..replication import commands

    found = agent_config()
    url = found.database_url
    if check:
        findings = commands.check(dsn, url, listen, found.scope)
        if as_json:
            print_json({"findings": [finding.as_dict() for finding in findings]})
        elif not findings:
            say(_("PostgreSQL is ready."))
        else:
            for finding in findings:
                print_finding(finding)
        if any(finding.blocking for finding in findings):
            sys.exit(1)
        return
    done = commands.prepare(dsn, url, listen, credentials or state().config.state_dir / "database.json")
    if as_json:
        return print_json(done.as_dict())
    for change in done.changes:
        before = _(" (before: %(value)s)", value=change.before) if change.before else ""
        say(f"{change.what}: {change.after}{before}")
    if not done.changes:
        say(_("Nothing to change."))
    if done.restart:
        say(_("Now restart PostgreSQL, for example: systemctl restart postgresql"))


@partial(command, group=database)
def _status(as_json: bool) -> None:
    """Say how this gateway's data and the other one's are kept as one."""
    found = call("status")
    if as_json:
        return print_json(found["data"])
    if found["cluster"] is None:
        return say(_("This gateway is not in a cluster."))
    if found["data"] is None:
        return say(_("The database is not shared. Make it ready: flask cluster database prepare"))
    return print_data(data_words.describe(found))


def print_data(said: data_words.DataWords | None) -> None:
    if said is None:
        return
    say(_("Data:") + f" {said.sign} {said.text} {said.remedy}".rstrip())
    if said.progress:
        say(f"  {said.progress}")
    for label, value in said.facts:
        say(f"  {label}: {value}")
