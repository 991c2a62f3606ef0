"""What can go wrong in the lab, as methods. Each returns its time on the monotonic clock, in seconds.

All faults of cables are one state (what is pulled, cut, lossy, without power), which is brought to the switch's
kernel as a whole: its packet rules in one atomic transaction, its ports' carriers right after it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
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
        self._lost: dict[str, set[str]] = {"lost_from": set(), "lost_to": set()}
        self._loss_percent = self._loss_now = 0.0
        others = [*(f"{cable}-client" for cable in lab.lans), "lan-router", *(["wan-router"] if lab.wan else [])]
        lab.switch.run("nft", "-f", "-", stdin=_rules([*self._up, *others]))
        self._busy: list[subprocess.Popen[bytes]] = []

    def close(self) -> None:
        """End what the faults have started."""
        self.end_busy()
        self._ports.close()

    # Power

    def power_off(self, gateway: Gateway, tidy_after_s: float = 0.0) -> float:
        """In one step no frame leaves or enters any port of the gateway; then everything in it ends.

        Through a switch the other gateway keeps its carrier; on a direct cable it loses it.

        :param tidy_after_s: see :meth:`Gateway.die`.
        """
        self._off.add(gateway)
        at = self._apply()
        gateway.die(tidy_after_s)
        return at

    def power_on(self, gateway: Gateway, start: bool = True) -> float:
        """Boot a gateway that was off, and start its processes unless told otherwise."""
        gateway.boot()
        self._off.discard(gateway)
        at = self._apply()
        if start:
            gateway.start()
        return at

    def reboot(self, gateway: Gateway) -> float:
        """Restart a machine as an operator does: its agent and its database are stopped, then all of it ends and all
        starts again.
        """
        if gateway.agent is not None:
            gateway.signal_agent(signal.SIGTERM)
        if gateway.postgres is not None and gateway.postgres.running():
            gateway.postgres.stop()
        self.power_off(gateway)
        return self.power_on(gateway)

    # The database

    def kill_postmaster(self, gateway: Gateway) -> float:
        """SIGKILL the first process of the gateway's PostgreSQL; nobody starts it again."""
        at = time.monotonic()
        gateway.postgres_in_place().kill_postmaster()
        return at

    def fill_disk(self, gateway: Gateway) -> float:
        """Fill the disk of the gateway's database to the last byte; the lab must have given it one of its own."""
        data = gateway.postgres_in_place().data
        if not os.path.ismount(data):
            raise LabError(f"the database of {gateway.node_name} has no disk of its own")
        at = time.monotonic()
        with self._filler(gateway).open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 20))
        return at

    def empty_disk(self, gateway: Gateway) -> float:
        """Undo :meth:`fill_disk`."""
        self._filler(gateway).unlink()
        return time.monotonic()

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

    def _filler(self, gateway: Gateway) -> Path:
        return gateway.postgres_in_place().data / "filler"

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
        changes = "\n".join(self._changes())
        at = time.monotonic()
        if changes:
            self._lab.switch.run("nft", "-f", "-", stdin=changes)
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

    def _changes(self) -> Iterator[str]:
        """Yield the changes of packet rules that are due, all for one transaction."""
        directions: dict[str, Direction] = {"lost_from": "out", "lost_to": "in"}
        for name, direction in directions.items():
            wanted = {port for port, (gateway, cable) in self._cable_ports().items()
                      if gateway in self._off or (gateway, cable, direction) in self._cut}
            for verb, ports in (("delete", self._lost[name] - wanted), ("add", wanted - self._lost[name])):
                if ports:
                    yield f"{verb} element netdev faults {name} {{ {', '.join(sorted(ports))} }}"
            self._lost[name] = wanted
        if self._loss_percent != self._loss_now:
            yield "flush chain netdev faults loss"
            yield f"add rule netdev faults loss numgen random mod 10000 < {round(self._loss_percent * 100)} drop"
            self._loss_now = self._loss_percent

    def _bridge_port(self, gateway: Gateway, *setting: str) -> None:
        run(["bridge", "-n", self._lab.switch.name, "link", "set", "dev", f"lan-{gateway.name}", *setting])


def _rules(ports: list[str]) -> str:
    """Return the switch's packet rules: ingress at a port is what the machine sends, egress what it receives.

    They are hooked in once for all, because hooking takes milliseconds and goes one by one; a fault only changes the
    sets, of which the kernel switches all elements at once.
    """
    devices = ", ".join(ports)
    return f"""
        table netdev faults {{
            set lost_from {{ type ifname; }}
            set lost_to {{ type ifname; }}
            chain loss {{ }}
            chain from {{
                type filter hook ingress devices = {{ {devices} }} priority 0; policy accept;
                iifname @lost_from drop
                jump loss
            }}
            chain to {{
                type filter hook egress devices = {{ {devices} }} priority 0; policy accept;
                oifname @lost_to drop
            }}
        }}
    """
