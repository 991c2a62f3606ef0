"""Hooks of the host's that are callables: how they are registered, and the process that calls them."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from flask import Flask

from .services.declare import Check, Hook

log = logging.getLogger(__name__)
#: While calls are under way, their end is looked for this often, s.
REAP_EVERY_S = 0.02
#: A process that outlives its limit is killed so much later, s.
KILLED_AFTER_S = 0.1

Step = Literal["before_active", "after_active", "before_passive", "after_passive"]


@dataclass(frozen=True)
class RoleChange:
    """What a hook is told.

    :param step: when it is called.
    :param role: the gateway's role once the change is complete.
    :param reason: why the role changes, in words.
    :param term: number of the reign that begins or ends.
    """

    step: Step
    role: Literal["active", "passive"]
    reason: str
    term: int


HookFunction = Callable[[RoleChange], object]
CheckFunction = Callable[[], object]


@dataclass(frozen=True)
class Registered:
    """A hook or a check, and the callable if it is one."""

    function: Callable[..., object] | None
    stated: Hook | Check


class HookRunner:
    """Calls callables in processes of their own, each ended by the kernel at its limit.

    :param connection: where the calls come from, a message each; its end is the end of this process.
    """

    def __init__(self, app: Flask, registered: Sequence[Registered], connection: socket.socket) -> None:
        self._app, self._registered, self._connection = app, registered, connection
        self._under_way: dict[int, tuple[int, float]] = {}  # by process: the call, and when it must be over (s)

    def serve(self) -> None:
        """Serve until the connection is closed. The first message says that the app is loaded."""
        self._answer(0, "")
        while True:
            ready, _, _ = select.select([self._connection], [], [], REAP_EVERY_S if self._under_way else None)
            self._reap()
            if not ready:
                continue
            if not (data := self._connection.recv(65536)):
                break
            message = json.loads(data)
            process = os.fork()
            if process == 0:
                try:
                    self._call(message)
                finally:  # whatever the callable did to this process, it is no other runner
                    os._exit(1)
            self._under_way[process] = message["id"], time.monotonic() + message["limit_s"] + KILLED_AFTER_S
        for process in self._under_way:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def _call(self, message: dict[str, Any]) -> NoReturn:
        os.setsid()
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, message["limit_s"])
        error = ""
        try:
            with self._app.app_context():
                function, told = self._registered[message["number"]].function, message["told"]
                assert function is not None
                if (function() if told is None else function(RoleChange(**told))) is False:
                    error = "it says no"
        except BaseException as problem:
            log.exception("A function failed")
            error = f"{type(problem).__name__}: {problem}".splitlines()[0][:300].rstrip(".")
        self._answer(message["id"], error)
        os._exit(0)

    def _reap(self) -> None:
        """Answer for those that have ended without a word."""
        for process, (number, until) in list(self._under_way.items()):
            if late := time.monotonic() > until:  # it has switched its alarm off
                os.kill(process, signal.SIGKILL)
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                del self._under_way[process]
                code = os.waitstatus_to_exitcode(status)
                if late or code == -signal.SIGALRM:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process, signal.SIGKILL)  # and what it has begun
                    self._answer(number, "it was not done within its limit, and was ended")
                elif code:
                    self._answer(number, f"its process ended with status {code}")

    def _answer(self, number: int, error: str) -> None:
        self._connection.send(json.dumps({"id": number, "error": error}).encode())
