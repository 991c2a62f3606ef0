"""The pair under chaos, its clients and its watchers, all on the machine's monotonic clock."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from flask_hsmx_cluster.errors import ClusterError
from flask_hsmx_cluster.replication.names import SUBSCRIPTION
from sample_app.lab import AddressWatch, ArpWatch, Gateway, Lab, LabError, Seller, form
from sample_app.lab.measure import Interval, Watcher
from sample_app.lab.namespace import run
from sample_app.lab.postgres import PostgresServer
from sample_app.lab.privileges import AGENT_UID, GROUP, POSTGRES_UID, WEB_UID
from tests.bench.data_lab import APP, STATEMENT, server_of
from tests.bench.writers import Connection, Writers

from . import clocks, stacks
from .record import HELD, NO_ANSWER, NO_WRITE, ROLE, TWO_MACS, Record, joined, lane, without

PING_EVERY_S, ASK_EVERY_S, LOOK_EVERY_S = 0.004, 0.01, 0.2
#: Between two rows of the client at the databases' own sockets, s.
THINK_S = 0.02
#: Times without an accepted write that are worth telling, s.
NO_WRITE_S = 0.2
#: After so long without an answer there is an outage that has not ended yet, s.
STILL_S = 3.0
#: Size of a gateway's disks: of the database, which takes the log of some hours' writes, and of the node store, MB.
DATABASE_DISK_MB, STORE_DISK_MB = 1500, 80

_MISSING = """SELECT name FROM unnest(%s::text[]) AS name EXCEPT
SELECT CASE note WHEN '' THEN code ELSE note END FROM voucher"""
_KEPT = """SELECT CASE new_row ->> 'note' WHEN '' THEN new_row ->> 'code' ELSE new_row ->> 'note' END
FROM hsmx_cluster.quarantine WHERE table_name = 'voucher'"""
#: What follows the role beside addresses and data, so that there is a process that sees to it.
_SERVICES = [{"name": "DHCP", "run": ["/bin/sleep", "infinity"]}]
_ROWS = itertools.count(1_000_000, 10_000_000)


class _Gaps(Watcher):
    PROGRAM = "tests.chaos.probe"

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab.client.name, lab.virtual_ip, lab.router_address, str(PING_EVERY_S))


class _Look(threading.Thread):
    """Asks one agent for its status all the time, and keeps how its role changed."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(daemon=True)
        self._gateway, self._over, self._lock = gateway, threading.Event(), threading.Lock()
        self._states: list[tuple[float, str, dict[str, Any]]] = []

    def run(self) -> None:
        while not self._over.is_set():
            at, what, more = time.monotonic(), "unreachable", {}
            with contextlib.suppress(ClusterError):
                status = self._gateway.call("status")
                node, peer = status["node"], status["peer"] or {}
                what = str(node["role"])
                more = {"term": node["term"], "phase": node["phase"], "patience_ms": peer.get("patience_ms")}
                at = time.monotonic()
            with self._lock:
                if not self._states or self._states[-1][1:] != (what, more):
                    self._states.append((at, what, more))
            self._over.wait(LOOK_EVERY_S)

    def stop(self) -> None:
        self._over.set()

    def into(self, record: Record, since: float, now: float) -> None:
        """Add what the role was since then, and forget what was before."""
        with self._lock:
            states = list(self._states)
            self._states = self._states[-1:]
        ends = [at for at, _, _ in states[1:]] + [now]
        for (at, what, more), end in zip(states, ends, strict=True):
            if end > since:
                record.add(lane(ROLE, self._gateway.name), what, max(at, since), end, **more)


class Site:
    """A formed pair under load; made by :func:`site`.

    :param disks: whether database and node store have disks of their own, which can be filled.
    """

    def __init__(self, lab: Lab, disks: bool, stack: contextlib.ExitStack) -> None:
        self.lab, self.disks = lab, disks
        #: Busy loops and other programs that a fault has started, by its kind.
        self.programs: dict[str, list[subprocess.Popen[bytes]]] = {}
        self.off: set[Gateway] = set()
        #: When which gateway had no power: what its kernel says it holds meanwhile, the lab has not taken away yet.
        self._dark: list[tuple[str, Interval]] = []
        first = next(_ROWS)
        servers = itertools.cycle(map(server_of, lab.gateways))
        self._seller = stack.enter_context(Seller(lab.client, lab.virtual_ip, f"h{first}-"))
        self._writers = stack.enter_context(
            Writers(lambda: _writer(next(servers)), STATEMENT, first, number=1, think_s=THINK_S)
        )
        namespaces = [gateway.namespace for gateway in lab.gateways]
        self._addresses = stack.enter_context(AddressWatch(*namespaces))
        self._answers = stack.enter_context(ArpWatch(lab.client, lab.virtual_ip, ASK_EVERY_S))
        self._gaps = stack.enter_context(_Gaps(lab))
        self._looks = [_Look(gateway) for gateway in lab.gateways]
        for look in self._looks:
            stack.callback(look.stop)
            look.start()
        self._names = {gateway.namespace.name: gateway.name for gateway in lab.gateways}
        self._held_since: dict[tuple[str, str], float] = {}
        self._seen = time.monotonic()
        self._wrote = [time.monotonic()]
        #: Names of writes that a client was told are done: all, and those not looked for yet.
        self._acknowledged: set[str] = set()
        self._unchecked: set[str] = set()

    # The pair

    def active(self) -> Gateway:
        """Return the gateway that says it is active."""
        return next((each for each in self.lab.gateways if each.role() == "active"), self.lab.a)

    def why_not_in_order(self) -> str:
        """Return what is not in order yet; empty: one active, one passive, both ready, commits confirmed by both."""
        found = {}
        for gateway in self.lab.gateways:
            try:
                found[gateway] = gateway.call("status")
            except ClusterError as error:
                return f"the agent of {gateway.node_name} does not answer: {error}"
        roles = {gateway: status["node"]["role"] for gateway, status in found.items()}
        if sorted(roles.values()) != ["active", "passive"]:
            return f"roles are {', '.join(f'{gateway.name} {role}' for gateway, role in roles.items())}"
        for gateway, status in found.items():
            if not status["readiness"]["ready"]:
                return f"{gateway.node_name} is not ready: {'; '.join(map(str, status['readiness']['reasons']))}"
        active = next(gateway for gateway, role in roles.items() if role == "active")
        try:
            with server_of(active).connect(connect_timeout=2) as connection:
                name = connection.execute("SHOW synchronous_standby_names").fetchone()
        except psycopg.Error as error:
            return f"PostgreSQL of {active.node_name}: {error}"
        if name != (SUBSCRIPTION,):
            return f"commits on {active.node_name} do not wait for the other gateway"
        holders = [gateway for gateway in self.lab.gateways if gateway.holds(self.lab.virtual_ip)]
        return "" if holders == [active] else f"the address is on {holders}"

    def wait_until_in_order(self, within_s: float) -> tuple[bool, str]:
        """Wait for that, and return whether it is so, and what it waited for last."""
        deadline = time.monotonic() + within_s
        last = ""
        while why := self.why_not_in_order():
            if time.monotonic() > deadline:
                return False, why
            last = why
            time.sleep(0.1)
        return True, last

    def pids(self, gateway: Gateway, *words: str) -> list[int]:
        """Return a gateway's processes with one of these in their command line."""
        found = []
        for pid in gateway.namespace.pids():
            with contextlib.suppress(OSError):
                line = Path("/proc", str(pid), "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if any(word in line for word in words):
                    found.append(pid)
        return found

    def signal(self, pids: list[int], number: signal.Signals) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def start_again(self, gateway: Gateway, *names: str) -> None:
        """Start ``database``, ``agent`` or ``web`` where it has ended, as a service manager does.

        :raises LabError: it does not start.
        """
        if gateway in self.off:
            return
        if "database" in names and not server_of(gateway).running():
            server_of(gateway).reap()
            server_of(gateway).start()
        for name, start in (("agent", gateway.start_agent), ("web", gateway.start_web)):
            process = getattr(gateway, name)
            if name in names and (process is None or process.poll() is not None):
                start()

    # What was seen

    def into(self, record: Record, since: float) -> None:
        """Add what the watchers saw since then."""
        now = time.monotonic()
        for look in self._looks:
            look.into(record, since, now)
        self._holders(record, since, now)
        self._two_macs(record, since)
        self._outages(record, since, now)
        self._writes(record, since, now)

    def _holders(self, record: Record, since: float, now: float) -> None:
        for name, at, present, address in self._addresses.take():
            if address not in (self.lab.virtual_ip, self.lab.virtual_ip6):
                continue
            key = (self._names[name], address)
            if present:
                self._held_since.setdefault(key, at)
            elif (start := self._held_since.pop(key, None)) is not None and at > since:
                self._add_held(record, key, Interval(max(start, since), at))
        for key, start in self._held_since.items():
            self._add_held(record, key, Interval(max(start, since), now))

    def _add_held(self, record: Record, key: tuple[str, str], held: Interval) -> None:
        gateway, address = key
        for start, end in without([held], [dark for name, dark in self._dark if name == gateway]):
            record.add(lane(HELD, gateway), address, start, end)

    def lose_power(self, gateway: Gateway) -> None:
        """Switch a gateway's power off."""
        at = self.lab.faults.power_off(gateway)
        self.off.add(gateway)
        self._dark.append((gateway.name, Interval(at, float("inf"))))

    def get_power(self, gateway: Gateway) -> None:
        """Switch it on again."""
        number = max(number for number, (name, _) in enumerate(self._dark) if name == gateway.name)
        self._dark[number] = gateway.name, Interval(self._dark[number][1].start, time.monotonic())
        self.lab.faults.power_on(gateway)
        self.off.discard(gateway)

    def _two_macs(self, record: Record, since: float) -> None:
        twice = []
        for _, group in itertools.groupby(self._answers.take(), key=lambda answer: int(answer[0])):
            each = list(group)
            if len({mac for _, _, mac in each}) > 1:
                twice.append(Interval(each[0][1], each[0][1] + ASK_EVERY_S))
        for start, end in joined(twice, ASK_EVERY_S):
            # One question alone can be answered by who just had the address and by who gets it before reading it.
            if start >= since and end - start > 1.5 * ASK_EVERY_S:
                record.add(TWO_MACS, "two", start, end)

    def _outages(self, record: Record, since: float, now: float) -> None:
        for kind, *values in self._gaps.take():
            self._seen = values[-1]
            if kind == "gap" and values[1] > since:
                record.add(NO_ANSWER, "gap", max(values[0], since), values[1])
        if now - self._seen > STILL_S:
            record.add(NO_ANSWER, "gap", max(self._seen, since), now, still=True)

    def _writes(self, record: Record, since: float, now: float) -> None:
        rows = self._writers.acknowledged[:]  # which grows meanwhile
        del self._writers.acknowledged[: len(rows)]
        sales = self._seller.take()
        new = {f"b{row.row}" for row in rows} | {name for name, _, _ in sales}
        self._acknowledged |= new
        self._unchecked |= new
        times = sorted([*self._wrote, *(row.end for row in rows), *(answered for _, _, answered in sales), now])
        self._wrote = times[-2:-1]
        for before, after in itertools.pairwise(times):
            if after - before > NO_WRITE_S and after > since:
                record.add(NO_WRITE, "gap", max(before, since), after)

    def lost(self, everything: bool = False) -> list[str]:
        """Return which acknowledged writes are neither on the active gateway nor in a quarantine.

        :param everything: look for all of the run, not only for those since the last time.
        """
        names = self._acknowledged if everything else self._unchecked
        with server_of(self.active()).connect() as connection:
            missing = {name for (name,) in connection.execute(_MISSING, (list(names),)).fetchall()}
        for gateway in self.lab.gateways if missing else ():
            with server_of(gateway).connect() as connection:
                missing -= {name for (name,) in connection.execute(_KEPT).fetchall()}
        self._unchecked = set()
        return sorted(missing)

    @property
    def acknowledged(self) -> int:
        """How many writes clients were told are done."""
        return len(self._acknowledged)


def _writer(server: PostgresServer) -> Connection:
    return server.connect(user="hsmx", connect_timeout=2)


@contextlib.contextmanager
def site(disks: bool = True) -> Iterator[Site]:
    """Give a pair in order, with its clients and watchers.

    :raises LabError: it cannot be made.
    """
    with contextlib.ExitStack() as stack:
        stack.callback(clocks.forget)
        lab = stack.enter_context(
            Lab(sync="switch", backup="switch", app=APP, postgres=True,
                database_disk_mb=DATABASE_DISK_MB if disks else None)
        )
        for gateway in lab.gateways:
            if disks:
                _give_the_store_a_disk(gateway)
            gateway.environment["HSMX_CLUSTER_SERVICES"] = json.dumps(_SERVICES)
            gateway.declare_files(portal=[])
            clocks.start_with_a_clock_of_its_own(gateway, AGENT_UID)
            clocks.start_with_a_clock_of_its_own(gateway, POSTGRES_UID)
            stacks.start_answering(gateway, WEB_UID)
        lab.start()
        for gateway in lab.gateways:  # The firmware makes its tables when it is asked for something first.
            with gateway.namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as web:
                web.settimeout(30)
                web.connect(("127.0.0.1", 80))
                web.sendall(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
                web.recv(1)
        form(lab, timeout_s=40)
        made = Site(lab, disks, stack)
        in_order, why = made.wait_until_in_order(60)
        if not in_order:
            raise LabError(f"the pair is not in order: {why}")
        yield made


def _give_the_store_a_disk(gateway: Gateway) -> None:
    kept = {path: path.read_bytes() for path in gateway.state.iterdir() if path.is_file()}
    options = f"size={STORE_DISK_MB}m,mode=750,uid={AGENT_UID},gid={GROUP}"
    run(["mount", "-t", "tmpfs", "-o", options, "hsmx-lab", str(gateway.state)])
    for path, content in kept.items():
        path.write_bytes(content)
        os.chown(path, AGENT_UID, GROUP)
