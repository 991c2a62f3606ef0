"""What can go wrong in the lab, as methods. Each returns its time on the monotonic clock, in seconds.

All faults of cables are one state (what is pulled, cut, lossy, without power), which is brought to the switch's
kernel as a whole: its packet rules in one atomic transaction, its ports' carriers right after it.
"""

from __future__ import annotations

import contextlib
import math
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from .namespace import LabError, run
from .netlink import PortSwitch

if TYPE_CHECKING:
    from .gateway import Gateway
    from .topology import Lab

#: Seen from the gateway: what it sends, or what it would receive.
Direction = Literal["out", "in"]

#: States of a bridge's port, by their numbers in the kernel (which undoes "blocking" where it runs no spanning tree).
_DISABLED, _FORWARDING = "0", "3"


class Faults:
    """The faults of one lab; ends together with it."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._ports = PortSwitch(lab.switch)
        with lab.switch.entered():
            self._index = {name: index for index, name in socket.if_nameindex()}
        self._up = {port: True for port in self._cable_ports()}
        self._off: set[Gateway] = set()
        self._pulled: set[tuple[Gateway, str]] = set()
        self._cut: set[tuple[Gateway, str, Direction]] = set()
        self._loss_percent = 0.0
        self._busy: list[subprocess.Popen[bytes]] = []

    def close(self) -> None:
        """End what the faults have started."""
        self.end_busy()
        self._ports.close()

    # Power

    def power_off(self, gateway: Gateway) -> float:
        """In one step no frame leaves or enters any port of the gateway; then everything in it ends.

        Through a switch the other gateway keeps its carrier; on a direct cable it loses it.
        """
        self._off.add(gateway)
        at = self._apply()
        gateway.die()
        return at

    def power_on(self, gateway: Gateway, start: bool = True) -> float:
        """Boot a gateway that was off, and start its processes unless told otherwise."""
        gateway.boot()
        self._off.discard(gateway)
        at = self._apply()
        if start:
            gateway.start()
        return at

    # The agent

    def kill_agent(self, gateway: Gateway) -> float:
        """SIGKILL the agent; the machine lives on."""
        return self._signal(gateway, signal.SIGKILL)

    def stop_agent(self, gateway: Gateway) -> float:
        """SIGTERM the agent, and wait for its end."""
        return self._signal(gateway, signal.SIGTERM)

    def freeze_agent(self, gateway: Gateway) -> float:
        """SIGSTOP the agent."""
        return self._signal(gateway, signal.SIGSTOP)

    def thaw_agent(self, gateway: Gateway) -> float:
        """SIGCONT the agent."""
        return self._signal(gateway, signal.SIGCONT)

    # Cables

    def pull(self, gateway: Gateway, cable: str) -> float:
        """Pull a cable (``lan``, ``sync``, ``backup``) out of the gateway: its carrier goes."""
        self._check(cable)
        self._pulled.add((gateway, cable))
        return self._apply()

    def plug(self, gateway: Gateway, cable: str) -> float:
        """Plug the cable in again."""
        self._pulled.discard((gateway, cable))
        return self._apply()

    def cut(self, gateway: Gateway, cable: str, direction: Direction) -> float:
        """Lose every frame that the gateway sends (``out``) or would receive (``in``); carriers stay."""
        self._check(cable)
        self._cut.add((gateway, cable, direction))
        return self._apply()

    def mend(self, gateway: Gateway, cable: str) -> float:
        """Undo :meth:`cut` in both directions."""
        self._cut -= {(gateway, cable, "out"), (gateway, cable, "in")}
        return self._apply()

    def loss(self, percent: float) -> float:
        """Lose this share of the frames that enter any cable, at random; 0 ends it."""
        self._loss_percent = percent
        return self._apply()

    # The switch

    def isolate(self, on: bool = True) -> float:
        """Port isolation on the LAN: the gateways reach everybody but each other."""
        for gateway in self._lab.gateways:
            at = time.monotonic()
            self._bridge_port(gateway, "isolated", "on" if on else "off")
        return at  # The second one counts: only frames between two isolated ports are dropped.

    def wrong_vlan(self, gateway: Gateway, on: bool = True) -> float:
        """Move the gateway's LAN port to another network, or back; its carrier stays."""
        at = time.monotonic()
        self._lab.switch.ip(f"link set lan-{gateway.name} master {'br-wrong' if on else 'br-lan'}")
        return at

    def spanning_tree(self, gateway: Gateway, blocked: bool = True) -> float:
        """Let the gateway's LAN port have carrier but pass nothing, as spanning tree does after a plug."""
        at = time.monotonic()
        self._bridge_port(gateway, "state", _DISABLED if blocked else _FORWARDING)
        return at

    # The processors

    def busy(self, loops: int) -> float:
        """Start busy loops that compete with both gateways; they last until :meth:`end_busy`."""
        at = time.monotonic()
        self._busy += [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(loops)]
        return at

    def end_busy(self) -> float:
        """End the busy loops."""
        at = time.monotonic()
        for process in self._busy:
            process.kill()
            process.wait()
        self._busy.clear()
        return at

    @contextlib.contextmanager
    def busy_for(self, loops: int) -> Iterator[float]:
        """Busy loops for the length of a ``with`` block."""
        try:
            yield self.busy(loops)
        finally:
            self.end_busy()

    # How it is done

    def _signal(self, gateway: Gateway, number: signal.Signals) -> float:
        at = time.monotonic()
        gateway.signal_agent(number)
        return at

    def _check(self, cable: str) -> None:
        if cable not in self._lab.cables:
            raise LabError(f"this lab has no {cable} cable, only {', '.join(self._lab.cables)}")

    def _cable_ports(self) -> dict[str, tuple[Gateway, str]]:
        return {f"{cable}-{gateway.name}": (gateway, cable)
                for cable in self._lab.cables for gateway in self._lab.gateways}

    def _apply(self) -> float:
        rules = "\n".join(self._rules())
        at = time.monotonic()
        self._lab.switch.run("nft", "-f", "-", stdin=rules)
        for port, (gateway, cable) in self._cable_ports().items():
            if (up := self._has_carrier(gateway, cable)) != self._up[port]:
                self._ports.set(self._index[port], up)
                self._up[port] = up
        return at

    def _has_carrier(self, gateway: Gateway, cable: str) -> bool:
        if (gateway, cable) in self._pulled:
            return False
        other = self._lab.other(gateway)
        far_end_gone = (other, cable) in self._pulled or other in self._off
        return not (far_end_gone and self._lab.cables[cable] == "direct")

    def _rules(self) -> Iterator[str]:
        """Yield the packet rules: ingress on a switch's port is what the machine sends, egress what it receives."""
        ports = self._cable_ports()
        out = [port for port, (gateway, cable) in ports.items()
               if gateway in self._off or (gateway, cable, "out") in self._cut]
        into = [port for port, (gateway, cable) in ports.items()
                if gateway in self._off or (gateway, cable, "in") in self._cut]
        yield "table netdev faults"
        yield "delete table netdev faults"
        yield "table netdev faults {"
        if out:
            yield _chain("lost_from", "ingress", out, "policy drop;")
        if into:
            yield _chain("lost_to", "egress", into, "policy drop;")
        if self._loss_percent:
            share = math.floor(self._loss_percent * 100)
            everyone = [*ports, "lan-client", "lan-router"]
            yield _chain("loss", "ingress", everyone, f"policy accept; numgen random mod 10000 < {share} drop;", 1)
        yield "}"

    def _bridge_port(self, gateway: Gateway, *setting: str) -> None:
        run(["bridge", "-n", self._lab.switch.name, "link", "set", "dev", f"lan-{gateway.name}", *setting])


def _chain(name: str, hook: str, ports: list[str], rest: str, priority: int = 0) -> str:
    devices = ", ".join(ports)
    return f"chain {name} {{ type filter hook {hook} devices = {{ {devices} }} priority {priority}; {rest}\n}}"
