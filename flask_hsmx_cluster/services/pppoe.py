"""PPPoE connections follow the role: they are dialled on the active gateway only, and never on both.

Becoming active, a gateway dials at once if the other one has released the role, for then it has ended its sessions
before. Else it waits as long as the other gateway's process may go on without its agent (``bound_s``), and a moment.

One thread of its own starts every ``pppd`` and reads its log; the participant's methods tell it what is wanted.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import select
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError, RequestRefused
from ..network.clock import boot_time_s
from .pppd import Connection, Pppd, end_orphans, send_padt
from .situation import Situation

log = logging.getLogger(__name__)
#: A session gets this long to end properly before it is ended the hard way, s; less than a hand-over waits for it.
RELEASE_S = 0.4
#: Added to the bound of the other gateway's process: it needs a moment to end what it runs, s.
MARGIN_S = 0.1
#: Dialling takes this long at most, s.
DIAL_MOST_S = 40.0
#: Waits between two attempts, s: the first, and the longest. It doubles, and varies by a fifth.
REDIAL_S = (1.0, 60.0)
#: ... after a refused password: providers close an account that asks too often.
REFUSED_S = (15.0, 600.0)
#: An active gateway without a session is an alarm after this time, s, or as soon as it is known why.
PATIENCE_S = 15.0
#: A session that lasted this long begins anew with the first wait, s.
LASTED_S = 30.0


class Line:
    """One connection: what is wanted of it, and what it does. Everything is done by the thread, under its lock."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.pppd: Pppd | None = None
        self.held = False
        """An operator has disconnected it."""
        self.attempts = 0
        self.due_at = 0.0
        self.since = boot_time_s()
        self.fault = ""
        self.refused = False
        self._end_by = 0.0

    @property
    def up(self) -> bool:
        return self.pppd is not None and self.pppd.told.stage == "up" and not self._end_by

    @property
    def ending(self) -> bool:
        return bool(self._end_by)

    def dial(self, program: str, directory: Path, now: float) -> None:
        self.attempts, self.since = self.attempts + 1, now
        self.pppd = Pppd(self.connection, program, directory)
        try:
            self.pppd.start()
        except ConfigError as error:
            self.pppd, self.fault = None, f"{error.message} {error.remedy}".strip()
            self._wait(now, REDIAL_S)

    def release(self, now: float) -> None:
        """End its session properly."""
        if self.pppd is not None and not self._end_by:
            self.pppd.terminate()
            self._end_by = now + RELEASE_S

    def kill(self) -> None:
        """End its session at once."""
        if self.pppd is not None:
            self.pppd.kill()
            self._end_by = self._end_by or boot_time_s()

    def look(self, now: float) -> float:
        """See what has become of it. Returns when to look again (boot time, s)."""
        if self.pppd is None:
            return self.due_at
        was_up = self.up
        if self.pppd.read():
            if self.up and not was_up:
                self.since, self.fault = now, ""
            if self._end_by:
                if now >= self._end_by:
                    self.pppd.kill()
                return max(self._end_by, now + 0.05)
            if not self.up and now - self.since > DIAL_MOST_S:
                self.pppd.told.fault = f"The provider did not finish within {DIAL_MOST_S:.0f} s."
                self.release(now)
            return now + 60 if self.up else self.since + DIAL_MOST_S + 0.01
        told = self.pppd.told
        ended = bool(self._end_by) and not told.fault
        lasted_s = now - self.since if was_up else 0.0
        self.pppd, self._end_by, self.since = None, 0.0, now
        if ended:
            self.attempts, self.due_at = 0, 0.0
            return now
        self.fault, self.refused = told.fault, told.wrong_password
        log.warning("PPPoE connection %s: %s", self.connection.name, self.fault)
        if lasted_s >= LASTED_S:
            self.attempts = 1
        self._wait(now, REFUSED_S if told.wrong_password else REDIAL_S)
        return self.due_at

    def _wait(self, now: float, bounds: tuple[float, float]) -> None:
        first, longest = bounds
        self.due_at = now + min(first * 2 ** min(self.attempts - 1, 16), longest) * random.uniform(0.8, 1.2)


class PPPoE:
    """The participant.

    :param situation: knows whether the other gateway has passed the role on.
    """

    name = "pppoe"
    exclusive = True

    def __init__(self, situation: Situation) -> None:
        self._situation = situation
        self._changed = threading.Condition()
        self._lines: dict[str, Line] = {}
        self._leaving: list[Line] = []  # of connections that were removed or changed
        self._program, self._directory, self._bound_s = "/usr/sbin/pppd", Path("/nonexistent"), 1.5
        self._others: list[Mapping[str, Any]] = []
        self._serving, self._stopped, self._from = False, False, 0.0
        self._wakeup, self._alarm = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._thread: threading.Thread | None = None

    # -- what is wanted ----------------------------------------------------------------------------------------

    def configure(self, setup: Mapping[str, Any]) -> None:
        """Take the connections; those that did not change go on.

        :param setup: ``connections``, ``program``, ``directory``, ``bound_s``, and ``others``: the other gateway's
            last known sessions, each with ``name``, ``session``, ``concentrator_mac`` and ``mac``.
        """
        wanted = [Connection.read(row) for row in setup.get("connections", [])]
        with self._changed:
            if wanted and self._thread is None:
                self._begin(Path(setup["directory"]))
            self._program = str(setup.get("program", self._program))
            self._bound_s = float(setup.get("bound_s", self._bound_s))
            self._others = list(setup.get("others", []))
            kept = {}
            for connection in wanted:
                line = self._lines.pop(connection.name, None)
                if line is None or line.connection != connection:
                    if line is not None:
                        self._leaving.append(line)
                    line = Line(connection)
                kept[connection.name] = line
            self._leaving += self._lines.values()
            self._lines = kept
            self._wake()

    def before_active(self) -> None:
        with self._changed:
            self._stopped = False  # not dialled yet: it is not known whether the addresses will come

    def after_active(self) -> None:
        """Dial, as soon as the other gateway's sessions have ended."""
        with self._changed:
            released = self._situation.released
            if self._serving or self._stopped:
                return
            now = boot_time_s()
            for line in self._lines.values():
                line.held, line.attempts, line.due_at, line.fault = False, 0, 0.0, ""
            self._serving, self._from = True, now if released else now + self._bound_s + MARGIN_S
            if released:
                self._others = []
            self._wake()

    def before_passive(self) -> None:
        """End every session properly, and wait for it: the other gateway dials when it gets the role."""
        self._release()

    def after_passive(self) -> None:
        self._release()

    def stop_now(self) -> None:
        with self._changed:
            self._serving, self._stopped = False, True
            for line in (*self._lines.values(), *self._leaving):
                line.kill()
            self._wake()

    def tick(self, now_s: float) -> None:
        with self._changed:
            self._wake()  # the thread has timers of its own; this is for a clock that stood still

    def command(self, **wish: Any) -> None:
        """An operator's wish for the connection ``name``: ``connect`` now, or else disconnect until the role moves.

        :raises RequestRefused: there is no such connection, it is switched off, or this gateway is not the active one.
        """
        name, connect = str(wish["name"]), bool(wish["connect"])
        with self._changed:
            line = self._lines.get(name)
            if line is None:
                raise RequestRefused("There is no such PPPoE connection.", "Look at the list again.")
            if not self._serving:
                raise RequestRefused("Connections are dialled on the active gateway only.", "Do it there.")
            if not line.connection.enabled:
                raise RequestRefused(f"{name} is switched off in the settings.", "Switch it on there.")
            line.held = not connect
            line.due_at, line.attempts = 0.0, 0
            self._wake()

    def status(self) -> dict[str, Any]:
        with self._changed:
            now = boot_time_s()
            return {
                "connections": [self._shown(line, now) for line in self._lines.values()],
                "alarms": [alarm for line in self._lines.values() for alarm in self._alarms(line, now)],
            }

    # -- the thread --------------------------------------------------------------------------------------------

    def _begin(self, directory: Path) -> None:
        """Start the thread. It lives as long as the process: what it starts ends with it."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
        self._directory = directory
        end_orphans(directory)
        self._thread = threading.Thread(target=self._run, name="pppoe dialler", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                with self._changed:
                    again = self._look(boot_time_s())
                    self._changed.notify_all()
                    sources = [line.pppd for line in self._all() if line.pppd is not None]
                watched: list[int | Pppd] = [self._wakeup, *sources]
                ready = select.select(watched, [], [], max(0.0, again - boot_time_s()))[0]
                if self._wakeup in ready:
                    os.read(self._wakeup, 4096)
            except Exception:
                log.exception("The PPPoE connections' thread stumbled")
                threading.Event().wait(1)

    def _look(self, now: float) -> float:
        """Do what is due. Returns when to look again (boot time, s)."""
        again = [now + 60]
        for line in self._all():
            again.append(line.look(now) if line.pppd is not None else now + 60)
        self._leaving = [line for line in self._leaving if line.pppd is not None]
        for line in self._leaving:
            line.release(now)
            again.append(now + 0.05)
        # Under another name, or on another port, it is still the same account, or the same wire.
        busy = {word for line in self._leaving for word in (line.connection.name, line.connection.port)}
        for line in self._lines.values():
            if not self._wants(line):
                line.release(now)
                again.append(now + 0.05 if line.pppd is not None else now + 60)
            elif line.pppd is None and busy.isdisjoint((line.connection.name, line.connection.port)):
                due_at = max(line.due_at, self._from)
                if now >= due_at:
                    self._end_session_of_other(line)
                    line.dial(self._program, self._directory, now)
                    due_at = now
                again.append(due_at)
        return min(again)

    def _end_session_of_other(self, line: Line) -> None:
        """Tell the provider that a session which the other gateway left behind is over, before it is dialled anew."""
        left = [one for one in self._others if one["name"] == line.connection.name]
        self._others = [one for one in self._others if one not in left]
        for one in left:
            send_padt(line.connection.port, str(one["mac"]), str(one["concentrator_mac"]), int(one["session"]))

    def _all(self) -> list[Line]:
        return [*self._lines.values(), *self._leaving]

    def _wants(self, line: Line) -> bool:
        return self._serving and line.connection.enabled and not line.held

    def _release(self) -> None:
        """End every session properly within :data:`RELEASE_S`, those that do not end the hard way."""
        with self._changed:
            self._serving = False
            now = boot_time_s()
            for line in self._all():
                line.release(now)
            self._wake()
            if not self._changed.wait_for(lambda: all(line.pppd is None for line in self._all()), RELEASE_S):
                for line in self._all():
                    line.kill()
                self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it is going to wake up anyway
            os.write(self._alarm, b"\0")

    # -- what is shown -----------------------------------------------------------------------------------------

    def _shown(self, line: Line, now: float) -> dict[str, Any]:
        state, text = self._state(line, now)
        told = line.pppd.told if line.pppd is not None else None
        up = told if state == "up" else None
        return {
            "name": line.connection.name, "port": line.connection.port, "state": state, "text": text,
            "fault": line.fault, "since_s": round(now - line.since, 1), "attempts": line.attempts,
            "address": up.address if up else "", "router": up.router if up else "",
            "interface": up.interface if up else "",
            "session": told.session if told else 0, "concentrator_mac": told.concentrator_mac if told else "",
            "mac": told.own_mac if told else "",
        }

    def _alarms(self, line: Line, now: float) -> Iterator[dict[str, str]]:
        if not self._wants(line) or line.up or now < self._from or not (line.fault or now - line.since > PATIENCE_S):
            return
        yield {
            "key": f"pppoe_{line.connection.name}",
            "severity": "critical" if line.connection.default_route else "warning",
            "text": f"PPPoE connection {line.connection.name} is down. {line.fault}".strip(),
            "remedy": "Correct user name and password." if line.refused else
                      f"Check the line at {line.connection.port} and the modem. It is dialled again by itself.",
        }

    def _state(self, line: Line, now: float) -> tuple[str, str]:
        if line.pppd is not None:
            if line.ending:
                return "ending", "is being ended"
            if line.up:
                return "up", f"up with {line.pppd.told.address}"
            if line.pppd.told.stage == "discovery":
                return "dialling", f"looks for an access concentrator on {line.connection.port}"
            return "dialling", "negotiates with the provider"
        if not line.connection.enabled:
            return "off", "is switched off"
        if not self._serving:
            return "down", "is down: this gateway is not the active one"
        if line.held:
            return "held", "was disconnected by an operator, until somebody connects it or the role moves"
        if now < self._from:
            return "waiting", f"waits {self._from - now:.1f} s until the other gateway's session must have ended"
        if line.fault:
            return "error", f"{line.fault} The next attempt is in {max(0.0, line.due_at - now):.0f} s."
        return "dialling", "is about to dial"

