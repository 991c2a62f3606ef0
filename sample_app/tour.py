"""The tour: forms a cluster in the lab, breaks it in a few ways, and tells what the client saw."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from .lab import CommandFailed, Gateway, Lab, LabError, Pinger, form, wait_for_roles
from .machines import APP, Machines

#: How long a step may take until the roles are as expected, s.
PATIENCE_S = 30
#: How long a gateway that came back is watched for a fail-back that must not happen, s.
WATCH_S = 4


@dataclass(frozen=True)
class Step:
    """What came of a step.

    :param step: what was done.
    :param held: whether roles, addresses and data ended up as expected.
    :param outage_ms: the longest time without an answer around it, as the client saw it; None where nobody asked.
    :param active: the active gateway afterwards.
    """

    step: str
    held: bool
    outage_ms: float | None
    active: str
    problem: str = ""


class Tour:
    """One tour of a lab whose gateways run."""

    def __init__(self, lab: Lab, machines: Machines) -> None:
        self.lab = lab
        self.machines = machines
        self.steps: list[Step] = []

    def run(self, say: Callable[[str], None]) -> list[Step]:
        """Do every step; after one that failed the rest is left out."""
        a, b, faults = self.lab.a, self.lab.b, self.lab.faults
        say("form the cluster: `flask cluster create` on gateway A, `flask cluster join` on gateway B")
        if not self._form():
            return self.steps
        with Pinger(self.lab.client, self.lab.virtual_ip) as pinger:
            pinger.wait_for_reply(time.monotonic())
            plan: list[tuple[str, Callable[[], float], Gateway, bool]] = [
                ("power off the active, A", lambda: faults.power_off(a), b, False),
                ("bring A back: no fail-back", lambda: self.machines.power_on(a), b, True),
                ("fail over by request, to A", lambda: self._fail_over(b), a, True),
                ("pull the LAN cable of the active, A", lambda: faults.pull(a, "lan"), b, False),
                ("plug it again: no fail-back", lambda: faults.plug(a, "lan"), b, True),
            ]
            for step, act, active, both in plan:
                say(step)
                if not self._step(pinger, step, act, active, both):
                    break
        return self.steps

    def _form(self) -> bool:
        problem = ""
        try:
            form(self.lab)
            self._expect(self.lab.a, both=True)
        except (LabError, CommandFailed) as error:
            problem = str(error)
        self.steps.append(Step("form the cluster", not problem, None, self._active(), problem))
        return not problem

    def _step(self, pinger: Pinger, step: str, act: Callable[[], float], active: Gateway, both: bool) -> bool:
        """Do one step.

        :param active: who has to be the active afterwards.
        :param both: the other one has to be passive, ready and without the address; else it may be anything but active.
        """
        problem = ""
        outage = None
        try:
            voucher = self._sell()
            at = act()
            self._expect(active, both)
            if "no fail-back" in step:
                time.sleep(WATCH_S)
                self._expect(active, both)
            until = time.monotonic()
            pinger.wait_for_reply(until)  # only then has the gap that the client saw come to its end
            outage = pinger.outage_ms(at, within_s=until - at)
            if not self._valid(voucher, active):
                raise LabError(f"voucher {voucher}, sold a moment before, is not valid on {active.node_name}")
        except (LabError, CommandFailed) as error:
            problem = str(error)
        measured = round(outage, 1) if outage is not None and math.isfinite(outage) else None
        self.steps.append(Step(step, not problem, measured, self._active(), problem))
        return not problem

    def _sell(self) -> str:
        """Sell a voucher on the active gateway, as its firmware does, and return the code."""
        code = f"TOUR-{len(self.steps):04d}"
        (active,) = (gateway for gateway in self.lab.gateways if gateway.role() == "active")
        with active.postgres_in_place().connect(user="hsmx") as connection:
            connection.execute(
                "INSERT INTO voucher (code, hours, devices, note, state, created_at) "
                "VALUES (%s, 24, 1, 'sold during the tour', 'unused', now())", (code,)
            )
        return code

    def _valid(self, voucher: str, gateway: Gateway) -> bool:
        with gateway.postgres_in_place().connect(user="hsmx") as connection:
            return connection.execute("SELECT 1 FROM voucher WHERE code = %s", (voucher,)).fetchone() is not None

    def _fail_over(self, gateway: Gateway) -> float:
        at = time.monotonic()
        gateway.cli("failover")
        return at

    def _expect(self, active: Gateway, both: bool) -> None:
        if both:
            wait_for_roles(self.lab, active=active, timeout_s=PATIENCE_S)
        other = self.lab.other(active)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            problems = self._problems(active, other)
            if not problems:
                return
            if time.monotonic() > deadline:
                raise LabError("; ".join(problems))
            time.sleep(0.1)

    def _problems(self, active: Gateway, other: Gateway) -> list[str]:
        address = self.lab.virtual_ip
        checks = (
            (active.role() == "active", f"{active.node_name} is {active.role()}, not active"),
            (active.holds(address), f"{active.node_name} does not hold {address}"),
            (other.role() != "active", f"{other.node_name} is active as well"),
            (not other.holds(address), f"{other.node_name} still holds {address}"),
        )
        return [problem for fine, problem in checks if not fine]

    def _active(self) -> str:
        active = [gateway.name.upper() for gateway in self.lab.gateways if gateway.role() == "active"]
        return " and ".join(active) or "none"


def run(as_json: bool) -> int:
    """Run the tour in a lab of its own, print what came of it, and return the exit status."""

    def say(text: str) -> None:
        print(f"  ... {text}", file=sys.stderr, flush=True)

    with Lab(app=APP, postgres=True) as lab:
        machines = Machines(lab)
        try:
            say("start two gateways, a client and a router")
            machines.start()
            steps = Tour(lab, machines).run(say)
        finally:
            machines.close()
    print(json.dumps({"steps": [asdict(step) for step in steps]}, indent=2) if as_json else table(steps))
    return 0 if steps and all(step.held for step in steps) and len(steps) == 6 else 1


def table(steps: list[Step]) -> str:
    """Return the steps as a table for people."""
    width = max(len(step.step) for step in steps)
    lines = [f"{'step':{width}}  {'held':4}  {'outage':>9}  active", f"{'':-<{width}}  ----  ---------  ------"]
    for step in steps:
        outage = "-" if step.outage_ms is None else f"{step.outage_ms:.0f} ms"
        lines.append(f"{step.step:{width}}  {'yes' if step.held else 'NO':4}  {outage:>9}  {step.active}")
        if step.problem:
            lines.append(f"    {step.problem.splitlines()[0]}")
    return "\n".join(lines)
