"""Clients of a database that never pause: over the driver, and ``psql`` fed by a pipe."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg

from tests.replication.side import wait_until

Connection = psycopg.Connection[tuple[Any, ...]]


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
    :param number: of clients over the driver.
    :param psql: gives a server's directory and the command of a ``psql`` for it; called again after each error, as
        ``psql`` ends at the first one. None for no such client.
    :param think_s: time that each client takes between two rows; faults do not change it.
    """

    def __init__(
        self, connect: Callable[[], Connection], statement: str, first: int = 0, number: int = 4,
        psql: Callable[[], tuple[str, list[str]]] | None = None, think_s: float = 0,
    ) -> None:
        self._connect, self._statement, self._think_s = connect, statement.encode(), think_s
        self._over = threading.Event()
        self.first = first
        #: Every commit that a server has acknowledged.
        self.acknowledged: list[Acknowledged] = []
        step = number + (psql is not None)
        self._next = list(range(first, first + step))
        self._threads = [threading.Thread(target=self._drive, args=(client, step)) for client in range(number)]
        if psql is not None:
            self._threads.append(threading.Thread(target=self._feed, args=(psql, number, step)))

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        wait_until(lambda: len(self.acknowledged) > 100)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def tried(self, row: int) -> bool:
        """Return whether a row was ever sent, acknowledged or not."""
        step = len(self._next)
        return self.first <= row < self._next[(row - self.first) % step]

    def longest_ms(self, since: float) -> float:
        """Return the longest commit that ended after that time."""
        return max((each.end - each.begin for each in list(self.acknowledged) if each.end >= since), default=0) * 1000

    def _drive(self, client: int, step: int) -> None:
        while not self._over.is_set():
            try:
                with self._connect() as connection:
                    while not self._over.is_set():
                        row, begin = self._take(client, step), time.monotonic()
                        connection.execute(self._statement, (row,))
                        self.acknowledged.append(Acknowledged(row, connection.info.host, begin, time.monotonic()))
                        time.sleep(self._think_s)
            except psycopg.Error:
                time.sleep(0.001)  # perhaps the row is there, perhaps not: nobody was told

    def _feed(self, psql: Callable[[], tuple[str, list[str]]], client: int, step: int) -> None:
        while not self._over.is_set():
            host, command = psql()
            with subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
            ) as process:
                assert process.stdin and process.stdout
                while not self._over.is_set():
                    row, begin = self._take(client, step), time.monotonic()
                    try:
                        process.stdin.write(self._statement % b"%d" % row + b";\n")
                    except BrokenPipeError:
                        break
                    if process.stdout.readline() != b"INSERT 0 1\n":
                        break
                    self.acknowledged.append(Acknowledged(row, host, begin, time.monotonic()))
                    time.sleep(self._think_s)
                process.kill()
            time.sleep(0.001)

    def _take(self, client: int, step: int) -> int:
        row = self._next[client]
        self._next[client] += step
        return row
