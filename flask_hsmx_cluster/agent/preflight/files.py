"""What the copying of files needs of this gateway."""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Iterator
from pathlib import Path

from ...errors import Finding, RequestRefused
from ...files.declare import Files
from ...files.ssh import public_key
from ..config import AgentConfig


def check_files(config: AgentConfig) -> Iterator[Finding]:
    """Has this gateway what it needs to copy the declared files? Without it, all else works."""
    if not config.files:
        return
    files = config.stated_files
    for program, package in (("rsync", "rsync"), ("ssh", "openssh-client")):
        if shutil.which(program) is None:
            yield Finding("files_program", f"{program} is not installed on {config.node_name}: files are not copied.",
                          f"Install {package}.", blocking=False)  # fmt: skip
    if wrong := login_problem(config.state_dir, host_key(files)):
        yield Finding("files_login", f"Nobody can log in to {config.node_name} to copy its files: {wrong}.",
                      "See docs/files.md.", blocking=False)  # fmt: skip
    for tree in files.trees:
        if not os.access(tree.path, os.R_OK | os.W_OK | os.X_OK):
            text = f"{tree.path} on {config.node_name} is not there, or the agent's user cannot read and write it."
            yield Finding("files_directory", text, "See docs/files.md.", blocking=False)


def host_key(files: Files) -> str:
    """Return the public key of this gateway's sshd; empty where it has none."""
    try:
        return public_key(Path(files.ssh_host_key).read_text())
    except (OSError, ValueError, RequestRefused):
        return ""


def login_problem(state_dir: str, key: str) -> str:
    """Return why nobody could log in to this gateway as the agent's user; empty if nothing speaks against it.

    :param key: public host key of its sshd; empty if it has none.
    """
    if not key:
        return "this gateway's sshd has no host key that can be read. Is openssh-server installed?"
    try:
        user = pwd.getpwuid(os.getuid())
    except KeyError:
        return "the agent's user is not in the system's list"
    if os.path.realpath(user.pw_dir) != os.path.realpath(state_dir):
        return f"the home directory of the agent's user is {user.pw_dir} instead of {state_dir}"
    if os.path.basename(user.pw_shell) in ("nologin", "false"):
        return f"the shell of the agent's user is {user.pw_shell}: it lets nothing run"
    return ""
