"""What can be done to the lab from the page, and the state it is in."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Any, Literal

from flask_hsmx_cluster.errors import ClusterError

from ..lab import Gateway, Lab, LabError, form
from ..machines import Machines
from .client import LiveClient, Outage

#: How often the gateways are asked, s.
POLL_S = 0.25
#: After this long nothing more is blamed on an action, s.
BLAME_S = 30.0
#: A gap up to this is the rhythm of asking, not an outage, s.
RHYTHM_S = 0.015
MAX_LOG = 60

Agent = Literal["running", "frozen", "dead"]


@dataclass
class Entry:
    """A line of the log.

    :param outage: the silence that followed; None for what is not expected to cause one.
    """

    at: float
    text: str
    kind: str = "action"  # action, role, silence, problem
    outage: Outage | None = None


class Refused(Exception):
    """The action makes no sense now; the message says why."""


class Bench:
    """The lab with its faults, for one person at a time."""

    def __init__(self, lab: Lab, machines: Machines) -> None:
        self.lab = lab
        self.machines = machines
        self.client = LiveClient(lab)
        self.forming = False
        self._gateways = {gateway.name: gateway for gateway in lab.gateways}
        self._off: set[str] = set()
        self._frozen: set[str] = set()
        self._pulled: set[tuple[str, str]] = set()
        self._status: dict[str, dict[str, Any] | None] = dict.fromkeys(self._gateways)
        self._log: deque[Entry] = deque(maxlen=MAX_LOG)
        self._busy = threading.Lock()
        self._log_lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._poll, args=(gateway,), name=f"ask {gateway.name}", daemon=True)
            for gateway in lab.gateways
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End threads and probes."""
        self._stop.set()
        for thread in self._threads:
            thread.join(10)
        self.client.close()

    # What can be done

    def act(self, action: str, name: str = "", cable: str = "") -> None:
        """Carry out an action of the page.

        :raises Refused: it is unknown, or makes no sense now.
        """
        if action == "form":
            self._form()
            return
        with self._busy:
            if action == "mend":
                self._mend()
                return
            gateway = self._gateways.get(name)
            perform = {
                "pull": self._pull, "plug": self._plug, "power_off": self._power_off, "power_on": self._power_on,
                "reboot": self._reboot,
                "freeze": self._freeze, "thaw": self._thaw, "kill": self._kill, "start": self._start,
                "failover": self._failover,
            }.get(action)
            if gateway is None or perform is None or (cable and cable not in self.lab.cables):
                raise Refused("There is no such thing in this lab.")
            if name in self._off and action not in ("power_on", "pull", "plug"):
                raise Refused(f"{_title(gateway)} is off. Switch it on first.")
            try:
                perform(gateway, cable)
            except (LabError, ClusterError) as error:
                self._note(str(error), "problem")
                raise Refused(str(error)) from None

    def _pull(self, gateway: Gateway, cable: str) -> None:
        if not cable or (gateway.name, cable) in self._pulled:
            raise Refused("That cable is pulled already.")
        self._blame(f"{_cable(gateway, cable)} pulled")
        self.lab.faults.pull(gateway, cable)
        self._pulled.add((gateway.name, cable))

    def _plug(self, gateway: Gateway, cable: str) -> None:
        self._blame(f"{_cable(gateway, cable)} plugged in")
        self.lab.faults.plug(gateway, cable)
        self._pulled.discard((gateway.name, cable))

    def _power_off(self, gateway: Gateway, _cable: str) -> None:
        self._blame(f"{_title(gateway)} powered off")
        self._off.add(gateway.name)
        self._frozen.discard(gateway.name)
        self.lab.faults.power_off(gateway)

    def _power_on(self, gateway: Gateway, _cable: str) -> None:
        if gateway.name not in self._off:
            raise Refused(f"{_title(gateway)} is on already.")
        self._blame(f"{_title(gateway)} powered on")
        self.machines.power_on(gateway)
        self._off.discard(gateway.name)

    def _reboot(self, gateway: Gateway, _cable: str) -> None:
        self._blame(f"{_title(gateway)} rebooted")
        self._frozen.discard(gateway.name)
        self.machines.reboot(gateway)

    def _freeze(self, gateway: Gateway, _cable: str) -> None:
        self._blame(f"Agent of {_title(gateway)} frozen")
        self.lab.faults.freeze_agent(gateway)
        self._frozen.add(gateway.name)

    def _thaw(self, gateway: Gateway, _cable: str) -> None:
        self._blame(f"Agent of {_title(gateway)} thawed")
        self.lab.faults.thaw_agent(gateway)
        self._frozen.discard(gateway.name)

    def _kill(self, gateway: Gateway, _cable: str) -> None:
        self._blame(f"Agent of {_title(gateway)} killed (kill -9)")
        self.lab.faults.kill_agent(gateway)
        self._frozen.discard(gateway.name)

    def _start(self, gateway: Gateway, _cable: str) -> None:
        if self._agent(gateway) != "dead":
            raise Refused("The agent is running already.")
        self._blame(f"Agent of {_title(gateway)} started")
        gateway.start_agent()

    def _failover(self, gateway: Gateway, _cable: str) -> None:
        if gateway.name in self._frozen:
            raise Refused("A frozen agent cannot be asked for anything.")
        self._blame("Fail-over requested")
        gateway.call("failover")

    def _mend(self) -> None:
        self._blame("Everything repaired")
        for name, cable in sorted(self._pulled):
            self.lab.faults.plug(self._gateways[name], cable)
        self._pulled.clear()
        for name, gateway in self._gateways.items():
            if name in self._off:
                self.machines.power_on(gateway)
            elif name in self._frozen:
                self.lab.faults.thaw_agent(gateway)
            elif self._agent(gateway) == "dead":
                gateway.start_agent()
        self._off.clear()
        self._frozen.clear()

    def _form(self) -> None:
        if self.forming or self._formed():
            raise Refused("The two gateways are a cluster already, or about to be one.")
        if self._off or self._frozen or self._pulled:
            raise Refused("Repair everything first: forming needs both gateways and all cables.")
        self.forming = True

        def work() -> None:
            try:
                form(self.lab)
            except (LabError, OSError) as error:
                self._note(f"Forming failed: {str(error).splitlines()[0]}", "problem")
            else:
                self._note("Formed a cluster: A created it, B joined with the pairing code")
            finally:
                self.forming = False

        threading.Thread(target=work, name="form", daemon=True).start()

    # What there is to see

    def snapshot(self) -> dict[str, Any]:
        """Return everything that the page draws."""
        client = self.client.snapshot()
        now = time.monotonic()
        return {
            "formed": self._formed(),
            "forming": self.forming,
            "gateways": {name: self._gateway(gateway) for name, gateway in self._gateways.items()},
            "pulled": [f"{cable}-{name}" for name, cable in sorted(self._pulled)],
            "client": client,
            "log": [self._line(entry, now) for entry in self._entries()],
        }

    def _gateway(self, gateway: Gateway) -> dict[str, Any]:
        name = gateway.name
        status = self._status[name] or {}
        node = status.get("node", {})
        off, agent = name in self._off, self._agent(gateway)
        return {
            "power": not off,
            "agent": agent,
            "role": "off" if off else agent if agent != "running" else node.get("role", "starting"),
            "why": "" if off or agent != "running" else node.get("why", ""),
            "ready": bool(status.get("readiness", {}).get("ready")),
            "reasons": status.get("readiness", {}).get("reasons", [])[:3],
            "alarms": [alarm["text"] for alarm in status.get("alarms", [])][:3],
            "holds": not off and self.client.holds(gateway.namespace.name, self.lab.virtual_ip),
        }

    def _agent(self, gateway: Gateway) -> Agent:
        if gateway.agent is None or gateway.agent.poll() is not None:
            return "dead"
        return "frozen" if gateway.name in self._frozen else "running"

    def _formed(self) -> bool:
        return any(status and status.get("cluster") and status.get("peer") for status in self._status.values())

    def _entries(self) -> list[Entry]:
        with self._log_lock:
            own = [entry for entry in self._log if entry.outage]
            told = [entry.outage for entry in own]
            entries = list(self._log)
        for silence in self.client.silences(time.monotonic() - 600):
            # A silence that followed an action is told there.
            if not any(each and each.at - 0.5 <= silence.at <= (each.until or each.at + BLAME_S) for each in told):
                entries.append(Entry(silence.at, "The client had no answer", "silence", silence))
        return sorted(entries, key=lambda entry: -entry.at)[:14]

    @staticmethod
    def _line(entry: Entry, now: float) -> dict[str, Any]:
        outage_ms = None
        if entry.outage is not None:
            if entry.outage.until is None and now > entry.outage.at + BLAME_S:
                entry.outage.until = now
            outage_ms = round(entry.outage.longest_s * 1000) if entry.outage.longest_s > RHYTHM_S else 0
        return {"ago_s": round(now - entry.at), "at": round(entry.at, 2), "text": entry.text, "kind": entry.kind,
                "outage_ms": outage_ms}

    def _blame(self, text: str) -> None:
        """Log an action, and look for the outage it causes."""
        with self._log_lock:
            self._log.append(Entry(time.monotonic(), text, outage=self.client.watch()))

    def _note(self, text: str, kind: str = "role") -> None:
        with self._log_lock:
            self._log.append(Entry(time.monotonic(), text, kind))

    def _poll(self, gateway: Gateway) -> None:
        while not self._stop.wait(POLL_S):
            if gateway.name in self._off or self._agent(gateway) != "running":
                self._status[gateway.name] = None
                continue
            try:
                status = gateway.call("status")
            except ClusterError:
                self._status[gateway.name] = None
                continue
            before = self._status[gateway.name]
            self._status[gateway.name] = status
            role, why = status["node"]["role"], status["node"]["why"]
            if before and before["node"]["role"] != role:
                self._note(f"{_title(gateway)} is now {role}" + (f": {why}" if why else ""))


def _title(gateway: Gateway) -> str:
    return f"Gateway {gateway.name.upper()}"


def _cable(gateway: Gateway, cable: str) -> str:
    return f"LAN cable of Gateway {gateway.name.upper()}" if cable == "lan" else f"{cable.capitalize()} cable"
