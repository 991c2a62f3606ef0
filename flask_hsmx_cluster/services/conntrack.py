"""Connection tracking that follows the role: guests' connections through the gateway survive a fail-over.

conntrackd (Debian's) runs on both gateways; the active one's tells the other's of every connection. On becoming
active the connections are committed to this kernel. The addresses do not wait for that, which takes 5 ms and another
9 for a thousand connections: meanwhile packets of connections that are not known yet are held back (see
:func:`.conntrackd_text.packet_rules`).
"""

from __future__ import annotations

import logging
import os
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ClusterError
from . import packet_rules
from .conntrackd_text import TABLE, Setup, configuration, entries, holding
from .conntrackd_text import packet_rules as rules
from .packet_rules import Address

log = logging.getLogger(__name__)

#: How long a command to conntrackd may take, and a commit, s.
_COMMAND_S, _COMMIT_S = 5.0, 30.0
#: A commit holds packets back at most so long, and services wait for it at most so long, s.
_HELD_MOST_S, _COMMIT_WAITED_S = 2.0, 0.5
#: How often conntrackd is asked how many connections it has, s.
_LOOK_EVERY_S = 5.0
#: How long conntrackd may take to start, s.
_READY_S = 10.0
#: Waits between two starts, s: doubled each time, and short again after it ran well for so long.
_FIRST_WAIT_S, _LONGEST_WAIT_S, _RAN_WELL_S = 1.0, 60.0, 60.0
#: What fails to start is an alarm when the wait has become longer than this, s.
_ALARM_AFTER_S = 4.0
_MAXIMUM = Path("/proc/sys/net/netfilter/nf_conntrack_max")


class ConnectionTracking:
    """The participant. Its set-up is described at :class:`.conntrackd_text.Setup`; empty: switched off.

    Where conntrackd does not run nothing is held back: what the kernel makes of a packet is better than nothing.
    """

    name = "conntrack"

    def __init__(self) -> None:
        self._setup: Setup | None = None
        self._own: list[Address] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = self._active = self._silenced = self._untold = False
        self._failure = ""
        self._started_s = self._next_start_s = self._next_look_s = 0.0
        self._wait_s = _FIRST_WAIT_S
        self._entries: dict[str, int] = {}
        self._committing: threading.Thread | None = None
        self._commit: dict[str, Any] | None = None

    def configure(self, setup: Mapping[str, Any]) -> None:
        wanted = Setup.parsed(setup) if setup else None
        if wanted == self._setup:
            return
        self._stop()
        self._setup = wanted
        self._failure = ""
        self._wait_s, self._next_start_s = _FIRST_WAIT_S, 0.0

    def before_active(self) -> None:
        """Begin to commit; the addresses do not wait for it."""
        again, self._active = self._active, True
        if again:  # a hand-over has failed: all connections are in this kernel
            return
        if self._running():
            self._committing = threading.Thread(target=self._take, name="commit")
            self._committing.start()
        elif self._process is not None:
            self._let_pass()

    def after_active(self) -> None:
        """A moment for the commit; nobody behind this one waits for a long one."""
        self._untold = True
        if self._committing is not None:
            self._committing.join(_COMMIT_WAITED_S)
        self._tell_all()

    def before_passive(self) -> None:
        """Tell no more of connections that end: with its address the kernel ends all that were masqueraded by it."""
        if self._running():
            self._ask("-f internal")

    def after_passive(self) -> None:
        """Hold packets back again, let the kernel's entries go in a minute, and ask the other gateway for its own."""
        self._active = self._untold = False
        if self._running():
            self._hold(True)
            self._ask("-t", "-n")

    def stop_now(self) -> None:
        """Tell the other gateway of nothing more, as :meth:`before_passive`; there is no time for a command."""
        process = self._process
        if process is not None:
            self._silenced = True
            process.kill()

    def tick(self, now_s: float) -> None:
        """Start conntrackd where it should run and does not; look now and then."""
        if self._setup is None:
            return
        if self._process is not None and self._process.poll() is not None:
            self._ended(now_s)
        if self._process is None:
            if now_s >= self._next_start_s:
                self._start(now_s)
        elif not self._ready:
            if self._setup.control.exists():
                self._begin()
            elif now_s > self._started_s + _READY_S:
                self._process.kill()
        elif self._untold and not self._under_way():
            self._tell_all()
        elif now_s >= self._next_look_s:
            self._next_look_s = now_s + _LOOK_EVERY_S
            self._look()

    def status(self) -> dict[str, Any]:
        """Return its state (``off``, ``down``, ``running``), how many connections it knows, and how long
        the last commit took, ms.
        """
        alarms = []
        if (state := self._state()) == "down" and self._wait_s > _ALARM_AFTER_S:
            text = f"conntrackd does not run ({self._failure}): guests' connections break at a fail-over"
            remedy = "It is started again by itself. See the agent's log."
            alarms.append({"key": "conntrack", "severity": "warning", "text": text, "remedy": remedy})
        return {
            "state": state, "active": self._active, "problem": self._failure, "entries": dict(self._entries),
            "last_commit": self._commit, "alarms": alarms,
        }  # fmt: skip

    def _state(self) -> str:
        if self._setup is None:
            return "off"
        return "running" if self._running() else "down"

    # -- the process ----------------------------------------------------------------------------------------------

    def _running(self) -> bool:
        return self._ready and self._process is not None and self._process.poll() is None

    def _start(self, now_s: float) -> None:
        assert self._setup is not None
        setup = self._setup
        try:
            self._own = packet_rules.own_addresses()
            setup.directory.mkdir(mode=0o700, exist_ok=True)
            setup.configuration.touch(mode=0o600)
            setup.configuration.write_text(configuration(setup, self._own, int(_MAXIMUM.read_text())))
            for left_behind in (setup.lock, setup.control):
                left_behind.unlink(missing_ok=True)
            with setup.output.open("wb") as output:
                self._process = subprocess.Popen(
                    # It ends with this process, however that ends.
                    ["setpriv", "--pdeathsig", "KILL", setup.program, "-C", str(setup.configuration)],
                    stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                )  # fmt: skip
        except OSError as error:
            self._failed(now_s, f"{error.filename}: {error.strerror}")
        except ClusterError as error:
            self._failed(now_s, error.message)
        else:
            self._started_s, self._ready = now_s, False

    def _begin(self) -> None:
        """Do what is due after conntrackd has started."""
        self._load_rules()
        if self._active:
            self._ask("-R", "-B")
        else:
            self._hold(True)
            self._ask("-t", "-n")
        self._ready = True
        self._failure = ""

    def _ended(self, now_s: float) -> None:
        assert self._process is not None and self._setup is not None
        code, self._process = self._process.returncode, None
        if now_s - self._started_s > _RAN_WELL_S:
            self._wait_s = _FIRST_WAIT_S
        if self._silenced:
            self._ready = self._silenced = False
            self._next_start_s = now_s + self._setup.lease_s  # once the addresses have gone: of that it must not tell
            return
        said = _end_of(self._setup.output).strip().splitlines()
        self._ready, self._entries = False, {}
        self._failed(now_s, said[-1][-200:] if said else f"it ended with {code}")
        self._let_pass()

    def _failed(self, now_s: float, why: str) -> None:
        if why != self._failure:
            log.warning("conntrackd does not run: %s", why)
        self._failure = why
        self._next_start_s = now_s + self._wait_s
        self._wait_s = min(2 * self._wait_s, _LONGEST_WAIT_S)

    def _stop(self) -> None:
        process, self._process = self._process, None
        self._ready, self._entries = False, {}
        if process is not None:
            process.terminate()
            try:
                process.wait(2)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            packet_rules.replace_table(TABLE, "")

    # -- its commands ---------------------------------------------------------------------------------------------

    def _take(self) -> None:
        """Commit, and let packets pass when that is done."""
        limit = threading.Timer(_HELD_MOST_S, self._let_pass)
        limit.start()
        began = time.monotonic()
        try:
            self._ask("-c", timeout_s=_COMMIT_S)
            took_ms = round((time.monotonic() - began) * 1000, 1)
            self._commit = {"took_ms": took_ms, "entries": self._entries.get("peer")}
        except ClusterError as error:
            log.warning("The connections could not be committed: %s", error.message)
            self._failure = error.message
        finally:
            limit.cancel()
            self._let_pass()

    def _under_way(self) -> bool:
        return self._committing is not None and self._committing.is_alive()

    def _tell_all(self) -> None:
        """When all is committed: forget what was cached, and tell the other gateway of all that is in this kernel."""
        if not self._under_way():
            self._committing, self._untold = None, False
            if self._running():
                self._ask("-f", "-R", "-B")

    def _let_pass(self) -> None:
        try:
            self._hold(False)
        except ClusterError as error:
            log.warning("Packets may be held back: %s", error.message)

    def _look(self) -> None:
        """Count the connections, and see whether the packet rules are still there and name this gateway's addresses."""
        if self._under_way():
            return  # which lets packets pass when it is done
        self._entries = entries(self._ask("-s"))
        if not self._active and (own := packet_rules.own_addresses()) != self._own:  # an active one holds nothing back
            self._own = own
            self._load_rules()
        try:
            self._hold(not self._active)
        except ClusterError:  # somebody has flushed the whole ruleset
            self._load_rules()
            self._hold(not self._active)
        self._failure = ""

    def _load_rules(self) -> None:
        assert self._setup is not None
        packet_rules.replace_table(TABLE, rules(self._setup, self._own))

    def _hold(self, on: bool) -> None:
        packet_rules.run("nft", "-f", "-", stdin=holding(on))

    def _ask(self, *options: str, timeout_s: float = _COMMAND_S) -> str:
        assert self._setup is not None
        command = (self._setup.program, "-C", str(self._setup.configuration))
        return "".join(packet_rules.run(*command, *option.split(), timeout_s=timeout_s) for option in options)


def _end_of(file: Path) -> str:
    """Return the last words of a file, which may be of any length, or gone."""
    try:
        with file.open("rb") as output:
            output.seek(max(0, output.seek(0, os.SEEK_END) - 4096))
            return output.read(4096).decode(errors="replace")
    except OSError:
        return ""
