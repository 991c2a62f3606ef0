"""Clients of a database that never pause."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg

from tests.replication.side import wait_until


@dataclass(frozen=True)
class Acknowledged:
    """A commit of which a server said that it is done.

    :param host: directory of the server's socket.
    :param begin: on the monotonic clock, s; ``end`` alike.
    """

    row: int
    host: str
    begin: float
    end: float


class Writers:
    """Clients that write without a pause, each row in a transaction of its own; a context manager.

    :param connect: opens a connection; called again after each error.
    :param statement: gets the number of the row.
    :param first: number of the first row.
    :param number: of clients.
    :param think_s: time that each client takes between two rows; faults do not change it.
    """

    def __init__(
        self, connect: Callable[[], psycopg.Connection[tuple[Any, ...]]], statement: str, first: int = 0,
        number: int = 4, think_s: float = 0,
    ) -> None:
        self._connect, self._statement, self._think_s = connect, statement.encode(), think_s
        self._over = threading.Event()
        #: Every commit that a server has acknowledged.
        self.acknowledged: list[Acknowledged] = []
        self._threads = [
            threading.Thread(target=self._write, args=(row, number)) for row in range(first, first + number)
        ]

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        wait_until(lambda: len(self.acknowledged) > 100)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def longest_ms(self, since: float) -> float:
        """Return the longest commit that ended after that time."""
        return max((each.end - each.begin for each in list(self.acknowledged) if each.end >= since), default=0) * 1000

    def _write(self, row: int, step: int) -> None:
        while not self._over.is_set():
            try:
                with self._connect() as connection:
                    while not self._over.is_set():
                        begin = time.monotonic()
                        connection.execute(self._statement, (row,))
                        self.acknowledged.append(Acknowledged(row, connection.info.host, begin, time.monotonic()))
                        row += step
                        time.sleep(self._think_s)
            except psycopg.Error:
                row += step  # perhaps it is there, perhaps not: nobody was told
                time.sleep(0.001)
