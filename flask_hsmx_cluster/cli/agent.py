"""``flask cluster agent``: become this gateway's agent; ``flask cluster agent restart``: restart the one that runs."""

from __future__ import annotations

import os
import sys
import time
from typing import NoReturn

import click
from flask.cli import with_appcontext

from ..errors import AgentUnavailable
from ..extension import agent_config
from ..translate import gettext as _
from ..words import cluster as words
from .base import call, cluster, command, print_json, say

#: Environment variable that tells the agent on which inherited descriptor its configuration is.
CONFIG_FD = "HSMX_CLUSTER_CONFIG_FD"
#: By itself the C library keeps a heap for each thread, and what was freed at its end: 1 MB in the agent.
MEMORY = {"MALLOC_ARENA_MAX": "1", "MALLOC_TOP_PAD_": "0", "MALLOC_TRIM_THRESHOLD_": "65536"}


#: Whether the new agent answers is looked at this often, s; it takes a few seconds for its first word.
LOOK_EVERY_S, FIRST_WORD_S = 0.1, 5.0


@cluster.group("agent", invoke_without_command=True)
@click.pass_context
@with_appcontext
def _agent(context: click.Context) -> None:
    """Run this gateway's agent in the place of this process."""
    if context.invoked_subcommand is None:
        run_agent()


@click.option("--within-s", type=int,
              help="How long the other gateway waits before it takes over: 5 to 60, 15 if not said otherwise.")
def _restart(within_s: int | None, as_json: bool) -> None:
    """Restart the agent, after an upgrade for example; the virtual IPs stay where they are meanwhile."""
    asked = time.monotonic()
    within_s = call("restart", **({} if within_s is None else {"within_s": within_s}))["within_s"]
    while True:
        time.sleep(LOOK_EVERY_S)
        took_s = time.monotonic() - asked
        try:
            node = call("status")["node"]
        except AgentUnavailable:
            node = None
        if node is not None and node["agent_up_s"] < took_s:
            break
        if took_s > within_s + FIRST_WORD_S:
            raise AgentUnavailable(
                f"The agent has ended, and did not come back within {within_s:.0f} s.",
                "It is the service manager's to start it again: see `systemctl status hsmx-cluster-agent`. "
                "The other gateway has taken over if this one was active.",
            )
    if as_json:
        return print_json({"took_s": round(took_s, 2), "role": node["role"]})
    return say(_("The agent is back after %(time)s. This gateway is %(role)s.",
                 time=words.milliseconds(took_s * 1000), role=words.role(node["role"])))


command(_restart, _agent)


def hook_runner() -> tuple[str, ...]:
    """Return the command that loads this same app to call its hooks: this process's own, with another last word."""
    *before, last = sys.orig_argv
    return (*before, "hooks") if last == "agent" else ()


def run_agent() -> NoReturn:
    """Replace this process by the agent, so that the firmware's web app is not in the agent's memory.

    The configuration may hold the database's password. It is handed over in an anonymous file that only the
    agent's process has, never in an argument or a variable that others could read.
    """
    text = agent_config(hook_runner()).to_json().encode()
    descriptor = os.memfd_create("hsmx-cluster-config", 0)
    with os.fdopen(descriptor, "wb", closefd=False) as config:
        config.write(text)
    os.lseek(descriptor, 0, os.SEEK_SET)
    command = [sys.executable, "-m", "flask_hsmx_cluster.agent"]
    os.execve(command[0], command, {**MEMORY, **os.environ, CONFIG_FD: str(descriptor)})


@click.option("--yes", is_flag=True, help="Do not ask.")
def _repair(yes: bool, as_json: bool) -> None:
    """Put a damaged node store aside and begin anew: this gateway is in no cluster then, and joins again."""
    if not yes and not as_json and sys.stdin.isatty():
        say(_("This gateway forgets its cluster, its keys and its events. The file is kept, and so is the database."))
        click.confirm(_("Begin anew?"), abort=True)
    answer = call("repair")
    if as_json:
        return print_json(answer)
    say(_("The damaged file is kept as %(path)s. The agent starts anew.", path=answer["kept"]))
    return say(_("On the other gateway: flask cluster replace. Then join here with the code that it prints."))


command(_repair, _agent)
