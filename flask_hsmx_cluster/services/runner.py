"""The process that has the host's app, for callables: neither the agent nor this process has it.

``flask cluster hooks`` loads it, once and without the agent's capabilities, and forks for each call: one that hangs or
crashes takes nothing along. It is started only if there are callables: it takes as much memory as the app.
"""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from ..network.clock import boot_time_s
from .commands import CommandFailed, Program, end, end_left_behind
from .declare import RUNNER_FD, Argv

log = logging.getLogger(__name__)
#: One that has ended is started again after this time, s; doubled each time up to the limit, until the app is loaded.
AGAIN_S, AGAIN_MOST_S = 5.0, 160.0
#: It ends a call at its limit; its word is waited for this much longer, s.
ANSWER_S = 0.2
#: An app that is not loaded after this time is an alarm, s.
LOAD_MOST_S = 60.0
_SEE = "See what `flask cluster hooks` said in the agent's log."


class AppNotLoaded(CommandFailed):
    """The process that has the app does not run: nothing is known of the callable."""


class Runner:
    """Several may use it, each from its own thread."""

    def __init__(self) -> None:
        self._argv: Argv = ()
        self._mark = ""
        self._users: set[str] = set()
        self._program: Program | None = None
        self._socket: socket.socket | None = None
        self._number = 0
        self._waiting: dict[int, Future[str]] = {}
        self._started_at, self._again_s, self._gone_at = float("-inf"), 0.0, 0.0
        self._lock = threading.RLock()
        self.ready = False  #: the app is loaded

    def use(self, user: str, argv: Argv, owner: str) -> None:
        """Take note of who needs it; started by :meth:`keep`.

        :param argv: its command; empty: the user needs it no more.
        :param owner: this gateway's state directory.
        """
        with self._lock:
            if not self._users:
                self._gone_at = boot_time_s()
            self._users = self._users | {user} if argv else self._users - {user}
            if argv and (argv, f"{owner}:app") != (self._argv, self._mark):
                self.end()
                self._again_s = 0.0
                self._argv, self._mark = argv, f"{owner}:app"
                end_left_behind(self._mark)
            if not self._users:
                self.end()

    @property
    def needed(self) -> bool:
        return bool(self._users)

    def keep(self) -> None:
        """Start it if it is needed and does not run. Only a thread that lasts may call this: the process ends with it.

        :raises CommandFailed: it cannot be started.
        """
        with self._lock:
            if self._program is not None:
                if self._program.code() is None:
                    return
                self.end()  # what a callable has forked may keep the connection open
            if not self._users or boot_time_s() - self._started_at < self._again_s:
                return
            self._started_at = boot_time_s()
            self._again_s = min(max(AGAIN_S, 2 * self._again_s), AGAIN_MOST_S)
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                self._program = Program(
                    self._argv, self._mark, captured=False, privileged=False, pass_fds=(theirs.fileno(),),
                    environment={RUNNER_FD: str(theirs.fileno())},
                )  # fmt: skip
            self._socket, self._waiting = ours, {}
            threading.Thread(target=self._read, args=(ours, self._waiting), name="runner", daemon=True).start()

    def call(self, number: int, limit_s: float, told: Mapping[str, Any] | None) -> None:
        """Have a callable called, and wait for its end.

        :param told: what a hook is told; None for a check.
        :raises AppNotLoaded: it was not called, or its end is not known.
        :raises CommandFailed: it failed, or was not done in time.
        """
        with self._lock:
            if self._socket is None:
                raise AppNotLoaded("the app is not loaded.", _SEE)
            self._number += 1
            this, answer, waiting, program = self._number, Future[str](), self._waiting, self._program
            waiting[this] = answer
            message = {"id": this, "number": number, "limit_s": limit_s, "told": told}
            with contextlib.suppress(OSError):  # then nobody answers
                self._socket.send(json.dumps(message).encode(), socket.MSG_DONTWAIT)
        try:
            error = answer.result(limit_s + ANSWER_S)
        except TimeoutError:
            if program is not None and program.code() is not None:  # what it has forked keeps the connection open
                raise AppNotLoaded("the process that has the app ended.", _SEE) from None
            late = f"it was not done within {limit_s:.1f} s, and was ended."
            raise CommandFailed(late, "See what it waits for.") from None
        finally:
            waiting.pop(this, None)
        if error:
            raise CommandFailed(f"{error}.", "See the agent's log.")

    def end(self) -> None:
        """End it, and what it has begun."""
        with self._lock:
            if self._socket is not None:
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)
            self._part()
            if self._program is not None:
                end([self._program], 0.2)
                end_left_behind(self._mark)
                self._program = None

    def _part(self) -> None:
        """Nobody is at the other end any more."""
        if self.ready:
            self._gone_at = boot_time_s()
        self.ready, self._socket = False, None

    def alarms(self) -> list[dict[str, str]]:
        """Return the alarm, in the form in which participants show theirs, if the app cannot be loaded."""
        if not self.needed or self.ready or boot_time_s() - self._gone_at < LOAD_MOST_S:
            return []
        text = "The app is not loaded: its hooks and checks are not called"
        return [{"key": "hooks_app", "severity": "critical", "text": text, "remedy": f"{_SEE} It is tried again."}]

    def _read(self, ours: socket.socket, waiting: dict[int, Future[str]]) -> None:
        """Hand its answers to those who wait for them. The first one says that the app is loaded."""
        with ours:
            with contextlib.suppress(OSError):  # one that was killed with requests unread resets the connection
                while data := ours.recv(65536):
                    with self._lock:
                        if self._socket is ours:
                            self.ready, self._again_s = True, AGAIN_S
                    _take(data, waiting)
            with self._lock:
                if self._socket is ours:  # it has ended by itself
                    self._part()
        while waiting:
            with contextlib.suppress(KeyError):  # it has just given up
                waiting.popitem()[1].set_exception(AppNotLoaded("the process that has the app ended.", _SEE))


def _take(data: bytes, waiting: dict[int, Future[str]]) -> None:
    """Hand an answer to whoever waits for it. A callable may have written anything, or twice."""
    try:
        answer = json.loads(data)
        asked, error = waiting.pop(answer["id"], None), str(answer["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        log.warning("What the process with the app says cannot be read")
        return
    if asked is not None:
        asked.set_result("".join(filter(str.isprintable, error))[:300])
