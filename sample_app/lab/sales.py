"""A hotel's front desk: logs in once, then sells vouchers through an address, whichever gateway has it.

A sale counts as accepted when the firmware has answered it with its list of vouchers: it redirects there after its
commit. Questions are sent at a fixed pace, whether the former ones were answered or not, as a person's browser would
that is reloaded; the login's cookie stays the same all the time.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import re
import socket
import time
from dataclasses import dataclass, field
from urllib.parse import urlencode

from .namespace import LabError, Namespace

#: Between two looks at what is being connected, and between two sales, s.
LOOK_EVERY_S, SELL_EVERY_S = 0.002, 0.02
#: A connection that is not there by then, and an answer that has not come by then, are waited for no longer, s.
CONNECT_MOST_S, ANSWER_MOST_S = 0.1, 2.0
#: Sales that are under way at once.
MOST = 128


@dataclass
class _Sale:
    name: str
    sent: float
    connection: socket.socket
    connected: bool = False
    answer: bytes = field(default=b"")


class Sales:
    """Prints ``[name, sent, answered]`` for each accepted sale; the name is the voucher's note.

    :param prefix: with which the names of all sales begin.
    """

    interval_s = LOOK_EVERY_S

    def __init__(self, namespace: Namespace, address: str, prefix: str) -> None:
        self._namespace, self._address, self._prefix = namespace, address, prefix
        with namespace.entered():
            self._cookie, self._token = _log_in(address)
        self._number = 0
        self._due = 0.0
        self._sales: list[_Sale] = []

    @property
    def sockets(self) -> list[socket.socket]:
        """The connections on which an answer is waited for."""
        return [sale.connection for sale in self._sales if sale.connected]

    def turn(self, number: int) -> None:
        now = time.monotonic()
        for sale in list(self._sales):
            if now - sale.sent > (ANSWER_MOST_S if sale.connected else CONNECT_MOST_S):
                self._forget(sale)
            elif not sale.connected:
                self._ask(sale)
        if now >= self._due and len(self._sales) < MOST:
            self._due = now + SELL_EVERY_S
            self._begin(now)

    def read(self) -> list[list[object]]:
        records: list[list[object]] = []
        for sale in [sale for sale in self._sales if sale.connected]:
            try:
                data = sale.connection.recv(4096)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            sale.answer += data
            if data and b"\r\n\r\n" not in sale.answer:
                continue
            if _accepted(sale.answer):
                records.append([sale.name, round(sale.sent, 6), round(time.monotonic(), 6)])
            self._forget(sale)
        return records

    def _begin(self, now: float) -> None:
        connection = self._namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
        connection.setblocking(False)
        failed = connection.connect_ex((self._address, 80))
        if failed not in (0, errno.EINPROGRESS):
            connection.close()
            return
        self._sales.append(_Sale(f"{self._prefix}{self._number}", now, connection))
        self._number += 1

    def _ask(self, sale: _Sale) -> None:
        form = urlencode({"csrf_token": self._token, "count": 1, "hours": 4, "devices": 1, "note": sale.name})
        request = (
            f"POST /vouchers HTTP/1.1\r\nHost: {self._address}\r\nCookie: {self._cookie}\r\nConnection: close\r\n"
            f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(form)}\r\n\r\n{form}"
        )
        try:
            sale.connection.send(request.encode())
            sale.connected = True
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno != errno.ENOTCONN:  # else it is still being connected
                self._forget(sale)

    def _forget(self, sale: _Sale) -> None:
        with contextlib.suppress(OSError):
            sale.connection.close()
        self._sales.remove(sale)


def _accepted(answer: bytes) -> bool:
    head = answer.partition(b"\r\n\r\n")[0]
    return re.match(rb"HTTP/1\.[01] 302 ", head) is not None and b"\r\nlocation: /vouchers" in head.lower()


def _log_in(address: str) -> tuple[str, str]:
    """Return the cookie of a session of the administrator's, and the token of its forms."""
    cookie, page = _get(address, "/login", "")
    body = urlencode({"csrf_token": _token(page), "user": "admin", "password": "admin"})
    cookie, _ = _get(address, "/login", cookie, body)
    newer, page = _get(address, "/vouchers", cookie)
    return newer or cookie, _token(page)


def _get(address: str, path: str, cookie: str, form: str | None = None) -> tuple[str, str]:
    connection = http.client.HTTPConnection(address, timeout=10)
    headers = {"Cookie": cookie, **({"Content-Type": "application/x-www-form-urlencoded"} if form else {})}
    connection.request("POST" if form else "GET", path, form, headers)
    answer = connection.getresponse()
    set_cookie = answer.headers.get("Set-Cookie", "")
    page = answer.read().decode()
    connection.close()
    return set_cookie.partition(";")[0], page


def _token(page: str) -> str:
    found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page)
    if found is None:
        raise LabError("the firmware's page has no form")
    return found[1]
