"""Two whole gateways with a database each, four clients that never pause, and a gateway that loses its power.

The clients: two over the driver and a ``psql`` that a pipe feeds, at the databases' own sockets, where a row is
refused by the passive gateway and tried on the other one; and a browser's login that sells over HTTP, through the
virtual IP.

*Lost*: acknowledged writes that are neither on the survivor nor in quarantine; *missing*: that are not on the survivor.
*First write*: from the power-off until the survivor has accepted a sale through the virtual IP; *socket*: until it has
acknowledged a row there. *Rejoin*: from the first answer of the agent that came back until commits are synchronous
again (asynchronous: until it follows and has caught up). After each rejoin both gateways are compared, by the product's
``verify`` and by plain SQL.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from flask_hsmx_cluster.replication.names import SUBSCRIPTION
from sample_app.lab import Gateway, Lab, LabError, Seller, form, wait_for_roles
from sample_app.lab.measure import Sale
from sample_app.lab.postgres import PostgresServer

from .contents import differing
from .stages import Figures, Run, Stage
from .writers import Connection, Writers

APP = "sample_app.firmware.app:create_app"
STATEMENT = """INSERT INTO voucher (code, hours, devices, note, state, created_at)
SELECT 'b' || row, 1, 1, '', 'unused', now() FROM (SELECT %s::int AS row) AS one"""
_NAMES = "SELECT CASE note WHEN '' THEN code ELSE note END FROM voucher WHERE code LIKE %s OR note LIKE %s"
_KEPT = """SELECT id, schema_name || '.' || table_name, operation,
    CASE new_row ->> 'note' WHEN '' THEN new_row ->> 'code' ELSE new_row ->> 'note' END
FROM hsmx_cluster.quarantine WHERE schema_name <> 'hsmx_cluster' AND id > %s ORDER BY id"""
#: Rows of one run; each run has numbers of its own.
ROWS_A_RUN = 1_000_000
#: Between two rows of one of the clients, s: without it they outrun the one worker that applies on the other side.
THINK_S = 0.02
IN_ORDER_WITHIN_S = 60.0
#: Agents answer no more than some dozens of questions in a second.
LOOK_EVERY_S = 0.05
#: What the survivor must have accepted before the other one comes back.
ACCEPTED_LEAST = 20
#: Ways of a rejoin; any other one reads all rows.
REJOIN_WAYS = {"resume", "replace"}


@dataclass
class _Clients:
    """Who writes.

    :param sales: what was sold over HTTP; complete when the clients have ended.
    """

    writers: Writers
    seller: Seller
    sales: list[Sale] = field(default_factory=list)

    def acknowledged(self) -> set[str]:
        """Return the names of all that somebody was told is done."""
        return {f"b{each.row}" for each in self.writers.acknowledged} | {sale.name for sale in self.sales}


class Hotel:
    """A pair of gateways under a writing load."""

    def __init__(self, lab: Lab, synchronous: bool) -> None:
        self.lab, self.synchronous = lab, synchronous
        self._first_row = itertools.count(ROWS_A_RUN, ROWS_A_RUN)
        self._next = itertools.cycle(map(server_of, lab.gateways))
        self._kept_upto = {gateway.name: 0 for gateway in lab.gateways}

    def ready(self, within_s: float = IN_ORDER_WITHIN_S) -> Gateway:
        """Wait for a pair in order; return the active."""
        active = wait_for_roles(self.lab, timeout_s=60)
        self.wait_until_in_order(active, within_s=within_s)
        return active

    def writers(self) -> Writers:
        """Return those at the databases' own sockets."""
        return Writers(self._connect, STATEMENT, next(self._first_row), number=2, psql=self._psql, think_s=THINK_S)

    @contextlib.contextmanager
    def clients(self) -> Iterator[_Clients]:
        """The four clients, at work."""
        writers = self.writers()
        with Seller(self.lab.client, self.lab.virtual_ip, f"h{writers.first}-") as seller:
            clients = _Clients(writers, seller)
            with writers:
                _wait(lambda: len(seller.sales()) >= ACCEPTED_LEAST, "no sale is accepted")
                yield clients
            seller.stop()
            clients.sales = seller.sales()

    def power_on(self, gateway: Gateway, active: Gateway) -> float:
        """Boot a gateway, wait until it has joined again, and return for how long it has been up by then, ms.

        :raises LabError: it took a full copy, or too long.
        """
        self.lab.faults.power_on(gateway)
        gateway.wait_until_ready(IN_ORDER_WITHIN_S)
        began = time.monotonic()
        self.wait_until_in_order(active, gateway)
        took_ms = (time.monotonic() - began) * 1000
        _wait(lambda: _following(gateway).get("rejoined"), f"{gateway} does not tell how it has joined again")
        rejoined = _following(gateway)["rejoined"]
        if not set(rejoined["ways"].values()) <= REJOIN_WAYS:
            raise LabError(f"{gateway} has read all rows to rejoin: {rejoined}")
        return took_ms

    def wait_until_in_order(
        self, active: Gateway, rejoining: Gateway | None = None, within_s: float = IN_ORDER_WITHIN_S
    ) -> None:
        """Wait until the other gateway follows and has caught up, and commits wait for it if they are to.

        :param rejoining: the gateway that has come back: it may make no full copy.
        :raises LabError: it is one, or it takes longer than that.
        """
        deadline = time.monotonic() + within_s
        with server_of(active).connect() as connection:
            while not self._in_order(connection, active):
                following = _following(rejoining) if rejoining is not None else {}
                if following.get("copying"):
                    raise LabError(f"{rejoining} rejoins with a full copy: {following}")
                if time.monotonic() > deadline:
                    log = server_of(rejoining or active).log()[-1500:]
                    raise LabError(f"not in order after {within_s:.0f} s: {following}\n{log}")
                time.sleep(LOOK_EVERY_S)

    def let_lag(self, active: Gateway, for_s: float) -> None:
        """Keep what an active gateway writes from reaching the other one for a while; it still hears it on the LAN."""
        for cable in ("sync", "backup"):
            if for_s:
                self.lab.faults.cut(active, cable, "out")
        time.sleep(for_s)

    def end_lag(self, active: Gateway) -> None:
        for cable in ("sync", "backup"):
            self.lab.faults.mend(active, cable)

    def compare(self, active: Gateway) -> None:
        """Compare both gateways: by the product's verify, and by plain SQL.

        :raises LabError: they are not equal.
        """
        found = active.call("verify")
        _wait(lambda: not active.call("verified")["under_way"], "verify does not end")
        found = active.call("verified")
        if found["error"] or not found["result"]["equal"]:
            raise LabError(f"verify: {found['error']} {found['result']}")
        passive = self.lab.other(active)
        with server_of(active).connect() as here, server_of(passive).connect() as there:
            different: list[str] = []
            _wait(lambda: not (different := differing(here, there)), f"not equal: {different}")

    def names(self, gateway: Gateway, first: int) -> set[str]:
        """Return what a run wrote and a gateway has."""
        with server_of(gateway).connect() as connection:
            found = connection.execute(_NAMES, (f"b{str(first)[:-6]}______", f"h{first}-%"))
            return {name for (name,) in found.fetchall()}

    def kept(self, gateway: Gateway) -> list[tuple[str, str, str]]:
        """Return table, operation and name of what came into a gateway's quarantine since this was asked last."""
        with server_of(gateway).connect() as connection:
            found = connection.execute(_KEPT, (self._kept_upto[gateway.name],)).fetchall()
        self._kept_upto[gateway.name] = found[-1][0] if found else self._kept_upto[gateway.name]
        return [(table, operation, name) for _, table, operation, name in found]

    def _in_order(self, connection: Connection, active: Gateway) -> bool:
        if self.synchronous:
            return connection.execute("SHOW synchronous_standby_names").fetchone() == (SUBSCRIPTION,)
        status = self.lab.other(active).call("status")
        streams = (status["data"] or {}).get("streams") or ()
        if status["node"]["role"] != "passive" or not streams:
            return False
        if not all(stream["enabled"] and stream["worker_pid"] for stream in streams):
            return False
        follower = active.call("status")["data"]["follower"]
        return bool(follower and follower["caught_up"])

    def _connect(self) -> Connection:
        return next(self._next).connect(user="hsmx")

    def _psql(self) -> tuple[str, list[str]]:
        server, program = next(self._next), shutil.which("psql")
        if program is None:
            raise LabError("psql is not installed (Debian: postgresql-client)")
        options = ("--no-psqlrc", "--set=ON_ERROR_STOP=1", "--username=hsmx")
        return str(server.directory), [program, *options, f"--host={server.directory}", f"--port={server.port}", "hsmx"]


def server_of(gateway: Gateway) -> PostgresServer:
    assert gateway.postgres is not None
    return gateway.postgres


def _following(gateway: Gateway) -> dict[str, Any]:
    data = gateway.call("status")["data"] or {}
    return dict(data.get("following") or {})


def _wait(done: Callable[[], object], why: str, timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not done():
        if time.monotonic() > deadline:
            raise LabError(why)
        time.sleep(0.02)


@contextlib.contextmanager
def hotel(
    fill: Callable[[Lab], None] = lambda _: None, synchronous: bool = True, formed_within_s: float = 20
) -> Iterator[Hotel]:
    """Give a pair; ``fill`` is called before it is formed."""
    with Lab(sync="switch", backup="switch", app=APP, postgres=True) as lab:
        for gateway in lab.gateways:
            gateway.environment["HSMX_CLUSTER_SYNCHRONOUS"] = str(synchronous)
        lab.start()
        for gateway in lab.gateways:  # The firmware makes its tables when it is asked for something first.
            with gateway.namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as web:
                web.settimeout(30)
                web.connect(("127.0.0.1", 80))
                web.sendall(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
                web.recv(1)
        fill(lab)
        form(lab, timeout_s=formed_within_s)
        yield Hotel(lab, synchronous)


@contextlib.contextmanager
def _active_lost(synchronous: bool) -> Iterator[Run]:
    with hotel(synchronous=synchronous) as pair:

        def run() -> Figures:
            active = pair.ready()
            survivor = pair.lab.other(active)
            host = str(server_of(survivor).directory)
            with pair.clients() as clients:
                writers, seller = clients.writers, clients.seller
                time.sleep(random.uniform(0, 0.5))
                if not synchronous:
                    pair.let_lag(active, random.choice((0, 0.2)))
                at = pair.lab.faults.power_off(active)
                pair.end_lag(active)
                _wait(lambda: sum(sale.sent > at for sale in seller.sales()) > ACCEPTED_LEAST,
                      f"{survivor} has accepted no sale")
                _wait(lambda: sum(each.host == host for each in writers.acknowledged) > ACCEPTED_LEAST,
                      f"{survivor} has accepted no row")
                rejoin_ms = pair.power_on(active, survivor)
            pair.compare(survivor)
            there, kept = pair.names(survivor, writers.first), pair.kept(active)
            quarantined = {name for _, _, name in kept}
            missing = clients.acknowledged() - there
            figures = {"first_write": min(sale.answered for sale in clients.sales if sale.sent > at),
                       "first_write_socket": min(each.end for each in writers.acknowledged if each.host == host)}
            if synchronous:
                return {"lost_acknowledged": len(missing - quarantined), "missing_acknowledged": len(missing),
                        **{case: (when - at) * 1000 for case, when in figures.items()}, "rejoin": rejoin_ms}
            extra = [row for row in kept if not _belongs(row, there, writers)]
            return {"quarantine_missing": len(missing - quarantined), "quarantine_extra": len(extra),
                    "quarantine_kept": len(kept),
                    "missing_asynchronous": len(missing), "rejoin_asynchronous": rejoin_ms}

        yield run


def _belongs(kept: tuple[str, str, str], there: set[str], writers: Writers) -> bool:
    """Return whether somebody has written what is in quarantine, and the survivor does not have it."""
    table, operation, name = kept
    tried = name.startswith("h") or (name[1:].isdecimal() and writers.tried(int(name[1:])))
    return (table, operation) == ("public.voucher", "insert") and tried and name not in there


@contextlib.contextmanager
def _passive_lost() -> Iterator[Run]:
    with hotel() as pair:

        def run() -> Figures:
            active = pair.ready()
            passive = pair.lab.other(active)
            with pair.clients() as clients:
                at = pair.lab.faults.power_off(passive)
                time.sleep(3)
                stall_ms = clients.writers.longest_ms(at)
            pair.power_on(passive, active)
            return {"stall_passive_lost": stall_ms}

        yield run


@contextlib.contextmanager
def _sync_cable_lost() -> Iterator[Run]:
    with hotel() as pair:

        def run() -> Figures:
            active = pair.ready()
            passive = pair.lab.other(active)
            own = passive.address("sync0").partition("/")[0]
            with pair.clients() as clients, server_of(active).connect() as connection:
                _wait(lambda: _peer_addresses(connection) == {own}, "data does not go over the sync link")
                at = pair.lab.faults.pull(active, "sync")
                _wait(lambda: _peer_addresses(connection) - {own}, "data does not go over the backup link")
                pair.wait_until_in_order(active)
                pulled_ms = clients.writers.longest_ms(at)
                at = pair.lab.faults.plug(active, "sync")
                _wait(lambda: _peer_addresses(connection) == {own}, "data does not come back to the sync link", 60)
                pair.wait_until_in_order(active)
                plugged_ms = clients.writers.longest_ms(at)
            if active.role() != "active":
                raise LabError(f"{active} has lost its role with the sync cable")
            pair.compare(active)
            lost = clients.acknowledged() - pair.names(active, clients.writers.first)
            return {"stall_sync_cable": pulled_ms, "stall_sync_cable_back": plugged_ms, "lost_sync_cable": len(lost)}

        yield run


def _peer_addresses(connection: Connection) -> set[str]:
    """Return from where the other gateway's subscriptions get their changes."""
    found = connection.execute(
        "SELECT host(client_addr) FROM pg_stat_replication WHERE application_name LIKE 'hsmx_cluster%'"
    )
    return {address for (address,) in found.fetchall()}


STAGES = (
    Stage({"lost_acknowledged": "count", "missing_acknowledged": "count", "first_write": "ms",
           "first_write_socket": "ms", "rejoin": "ms"}, lambda: _active_lost(synchronous=True)),
    Stage({"quarantine_missing": "count", "quarantine_extra": "count", "quarantine_kept": "count",
           "missing_asynchronous": "count", "rejoin_asynchronous": "ms"}, lambda: _active_lost(synchronous=False)),
    Stage({"stall_passive_lost": "ms"}, _passive_lost),
    Stage({"stall_sync_cable": "ms", "stall_sync_cable_back": "ms", "lost_sync_cable": "count"}, _sync_cable_lost),
)
