"""Syslog: RFC 5424, over UDP (RFC 5426), TCP (RFC 6587, with counted octets) or a Unix socket."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

from ..settings.notify import Target, syslog_server
from . import texts
from .delivery import STEP_S, DeliveryFailed, failure
from .news import News
from .texts import Message

#: Facility *daemon*, times eight.
_FACILITY = 3 * 8
_SEVERITY = {"critical": 2, "warning": 4, "info": 6}
#: What every receiver takes over UDP, bytes (RFC 5424, 6.1: it should take 2048).
LONGEST = 2048


def send(target: Target, message: Message) -> str:
    """Send each news of a message, and return what is known of it.

    :raises DeliveryFailed: it could not be sent.
    """
    transport, host, port = syslog_server(target)
    lines = [written(one, message.gateway) for one in message.news]
    try:
        if transport == "unix":
            _send_there(host, lines)
            return f"{host} has taken it."
        kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
        with _connected(host, port, kind) as connection:
            for line in lines:
                connection.sendall(line if transport == "udp" else b"%d %s" % (len(line), line))
            if transport == "tcp":
                connection.shutdown(socket.SHUT_WR)
                return f"{host} has taken it."
            connection.settimeout(0.2)
            with suppress(TimeoutError):
                connection.recv(1)  # nobody answers, but the machine may say that nobody listens there
    except OSError as error:
        raise failure(error, host, port) from None
    return "It was sent. Over UDP nobody says whether it has arrived: look at the receiver."


def written(news: News, gateway: str) -> bytes:
    """Return one message of the protocol."""
    priority = _FACILITY + (_SEVERITY["info"] if news.kind == "over" else _SEVERITY[news.severity])
    at, host, key = _word(news.at, 32), _word(gateway, 255), _word(news.key, 32)
    head = f"<{priority}>1 {at} {host} hsmx-cluster {os.getpid()} {key} - ".encode()
    text = b"\xef\xbb\xbf" + texts.line(news).encode()
    return (head + text)[:LONGEST].decode(errors="ignore").encode()


def _word(text: str, most: int) -> str:
    return "".join(sign if "!" <= sign <= "~" else "_" for sign in text)[:most] or "-"


def _connected(host: str, port: int, kind: socket.SocketKind) -> socket.socket:
    problem: OSError = OSError("no address")
    for family, _kind, _protocol, _name, address in socket.getaddrinfo(host, port, type=kind):
        connection = socket.socket(family, kind)
        connection.settimeout(STEP_S)
        try:
            connection.connect(address)
            return connection
        except OSError as error:
            connection.close()
            problem = error
    raise problem


def _send_there(path: str, lines: list[bytes]) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
        connection.settimeout(STEP_S)
        try:
            connection.connect(path)
        except (ConnectionRefusedError, PermissionError) as error:
            raise DeliveryFailed(f"{path} takes nothing: {error.strerror}.", "Does a syslog daemon run?") from None
        for line in lines:
            connection.sendall(line)
