"""``flask cluster agent``: become this gateway's agent."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from ..extension import agent_config
from .base import Command, cluster

#: Environment variable that tells the agent on which inherited descriptor its configuration is.
CONFIG_FD = "HSMX_CLUSTER_CONFIG_FD"
#: By itself the C library keeps a heap for each thread, and what was freed at its end: 1 MB in the agent.
MEMORY = {"MALLOC_ARENA_MAX": "1", "MALLOC_TOP_PAD_": "0", "MALLOC_TRIM_THRESHOLD_": "65536"}


@cluster.command("agent", cls=Command)
def _agent() -> None:
    """Run this gateway's agent in the place of this process."""
    run_agent()


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
