"""``flask cluster files ...``: the directories that both gateways have."""

from __future__ import annotations

from functools import partial

import click

from ..translate import gettext as _
from ..words import files as files_words
from .base import call, cluster, command, print_json, say


@cluster.group("files")
def files_group() -> None:
    """Directories that both gateways have: the passive one copies the active one's."""


_files_command = partial(command, group=files_group)


@_files_command
def _status(as_json: bool) -> None:
    """Say whether both gateways have the same files, and what waits for you."""
    found = call("status")
    if as_json:
        return print_json(found["files"] or {})
    said = files_words.describe(found)
    if said is None:
        return say(_("No files are kept as one: there is no other gateway, or the firmware declares none."))
    print_files(said)
    for row in said.rows:
        say(f"  {row.sign} {row.name}: {row.text}")
    for one in said.questions:
        say(f"{one.text} flask cluster files allow-deletions {one.name}")
        for example in one.examples:
            say(f"    {example}")
    return None


@_files_command
@click.argument("name")
def allow_deletions(name: str, as_json: bool) -> None:
    """Let the deletions be done that wait, on the passive gateway."""
    answer = call("files_allow", tree=name)
    if as_json:
        return print_json(answer)
    return say(_("%(n)s deletions are done now.", n=f"{answer['allowed']:,}"))


@_files_command
def sync_now(as_json: bool) -> None:
    """Look at all files now, on the passive gateway."""
    answer = call("files_sync")
    if as_json:
        return print_json(answer)
    return say(_("All files are looked at now."))


def print_files(said: files_words.FilesWords | None) -> None:
    if said is not None:
        say(_("Files:") + f" {said.sign} {said.text} {said.remedy}".rstrip())
        if said.progress:
            say(f"  {said.progress}")
