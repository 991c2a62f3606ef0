"""``flask cluster hooks``: the process that has the app and calls its hooks; started by the agent."""

from __future__ import annotations

import os
import socket
import sys

from flask import current_app

from ..extension import state
from ..hooks import HookRunner
from ..services.declare import RUNNER_FD
from .base import Command, cluster


@cluster.command("hooks", cls=Command, hidden=True)
def _hooks() -> None:
    """Call this app's hooks when the agent says so."""
    descriptor = os.environ.pop(RUNNER_FD, "")
    if not descriptor.isdigit():
        sys.exit("This process is started by the agent.")
    app = current_app._get_current_object()  # type: ignore[attr-defined]
    with socket.socket(fileno=int(descriptor)) as connection:
        HookRunner(app, state().hooks, connection).serve()
