"""HTTP client to the other gateway's web app, which hands the bytes to its agent.

The bytes are sealed already: this module needs no trust in what it talks to, only bounds.
"""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address

from ...control import MAX_MESSAGE
from ...errors import PeerUnavailable, RequestRefused
from ...network.http_body import read_body

CONNECT_TIMEOUT_S = 1.0

_WHAT_TO_DO = "Is the other gateway on, its web app running, and its port open in the firewall?"


@dataclass(frozen=True)
class Route:
    """One way to the other gateway.

    :param local: own address to send from; '' for whichever the kernel takes. Named, because otherwise packets
        leave from the virtual IP after a take-over and the other's firewall drops them.
    :param remote: the other gateway's address.
    """

    local: str
    remote: str


Post = Callable[[Sequence[Route], int, str, bytes, float, bool], bytes]


def post(
    routes: Sequence[Route], port: int, path: str, body: bytes, timeout_s: float, repeatable: bool = True
) -> bytes:
    """Send bytes to the other gateway over the first route that works and return its answer.

    :param timeout_s: bound of the whole, all routes together, s.
    :param repeatable: False for a request that must not arrive twice: once it may have been received, no other
        route is tried.
    :raises PeerUnavailable: no route worked, or the answer cannot be used.
    """
    deadline = time.monotonic() + timeout_s
    failures: list[str] = []
    for route in routes:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            break
        sent = False
        connection = http.client.HTTPConnection(
            route.remote, port, timeout=min(CONNECT_TIMEOUT_S, left_s), source_address=_source(route)
        )
        try:
            connection.connect()
            connection.sock.settimeout(max(deadline - time.monotonic(), 0.05))
            sent = True
            with _cut_off_at(deadline, connection.sock):
                connection.request("POST", path, body, {"Content-Type": "application/octet-stream"})
                return _answer(connection.getresponse())
        except (OSError, http.client.HTTPException) as error:
            failures.append(f"{route.remote}: {_reason(error)}")
            if sent and not repeatable:
                break
        finally:
            connection.close()
    raise PeerUnavailable(f"The other gateway did not answer ({'; '.join(failures) or 'no link to it'}).", _WHAT_TO_DO)


def reachable(route: Route, port: int, timeout_s: float = CONNECT_TIMEOUT_S) -> str:
    """Return '' if a TCP connection to the other gateway's web app can be made, else why not."""
    connection = http.client.HTTPConnection(route.remote, port, timeout=timeout_s, source_address=_source(route))
    try:
        connection.connect()
    except OSError as error:
        return _reason(error)
    finally:
        connection.close()
    return ""


def parse_address(text: str, default_port: int) -> tuple[str, int]:
    """Return address and port of ``192.0.2.1``, ``192.0.2.1:8080``, ``2001:db8::1`` or ``[2001:db8::1]:8080``.

    :raises RequestRefused: it is none of these. Names are refused: a gateway must not depend on a name server.
    """
    host, port_text = text.strip(), ""
    if host.startswith("["):
        host, _, port_text = host[1:].partition("]")
        port_text = port_text.removeprefix(":")
    elif host.count(":") == 1:
        host, _, port_text = host.partition(":")
        port_text = port_text or "?"
    try:
        if "%" in host or (port_text and not (port_text.isascii() and port_text.isdigit())):
            raise ValueError(text)
        address = ip_address(host)
        port = int(port_text) if port_text else default_port
        usable = not (address.is_unspecified or address.is_multicast) and 1 <= port <= 65535
    except ValueError:
        usable = False
    if not usable:
        raise RequestRefused(
            f"{text[:60]!r} is not an address of a gateway.", "Enter one like 192.0.2.1 or 192.0.2.1:8080."
        )
    return str(address), port


@contextmanager
def _cut_off_at(deadline: float, connection: socket.socket) -> Iterator[None]:
    """Shut a connection down at a time: a socket's timeout is for each read, and an answer may drip.

    :raises TimeoutError: that was necessary.
    """
    timer = threading.Timer(max(deadline - time.monotonic(), 0), _shut_down, (connection,))
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, http.client.HTTPException, PeerUnavailable):
        if time.monotonic() >= deadline:
            raise TimeoutError from None
        raise
    finally:
        timer.cancel()
    if time.monotonic() >= deadline:
        raise TimeoutError


def _shut_down(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _source(route: Route) -> tuple[str, int] | None:
    return (route.local, 0) if route.local else None


def _answer(response: http.client.HTTPResponse) -> bytes:
    if response.status != 200:
        raise PeerUnavailable(
            f"The other gateway's web app answered {response.status}.",
            "Is its agent running, and its cluster extension at the same URL?",
        )
    body = read_body(response, MAX_MESSAGE + 1)
    if len(body) > MAX_MESSAGE:
        raise PeerUnavailable("The other gateway's answer is too long.", _WHAT_TO_DO)
    if response.length:
        raise PeerUnavailable("The other gateway's answer was cut off.", _WHAT_TO_DO)
    return body


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return type(error).__name__
