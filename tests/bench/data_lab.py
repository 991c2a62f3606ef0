"""Two whole gateways with a database each, four clients that never pause, and a gateway that loses its power.

*Lost*: acknowledged commits that are not on the survivor. *First write*: from the power-off until the survivor has
acknowledged one. *Rejoin*: from the first answer of the agent that came back until commits are synchronous again.
The clients use the databases' own sockets: a row is refused by the passive gateway, and tried on the other one.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg

from flask_hsmx_cluster.replication.names import SUBSCRIPTION
from sample_app.lab import Gateway, Lab, LabError, form, wait_for_roles
from sample_app.lab.postgres import PostgresServer

from .stages import Figures, Run, Stage
from .writers import Writers

APP = "sample_app.firmware.app:create_app"
STATEMENT = """INSERT INTO voucher (id, code, hours, devices, note, state, created_at)
SELECT row, 'b' || row, 1, 1, '', 'unused', now() FROM (SELECT %s::int AS row) AS one"""
#: Rows of one run; each run has numbers of its own.
ROWS_A_RUN = 1_000_000
SYNCHRONOUS_WITHIN_S = 60.0


class Hotel:
    """A pair of gateways under a writing load."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._first_row = itertools.count(ROWS_A_RUN, ROWS_A_RUN)
        self._next = itertools.cycle(map(server_of, lab.gateways))

    def ready(self, within_s: float = SYNCHRONOUS_WITHIN_S) -> Gateway:
        """Wait for a pair in order whose commits are synchronous; return the active."""
        active = wait_for_roles(self.lab, timeout_s=60)
        wait_until_synchronous(active, within_s=within_s)
        return active

    def writers(self) -> Writers:
        return Writers(self._connect, STATEMENT, first=next(self._first_row))

    def power_on(self, gateway: Gateway, active: Gateway) -> float:
        """Boot a gateway, wait until commits are synchronous again, and return for how long it has been up, ms.

        :raises LabError: it took a full copy, or too long.
        """
        self.lab.faults.power_on(gateway)
        gateway.wait_until_ready()
        began = time.monotonic()
        wait_until_synchronous(active, gateway)
        return (time.monotonic() - began) * 1000

    def _connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        return next(self._next).connect(user="hsmx")


def server_of(gateway: Gateway) -> PostgresServer:
    assert gateway.postgres is not None
    return gateway.postgres


def wait_until_synchronous(
    active: Gateway, rejoining: Gateway | None = None, within_s: float = SYNCHRONOUS_WITHIN_S
) -> None:
    """Wait until commits on the active gateway wait for the other one.

    :param rejoining: the gateway that has come back: it may make no full copy.
    :raises LabError: it is one, or it takes longer than that.
    """
    deadline = time.monotonic() + within_s
    with server_of(active).connect() as connection:
        while connection.execute("SHOW synchronous_standby_names").fetchone() != (SUBSCRIPTION,):
            following = _following(rejoining) if rejoining is not None else {}
            if following.get("copying"):
                raise LabError(f"{rejoining} rejoins with a full copy: {following}")
            if time.monotonic() > deadline:
                log = server_of(rejoining or active).log()[-1500:]
                raise LabError(f"not synchronous after {within_s:.0f} s: {following}\n{log}")
            time.sleep(0.02)


def _following(gateway: Gateway) -> dict[str, Any]:
    data = gateway.call("status")["data"] or {}
    return dict(data.get("following") or {})


@contextlib.contextmanager
def hotel(fill: Callable[[Lab], None] = lambda _: None) -> Iterator[Hotel]:
    """Give a pair; ``fill`` is called before it is formed."""
    with Lab(sync="switch", backup="switch", app=APP, postgres=True) as lab:
        lab.start()
        for gateway in lab.gateways:  # The firmware makes its tables when it is asked for something first.
            with gateway.namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as web:
                web.settimeout(30)
                web.connect(("127.0.0.1", 80))
                web.sendall(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
                web.recv(1)
        fill(lab)
        form(lab)
        yield Hotel(lab)


@contextlib.contextmanager
def _active_lost() -> Iterator[Run]:
    with hotel() as pair:

        def run() -> Figures:
            active = pair.ready()
            survivor = pair.lab.other(active)
            host = str(server_of(survivor).directory)
            with pair.writers() as writers:
                time.sleep(random.uniform(0.5, 1.5))
                at = pair.lab.faults.power_off(active)
                time.sleep(3)
                rejoin_ms = pair.power_on(active, survivor)
            after = [each.end for each in writers.acknowledged if each.host == host]
            if not after:
                raise LabError(f"{survivor} has accepted no write")
            with server_of(survivor).connect() as connection:
                there = {row for (row,) in connection.execute("SELECT id FROM voucher").fetchall()}
            lost = [each for each in writers.acknowledged if each.row not in there]
            return {"lost_acknowledged": len(lost), "first_write": (min(after) - at) * 1000, "rejoin": rejoin_ms}

        yield run


@contextlib.contextmanager
def _passive_lost() -> Iterator[Run]:
    with hotel() as pair:

        def run() -> Figures:
            active = pair.ready()
            passive = pair.lab.other(active)
            with pair.writers() as writers:
                time.sleep(random.uniform(0.5, 1.5))
                at = pair.lab.faults.power_off(passive)
                time.sleep(5)
                stall_ms = writers.longest_ms(at)
            pair.power_on(passive, active)
            return {"stall_passive_lost": stall_ms}

        yield run


STAGES = (
    Stage({"lost_acknowledged": "count", "first_write": "ms", "rejoin": "ms"}, _active_lost),
    Stage({"stall_passive_lost": "ms"}, _passive_lost),
)
