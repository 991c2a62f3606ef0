"""Two gateways with one set of data, and who writes to it: what the lab's tests of the data share."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import psycopg
import pytest

from sample_app.lab import Gateway, Lab, form, wait_for_roles
from sample_app.lab.postgres import LEAST_VERSION, binaries
from tests.bench.contents import differing

needs_postgres = pytest.mark.skipif(
    binaries() is None, reason=f"PostgreSQL {LEAST_VERSION} or newer is not installed (Debian: postgresql)"
)
_NUMBERS = itertools.count(1)
_SELL = (
    "INSERT INTO voucher (code, hours, devices, note, state, created_at) VALUES (%s, 1, 1, '', 'unused', now()) "
    "RETURNING id"
)


@contextlib.contextmanager
def hotel(
    database_disk_mb: int | None = None, lans: int = 1, more: Mapping[str, Sequence[str]] | None = None
) -> Iterator[Lab]:
    """A formed pair with the firmware on it; the parameters are :class:`Lab`'s."""
    with Lab(
        sync="switch", backup="switch", app="sample_app.firmware.app:create_app", postgres=True,
        database_disk_mb=database_disk_mb, lans=lans, more=more,
    ) as lab:
        lab.start()
        for gateway in lab.gateways:  # The firmware makes its tables at the first request.
            gateway.namespace.run("python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1/login')")
        form(lab)
        yield lab


def in_order(lab: Lab) -> Gateway:
    """Return the active gateway of a pair in order, whose writes are confirmed by both; bring it about if need be."""
    for gateway in lab.gateways:
        if not gateway.postgres_in_place().running():
            lab.faults.power_on(gateway)
    found = wait_for_roles(lab, timeout_s=40)
    wait_until(lambda: synchronous(found), lambda: f"{[gateway.call('status')['data'] for gateway in lab.gateways]}")
    return found


def wait_until(done: Callable[[], bool], why: Callable[[], str] = lambda: "", timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < deadline, f"not in time: {why()}"
        time.sleep(0.1)


def connect(gateway: Gateway) -> psycopg.Connection[tuple[Any, ...]]:
    """Return a connection of the firmware's own user, who is nobody special."""
    return gateway.postgres_in_place().connect(user="hsmx")


def sell(connection: psycopg.Connection[tuple[Any, ...]]) -> int:
    row = connection.execute(_SELL, (f"T{next(_NUMBERS):08d}",)).fetchone()
    assert row is not None
    return int(row[0])


def vouchers(gateway: Gateway) -> set[int]:
    with connect(gateway) as connection:
        return {number for (number,) in connection.execute("SELECT id FROM voucher").fetchall()}


def synchronous(gateway: Gateway) -> bool:
    with connect(gateway) as connection:
        row = connection.execute("SHOW synchronous_standby_names").fetchone()
    return row == ("hsmx_cluster",)


#: Between two sales of one client, s.
PAUSE_S = 0.004


class Writers:
    """Sells vouchers, hundreds each second, at whichever gateway takes them, and keeps what was acknowledged.

    On a fast disk, four clients without any pause would write more than two processors bring over to a gateway that has
    to catch up.
    """

    def __init__(self, lab: Lab, count: int = 4) -> None:
        self.acknowledged: list[int] = []
        self.longest_s = 0.0
        self._lab = lab
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(count)]

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(20)

    def _run(self) -> None:
        last = time.monotonic()
        while not self._ended.is_set():
            for gateway in self._lab.gateways:
                try:
                    with connect(gateway) as connection:
                        while not self._ended.is_set():
                            self.acknowledged.append(sell(connection))
                            now = time.monotonic()
                            self.longest_s, last = max(self.longest_s, now - last), now
                            self._ended.wait(PAUSE_S)
                except psycopg.Error:
                    time.sleep(0.005)


def writable(connection: psycopg.Connection[tuple[Any, ...]]) -> bool:
    try:
        connection.execute("UPDATE voucher SET note = note WHERE false")
    except psycopg.errors.ReadOnlySqlTransaction:
        return False
    return True


def same(active: Gateway, passive: Gateway) -> None:
    """Both have the same shared data, as the product says and as plain SQL does."""
    assert active.cli("verify")["equal"]
    with active.postgres_in_place().connect() as here, passive.postgres_in_place().connect() as there:
        wait_until(lambda: not differing(here, there), lambda: str(differing(here, there)))


def alarms(gateway: Gateway) -> set[str]:
    return {alarm["key"] for alarm in gateway.call("status")["alarms"]}


def rejoined(gateway: Gateway) -> dict[str, Any]:
    """Return how a gateway has joined again since its agent started; empty if it has not yet."""
    return dict((gateway.call("status")["data"].get("following") or {}).get("rejoined") or {})
